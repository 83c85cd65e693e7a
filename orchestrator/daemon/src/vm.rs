//! One VM, as the daemon has it in memory.
//!
//! Four things, each behind its own lock, none held across an `await`:
//! - the *ledger*: what is wanted and how it ended; what is written down is made from it, in the order of its changes;
//! - the *status*: its state and what people are told; a channel, so that any number may wait for a move;
//! - the *monitor*: its process, while there is one;
//! - the *agent*: what is known of it, where the guest is a Linux one; a channel too.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use abi::agent::signal;
use api::{AgentState, Metrics, VmRef};
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::agent::AgentStatus;
use crate::folder::VmFolder;
use crate::metrics;
use crate::plug;
use crate::process::Process;
use crate::record::{Desired, Ended, LinuxRecord, Record};
use crate::state::{self, State, Step};
use crate::store::journal::Journal;
use crate::store::{Change, StoreError};

/// How many clients a guest is asked to join at once: it starts a program for each, and a hundred at a time would all wait for the
/// last one's answer.
const JOINING: usize = 2;

/// A VM.
#[derive(Debug)]
pub struct Vm {
    /// What never changes; what is wanted and the end are in the ledger.
    base: Record,
    folder: VmFolder,
    ledger: Mutex<Ledger>,
    status: watch::Sender<Status>,
    monitor: watch::Sender<Option<Arc<Process>>>,
    agent: watch::Sender<AgentStatus>,
    /// Held by whoever starts it again.
    starting: tokio::sync::Mutex<()>,
    /// Held by whoever joins a client to its guest, until the guest has answered.
    joining: Semaphore,
    /// How often it was started again by itself, one time after the other.
    in_a_row: AtomicU32,
}

#[derive(Debug)]
struct Ledger {
    desired: Desired,
    ended: Option<Ended>,
    starts: u32,
    /// The host's life in which it was started last.
    host_boot: String,
    /// The record was deleted: nothing may write it again.
    deleted: bool,
}

/// What people are told.
#[derive(Clone, Debug)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Which of its starts this is about.
    pub start: u32,
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
            starts: record.starts,
            host_boot: record.host_boot.clone(),
            deleted: false,
        };
        let state = match &record.ended {
            None => State::Creating,
            Some(ended) => ended_state(ended),
        };
        let status = Status {
            state,
            start: record.starts,
            started_at: record.ended.as_ref().and_then(|e| e.started_at),
            ended: record.ended.clone(),
            metrics: None,
        };
        Self {
            base: record,
            folder,
            ledger: Mutex::new(ledger),
            status: watch::Sender::new(status),
            monitor: watch::Sender::new(None),
            agent: watch::Sender::new(AgentStatus::default()),
            starting: tokio::sync::Mutex::new(()),
            joining: Semaphore::new(JOINING),
            in_a_row: AtomicU32::new(0),
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

    /// What was asked for. Of its `desired`, `ended`, `starts` and `host_boot` only [`Vm::desired`], [`Vm::status`], [`Vm::starts`] and
    /// [`Vm::host_boot`] know.
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

    /// What only a Linux guest has.
    #[must_use]
    pub fn linux(&self) -> Option<&LinuxRecord> {
        self.base.linux.as_deref()
    }

    /// How often it was started again.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.ledger().starts
    }

    /// The host's life in which it was started last.
    #[must_use]
    pub fn host_boot(&self) -> String {
        self.ledger().host_boot.clone()
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

    /// Waits until the start that it is in now, or was in last, is over.
    pub fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut changes = self.status.subscribe();
        let start = changes.borrow().start;
        async move {
            let over = |status: &Status| status.state.is_ended() || status.start != start;
            // Where the VM itself is gone, so is its start.
            let _ = changes.wait_for(over).await;
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

    /// Writes down that it is to be started again, in this life of the host; `false` where it has not ended, or is on its way out.
    ///
    /// # Errors
    /// [`StoreError`]; it has then ended as before.
    pub async fn want_again(&self, journal: &Journal, host_boot: &str) -> Result<bool, StoreError> {
        let (written, before) = {
            let mut ledger = self.ledger();
            let moved = self.status.send_if_modified(|status| {
                let moved = move_on(status, Step::StartAsked);
                if moved {
                    status.start = status.start.saturating_add(1);
                    status.started_at = None;
                    status.ended = None;
                    status.metrics = None;
                }
                moved
            });
            if !moved {
                return Ok(false);
            }
            self.agent.send_replace(AgentStatus::default());
            let before = (ledger.desired.clone(), ledger.ended.clone());
            ledger.desired = Desired::Run;
            ledger.ended = None;
            ledger.starts = self.status.borrow().start;
            ledger.host_boot = host_boot.to_owned();
            (journal.put(self.change(&ledger)), before)
        };
        let result = written.await;
        if result.is_err() {
            let mut ledger = self.ledger();
            (ledger.desired, ledger.ended) = before;
            self.status.send_modify(|status| {
                if let Some(ended) = &ledger.ended {
                    move_on(status, step_of(ended));
                    status.started_at = ended.started_at;
                    status.ended = Some(ended.clone());
                }
            });
        }
        result.map(|()| true)
    }

    /// Waits for one's turn to join a client to the guest; the line is never closed.
    pub async fn joining(&self) -> Option<SemaphorePermit<'_>> {
        self.joining.acquire().await.ok()
    }

    /// Lets nobody else start it again.
    pub async fn starting(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.starting.lock().await
    }

    /// How often it was started again by itself, one time after the other.
    #[must_use]
    pub fn restarts_in_a_row(&self) -> u32 {
        self.in_a_row.load(Ordering::Relaxed)
    }

    /// It is started again by itself.
    pub fn count_restart(&self) {
        self.in_a_row.fetch_add(1, Ordering::Relaxed);
    }

    /// It ran well for so long that what was before does not count any more.
    pub fn ran_well(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
    }

    /// What is known of its agent.
    #[must_use]
    pub fn agent(&self) -> AgentStatus {
        self.agent.borrow().clone()
    }

    /// Changes what is known of its agent; says whether that is news.
    pub fn set_agent(&self, change: impl FnOnce(&mut AgentStatus)) -> bool {
        self.agent.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        })
    }

    /// Waits until what is known of its agent is what `wanted` is about, or the VM has ended: then `None`.
    pub async fn agent_reaches(
        &self,
        wanted: impl Fn(&AgentStatus) -> bool,
    ) -> Option<AgentStatus> {
        let mut changes = self.agent.subscribe();
        tokio::select! {
            // What was reached before the end counts.
            biased;
            status = changes.wait_for(|status| wanted(status)) => match status {
                Ok(status) => Some(status.clone()),
                Err(_) => unreachable!("the sender is in `self`"),
            },
            () = self.over() => None,
        }
    }

    /// Deletes its record, some time soon, and for ever.
    pub fn forget(&self, journal: &Journal) {
        let mut ledger = self.ledger();
        if !ledger.deleted {
            ledger.deleted = true;
            journal.later(Change::Delete(self.base.id.clone()));
        }
    }

    /// Deletes its record for ever; where this returns well, no daemon that returns finds it.
    ///
    /// # Errors
    /// [`StoreError`]; it may then be found again.
    pub async fn forget_now(&self, journal: &Journal) -> Result<(), StoreError> {
        let written = {
            let mut ledger = self.ledger();
            if ledger.deleted {
                return Ok(());
            }
            ledger.deleted = true;
            journal.put(Change::Delete(self.base.id.clone()))
        };
        written.await
    }

    /// Its monitor's process, while there is one.
    #[must_use]
    pub fn monitor(&self) -> Option<Arc<Process>> {
        self.monitor.borrow().clone()
    }

    /// Waits until it has no monitor any more, and nobody watches one.
    pub async fn left(&self) {
        let mut changes = self.monitor.subscribe();
        // The sender is in `self`.
        let _ = changes.wait_for(Option::is_none).await;
    }

    /// Says which process its monitor is.
    pub fn set_monitor(&self, process: Option<Arc<Process>>) {
        self.monitor.send_replace(process);
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
            kind: match base.linux {
                None => api::GuestKind::Libos,
                Some(_) => api::GuestKind::Linux,
            },
            linux: self.linux().map(|linux| self.shown_linux(linux)),
        }
    }

    fn shown_linux(&self, linux: &LinuxRecord) -> api::LinuxVm {
        let agent = self.agent();
        api::LinuxVm {
            command: linux.argv.clone(),
            user: linux.user.clone(),
            workdir: linux.workdir.clone(),
            hostname: linux.hostname.clone(),
            tty: linux.tty,
            stdin_open: linux.stdin_open,
            init: linux.init,
            disk_mib: linux.disk_mib,
            addresses: linux.lease.iter().map(plug::address).collect(),
            ports: linux
                .lease
                .as_ref()
                .map(plug::published)
                .unwrap_or_default(),
            volumes: linux.volumes.clone(),
            restart: linux.restart,
            restarts: agent.restarts.saturating_add(self.starts()),
            stop_signal: signal::name(linux.stop_signal)
                .map_or_else(|| linux.stop_signal.to_string(), ToOwned::to_owned),
            stop_timeout_ms: linux.stop_timeout_ms,
            agent: match self.state().is_ended() {
                true => AgentState::Gone,
                false => agent.state,
            },
            agent_message: agent.message,
            health_probe: linux.health.clone(),
            health: agent.health,
        }
    }

    /// For the API, with everything. Reads a small file.
    #[must_use]
    pub fn detail(&self) -> api::Vm {
        let counted = match self.status().metrics {
            Some(last) => Some(Metrics::clone(&last)),
            None => metrics::read(&self.folder)
                .map(|reading| metrics::metrics(&reading, self.agent().answered_ns)),
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
            starts: ledger.starts,
            host_boot: ledger.host_boot.clone(),
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
