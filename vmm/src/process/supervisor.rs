//! The control thread: it owns the machine, and waits for whatever concerns the VM as a whole.
//!
//! ```text
//!   end of the VM (a virtual CPU, a device) --+
//!   deadline, once a second: a look ----------+--> epoll --> the one thread that builds, pauses, resumes
//!   SIGTERM, SIGINT --------------------------+              and halts the machine
//!   requests to the control API --------------+
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::control::{BalloonReading, Control, Monitor, Refusal};
use crate::machine::end::End;
use crate::machine::{Machine, MachineError};
use crate::meter::{Meter, Reading, State};
use crate::outcome::{Cause, Outcome};
use crate::rate::LimitChange;
use crate::spec;

/// How often a running VM is looked at, and its processor time accounted for.
const TICK: Duration = Duration::from_secs(1);

const NO_BALLOON: &str = "there is no balloon";
const NO_STATISTICS: &str = "whether there are statistics is decided before the start, and here there are none, or none are to be left";

/// What the thread waits for.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Wait {
    End,
    Signal,
    Deadline,
    Tick,
    Control,
}

/// The owner of the machine.
pub struct Supervisor {
    meter: Arc<Meter>,
    end: Arc<End>,
    machine: Option<Machine>,
    state: Option<State>,
    epoll: OwnedFd,
    signals: OwnedFd,
    deadline: OwnedFd,
    tick: OwnedFd,
}

impl Supervisor {
    /// One without a machine. Signals that end a VM are its own from here on, in this thread and those it starts.
    ///
    /// # Errors
    /// Where a descriptor cannot be had.
    pub fn new(meter: Meter) -> io::Result<Self> {
        let timer = || timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC);
        let supervisor = Self {
            meter: Arc::new(meter),
            end: Arc::new(End::new()?),
            machine: None,
            state: None,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            signals: signals()?,
            deadline: timer()?,
            tick: timer()?,
        };
        // SAFETY: the end lives as long as the supervisor.
        let end = unsafe { BorrowedFd::borrow_raw(supervisor.end.as_raw_fd()) };
        supervisor.watch(end, Wait::End)?;
        supervisor.watch(supervisor.signals.as_fd(), Wait::Signal)?;
        supervisor.watch(supervisor.deadline.as_fd(), Wait::Deadline)?;
        supervisor.watch(supervisor.tick.as_fd(), Wait::Tick)?;
        Ok(supervisor)
    }

    /// Builds the machine that `vm` describes and lets it run.
    ///
    /// # Errors
    /// [`MachineError`]; there is no machine then.
    pub fn start(&mut self, vm: spec::Vm) -> Result<(), MachineError> {
        let deadline = vm.deadline;
        let mut machine = Machine::new(vm, Arc::clone(&self.meter), Arc::clone(&self.end))?;
        let armed = |e: Errno| MachineError::System("a timer", e.into());
        if let Some(deadline) = deadline {
            arm(&self.deadline, deadline, Duration::ZERO).map_err(armed)?;
        }
        arm(&self.tick, TICK, TICK).map_err(armed)?;
        machine.start();
        self.machine = Some(machine);
        self.set_state(State::Running);
        Ok(())
    }

    /// Waits until the VM is over, serving the control API meanwhile; then ends it.
    #[must_use]
    pub fn run(&mut self, mut control: Option<Control>) -> Outcome {
        let outcome = self.wait(control.as_mut());
        let outcome = self.end(outcome);
        if let Some(control) = control {
            control.finish(self);
        }
        outcome
    }

    /// Ends the VM by `outcome`, unless it had ended before, and says how it did.
    pub fn end(&mut self, outcome: Outcome) -> Outcome {
        self.end.report(outcome);
        if let Some(machine) = &mut self.machine {
            machine.halt();
        }
        let outcome = self.end.outcome().unwrap_or_else(|| unreachable!());
        self.meter.end(&outcome);
        self.state = self.state.map(|_| State::Ended);
        outcome
    }

    fn wait(&mut self, mut control: Option<&mut Control>) -> Outcome {
        if let Some(control) = &control
            && let Err(error) = self.watch(control.as_fd(), Wait::Control)
        {
            return Outcome::new(Cause::Failed, format!("no control API: {error}"));
        }
        loop {
            let mut space = [epoll::Event {
                flags: epoll::EventFlags::empty(),
                data: epoll::EventData::new_u64(0),
            }; 8];
            let events = match epoll::wait(&self.epoll, &mut space[..], None) {
                Ok(count) => &space[..count],
                Err(Errno::INTR) => continue,
                Err(error) => return Outcome::new(Cause::Failed, format!("no events: {error}")),
            };
            for event in events {
                let event = event.data.u64();
                if event == Wait::End as u64 {
                    // The one who reported it is right, whatever is returned here.
                    return Outcome::new(Cause::Failed, "");
                } else if event == Wait::Signal as u64 {
                    return Outcome::new(Cause::Stopped, "");
                } else if event == Wait::Deadline as u64 {
                    return Outcome::new(Cause::Deadline, "");
                } else if event == Wait::Tick as u64 {
                    self.tick();
                } else if let Some(control) = control.as_deref_mut() {
                    control.handle(self);
                }
            }
        }
    }

    fn tick(&mut self) {
        let _ = rustix::io::read(&self.tick, &mut [0; 8]);
        if self.state == Some(State::Running)
            && let Some(machine) = &mut self.machine
        {
            machine.tick();
        }
    }

    fn watch(&self, fd: BorrowedFd<'_>, wait: Wait) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(wait as u64);
        epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)
    }

    fn set_state(&mut self, state: State) {
        self.state = Some(state);
        self.meter.set_state(state);
    }

    fn machine(&mut self) -> Result<&mut Machine, Refusal> {
        self.machine
            .as_mut()
            .ok_or_else(|| "there is no machine".into())
    }
}

impl Monitor for Supervisor {
    fn boot(&mut self, vm: spec::Vm) -> Result<(), Refusal> {
        self.start(vm).map_err(|e| Refusal::of(&e))
    }

    fn state(&self) -> Option<State> {
        // What ended a moment ago is over, though this thread has not yet seen to it.
        self.state.map(|state| {
            if self.end.is_over() {
                State::Ended
            } else {
                state
            }
        })
    }

    fn pause(&mut self) -> Result<(), Refusal> {
        self.machine()?.pause();
        self.set_state(State::Paused);
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Refusal> {
        self.machine()?.resume();
        self.set_state(State::Running);
        Ok(())
    }

    fn ctrl_alt_del(&mut self) -> Result<(), Refusal> {
        self.machine()?.ctrl_alt_del().map_err(|e| Refusal::of(&e))
    }

    fn limit_disk(&mut self, id: &str, change: LimitChange) -> Result<(), Refusal> {
        let disk = self.machine()?.disk(id).ok_or("there is no such drive")?;
        disk.call(|disk| disk.change_limit(change));
        // What the old limit held back.
        disk.ring_later(0);
        Ok(())
    }

    fn limit_net(
        &mut self,
        id: &str,
        receive: LimitChange,
        transmit: LimitChange,
    ) -> Result<(), Refusal> {
        let net = self
            .machine()?
            .net(id)
            .ok_or("there is no such network interface")?;
        net.call(|net| net.limit(receive, transmit));
        // What the old limits held back.
        net.ring_later(0);
        net.ring_later(1);
        Ok(())
    }

    fn balloon(&self) -> Option<spec::Balloon> {
        let balloon = self.machine.as_ref()?.balloon()?;
        Some(balloon.call(|balloon| balloon.described()))
    }

    fn set_balloon(&mut self, mib: u64) -> Result<(), Refusal> {
        let balloon = self.machine()?.balloon().ok_or(NO_BALLOON)?;
        let set = balloon.reconfigure(|balloon| balloon.set_target(mib));
        set.map_err(|e| Refusal::of(&e))
    }

    fn balloon_statistics(&self) -> Result<BalloonReading, Refusal> {
        let machine = self.machine.as_ref();
        let balloon = machine.and_then(Machine::balloon).ok_or(NO_BALLOON)?;
        balloon.call(|balloon| {
            Ok(BalloonReading {
                target_pages: balloon.target_pages(),
                actual_pages: balloon.actual_pages(),
                statistics: *balloon.statistics().ok_or(NO_STATISTICS)?,
            })
        })
    }

    fn set_balloon_interval(&mut self, seconds: u16) -> Result<(), Refusal> {
        let balloon = self.machine()?.balloon().ok_or(NO_BALLOON)?;
        if balloon.call(|balloon| balloon.set_interval(seconds)) {
            Ok(())
        } else {
            Err(NO_STATISTICS.into())
        }
    }

    fn reading(&self) -> Reading {
        if let Some(machine) = &self.machine {
            machine.account();
        }
        self.meter.read()
    }
}

fn arm(timer: &OwnedFd, first: Duration, every: Duration) -> Result<(), Errno> {
    let spec = |time: Duration| Timespec {
        // Milliseconds in 64 bits are fewer seconds than that.
        tv_sec: time.as_secs().cast_signed(),
        tv_nsec: time.subsec_nanos().into(),
    };
    let times = Itimerspec {
        it_interval: spec(every),
        it_value: spec(first),
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &times).map(drop)
}

/// A descriptor for the signals that end a VM, which are blocked for everybody else.
fn signals() -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: the set is filled by the first call before the others read it; the descriptor is nobody else's.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}
