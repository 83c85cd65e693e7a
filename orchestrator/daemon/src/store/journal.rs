//! Many callers, few commits.
//!
//! One thread owns the store. Whatever callers want written while a commit is under way goes into the next one: fifty creates
//! at once cost a handful of syncs. What nobody waits for (an end that also stands in the VM's meter, a record
//! whose VM is cleared away) rides along with the next commit that somebody waits for, or goes after [`LINGER`].
//!
//! ```text
//! put(change).await --> [ channel ] --> thread: everything that is there -> one commit -> answer all
//! later(change) ------>
//! ```

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Change, Store, StoreError};

/// How long a change that nobody waits for may stay unwritten.
const LINGER: Duration = Duration::from_millis(100);
/// How long until such a change is tried again after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// The way to the store.
#[derive(Debug)]
pub struct Journal {
    sender: Mutex<Option<mpsc::Sender<Entry>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Entry {
    change: Change,
    answer: Option<oneshot::Sender<Result<(), StoreError>>>,
}

impl Journal {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system's, where it gives no thread.
    pub fn start(store: impl Store) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || run(store, &receiver))?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Writes a change; durable when the future that this returns ends well. Changes are written in the order of the calls, not in that of
    /// the waiting.
    pub fn put(
        &self,
        change: Change,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        self.send(change, Some(answer));
        async move {
            answered.await.unwrap_or_else(|_| {
                Err(StoreError::Io {
                    action: "write to",
                    file: "the state file".to_owned(),
                    reason: "the daemon is ending".to_owned(),
                })
            })
        }
    }

    /// Writes a change some time.
    pub fn later(&self, change: Change) {
        self.send(change, None);
    }

    /// Writes what is left and ends the thread. Blocks.
    pub fn close(&self) {
        drop(lock(&self.sender).take());
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }

    fn send(&self, change: Change, answer: Option<oneshot::Sender<Result<(), StoreError>>>) {
        if let Some(sender) = lock(&self.sender).as_ref() {
            // Without a thread the answer is dropped, and that is an answer.
            let _ = sender.send(Entry { change, answer });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(mut store: impl Store, receiver: &mpsc::Receiver<Entry>) {
    // Changes that nobody waits for, in order.
    let mut waiting: Vec<Change> = Vec::new();
    // When they are written at the latest.
    let mut due = Instant::now();
    let mut open = true;
    while open {
        let first = if waiting.is_empty() {
            receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            receiver.recv_timeout(due.saturating_duration_since(Instant::now()))
        };
        open = !matches!(first, Err(RecvTimeoutError::Disconnected));
        let idle = first.is_err();
        let mut answers = Vec::new();
        let mut batch = Vec::new();
        for entry in first.into_iter().chain(receiver.try_iter()) {
            batch.push((entry.change, entry.answer.is_some()));
            answers.extend(entry.answer);
        }
        if answers.is_empty() && !idle {
            if waiting.is_empty() {
                due = Instant::now() + LINGER;
            }
            waiting.extend(batch.into_iter().map(|(change, _)| change));
            continue;
        }
        let all: Vec<Change> = waiting
            .iter()
            .chain(batch.iter().map(|(change, _)| change))
            .cloned()
            .collect();
        if all.is_empty() {
            continue;
        }
        let result = store.commit(&all);
        match &result {
            Ok(()) => waiting.clear(),
            Err(error) => {
                tracing::error!(%error, "state was not written");
                waiting.extend(
                    batch
                        .into_iter()
                        .filter(|(_, awaited)| !awaited)
                        .map(|(change, _)| change),
                );
                due = Instant::now() + RETRY;
            }
        }
        for answer in answers {
            let _ = answer.send(result.clone());
        }
    }
}

#[cfg(test)]
mod tests;
