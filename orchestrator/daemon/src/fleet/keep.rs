//! Keeping in touch with a Linux guest's agent, from the start of its VM to the end.
//!
//! ```text
//!  connecting --Start, answered--> configured --status: runs--> running
//!      |                                |                        | ^
//!      +------ silence, nonsense -------+--> unresponsive <------+ | an answer
//!                                                 +----------------+
//!  any --status: the program cannot be started--> the VM fails by that
//!  any --the VM ends--> gone
//! ```
//! `Start` names this start of the VM, so it may be sent as often as need be: a daemon that returns sends it again, and hears how far the
//! guest is.

use std::sync::Arc;
use std::time::Duration;

use abi::agent::reply::{Reply, State as Guest, Status};
use abi::agent::request::Request;
use api::{AgentState, EventKind, HealthProbe, HealthState};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};
use vmm::meter::monotonic_ns;
use vmm::outcome::{Cause, Outcome};

use super::Fleet;
use crate::agent::health::Health;
use crate::agent::{self, AgentError};
use crate::linux::describe;
use crate::name;
use crate::record::LinuxRecord;
use crate::state::State;
use crate::vm::Vm;

/// Between two attempts to reach an agent that does not listen yet.
const RETRY: Duration = Duration::from_millis(50);
/// Between two attempts after one that went wrong.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);
/// How long an agent may take to start its program: disks are mounted, a network is set up.
const START: Duration = Duration::from_secs(60);
/// How long a guest may take until its agent listens, before that is called trouble.
const BOOT: Duration = Duration::from_secs(120);
/// Between two looks at a program that does not run yet.
const SOON: Duration = Duration::from_millis(100);
/// Between two looks at one that runs: what it finds is rarely news.
const SELDOM: Duration = Duration::from_secs(10);
/// After so long a program that runs, earlier crashes of its VM do not count any more.
const WELL: Duration = Duration::from_secs(60);
/// How much longer than it should take a probe is waited for.
const PROBE_MARGIN: Duration = Duration::from_secs(5);
/// Bytes for the guest's random numbers.
const ENTROPY: usize = 64;

impl Fleet {
    /// Keeps in touch with the agent of a VM that was just started or found, where it has one.
    pub(super) fn keep_agent(self: &Arc<Self>, vm: &Arc<Vm>) {
        if vm.linux().is_none() {
            return;
        }
        let (fleet, vm) = (Arc::clone(self), Arc::clone(vm));
        let over = vm.over();
        tokio::spawn(async move {
            tokio::select! {
                () = over => {}
                () = fleet.keep(&vm) => {}
            }
        });
    }

    async fn keep(self: &Arc<Self>, vm: &Arc<Vm>) {
        let Some(linux) = vm.linux() else { return };
        self.configure(vm, linux).await;
        let began = Instant::now();
        let mut health = Health::default();
        let mut probe_at = linux.health.as_ref().map(|probe| began + interval(probe));
        loop {
            let running = vm.agent().state == AgentState::Running;
            let wait = if running { SELDOM } else { SOON };
            let status_at = Instant::now() + wait;
            match probe_at {
                Some(at) if at < status_at => {
                    sleep_until(at).await;
                    if let Some(probe) = &linux.health {
                        self.probe_once(vm, probe, began, &mut health).await;
                        probe_at = Some(Instant::now() + interval(probe));
                    }
                }
                _ => {
                    sleep_until(status_at).await;
                    awake(vm).await;
                    self.look(vm).await;
                }
            }
            if began.elapsed() > WELL {
                vm.ran_well();
            }
        }
    }

    /// Tells the agent what to run, as soon as it listens, and until it has understood.
    async fn configure(self: &Arc<Self>, vm: &Arc<Vm>, linux: &LinuxRecord) {
        let began = Instant::now();
        loop {
            awake(vm).await;
            let wait = match self.send_start(vm, linux).await {
                Ok(status) => return self.heard_status(vm, &status),
                Err(error) if error.is_early() && began.elapsed() < BOOT => RETRY,
                Err(AgentError::Refused(failure)) => {
                    let why = format!("its agent refused to start it: {failure}");
                    return self.fail(vm, why);
                }
                Err(error) => {
                    self.trouble(vm, &error);
                    AFTER_TROUBLE
                }
            };
            sleep(wait).await;
        }
    }

    async fn send_start(&self, vm: &Vm, linux: &LinuxRecord) -> Result<Status, AgentError> {
        let generation = format!("{}-{}", vm.id(), vm.starts());
        let entropy = name::random::<ENTROPY>().map_err(AgentError::Connect)?;
        let lease = linux.lease.as_ref();
        let network = lease
            .map(|lease| self.plugs.tell(lease))
            .unwrap_or_default();
        let start = describe::start(linux, &generation, network, entropy.to_vec());
        let request = Request::Start(Box::new(start));
        let reply = agent::ask(vm.folder(), request, START).await?;
        let status = expect_status(reply)?;
        if status.generation.as_ref() != Some(&generation) {
            return Err(AgentError::Nonsense(
                "the status of another start".to_owned(),
            ));
        }
        vm.set_agent(|agent| {
            agent.answered_ns.get_or_insert(monotonic_ns());
            agent.state = AgentState::Configured;
            agent.message = None;
        });
        debug!(vm = vm.id(), "its agent has its start");
        Ok(status)
    }

    async fn look(self: &Arc<Self>, vm: &Arc<Vm>) {
        let asked = agent::ask(vm.folder(), Request::Status, agent::PATIENCE).await;
        match asked.and_then(expect_status) {
            Ok(status) => self.heard_status(vm, &status),
            Err(error) => {
                self.trouble(vm, &error);
                sleep(AFTER_TROUBLE).await;
            }
        }
    }

    fn heard_status(self: &Arc<Self>, vm: &Arc<Vm>, status: &Status) {
        let state = match &status.state {
            // It forgot its start, so it is not what it was.
            Guest::Ready => AgentState::Unresponsive,
            Guest::Failed { error } => {
                return self.fail(vm, format!("its program could not be started: {error}"));
            }
            Guest::Running { .. } | Guest::Waiting { .. } => AgentState::Running,
            Guest::Exited { .. } | Guest::Stopping => vm.agent().state,
        };
        let before = vm.agent().state;
        vm.set_agent(|agent| {
            agent.state = state;
            agent.restarts = status.restarts;
            agent.message = match &status.state {
                Guest::Waiting { exit, retry_ms } => Some(format!(
                    "its program ended with status {} and is started again in {retry_ms} ms",
                    exit.status()
                )),
                Guest::Ready => Some("the agent waits for a start that it had".to_owned()),
                _ => None,
            };
        });
        if state == AgentState::Running && before == AgentState::Configured {
            self.tell(EventKind::Ready, vm);
        }
    }

    async fn probe_once(
        self: &Arc<Self>,
        vm: &Arc<Vm>,
        probe: &HealthProbe,
        began: Instant,
        health: &mut Health,
    ) {
        awake(vm).await;
        let patience = Duration::from_millis(probe.timeout_ms).saturating_add(PROBE_MARGIN);
        let answer = agent::ask(vm.folder(), describe::health(probe), patience).await;
        let well = match answer {
            Ok(Reply::Health(found)) => found.healthy,
            Ok(_) => {
                self.trouble(
                    vm,
                    &AgentError::Nonsense("no health was answered".to_owned()),
                );
                false
            }
            Err(AgentError::Refused(_)) => false,
            Err(error) => {
                self.trouble(vm, &error);
                false
            }
        };
        let early = began.elapsed() < Duration::from_millis(probe.start_period_ms);
        let changed = health.probed(well, early, probe.retries);
        vm.set_agent(|agent| agent.health = Some(health.state()));
        if changed {
            match health.state() {
                HealthState::Healthy => self.tell(EventKind::Healthy, vm),
                HealthState::Unhealthy => self.tell(EventKind::Unhealthy, vm),
                HealthState::Starting => {}
            }
        }
    }

    /// The agent did not answer as it should; the VM may be well all the same.
    fn trouble(&self, vm: &Vm, error: &AgentError) {
        let message = crate::chain(error);
        let news = vm.set_agent(|agent| {
            agent.state = AgentState::Unresponsive;
            agent.message = Some(message.clone());
        });
        if news {
            warn!(
                vm = vm.id(),
                message, "its agent does not answer as it should"
            );
        }
    }

    /// The VM cannot become what it is to be.
    fn fail(self: &Arc<Self>, vm: &Arc<Vm>, why: String) {
        let monitor = vm.monitor();
        self.ended(vm, Outcome::new(Cause::Failed, why));
        if let Some(monitor) = monitor
            && let Err(error) = monitor.kill()
        {
            warn!(vm = vm.id(), %error, "cannot kill its monitor");
        }
    }
}

/// Waits while the VM stands still: whoever does not run does not answer.
async fn awake(vm: &Vm) {
    vm.reach(|state| state != State::Paused).await;
}

fn interval(probe: &HealthProbe) -> Duration {
    Duration::from_millis(probe.interval_ms)
}

fn expect_status(reply: Reply) -> Result<Status, AgentError> {
    match reply {
        Reply::Status(status) => Ok(status),
        _ => Err(AgentError::Nonsense("no status was answered".to_owned())),
    }
}
