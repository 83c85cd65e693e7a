//! A client over a unix socket: one method an operation, one connection a request.
//!
//! A connection costs some tens of microseconds here, and long ones (follow, events, wait) never hold up others.

mod guest;
mod images;
mod stores;

pub use guest::Session;

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::listening::Listening;
use crate::{CreateVm, ErrorBody, ErrorDetail, Event, Host, LogsQuery, StopVm, Until, Version, Vm};

/// Most bytes of an answer that is read whole.
const MAX_ANSWER: usize = 64 << 20;

type Outgoing = BoxBody<Bytes, io::Error>;

/// Speaks to the daemon behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// A request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there: no daemon runs, or the socket may not be used.
    #[error("no daemon answers on {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon said no.
    #[error("{}", .0.message)]
    Refused(ErrorDetail),
    /// The connection broke.
    #[error("the connection to the daemon broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Not what this client can read.
    #[error("the daemon's answer ({status}) cannot be read")]
    Answer {
        /// Its HTTP status.
        status: StatusCode,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The request cannot be said in HTTP.
    #[error("the request cannot be sent")]
    Request(#[from] hyper::http::Error),
}

impl ClientError {
    /// Whether there was nobody to speak to.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }

    /// Whether the daemon went away, before the request or in the middle of it; that ends no VM.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Connect { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
            ),
            // What is no HTTP at all would be none the next time either.
            Self::Broken(source) => source
                .downcast_ref::<hyper::Error>()
                .is_some_and(|e| !e.is_parse() && !e.is_user()),
            _ => false,
        }
    }

    /// What the daemon said, where it spoke.
    #[must_use]
    pub fn refusal(&self) -> Option<&ErrorDetail> {
        match self {
            Self::Refused(detail) => Some(detail),
            _ => None,
        }
    }
}

impl Client {
    /// A client of the daemon on `socket`; nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who answers.
    pub async fn version(&self) -> Result<Version, ClientError> {
        self.get("/v1/version").await
    }

    /// What the host has and can do.
    pub async fn host(&self) -> Result<Host, ClientError> {
        self.get("/v1/host").await
    }

    /// The OpenAPI document.
    pub async fn openapi(&self) -> Result<serde_json::Value, ClientError> {
        self.get("/v1/openapi.json").await
    }

    /// Creates a VM and starts it.
    pub async fn create(&self, vm: &CreateVm) -> Result<Vm, ClientError> {
        self.post("/v1/vms", vm).await
    }

    /// The VMs that live, or `all`.
    pub async fn list(&self, all: bool) -> Result<Vec<Vm>, ClientError> {
        self.get(&format!("/v1/vms?all={all}")).await
    }

    /// One VM, with what its monitor has counted.
    pub async fn inspect(&self, vm: &str) -> Result<Vm, ClientError> {
        self.get(&path(vm, "")).await
    }

    /// Asks the guest to end, and ends it after the deadline. Answers when it has ended.
    pub async fn stop(&self, vm: &str, stop: StopVm) -> Result<Vm, ClientError> {
        self.post(&path(vm, "/stop"), &stop).await
    }

    /// Ends it at once. Answers when it has ended.
    pub async fn kill(&self, vm: &str) -> Result<Vm, ClientError> {
        self.act(Method::POST, &path(vm, "/kill")).await
    }

    /// Starts one that has ended again, with its disk, its volumes and its addresses.
    pub async fn start(&self, vm: &str) -> Result<Vm, ClientError> {
        self.act(Method::POST, &path(vm, "/start")).await
    }

    /// Makes it stand still.
    pub async fn pause(&self, vm: &str) -> Result<Vm, ClientError> {
        self.act(Method::POST, &path(vm, "/pause")).await
    }

    /// Lets it go on.
    pub async fn resume(&self, vm: &str) -> Result<Vm, ClientError> {
        self.act(Method::POST, &path(vm, "/resume")).await
    }

    /// Removes all that is left of it; with `force` also one that runs.
    pub async fn remove(&self, vm: &str, force: bool) -> Result<(), ClientError> {
        let path = path(vm, &format!("?force={force}"));
        let answer = self.send(Method::DELETE, &path, None, empty()).await?;
        drain(answer).await.map(drop)
    }

    /// Waits until it runs (or has ended without), or until it has ended.
    pub async fn wait(&self, vm: &str, until: Until) -> Result<Vm, ClientError> {
        let until = match until {
            Until::Running => "running",
            Until::Ready => "ready",
            Until::Healthy => "healthy",
            Until::Ended => "ended",
        };
        self.get(&path(vm, &format!("/wait?until={until}"))).await
    }

    /// What its console has written.
    pub async fn logs(&self, vm: &str, query: LogsQuery) -> Result<Bytestream, ClientError> {
        let tail = query.tail.map(|n| format!("&tail={n}")).unwrap_or_default();
        let path = path(vm, &format!("/logs?follow={}{tail}", query.follow));
        let answer = self.send(Method::GET, &path, None, empty()).await?;
        Ok(Bytestream(answer.into_body()))
    }

    /// Types into its console until `input` ends.
    pub async fn console<S>(&self, vm: &str, input: S) -> Result<(), ClientError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
    {
        let answer = self
            .send(Method::POST, &path(vm, "/console"), RAW, stream(input))
            .await?;
        drain(answer).await.map(drop)
    }

    /// Events from now on, or those after `since`.
    pub async fn events(&self, since: Option<u64>) -> Result<Events, ClientError> {
        let path = match since {
            Some(since) => format!("/v1/events?since={since}"),
            None => "/v1/events".to_owned(),
        };
        let answer = self.send(Method::GET, &path, None, empty()).await?;
        Ok(Lines::new(answer))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.act(Method::GET, path).await
    }

    async fn act<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        read(self.send(method, path, None, empty()).await?).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        read(self.send(Method::POST, path, JSON, json(body)?).await?).await
    }

    /// Sends a request; an answer that is no success becomes an error.
    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: Option<&str>,
        body: Outgoing,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONNECTION, "close");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let answer = self.exchange(request.body(body)?).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refused(answer).await)
    }

    /// Sends a request on a connection of its own; whatever comes back is the answer.
    async fn exchange(
        &self,
        mut request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, ClientError> {
        let host = header::HeaderValue::from_static("shoal");
        request.headers_mut().insert(header::HOST, host);
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| ClientError::Connect {
                    socket: self.socket.clone(),
                    source,
                })?;
        let stream = TokioIo::new(Listening(stream));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(broken)?;
        // Ends with the answer's body, or with what it was upgraded to: nothing is kept for another request.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(broken)
    }
}

/// What an answer that is no success says.
async fn refused(answer: Response<Incoming>) -> ClientError {
    let status = answer.status();
    let bytes = match drain(answer).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    match serde_json::from_slice::<ErrorBody>(&bytes) {
        Ok(body) => ClientError::Refused(body.error),
        Err(source) => ClientError::Answer { status, source },
    }
}

/// Bytes as they come.
#[derive(Debug)]
pub struct Bytestream(Incoming);

impl Bytestream {
    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.0.frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Values as they come, one a line of JSON.
#[derive(Debug)]
pub struct Lines<T> {
    status: StatusCode,
    body: Bytestream,
    /// Bytes of a line that is not whole yet.
    rest: Vec<u8>,
    values: PhantomData<fn() -> T>,
}

/// Events as they come; the stream ends when the daemon does.
pub type Events = Lines<Event>;

impl<T: DeserializeOwned> Lines<T> {
    fn new(answer: Response<Incoming>) -> Self {
        Self {
            status: answer.status(),
            body: Bytestream(answer.into_body()),
            rest: Vec::new(),
            values: PhantomData,
        }
    }

    /// The next value; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|source| {
                    ClientError::Answer {
                        status: self.status,
                        source,
                    }
                });
            }
            match self.body.next().await? {
                Some(bytes) => self.rest.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

const RAW: Option<&str> = Some("application/octet-stream");
const JSON: Option<&str> = Some("application/json");

fn json(value: &impl Serialize) -> Result<Outgoing, ClientError> {
    let json = serde_json::to_vec(value).map_err(|e| ClientError::Broken(e.into()))?;
    Ok(Full::new(Bytes::from(json))
        .map_err(|never| match never {})
        .boxed())
}

fn path(vm: &str, rest: &str) -> String {
    format!("/v1/vms/{}{rest}", escape(vm))
}

/// A value as one segment of a path, or one value of a query (RFC 3986, 2.3).
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            // A dot alone would be a step in the path.
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

fn empty() -> Outgoing {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn stream<S>(content: S) -> Outgoing
where
    S: Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
{
    BodyExt::boxed(StreamBody::new(content.map_ok(Frame::data)))
}

fn broken(error: hyper::Error) -> ClientError {
    ClientError::Broken(error.into())
}

async fn drain(answer: Response<Incoming>) -> Result<Bytes, ClientError> {
    http_body_util::Limited::new(answer.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(ClientError::Broken)
}

async fn read<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T, ClientError> {
    let status = answer.status();
    let bytes = drain(answer).await?;
    serde_json::from_slice(&bytes).map_err(|source| ClientError::Answer { status, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_typed_stays_one_segment() {
        assert_eq!(path("web-1", "/stop"), "/v1/vms/web-1/stop");
        assert_eq!(path("../a b?", ""), "/v1/vms/%2E%2E%2Fa%20b%3F");
    }

    #[tokio::test]
    async fn nobody_there_is_said_so() {
        let error = Client::new("/nonexistent/vmd.sock")
            .version()
            .await
            .unwrap_err();
        assert!(error.is_connect());
        assert!(error.to_string().contains("/nonexistent/vmd.sock"));
    }
}
