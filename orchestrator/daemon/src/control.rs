//! Speaking to a monitor by its control API: Firecracker's words on a unix socket.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::folder::VmFolder;

/// How long a monitor may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 << 10;

/// The monitor did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("its control socket does not answer")]
    Connect(#[source] std::io::Error),
    /// The connection broke.
    #[error("the connection to its control socket broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It said no.
    #[error("it answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The body.
        message: String,
    },
    /// It said nothing.
    #[error("it did not answer within {PATIENCE:?}")]
    Silent,
}

/// Presses Ctrl-Alt-Del; on a VM that stands still it first lets it go on.
pub async fn shut_down(folder: &VmFolder) -> Result<(), ControlError> {
    // To a VM that runs this says nothing new, and a monitor that says so does no harm.
    let _ = resume(folder).await;
    let press = r#"{"action_type":"SendCtrlAltDel"}"#;
    request(folder, Method::PUT, "/actions", press).await
}

/// Makes the VM stand still.
pub async fn pause(folder: &VmFolder) -> Result<(), ControlError> {
    request(folder, Method::PATCH, "/vm", r#"{"state":"Paused"}"#).await
}

/// Lets the VM go on.
pub async fn resume(folder: &VmFolder) -> Result<(), ControlError> {
    request(folder, Method::PATCH, "/vm", r#"{"state":"Resumed"}"#).await
}

async fn request(
    folder: &VmFolder,
    method: Method,
    path: &'static str,
    body: &'static str,
) -> Result<(), ControlError> {
    match tokio::time::timeout(PATIENCE, exchange(folder, method, path, body)).await {
        Ok(result) => result,
        Err(_) => Err(ControlError::Silent),
    }
}

async fn exchange(
    folder: &VmFolder,
    method: Method,
    path: &'static str,
    body: &'static str,
) -> Result<(), ControlError> {
    // A unix socket connects at once or not at all.
    let stream = folder
        .connect_control()
        .and_then(|stream| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        })
        .map_err(ControlError::Connect)?;
    let broken = |e: hyper::Error| ControlError::Broken(e.into());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .map_err(|e| ControlError::Broken(e.into()))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = Limited::new(answer.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(ControlError::Broken)?
        .to_bytes();
    Err(ControlError::Refused {
        status,
        message: String::from_utf8_lossy(&body).into_owned(),
    })
}
