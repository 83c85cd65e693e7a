//! Errors of all operations, as HTTP has them.

use std::io;

use abi::agent::reply::Code;
use api::{ErrorBody, ErrorCode, ErrorDetail};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use images::oci::{OciError, RegistryError};
use images::recipe::BuildError;
use network::book::{PlanError, RemoveError as RemoveNetworkError, SeatError};
use network::networks::{AttachError, CreateError as CreateNetworkError, LeaseError};

use crate::agent::AgentError;
use crate::chain;
use crate::disk::DiskError;
use crate::disk::volume::VolumeError;
use crate::fleet::{
    AgainError, CreateError, EndError, FindError, LaunchError, NetworkError, RemoveError,
};
use crate::linux::boot::BootError;
use crate::linux::spec::LinuxSpecError;
use crate::plug::PlugError;
use crate::store::StoreError;

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct ApiError(ErrorDetail);

impl ApiError {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(ErrorDetail { code, message })
    }

    /// The error and its sources are the message.
    pub(super) fn of(code: ErrorCode, error: &dyn std::error::Error) -> Self {
        Self::new(code, chain(error))
    }

    /// What it says.
    pub(super) fn into_detail(self) -> ErrorDetail {
        self.0
    }

    /// An error of the system's, where no other word fits.
    pub(super) fn system(doing: &str, error: &io::Error) -> Self {
        Self::new(io_code(error), format!("cannot {doing}: {error}"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status());
        if self.0.code == ErrorCode::Internal {
            tracing::error!(message = self.0.message, "a request failed");
        }
        let body = Json(ErrorBody { error: self.0 });
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body).into_response()
    }
}

impl From<FindError> for ApiError {
    fn from(error: FindError) -> Self {
        let code = match error {
            FindError::Unknown(_) => ErrorCode::NotFound,
            FindError::Ambiguous { .. } => ErrorCode::Conflict,
        };
        Self::of(code, &error)
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        let code = match &error {
            CreateError::Spec(crate::spec::SpecError::HostMemory { .. }) => ErrorCode::Unacceptable,
            CreateError::Spec(_) => ErrorCode::BadRequest,
            CreateError::Image(e) => inspect_code(e),
            CreateError::Linux(LinuxSpecError::NoCommand) => ErrorCode::Unacceptable,
            CreateError::Linux(_) => ErrorCode::BadRequest,
            CreateError::Volume(e) => volume_code(e),
            CreateError::Plug(e) | CreateError::Launch(LaunchError::Plug(e)) => plug_code(e),
            CreateError::Launch(LaunchError::Boot(e)) => boot_code(e),
            CreateError::Taken { .. } => ErrorCode::Conflict,
            CreateError::Store(e) => store_code(e),
            CreateError::Launch(LaunchError::Folder { source, .. }) => io_code(source),
            CreateError::Launch(LaunchError::System { source, .. }) => io_code(source),
            CreateError::Launch(_) => ErrorCode::Internal,
            CreateError::System { source, .. } => io_code(source),
        };
        Self::of(code, &error)
    }
}

impl From<AgainError> for ApiError {
    fn from(error: AgainError) -> Self {
        let code = match error {
            AgainError::State { .. } => ErrorCode::Conflict,
            AgainError::Store(ref e) => store_code(e),
            AgainError::Folder { ref source, .. } => io_code(source),
            AgainError::Start(e) => return e.into(),
        };
        Self::of(code, &error)
    }
}

impl From<VolumeError> for ApiError {
    fn from(error: VolumeError) -> Self {
        Self::of(volume_code(&error), &error)
    }
}

impl From<AgentError> for ApiError {
    fn from(error: AgentError) -> Self {
        let code = match &error {
            AgentError::Refused(failure) => match failure.code {
                Code::NotFound => ErrorCode::NotFound,
                Code::Busy => ErrorCode::Conflict,
                Code::NoSpace => ErrorCode::NoSpace,
                _ => ErrorCode::Unacceptable,
            },
            AgentError::Request(_) => ErrorCode::BadRequest,
            _ => ErrorCode::Unavailable,
        };
        let said = chain(&error);
        Self::new(
            code,
            match &error {
                AgentError::Refused(_) | AgentError::Request(_) => said,
                _ => format!("the guest's agent did not do it: {said}"),
            },
        )
    }
}

impl From<EndError> for ApiError {
    fn from(error: EndError) -> Self {
        let code = match &error {
            EndError::State { .. } => ErrorCode::Conflict,
            EndError::Store(e) => store_code(e),
            EndError::Control { .. } => ErrorCode::Internal,
        };
        Self::of(code, &error)
    }
}

impl From<RemoveError> for ApiError {
    fn from(error: RemoveError) -> Self {
        let code = match &error {
            RemoveError::Lives { .. } => ErrorCode::Conflict,
            RemoveError::Store(e) => store_code(e),
            RemoveError::Folder { source, .. } => io_code(source),
        };
        Self::of(code, &error)
    }
}

impl From<images::FindError> for ApiError {
    fn from(error: images::FindError) -> Self {
        Self::of(image_code(&error), &error)
    }
}

impl From<images::InspectError> for ApiError {
    fn from(error: images::InspectError) -> Self {
        Self::of(inspect_code(&error), &error)
    }
}

fn inspect_code(error: &images::InspectError) -> ErrorCode {
    match error {
        images::InspectError::Find(e) => image_code(e),
        images::InspectError::Elf { .. } | images::InspectError::Manifest { .. } => {
            ErrorCode::Internal
        }
    }
}

impl From<images::AddError> for ApiError {
    fn from(error: images::AddError) -> Self {
        use images::AddError;
        let code = match &error {
            AddError::Read(e) if e.kind() == io::ErrorKind::TimedOut => ErrorCode::Timeout,
            AddError::Read(_) => ErrorCode::BadRequest,
            AddError::TooLarge => ErrorCode::TooLarge,
            AddError::RootTooLarge => ErrorCode::TooLarge,
            AddError::Elf(_) | AddError::NoRoot | AddError::Manifest(_) => ErrorCode::Unacceptable,
            AddError::Find(e) => image_code(e),
            AddError::File(e) => io_code(&e.source),
        };
        Self::of(code, &error)
    }
}

fn image_code(error: &images::FindError) -> ErrorCode {
    match error {
        images::FindError::Unknown(_) => ErrorCode::NotFound,
        images::FindError::Ambiguous { .. } => ErrorCode::Conflict,
        images::FindError::Damaged { .. } => ErrorCode::Internal,
        images::FindError::File(e) => io_code(&e.source),
    }
}

fn volume_code(error: &VolumeError) -> ErrorCode {
    match error {
        VolumeError::Name(_) | VolumeError::Size(_) => ErrorCode::BadRequest,
        VolumeError::Unknown(_) => ErrorCode::NotFound,
        VolumeError::Exists(_) | VolumeError::Used { .. } | VolumeError::Locked(_) => {
            ErrorCode::Conflict
        }
        VolumeError::Disk(e) => disk_code(e),
        VolumeError::System { source, .. } => io_code(source),
    }
}

impl From<OciError> for ApiError {
    fn from(error: OciError) -> Self {
        let code = match error {
            OciError::Add(e) => return e.into(),
            OciError::File(ref e) => io_code(&e.source),
            OciError::Cancelled => ErrorCode::BadRequest,
            OciError::Registry(RegistryError::NoRegistry(_)) => ErrorCode::BadRequest,
            OciError::Registry(_) => ErrorCode::Unavailable,
            OciError::Write(_) => ErrorCode::Internal,
            _ => ErrorCode::Unacceptable,
        };
        Self::of(code, &error)
    }
}

impl From<BuildError> for ApiError {
    fn from(error: BuildError) -> Self {
        let code = match error {
            BuildError::Oci(e) => return e.into(),
            BuildError::Inspect(e) => return e.into(),
            BuildError::Cancelled | BuildError::Recipe(_) => ErrorCode::BadRequest,
            BuildError::Missing | BuildError::NoSources => ErrorCode::Unavailable,
            BuildError::System { ref source, .. } => io_code(source),
            BuildError::Failed(_) | BuildError::Layer(_) => ErrorCode::Unacceptable,
        };
        Self::of(code, &error)
    }
}

impl From<NetworkError> for ApiError {
    fn from(error: NetworkError) -> Self {
        let code = match &error {
            NetworkError::Plug(e) => plug_code(e),
            NetworkError::Remove(RemoveNetworkError::NoNetwork(_)) => ErrorCode::NotFound,
            NetworkError::Remove(RemoveNetworkError::InUse { .. }) => ErrorCode::Conflict,
            NetworkError::Store(e) => store_code(e),
        };
        Self::of(code, &error)
    }
}

fn plug_code(error: &PlugError) -> ErrorCode {
    match error {
        PlugError::None(_) => ErrorCode::Unavailable,
        PlugError::Reserved => ErrorCode::BadRequest,
        PlugError::Create(CreateNetworkError::Plan(plan)) => match plan {
            PlanError::Name(_) | PlanError::Spec(_) => ErrorCode::BadRequest,
            PlanError::Exists(_) | PlanError::Overlaps { .. } => ErrorCode::Conflict,
            PlanError::NoSubnet(_) | PlanError::TooMany => ErrorCode::Unavailable,
        },
        PlugError::Lease(LeaseError::Seat(seat)) => match seat {
            SeatError::NoNetwork(_) => ErrorCode::NotFound,
            SeatError::Name(_) | SeatError::NotThere { .. } => ErrorCode::BadRequest,
            _ => ErrorCode::Conflict,
        },
        PlugError::Lease(LeaseError::Port(_))
        | PlugError::Attach(AttachError::Port(_) | AttachError::Twice(_)) => ErrorCode::Conflict,
        PlugError::Create(_) | PlugError::Attach(_) => ErrorCode::Internal,
    }
}

fn disk_code(error: &DiskError) -> ErrorCode {
    match error {
        DiskError::NoProgram(_) => ErrorCode::Unavailable,
        DiskError::Program { .. } => ErrorCode::Internal,
        DiskError::System { source, .. } => io_code(source),
    }
}

fn boot_code(error: &BootError) -> ErrorCode {
    match error {
        BootError::Program { .. } => ErrorCode::Unavailable,
        BootError::Disk(e) => disk_code(e),
        BootError::OwnDisk { source, .. } => io_code(source),
        BootError::Volume(e) => volume_code(e),
    }
}

fn store_code(error: &StoreError) -> ErrorCode {
    match error {
        StoreError::NoSpace { .. } => ErrorCode::NoSpace,
        _ => ErrorCode::Internal,
    }
}

fn io_code(error: &io::Error) -> ErrorCode {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::NoSpace,
        io::ErrorKind::OutOfMemory => ErrorCode::Unavailable,
        // Out of descriptors, or of processes.
        _ if matches!(error.raw_os_error(), Some(24 | 23 | 11)) => ErrorCode::Unavailable,
        _ => ErrorCode::Internal,
    }
}
