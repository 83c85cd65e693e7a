//! Watching a monitor from its start, or from when it was found again, to its end.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use api::EventKind;
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;
use vmm::launch::Event;
use vmm::meter::{Phase, State as MeterState};
use vmm::outcome::{Cause, Outcome};

use super::Fleet;
use crate::metrics;
use crate::process::{self, Process};
use crate::record::Desired;
use crate::state::Step;
use crate::vm::Vm;

/// How long a monitor that has said its last word may take to be gone; closing a VM takes some tens of milliseconds.
const PARTING: Duration = Duration::from_secs(5);
/// Between two looks at the meter of a monitor that was found while it boots: it has nobody to tell any more.
const LOOK: Duration = Duration::from_millis(2);

impl Fleet {
    /// Watches a monitor that this daemon started.
    pub(super) async fn watch_child(
        self: Arc<Self>,
        vm: Arc<Vm>,
        process: Arc<Process>,
        mut child: Child,
        socket: UnixStream,
    ) {
        let mut lines = BufReader::new(socket).lines();
        let late = tokio::time::sleep(self.boot_limit);
        tokio::pin!(late);
        loop {
            tokio::select! {
                // What it said before it was gone counts.
                biased;
                event = heard(&mut lines) => match event {
                    Some(Event::Running) => self.entered(&vm, Timestamp::now()),
                    Some(Event::Ended(outcome)) => {
                        self.ended(&vm, outcome);
                        break;
                    }
                    None => break,
                },
                () = process.gone() => break,
                () = &mut late, if vm.status().started_at.is_none() => {
                    self.give_up(&vm, &process);
                    break;
                }
            }
        }
        self.part(&vm, &process).await;
        let status = process::reap(&mut child);
        self.unplug(&vm).await;
        self.after(&vm, status);
    }

    /// Watches a monitor that an earlier daemon started.
    pub(super) async fn watch_found(self: Arc<Self>, vm: Arc<Vm>, process: Arc<Process>) {
        let late = tokio::time::sleep(self.boot_limit);
        tokio::pin!(late);
        loop {
            match metrics::read(vm.folder()) {
                Some(reading) if reading.state == MeterState::Ended => break,
                Some(reading) if reading.state != MeterState::Starting => {
                    let at = metrics::reached_at(&reading, Phase::Entered);
                    self.entered(&vm, at.unwrap_or_else(Timestamp::now));
                    if reading.state == MeterState::Paused {
                        vm.step(Step::Paused);
                    }
                    process.gone().await;
                    break;
                }
                _ => {}
            }
            tokio::select! {
                () = process.gone() => break,
                () = &mut late => {
                    self.give_up(&vm, &process);
                    break;
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        if let Some(outcome) = metrics::read(vm.folder()).and_then(|reading| reading.outcome) {
            self.ended(&vm, outcome);
        }
        self.part(&vm, &process).await;
        self.unplug(&vm).await;
        self.after(&vm, None);
    }

    /// Ends a VM whose monitor did not enter its guest in time.
    fn give_up(self: &Arc<Self>, vm: &Arc<Vm>, process: &Process) {
        if let Err(error) = process.kill() {
            tracing::error!(vm = vm.id(), pid = process.pid(), %error, "cannot kill its monitor");
        }
        let limit = self.boot_limit;
        let stuck = format!("the monitor did not enter its guest within {limit:?}");
        self.ended(vm, Outcome::new(Cause::Failed, stuck));
    }

    /// Waits for the process of a VM that has ended to be gone, and helps where it does not go.
    async fn part(&self, vm: &Vm, process: &Process) {
        if vm.state().is_ended() && tokio::time::timeout(PARTING, process.gone()).await.is_err() {
            tracing::warn!(
                vm = vm.id(),
                pid = process.pid(),
                "its monitor does not end: killed"
            );
            if let Err(error) = process.kill() {
                tracing::error!(vm = vm.id(), pid = process.pid(), %error, "cannot kill it");
            }
        }
        process.gone().await;
    }

    /// The process is gone, and nobody has the VM's tap any more.
    async fn unplug(self: &Arc<Self>, vm: &Vm) {
        if vm.linux().is_some_and(|linux| linux.lease.is_some()) {
            let (fleet, id) = (Arc::clone(self), vm.id().to_owned());
            // It fails only where the daemon ends, and the next one tidies up.
            let _ = tokio::task::spawn_blocking(move || fleet.plugs.detach(&id)).await;
        }
    }

    /// The process is gone: where nobody said how the VM ended, this is how.
    fn after(self: &Arc<Self>, vm: &Arc<Vm>, status: Option<ExitStatus>) {
        if !vm.state().is_ended() {
            let reading = metrics::read(vm.folder());
            let outcome = reading
                .and_then(|reading| reading.outcome)
                .unwrap_or_else(|| died(vm, status));
            self.ended(vm, outcome);
        }
        // At last: from here on it may be started again, and what is said of this start would be taken for the next one's.
        vm.set_monitor(None);
    }

    /// The VM runs.
    pub(super) fn entered(&self, vm: &Vm, at: Timestamp) {
        if vm.entered(at) {
            self.tell(EventKind::Running, vm);
        }
    }

    /// The VM is over.
    pub(super) fn ended(self: &Arc<Self>, vm: &Arc<Vm>, outcome: Outcome) {
        let reading = metrics::read(vm.folder());
        let reached = |phase| {
            reading
                .as_ref()
                .and_then(|reading| metrics::reached_at(reading, phase))
        };
        if let Some(at) = reached(Phase::Entered) {
            // One that ended as soon as it ran may end before anybody heard that it did.
            self.entered(vm, at);
        }
        let at = reached(Phase::Ended).unwrap_or_else(Timestamp::now);
        let counted = reading
            .as_ref()
            .map(|reading| metrics::metrics(reading, vm.agent().answered_ns));
        self.end_at(vm, outcome, at, counted);
    }

    /// The VM was over at `at`.
    pub(super) fn end_at(
        self: &Arc<Self>,
        vm: &Arc<Vm>,
        outcome: Outcome,
        at: Timestamp,
        counted: Option<api::Metrics>,
    ) {
        let cause = outcome.cause;
        if !vm.end(&self.journal, outcome, at, counted) {
            return;
        }
        self.tell(EventKind::Ended, vm);
        self.again_by_policy(vm, cause);
        // One that is wanted removed is removed by whoever wants it.
        if vm.base().auto_remove && vm.desired() != Desired::Remove {
            let (fleet, vm) = (Arc::clone(self), Arc::clone(vm));
            tokio::spawn(async move {
                if let Err(error) = fleet.clear(&vm).await {
                    tracing::warn!(vm = vm.id(), %error, "cannot remove it");
                }
            });
        }
    }
}

/// The next thing that a monitor says; `None` when it says no more.
async fn heard(lines: &mut Lines<BufReader<UnixStream>>) -> Option<Event> {
    let line = match lines.next_line().await {
        Ok(line) => line?,
        // Its end was closed with something unread in it: it is gone.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
        Err(error) => {
            tracing::warn!(%error, "cannot hear a monitor");
            return None;
        }
    };
    serde_json::from_str(&line)
        .inspect_err(|error| tracing::warn!(%error, line, "a monitor said something odd"))
        .ok()
}

/// How a VM ended whose monitor is gone without a word.
pub(super) fn died(vm: &Vm, status: Option<ExitStatus>) -> Outcome {
    let on_request = match vm.desired() {
        Desired::Run => false,
        Desired::Stop { by } => by <= Timestamp::now(),
        Desired::Remove => true,
    };
    if on_request {
        return Outcome::new(Cause::Stopped, "killed on request");
    }
    let how = match status {
        Some(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was killed by signal {signal}"),
            (None, code) => format!("exited with code {}", code.unwrap_or_default()),
        },
        None => "died".to_owned(),
    };
    let said = last_words(vm);
    Outcome::new(Cause::Failed, format!("the monitor {how}{said}"))
}

/// The last line that a monitor wrote for people.
fn last_words(vm: &Vm) -> String {
    let log = std::fs::read(vm.folder().monitor_log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&log[log.len().saturating_sub(4096)..]);
    match text.trim_end().lines().next_back() {
        Some(line) if !line.is_empty() => format!(": {line}"),
        _ => String::new(),
    }
}
