//! `--config-file`: a VM's whole configuration in one file, Firecracker's JSON. What `GET /vm/config` answers is such a file.

use std::path::{Path, PathBuf};

use super::body::ConfigFile;
use super::route::{Section, absent};
use super::{Api, ApiError, FileError, not_started};
use crate::control::{Monitor, files};

/// A configuration file did not become a VM.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// The file cannot be read.
    #[error("configuration file: {0}")]
    File(#[from] FileError),
    /// Not JSON, or not of this shape.
    #[error("configuration file {path:?}: {error}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// A section that this version does not have.
    #[error(
        "configuration file {path:?}: section {section:?}: this version of Shoal has no {what}"
    )]
    Absent {
        /// The file.
        path: PathBuf,
        /// The section.
        section: &'static str,
        /// What it would be.
        what: &'static str,
    },
    /// A section was refused, or the start.
    #[error("configuration file {path:?}: {error}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        error: ApiError,
    },
}

impl Api {
    /// Configures the VM as the file says, and starts it.
    pub(in crate::control) fn start_from(
        &mut self,
        path: &Path,
        monitor: &mut dyn Monitor,
    ) -> Result<(), ConfigFileError> {
        let bytes = files::read(path)?;
        let path = || path.to_owned();
        let file: ConfigFile =
            serde_json::from_slice(&bytes).map_err(|error| ConfigFileError::Json {
                path: path(),
                error,
            })?;
        if let Some(section) = file.absent() {
            return Err(ConfigFileError::Absent {
                path: path(),
                section,
                what: absent(section).unwrap_or(section),
            });
        }
        self.apply(file, monitor)
            .map_err(|error| ConfigFileError::Refused {
                path: path(),
                error,
            })
    }

    fn apply(&mut self, file: ConfigFile, monitor: &mut dyn Monitor) -> Result<(), ApiError> {
        not_started(monitor)?;
        // The log first: it then has what happens to the others.
        let sections = [
            file.logger.map(Section::Logger),
            file.metrics.map(Section::Metrics),
            file.machine_config.map(|m| Section::Machine(m.into())),
            Some(Section::BootSource(file.boot_source)),
            file.serial.map(Section::Serial),
            file.entropy.map(Section::Entropy),
            file.balloon.map(Section::Balloon),
            file.vsock.map(Section::Vsock),
        ];
        let drives = file.drives.into_iter();
        let drives = drives.map(|drive| Section::Drive(None, drive));
        let interfaces = file.network_interfaces.into_iter();
        let interfaces = interfaces.map(|interface| Section::Interface(None, interface));
        let devices = drives.chain(interfaces);
        for section in sections.into_iter().flatten().chain(devices) {
            self.configure(section)?;
        }
        self.start(monitor)
    }
}
