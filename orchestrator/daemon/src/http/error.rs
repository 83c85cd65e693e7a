//! Errors of all operations, as HTTP has them.

use std::io;

use api::{ErrorBody, ErrorCode, ErrorDetail};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::chain;
use crate::fleet::{CreateError, EndError, FindError, LaunchError, RemoveError};
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
            CreateError::Kind(_) => ErrorCode::Unacceptable,
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
