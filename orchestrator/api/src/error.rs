//! What an error looks like on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// For programs.
    pub code: ErrorCode,
    /// For people: the value that was wrong, and what to do.
    pub message: String,
}

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request makes no sense (400).
    BadRequest,
    /// There is no such VM, image, volume, network, path, or file in a VM (404).
    NotFound,
    /// The path is there, the method is not (405).
    MethodNotAllowed,
    /// The client took too long to send its request (408).
    Timeout,
    /// It cannot be done as things stand: a name or a port is taken, a VM runs or does not, an image or a volume is used (409).
    Conflict,
    /// The body is larger than is allowed (413).
    TooLarge,
    /// The image is not one that can boot, the VM asks for more than the host has, or a guest refuses what it is asked (422).
    Unacceptable,
    /// The host is out of something, or a VM's agent does not answer (503).
    Unavailable,
    /// No room to write state (507).
    NoSpace,
    /// The daemon failed (500).
    #[serde(other)]
    Internal,
}

impl ErrorCode {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Unacceptable => 422,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::NoSpace => 507,
        }
    }
}
