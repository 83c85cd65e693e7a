//! Places: threads in network namespaces of their own.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::link;

type Task = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, which does as it is told.
pub(super) struct Place {
    tasks: Option<mpsc::Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

/// Runs a test in a place, where there may be one.
pub(super) fn test(body: impl FnOnce() + Send + 'static) {
    if rustix::process::geteuid().is_root() {
        Place::new().run(body);
    } else {
        eprintln!("skipped: only root makes network namespaces");
    }
}

impl Place {
    pub(super) fn new() -> Self {
        let (tasks, queue) = mpsc::channel::<Task>();
        let thread = thread::spawn(move || {
            // SAFETY: this thread shares its descriptors and file system as before; only its network is new.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network namespace");
            let lo = link::find("lo").expect("links").expect("a loopback link");
            link::up(&lo, "").expect("loopback up");
            queue.into_iter().for_each(|task| task());
        });
        Self {
            tasks: Some(tasks),
            thread: Some(thread),
        }
    }

    /// Runs `body` there, and waits for it.
    pub(super) fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let task = move || {
            let outcome = panic::catch_unwind(AssertUnwindSafe(body));
            let _ = done.send(outcome);
        };
        let tasks = self.tasks.as_ref().expect("a place that is open");
        tasks.send(Box::new(task)).expect("a thread that lives");
        match result.recv().expect("an outcome") {
            Ok(value) => value,
            Err(reason) => panic::resume_unwind(reason),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A wire between two taps: what one gets, the other sends.
pub(super) struct Wire {
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    pub(super) fn between(a: OwnedFd, b: OwnedFd) -> Self {
        let (end, stop) = io::pipe().expect("a pipe");
        let thread = thread::spawn(move || {
            let (a, b) = (std::fs::File::from(a), std::fs::File::from(b));
            let mut buffer = vec![0; 1 << 17];
            loop {
                let mut waited = [&a, &b].map(|tap| PollFd::new(tap, PollFlags::IN)).to_vec();
                waited.push(PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN));
                poll(&mut waited, None).expect("poll");
                if !waited[2].revents().is_empty() {
                    return;
                }
                for (mut from, mut to) in [(&a, &b), (&b, &a)] {
                    // A link that is down, or full, loses what it is given.
                    while let Ok(len) = from.read(&mut buffer) {
                        let _ = to.write(&buffer[..len]);
                    }
                }
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
