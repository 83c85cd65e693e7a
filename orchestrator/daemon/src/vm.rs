//! One VM, as the daemon has it in memory.
//!
//! Three things, each behind its own lock, none held across an `await`:
//! - the *ledger*: what is wanted and how it ended; what is written down is made from it, in the order of its changes;
//! - the *status*: its state and what people are told; a channel, so that any number may wait for a move;
//! - the *monitor*: its process, while there is one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{Metrics, VmRef};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::folder::VmFolder;
use crate::metrics;
use crate::process::Process;
use crate::record::{Desired, Ended, Record};
use crate::state::{self, State, Step};
use crate::store::journal::Journal;
use crate::store::{Change, StoreError};

/// A VM.
#[derive(Debug)]
pub struct Vm {
    /// What never changes; what is wanted and the end are in the ledger.
    base: Record,
    folder: VmFolder,
    ledger: Mutex<Ledger>,
    status: watch::Sender<Status>,
    monitor: Mutex<Option<Arc<Process>>>,
}

#[derive(Debug)]
struct Ledger {
    desired: Desired,
    ended: Option<Ended>,
    /// The record was deleted: nothing may write it again.
    deleted: bool,
}

/// What people are told.
#[derive(Clone, Debug)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// When its first virtual CPU was entered.
    pub started_at: Option<Timestamp>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// What was counted, once it has ended.
    pub metrics: Option<Arc<Metrics>>,
}

impl Vm {
    /// A VM that is written down, or is about to be.
    #[must_use]
    pub fn new(record: Record, folder: VmFolder) -> Self {
        let ledger = Ledger {
            desired: record.desired.clone(),
            ended: record.ended.clone(),
            deleted: false,
        };
        let state = match &record.ended {
            None => State::Creating,
            Some(ended) => ended_state(ended),
        };
        let status = Status {
            state,
            started_at: record.ended.as_ref().and_then(|e| e.started_at),
            ended: record.ended.clone(),
            metrics: None,
        };
        Self {
            base: record,
            folder,
            ledger: Mutex::new(ledger),
            status: watch::Sender::new(status),
            monitor: Mutex::new(None),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.base.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.base.name
    }

    /// Who it is, for events.
    #[must_use]
    pub fn reference(&self) -> VmRef {
        VmRef {
            id: self.base.id.clone(),
            name: self.base.name.clone(),
        }
    }

    /// What was asked for. Of its `desired` and `ended` only [`Vm::desired`] and [`Vm::status`] know.
    #[must_use]
    pub fn base(&self) -> &Record {
        &self.base
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &VmFolder {
        &self.folder
    }

    /// What is wanted of it now.
    #[must_use]
    pub fn desired(&self) -> Desired {
        self.ledger().desired.clone()
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.status.borrow().state
    }

    /// Waits until its state is one that `wanted` is about.
    pub async fn reach(&self, wanted: impl Fn(State) -> bool) -> State {
        let mut changes = self.status.subscribe();
        match changes.wait_for(|status| wanted(status.state)).await {
            Ok(status) => status.state,
            Err(_) => unreachable!("the sender is in `self`"),
        }
    }

    /// Something happened; `false` where that moves it nowhere.
    pub fn step(&self, step: Step) -> bool {
        self.status.send_if_modified(|status| move_on(status, step))
    }

    /// Its first virtual CPU was entered, at `at`.
    pub fn entered(&self, at: Timestamp) -> bool {
        self.status.send_if_modified(|status| {
            status.started_at.get_or_insert(at);
            move_on(status, Step::Entered)
        })
    }

    /// It ended. Only the first end counts: `false` where there was one already.
    pub fn end(
        &self,
        journal: &Journal,
        outcome: vmm::outcome::Outcome,
        at: Timestamp,
        metrics: Option<Metrics>,
    ) -> bool {
        let first = self.status.send_if_modified(|status| {
            let ended = Ended {
                outcome,
                started_at: status.started_at,
                ended_at: at,
            };
            let moved = move_on(status, step_of(&ended));
            if moved {
                status.ended = Some(ended);
                status.metrics = metrics.map(Arc::new);
            }
            moved
        });
        if first {
            let mut ledger = self.ledger();
            ledger.ended = self.status.borrow().ended.clone();
            // What is to be removed anyway needs no note of its end.
            if !ledger.deleted && ledger.desired != Desired::Remove && !self.base.auto_remove {
                journal.later(self.change(&ledger));
            }
        }
        first
    }

    /// Writes it down for the first time.
    ///
    /// # Errors
    /// [`StoreError`]; it is then not written.
    pub async fn write(&self, journal: &Journal) -> Result<(), StoreError> {
        let written = journal.put(self.change(&self.ledger()));
        written.await
    }

    /// Writes down what is wanted of it from now on; one that is to be removed stays so, and a stop is only ever made earlier.
    ///
    /// # Errors
    /// [`StoreError`]; what is wanted is then as before.
    pub async fn want(&self, journal: &Journal, desired: Desired) -> Result<(), StoreError> {
        let (written, before) = {
            let mut ledger = self.ledger();
            let settled = match (&ledger.desired, &desired) {
                (Desired::Remove, _) => true,
                (Desired::Stop { by: old }, Desired::Stop { by: new }) => old <= new,
                _ => false,
            };
            if settled || ledger.deleted {
                return Ok(());
            }
            let before = std::mem::replace(&mut ledger.desired, desired.clone());
            (journal.put(self.change(&ledger)), before)
        };
        let result = written.await;
        if result.is_err() {
            let mut ledger = self.ledger();
            if ledger.desired == desired {
                ledger.desired = before;
            }
        }
        result
    }

    /// Deletes its record, some time soon, and for ever.
    pub fn forget(&self, journal: &Journal) {
        let mut ledger = self.ledger();
        if !ledger.deleted {
            ledger.deleted = true;
            journal.later(Change::Delete(self.base.id.clone()));
        }
    }

    /// Its monitor's process, while there is one.
    #[must_use]
    pub fn monitor(&self) -> Option<Arc<Process>> {
        guard(&self.monitor).clone()
    }

    /// Says which process its monitor is.
    pub fn set_monitor(&self, process: Option<Arc<Process>>) {
        *guard(&self.monitor) = process;
    }

    /// For the API, without what its monitor has counted.
    #[must_use]
    pub fn summary(&self) -> api::Vm {
        let status = self.status();
        let base = &self.base;
        api::Vm {
            id: base.id.clone(),
            name: base.name.clone(),
            state: status.state,
            outcome: status
                .ended
                .as_ref()
                .map(|ended| metrics::outcome(&ended.outcome)),
            image: base.image.clone(),
            digest: base.digest.clone(),
            args: base.args.clone(),
            env: base.env.clone(),
            vcpus: base.vcpus,
            memory_mib: base.memory_mib,
            timeout_ms: base.timeout_ms,
            auto_remove: base.auto_remove,
            created_at: base.created_at,
            started_at: status.started_at,
            ended_at: status.ended.map(|ended| ended.ended_at),
            monitor_pid: self.monitor().map(|process| process.pid()),
            metrics: None,
            kind: api::GuestKind::Libos,
            linux: None,
        }
    }

    /// For the API, with everything. Reads a small file.
    #[must_use]
    pub fn detail(&self) -> api::Vm {
        let counted = match self.status().metrics {
            Some(last) => Some(Metrics::clone(&last)),
            None => metrics::read(&self.folder).map(|reading| metrics::metrics(&reading)),
        };
        api::Vm {
            metrics: counted,
            ..self.summary()
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        guard(&self.ledger)
    }

    fn change(&self, ledger: &Ledger) -> Change {
        Change::Put(Box::new(Record {
            desired: ledger.desired.clone(),
            ended: ledger.ended.clone(),
            ..self.base.clone()
        }))
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn move_on(status: &mut Status, step: Step) -> bool {
    match state::next(status.state, step) {
        Some(to) if to != status.state => {
            status.state = to;
            true
        }
        _ => false,
    }
}

fn step_of(ended: &Ended) -> Step {
    use vmm::outcome::Cause;
    match ended.outcome.cause {
        Cause::Exit | Cause::Reset | Cause::Stopped => Step::EndedWell,
        Cause::TripleFault
        | Cause::Halted
        | Cause::Unsupported
        | Cause::Deadline
        | Cause::Failed => Step::EndedBadly,
    }
}

fn ended_state(ended: &Ended) -> State {
    match step_of(ended) {
        Step::EndedWell => State::Exited,
        _ => State::Failed,
    }
}
