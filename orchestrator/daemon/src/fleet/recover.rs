//! Finding VMs again after the daemon was gone.
//!
//! Four witnesses: the record (what is wanted), the folder's lock (whether a monitor lives), the meter (what it did), and
//! the host's boot id (whether it is still the host's same life). [`decide`] is the whole of it.
//!
//! | lock | meter | wanted | so |
//! |---|---|---|---|
//! | – | – | removal | finish the removal |
//! | held | any | any | a monitor lives: adopt it, and go on stopping it where that is wanted |
//! | free | over | any | it ended while nobody looked: the meter says how |
//! | free | alive | any | its monitor died |
//! | free | silent | run | the daemon was gone before a guest ran: start it now, unless the host was restarted since |
//! | free | silent | stop | it never ran and shall not |

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use network::{Known, Network};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};
use vmm::meter::{Phase, Reading, State as MeterState};
use vmm::outcome::{Cause, Outcome};

use super::{CreateError, Fleet, watch};
use crate::folder::Lease;
use crate::metrics;
use crate::process::{self, Process};
use crate::record::{Desired, Record};
use crate::state::Step;
use crate::vm::Vm;

/// Between two looks at a VM whose monitor is neither to be found nor gone: one that is just dying.
const LOOK: Duration = Duration::from_millis(5);

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That it runs.
    Run,
    /// That it ends.
    Stop,
    /// That nothing is left.
    Remove,
}

/// What the meter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Nothing: no guest ran.
    Silent,
    /// A monitor began and said nothing of an end.
    Alive,
    /// How the VM ended.
    Over,
}

/// All that is seen of a VM after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// What is wanted.
    pub wanted: Wanted,
    /// Whether its end is written down.
    pub ended: bool,
    /// Whether it is removed when it has ended.
    pub auto_remove: bool,
    /// Whether a monitor holds its lock.
    pub held: bool,
    /// What its meter says.
    pub page: Page,
    /// Whether the host has not been restarted since it was made.
    pub same_boot: bool,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Kill its monitor where it has one, and remove it.
    Remove,
    /// Watch its monitor.
    Adopt,
    /// It ended and that is known.
    Keep,
    /// It ended as its meter says.
    Finish,
    /// Its monitor died, or its host did.
    Died,
    /// It ended before it ran.
    NeverRan,
    /// Start it.
    Start,
}

/// What is to be done about a VM, from what is seen of it.
#[must_use]
pub fn decide(sight: Sight) -> Action {
    if sight.wanted == Wanted::Remove {
        return Action::Remove;
    }
    if sight.held {
        return Action::Adopt;
    }
    if sight.ended {
        return match sight.auto_remove {
            true => Action::Remove,
            false => Action::Keep,
        };
    }
    match (sight.page, sight.wanted) {
        (Page::Over, _) => Action::Finish,
        (Page::Alive, _) => Action::Died,
        (Page::Silent, Wanted::Run) if sight.same_boot => Action::Start,
        (Page::Silent, Wanted::Run) => Action::Died,
        (Page::Silent, _) => Action::NeverRan,
    }
}

impl Fleet {
    /// Takes over what is written down and what lives. Returns when each VM's state is known, save for those that are being
    /// started, or removed, or whose monitor is just dying.
    pub async fn recover(self: &Arc<Self>, records: Vec<Record>, networks: Vec<Network>) {
        let vms: Vec<Arc<Vm>> = records
            .into_iter()
            .map(|record| {
                let folder = self.home.vm(&record.id);
                Arc::new(Vm::new(record, folder))
            })
            .collect();
        {
            let mut table = self.table();
            vms.iter().for_each(|vm| table.insert(vm));
        }
        self.sweep();
        self.plug_again(&vms, networks).await;
        for vm in vms {
            if !self.settle(&vm).await {
                let fleet = Arc::clone(self);
                tokio::spawn(async move {
                    while !fleet.settle(&vm).await {
                        tokio::time::sleep(LOOK).await;
                    }
                });
            }
        }
    }

    /// Brings networks back to what is written down: those of VMs that live go on, those of others go.
    async fn plug_again(self: &Arc<Self>, vms: &[Arc<Vm>], networks: Vec<Network>) {
        let leased = vms.iter().filter_map(|vm| {
            let lease = vm.linux()?.lease.clone()?;
            let live = !matches!(vm.folder().lease(), Ok(Lease::Free));
            Some(Known { lease, live })
        });
        let leased: Vec<Known> = leased.collect();
        let fleet = Arc::clone(self);
        let reconciled = spawn_blocking(move || fleet.plugs.reconcile(&networks, &leased)).await;
        if let Ok(Err(error)) = reconciled {
            error!(%error, "cannot bring networks back");
        }
    }

    /// Removes folders that no record names: a removal was written down as done and the folder came back with the file system,
    /// or a record was lost. One whose monitor lives is left alone.
    fn sweep(&self) {
        let folders = match self.home.vms() {
            Ok(folders) => folders,
            Err(error) => {
                error!(%error, "cannot read the folders of VMs");
                return;
            }
        };
        for (id, folder) in folders {
            if self.table().by_id.contains_key(&id) {
                continue;
            }
            match folder.lease() {
                Ok(Lease::Free) => match folder.clear() {
                    Ok(()) => info!(vm = id, "removed the folder of a VM that is not known"),
                    Err(error) => warn!(vm = id, %error, "cannot remove its folder"),
                },
                Ok(Lease::Held(pid)) => {
                    warn!(
                        vm = id,
                        pid, "a monitor lives of a VM that is not known: left alone"
                    );
                }
                Err(error) => warn!(vm = id, %error, "cannot look at its lock"),
            }
        }
    }

    /// Looks at a VM and does what is to be done; `false` where another look is needed.
    async fn settle(self: &Arc<Self>, vm: &Arc<Vm>) -> bool {
        let lease = match vm.folder().lease() {
            Ok(lease) => lease,
            Err(error) => {
                warn!(vm = vm.id(), %error, "cannot look at its lock");
                return false;
            }
        };
        // After the lock: a monitor that was gone by then wrote nothing more.
        let reading = metrics::read(vm.folder());
        let sight = self.sight(vm, lease, reading.as_ref());
        let action = decide(sight);
        info!(vm = vm.id(), ?action, "found again");
        match action {
            Action::Adopt | Action::Remove if sight.held => {
                match self.adopt(vm, lease, reading.as_ref()) {
                    Ok(true) => {}
                    Ok(false) => return false,
                    Err(error) => {
                        warn!(vm = vm.id(), %error, "cannot find its monitor");
                        return false;
                    }
                }
                if action == Action::Remove {
                    self.remove_soon(vm);
                }
            }
            Action::Adopt | Action::Keep => {}
            Action::Remove => {
                let killed = Outcome::new(Cause::Stopped, "removed by force");
                vm.end(&self.journal, killed, Timestamp::now(), None);
                self.remove_soon(vm);
            }
            Action::Finish => {
                if let Some(outcome) = reading.and_then(|reading| reading.outcome) {
                    self.ended(vm, outcome);
                }
            }
            Action::Died if !sight.same_boot => {
                // Not by way of the meter: its clock was that of the host's life before.
                let outcome = Outcome::new(Cause::Failed, "the host was restarted");
                self.end_at(vm, outcome, Timestamp::now(), None);
            }
            Action::Died => self.ended(vm, watch::died(vm, None)),
            Action::NeverRan => {
                let outcome = Outcome::new(Cause::Stopped, "before it was started");
                self.ended(vm, outcome);
            }
            Action::Start => {
                let (fleet, vm) = (Arc::clone(self), Arc::clone(vm));
                // Where that fails, the VM says so.
                tokio::spawn(async move { drop(fleet.start_again(&vm).await) });
            }
        }
        true
    }

    fn sight(&self, vm: &Vm, lease: Lease, reading: Option<&Reading>) -> Sight {
        Sight {
            wanted: match vm.desired() {
                Desired::Run => Wanted::Run,
                Desired::Stop { .. } => Wanted::Stop,
                Desired::Remove => Wanted::Remove,
            },
            ended: vm.state().is_ended(),
            auto_remove: vm.base().auto_remove,
            held: lease != Lease::Free,
            page: match reading.map(|reading| reading.state) {
                None => Page::Silent,
                Some(MeterState::Ended) => Page::Over,
                Some(_) => Page::Alive,
            },
            same_boot: vm.host_boot() == self.host.boot_id,
        }
    }

    /// Takes over a monitor that lives; `false` where it cannot be found, because it is just dying.
    fn adopt(
        self: &Arc<Self>,
        vm: &Arc<Vm>,
        lease: Lease,
        reading: Option<&Reading>,
    ) -> io::Result<bool> {
        let Lease::Held(Some(pid)) = lease else {
            return Ok(false);
        };
        let said = reading.map_or(0, |reading| reading.start_time);
        let found = Process::find(pid, || {
            // The number was noted before the lock was handed over, so whoever holds the lock is the one with this number.
            let same = said == 0 || process::start_time(pid)? == said;
            Ok(same && vm.folder().lease()? == lease)
        })?;
        let Some(monitor) = found else {
            return Ok(false);
        };
        let monitor = Arc::new(monitor);
        vm.set_monitor(Some(Arc::clone(&monitor)));
        vm.step(Step::Launched);
        if let Some(reading) = reading.filter(|r| r.state != MeterState::Starting) {
            let at = metrics::reached_at(reading, Phase::Entered);
            self.entered(vm, at.unwrap_or_else(Timestamp::now));
            if reading.state == MeterState::Paused {
                vm.step(Step::Paused);
            }
        }
        tokio::spawn(Arc::clone(self).watch_found(Arc::clone(vm), monitor));
        self.keep_agent(vm);
        if let Desired::Stop { by } = vm.desired() {
            vm.step(Step::StopAsked);
            tokio::spawn(Arc::clone(self).bring_down(Arc::clone(vm), by));
        }
        Ok(true)
    }

    fn remove_soon(self: &Arc<Self>, vm: &Arc<Vm>) {
        let (fleet, vm) = (Arc::clone(self), Arc::clone(vm));
        tokio::spawn(async move {
            if let Err(error) = fleet.remove(&vm, true).await {
                warn!(vm = vm.id(), %error, "cannot finish its removal");
            }
        });
    }

    /// Starts a VM that was written down, and of which no guest ran since.
    ///
    /// # Errors
    /// [`CreateError`]; the VM has failed by that.
    pub(super) async fn start_again(self: &Arc<Self>, vm: &Arc<Vm>) -> Result<(), CreateError> {
        let started = match self.open_image(vm.base().digest.clone()).await {
            Ok(image) => self.start(vm, image).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &started {
            warn!(vm = vm.id(), %error, "cannot start it");
            self.ended(vm, Outcome::new(Cause::Failed, crate::chain(error)));
        }
        started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_sight() -> impl Iterator<Item = Sight> {
        let wanted = [Wanted::Run, Wanted::Stop, Wanted::Remove];
        let pages = [Page::Silent, Page::Alive, Page::Over];
        wanted.into_iter().flat_map(move |wanted| {
            pages.into_iter().flat_map(move |page| {
                (0..16_u8).map(move |bits| Sight {
                    wanted,
                    page,
                    ended: bits & 1 != 0,
                    auto_remove: bits & 2 != 0,
                    held: bits & 4 != 0,
                    same_boot: bits & 8 != 0,
                })
            })
        })
    }

    #[test]
    fn nothing_is_ever_started_twice() {
        for sight in every_sight() {
            if decide(sight) == Action::Start {
                let untouched = !sight.held && !sight.ended && sight.page == Page::Silent;
                assert!(untouched && sight.same_boot, "{sight:?}");
                assert_eq!(sight.wanted, Wanted::Run, "{sight:?}");
            }
        }
    }

    #[test]
    fn nothing_that_is_wanted_and_never_ran_is_forgotten() {
        for sight in every_sight() {
            let untouched = !sight.held && !sight.ended && sight.page == Page::Silent;
            if untouched && sight.same_boot && sight.wanted == Wanted::Run {
                assert_eq!(decide(sight), Action::Start, "{sight:?}");
            }
        }
    }

    #[test]
    fn what_lives_is_watched_or_removed() {
        for sight in every_sight().filter(|sight| sight.held) {
            let expected = match sight.wanted {
                Wanted::Remove => Action::Remove,
                _ => Action::Adopt,
            };
            assert_eq!(decide(sight), expected, "{sight:?}");
        }
    }

    #[test]
    fn a_removal_is_always_finished() {
        for sight in every_sight() {
            let action = decide(sight);
            if sight.wanted == Wanted::Remove {
                assert_eq!(action, Action::Remove, "{sight:?}");
            } else if action == Action::Remove {
                // Of itself only what ended and asked for it.
                assert!(sight.ended && sight.auto_remove && !sight.held, "{sight:?}");
            }
        }
    }

    #[test]
    fn an_end_is_told_as_it_was() {
        for sight in every_sight().filter(|s| !s.held && s.wanted != Wanted::Remove) {
            let action = decide(sight);
            if sight.ended {
                assert!(matches!(action, Action::Keep | Action::Remove), "{sight:?}");
            } else if sight.page == Page::Over {
                assert_eq!(action, Action::Finish, "{sight:?}");
            } else if sight.page == Page::Alive {
                assert_eq!(action, Action::Died, "{sight:?}");
            }
        }
    }
}
