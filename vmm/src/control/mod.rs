//! The control API: HTTP/1.1 on a unix socket, with Firecracker's paths, verbs, bodies and error body.
//!
//! A tool written for Firecracker drives this monitor: it configures a VM by `PUT`s, starts it by
//! `PUT /actions {"action_type":"InstanceStart"}`, pauses and resumes it by `PATCH /vm`. Where the meaning is the same,
//! so are the words; what this monitor cannot do is refused by name, never ignored.
//!
//! # Model
//! The monitor has one control thread, and it owns everything here. Requests are answered there, one after
//! the other, by calls of [`Monitor`]: what builds, runs and stops the machine is behind that trait, and
//! nothing here knows how.
//!
//! ```text
//!              InstanceStart -> boot()
//!   not started ----------------------> running <---- pause() / resume() ----> paused
//!   PUT of the configuration              |  ctrl_alt_del(), reading()           |
//!   (paths are opened as it arrives)      +-------------> ended <----------------+
//! ```
//!
//! # Use
//! ```text
//! args::Mode::Spec { fd }    vm = Vm::validate(launch::receive(..))
//!                            control = Control::of(&vm, Socket::try_from(vm.control.take()))   where there is one
//!                            the machine boots vm
//! args::Mode::Api { .. }     control = Control::new(instance, Some(Socket::bind(path)))
//!                            control.start_from(config, machine)                               where there is one
//! args::Mode::File { .. }    control = Control::new(instance, None)
//!                            control.start_from(config, machine)
//!
//! then, until the VM is over: wait for the control's descriptor beside the thread's own,
//!                             control.handle(machine) when it is readable
//! and at last:                control.finish(machine)
//! ```

mod api;
pub mod args;
mod connection;
mod files;
pub mod http;
mod log;
mod metrics;
mod server;
mod socket;

use std::path::PathBuf;

pub use api::body::Logger;
pub use api::{ApiError, ConfigFileError, ConfigureError, DraftError, VERSION};
pub use files::FileError;
pub use log::{Level, LevelError};
pub use server::{Control, ControlError, Limits};
pub use socket::{Socket, SocketError};

use crate::meter::{Reading, State};
use crate::rate::LimitChange;
use crate::spec::{self, VmId};
use crate::virtio::balloon::stats::Statistics;
use crate::words::words;

/// The machine, as the control API drives it.
///
/// Every method is called on the control thread, from within [`Control::handle`], [`Control::start_from`] or
/// [`Control::finish`], one at a time.
/// Each may take as long as its work does and no longer: the other clients of the API wait meanwhile.
pub trait Monitor {
    /// Builds the machine that `vm` describes and lets it run: `InstanceStart`.
    ///
    /// Called only while [`Monitor::state`] is `None`. When it succeeds the state is `Some`. When it fails nothing of the
    /// machine is left and the state is `None` as before: the client may mend the configuration and ask again.
    ///
    /// `vm` has the descriptors of its kernel, its console and its drives. The console's output may be anything that a shell can redirect
    /// to: a terminal, pipe, socket, regular file or `/dev/null`, which other processes may share. Its input, where there is one, can be polled.
    ///
    /// # Errors
    /// [`Refusal`], which the client reads after the words `Start microvm error: `.
    fn boot(&mut self, vm: spec::Vm) -> Result<(), Refusal>;

    /// What the VM is doing; `None` until it was started. Cheap: called for every request.
    fn state(&self) -> Option<State>;

    /// Stops virtual CPUs and devices; when this returns, none of them does anything more.
    ///
    /// Called only from [`State::Running`]: a `Paused` for a paused VM succeeds without this.
    ///
    /// # Errors
    /// [`Refusal`]; the VM then runs on.
    fn pause(&mut self) -> Result<(), Refusal>;

    /// Lets virtual CPUs and devices run again. Called only from [`State::Paused`].
    ///
    /// # Errors
    /// [`Refusal`]; the VM then stays paused.
    fn resume(&mut self) -> Result<(), Refusal>;

    /// Sends Ctrl-Alt-Del by the keyboard controller, which asks the guest to shut down.
    ///
    /// Called from [`State::Running`] and [`State::Paused`]; a paused guest finds it when it is resumed. Does not wait for the guest.
    ///
    /// # Errors
    /// [`Refusal`], for example while an earlier key still waits for the guest.
    fn ctrl_alt_del(&mut self) -> Result<(), Refusal>;

    /// Changes the rate limit of the disk with this name. Called from [`State::Running`] and [`State::Paused`].
    ///
    /// # Errors
    /// [`Refusal`], where there is no such disk.
    fn limit_disk(&mut self, id: &str, change: LimitChange) -> Result<(), Refusal>;

    /// Changes the rate limits of the network device with this name: of what the guest receives, and of what it sends. Called
    /// from [`State::Running`] and [`State::Paused`].
    ///
    /// # Errors
    /// [`Refusal`], where there is no such device.
    fn limit_net(
        &mut self,
        id: &str,
        receive: LimitChange,
        transmit: LimitChange,
    ) -> Result<(), Refusal>;

    /// The balloon as it is now, if there is one. Called only while [`Monitor::state`] is `Some`.
    fn balloon(&self) -> Option<spec::Balloon>;

    /// Sets how many MiB the guest is to give up, and does not wait for it. Called from [`State::Running`] and [`State::Paused`].
    ///
    /// # Errors
    /// [`Refusal`], where there is no balloon, or the guest has less.
    fn set_balloon(&mut self, mib: u64) -> Result<(), Refusal>;

    /// What the guest last said of its memory. Called from [`State::Running`] and [`State::Paused`].
    ///
    /// # Errors
    /// [`Refusal`], where there is no balloon, or one without statistics.
    fn balloon_statistics(&self) -> Result<BalloonReading, Refusal>;

    /// Changes the seconds between two statistics. Called from [`State::Running`] and [`State::Paused`].
    ///
    /// # Errors
    /// [`Refusal`], where there is no balloon, or statistics would begin or end by it.
    fn set_balloon_interval(&mut self, seconds: u16) -> Result<(), Refusal>;

    /// What the VM's meter says now. Called only while [`Monitor::state`] is `Some`: for `FlushMetrics`, each minute, and at the end.
    fn reading(&self) -> Reading;
}

/// A balloon's size, and what its guest last said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalloonReading {
    /// Pages of 4 KiB that the guest is to give up.
    pub target_pages: u32,
    /// Pages that it says it gave up.
    pub actual_pages: u32,
    /// Its memory.
    pub statistics: Statistics,
}

/// Why the machine did not do what was asked, in words for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Refusal {
    /// The error and its sources, one after the other.
    #[must_use]
    pub fn of(error: &dyn std::error::Error) -> Self {
        Self(words(error))
    }
}

impl From<&str> for Refusal {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Which VM an API is for that is yet to be configured.
#[derive(Debug)]
pub struct Instance {
    /// The name that the client knows it by.
    pub id: VmId,
    /// `CLOCK_MONOTONIC` nanoseconds when the launcher asked for the process.
    pub launched_at: Option<u64>,
    /// The log, from the first moment on.
    pub logger: Logger,
    /// The metrics' file, from the first moment on.
    pub metrics_path: Option<PathBuf>,
}

#[cfg(test)]
mod fake;
