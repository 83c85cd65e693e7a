//! What the API does: a request in, an answer out, and the [`Monitor`] called in between.
//!
//! | | before the start | running, paused |
//! |---|---|---|
//! | `GET /`, `/version`, `/machine-config`, `/vm/config`, `/balloon` | answered | answered |
//! | `PUT` of the configuration, `InstanceStart` | done | refused |
//! | `PATCH /vm`, `/drives/{id}`, `/network-interfaces/{id}`, `/balloon`, `SendCtrlAltDel`, `FlushMetrics` | refused | done |
//!
//! Words that a tool may look for are Firecracker's, letter for letter; all else is this house's.

mod balloon;
pub(super) mod body;
mod config_file;
mod draft;
mod drive;
mod interface;
mod limit;
mod route;
mod vsock;

use std::io;

use super::files::FileError;
use super::http::{Request, Response};
use super::log::{Level, Log};
use super::metrics::Metrics;
use super::{Instance, Monitor, Refusal};
use crate::meter::{State, monotonic_ns};
use crate::spec::{self, VmId};
use draft::Draft;
use route::{Action, Section};

pub use config_file::ConfigFileError;
pub use draft::{ConfigureError, DraftError};

/// The version that is told.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No such thing.
    #[error("Invalid request method and/or path: {method} {path}.")]
    Unknown {
        /// What was asked for.
        method: String,
        /// Of what.
        path: String,
    },
    /// Something that Firecracker has and this version does not.
    #[error("The requested operation is not supported: this version of Shoal has no {0}")]
    Absent(&'static str),
    /// A body where none belongs.
    #[error("GET request cannot have a body.")]
    BodyOfGet,
    /// No body where one belongs.
    #[error("Empty PUT request.")]
    EmptyPut,
    /// No body where one belongs, or one that changes nothing.
    #[error("Empty PATCH request.")]
    EmptyPatch,
    /// Not the body that belongs there.
    #[error("An error occurred when deserializing the json body of a request: {0}.")]
    Json(serde_json::Error),
    /// Too late.
    #[error("The requested operation is not supported after starting the microVM.")]
    Started,
    /// Too early.
    #[error("The requested operation is not supported before starting the microVM.")]
    NotStarted,
    /// Much too late.
    #[error("The requested operation is not supported after the end of the microVM.")]
    Ended,
    /// A machine that cannot be.
    #[error("Machine config error: {0}")]
    Machine(ConfigureError),
    /// A boot source that cannot be used.
    #[error("Boot source error: {0}")]
    BootSource(ConfigureError),
    /// An entropy device that cannot be.
    #[error("Entropy device error: {0}")]
    Entropy(ConfigureError),
    /// A serial port that cannot be.
    #[error("Serial device error: {0}")]
    Serial(ConfigureError),
    /// A log that cannot be written.
    #[error("Logger error: {0}")]
    Logger(ConfigureError),
    /// Metrics that cannot be written.
    #[error("Metrics error: {0}")]
    Metrics(ConfigureError),
    /// Nothing to boot.
    #[error("Start microvm error: Cannot start microvm without kernel configuration.")]
    NoKernel,
    /// A drive that cannot be.
    #[error("Drive config error: {0}")]
    Drive(ConfigureError),
    /// A network device that cannot be.
    #[error("Network config error: {0}")]
    Network(ConfigureError),
    /// A socket device that cannot be.
    #[error("Vsock config error: {0}")]
    Vsock(ConfigureError),
    /// A balloon that cannot be.
    #[error("Balloon config error: {0}")]
    Balloon(ConfigureError),
    /// The VM has none.
    #[error("Balloon config error: No balloon device found.")]
    NoBalloon,
    /// Descriptors ran out, or a value does not fit.
    #[error("Start microvm error: {0}")]
    Draft(DraftError),
    /// The machine could not be built or run.
    #[error("Start microvm error: {0}")]
    Start(Refusal),
    /// A machine that runs refused.
    #[error("Internal VMM error: {0}")]
    Monitor(Refusal),
    /// The metrics' line was not taken.
    #[error("Internal VMM error: metrics cannot be written: {0}")]
    Flush(io::Error),
}

/// What the API knows of its VM, beside what the [`Monitor`] says.
#[derive(Debug)]
pub(super) struct Api {
    id: VmId,
    launched_at: Option<u64>,
    draft: Draft,
    pub(super) log: Log,
    metrics: Option<Metrics>,
}

impl Api {
    /// For a VM that is yet to be configured.
    pub(super) fn new(instance: Instance) -> Result<Self, ConfigureError> {
        let mut api = Self {
            log: Log::new(instance.id.as_str()),
            id: instance.id,
            launched_at: instance.launched_at,
            draft: Draft::new()?,
            metrics: None,
        };
        if instance.logger != body::Logger::default() {
            api.logger(instance.logger)?;
        }
        if let Some(metrics_path) = instance.metrics_path {
            api.metrics(body::Metrics { metrics_path })?;
        }
        Ok(api)
    }

    /// For a VM that was described whole.
    pub(super) fn of(vm: &spec::Vm) -> Self {
        Self {
            id: vm.id.clone(),
            launched_at: vm.launched_at,
            draft: Draft::of(vm),
            log: Log::new(vm.id.as_str()),
            metrics: None,
        }
    }

    /// Answers a request.
    pub(super) fn answer(&mut self, request: &Request, monitor: &mut dyn Monitor) -> Response {
        let asked = format!("{} {}", request.method.as_str(), request.path);
        match Action::parse(request).and_then(|action| self.act(action, monitor)) {
            Ok(response) => {
                let text = format!("{asked}: {}", response.status());
                self.log.write(Level::Info, &text);
                response
            }
            Err(error) => {
                let fault = error.to_string();
                self.log.write(Level::Error, &format!("{asked}: {fault}"));
                Response::fault(400, &fault)
            }
        }
    }

    fn act(&mut self, action: Action, monitor: &mut dyn Monitor) -> Result<Response, ApiError> {
        match action {
            Action::Describe => return Ok(Response::json(&self.describe(monitor.state()))),
            Action::Version => {
                return Ok(Response::json(&body::VersionView {
                    firecracker_version: VERSION,
                }));
            }
            Action::ReadMachine => return Ok(Response::json(&self.draft.machine_view())),
            Action::ReadConfig => return Ok(Response::json(&self.draft.view())),
            Action::Configure(section) => {
                not_started(monitor)?;
                self.configure(section)?;
            }
            Action::Start => {
                not_started(monitor)?;
                self.start(monitor)?;
            }
            Action::FlushMetrics => {
                started(monitor)?;
                self.flush(monitor).map_err(ApiError::Flush)?;
            }
            Action::CtrlAltDel => {
                running_or_paused(monitor)?;
                monitor.ctrl_alt_del().map_err(ApiError::Monitor)?;
            }
            Action::Pause => {
                if running_or_paused(monitor)? != State::Paused {
                    monitor.pause().map_err(ApiError::Monitor)?;
                }
            }
            Action::Resume => {
                if running_or_paused(monitor)? == State::Paused {
                    monitor.resume().map_err(ApiError::Monitor)?;
                }
            }
            Action::PatchDrive(id, update) => {
                let change = update.check(&id).map_err(ApiError::Drive)?;
                running_or_paused(monitor)?;
                let limited = monitor.limit_disk(&id, change);
                limited.map_err(ApiError::Monitor)?;
            }
            Action::PatchInterface(id, update) => {
                let (receive, transmit) = update.check(&id).map_err(ApiError::Network)?;
                running_or_paused(monitor)?;
                let limited = monitor.limit_net(&id, receive, transmit);
                limited.map_err(ApiError::Monitor)?;
            }
            Action::ReadBalloon => return self.read_balloon(monitor),
            Action::PatchBalloon(update) => {
                running_or_paused(monitor)?;
                let set = monitor.set_balloon(update.amount_mib);
                set.map_err(ApiError::Monitor)?;
            }
            Action::ReadStatistics => {
                running_or_paused(monitor)?;
                let reading = monitor.balloon_statistics().map_err(ApiError::Monitor)?;
                return Ok(Response::json(&body::StatisticsView::from(reading)));
            }
            Action::PatchStatistics(update) => {
                running_or_paused(monitor)?;
                let set = monitor.set_balloon_interval(update.stats_polling_interval_s);
                set.map_err(ApiError::Monitor)?;
            }
        }
        Ok(Response::no_content())
    }

    /// As it is, or as it was put before the start.
    fn read_balloon(&self, monitor: &dyn Monitor) -> Result<Response, ApiError> {
        let balloon = match monitor.state() {
            None => self.draft.balloon(),
            Some(_) => monitor.balloon(),
        };
        let balloon = balloon.ok_or(ApiError::NoBalloon)?;
        Ok(Response::json(&body::Balloon::from(balloon)))
    }

    fn describe(&self, state: Option<State>) -> body::InstanceView<'_> {
        body::InstanceView {
            id: self.id.as_str(),
            state: match state {
                None => "Not started",
                Some(State::Starting | State::Running) => "Running",
                Some(State::Paused) => "Paused",
                // Firecracker has no word for it, for it is gone then; so is this monitor, an instant later.
                Some(State::Ended) => "Ended",
            },
            vmm_version: VERSION,
            app_name: "Shoal",
        }
    }

    fn configure(&mut self, section: Section) -> Result<(), ApiError> {
        match section {
            Section::Machine(update) => self.draft.machine(&update).map_err(ApiError::Machine),
            Section::BootSource(put) => self.draft.boot_source(put).map_err(ApiError::BootSource),
            Section::Entropy(put) => self.draft.entropy(&put).map_err(ApiError::Entropy),
            Section::Serial(put) => self.draft.serial(put).map_err(ApiError::Serial),
            Section::Logger(put) => self.logger(put).map_err(ApiError::Logger),
            Section::Metrics(put) => self.metrics(put).map_err(ApiError::Metrics),
            Section::Drive(id, put) => {
                let drives = &mut self.draft.drives;
                drives.put(id.as_deref(), put).map_err(ApiError::Drive)
            }
            Section::Interface(id, put) => {
                let interfaces = &mut self.draft.interfaces;
                let put = interfaces.put(id.as_deref(), put);
                put.map_err(ApiError::Network)
            }
            Section::Vsock(put) => self.draft.put_vsock(put).map_err(ApiError::Vsock),
            Section::Balloon(put) => self.draft.put_balloon(put).map_err(ApiError::Balloon),
        }
    }

    fn logger(&mut self, put: body::Logger) -> Result<(), ConfigureError> {
        if put.module.is_some() {
            return Err(ConfigureError::NotSupported("module".to_owned()));
        }
        self.log.update(&put)?;
        let old = self.draft.logger.take().unwrap_or_default();
        self.draft.logger = Some(body::Logger {
            log_path: put.log_path.or(old.log_path),
            level: put.level.or(old.level),
            show_level: put.show_level.or(old.show_level),
            show_log_origin: put.show_log_origin.or(old.show_log_origin),
            module: None,
        });
        Ok(())
    }

    fn metrics(&mut self, put: body::Metrics) -> Result<(), ConfigureError> {
        if self.metrics.is_some() {
            return Err(ConfigureError::MetricsTwice);
        }
        self.metrics = Some(Metrics::open(&put.metrics_path)?);
        self.draft.metrics = Some(put);
        Ok(())
    }

    fn start(&mut self, monitor: &mut dyn Monitor) -> Result<(), ApiError> {
        let vm = self
            .draft
            .vm(&self.id, self.launched_at)
            .ok_or(ApiError::NoKernel)?
            .map_err(ApiError::Draft)?;
        monitor.boot(vm).map_err(ApiError::Start)?;
        if let Some(metrics) = &mut self.metrics {
            metrics.start(monotonic_ns());
        }
        Ok(())
    }

    /// When [`Api::tick`] has something to do.
    pub(super) fn due(&self) -> Option<u64> {
        self.metrics.as_ref().and_then(Metrics::due)
    }

    /// Writes the metrics, where they are due.
    pub(super) fn tick(&mut self, now: u64, monitor: &dyn Monitor) {
        if self.metrics.as_mut().is_some_and(|m| m.take_due(now)) {
            self.flush_or_log(monitor);
        }
    }

    /// Writes the last metrics of a VM that was started.
    pub(super) fn end(&mut self, monitor: &dyn Monitor) {
        if monitor.state().is_some() {
            self.flush_or_log(monitor);
        }
    }

    fn flush_or_log(&mut self, monitor: &dyn Monitor) {
        if let Err(error) = self.flush(monitor) {
            let text = format!("metrics cannot be written: {error}");
            self.log.write(Level::Error, &text);
        }
    }

    /// As in Firecracker, there is nothing wrong with metrics that nobody asked for.
    fn flush(&mut self, monitor: &dyn Monitor) -> io::Result<()> {
        match &mut self.metrics {
            Some(metrics) => metrics.write(&monitor.reading()),
            None => Ok(()),
        }
    }
}

fn not_started(monitor: &dyn Monitor) -> Result<(), ApiError> {
    match monitor.state() {
        None => Ok(()),
        Some(_) => Err(ApiError::Started),
    }
}

fn started(monitor: &dyn Monitor) -> Result<State, ApiError> {
    monitor.state().ok_or(ApiError::NotStarted)
}

fn running_or_paused(monitor: &dyn Monitor) -> Result<State, ApiError> {
    match started(monitor)? {
        State::Ended => Err(ApiError::Ended),
        state => Ok(state),
    }
}

#[cfg(test)]
mod tests;
