//! What flows: console output, console input, events.

use std::io;
use std::sync::Arc;

use api::{ErrorBody, ErrorCode, EventsQuery, LogsQuery, VmState};
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::task::spawn_blocking;

use super::App;
use super::error::ApiError;
use super::extract;
use crate::console::ConsoleReader;
use crate::events::Listener;
use crate::follow::Followed;
use crate::vm::Vm;

/// What the VM's console has written, as it was written; its oldest output may be gone.
#[utoipa::path(get, path = "/v1/vms/{vm}/logs", tag = "vms", params(("vm" = String, Path), LogsQuery), responses(
    (status = 200, content_type = "application/octet-stream"),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn logs(
    State(app): State<App>,
    Path(vm): Path<String>,
    extract::Params(query): extract::Params<LogsQuery>,
) -> Result<Response, ApiError> {
    let vm = app.fleet.find(&vm)?;
    // Until then it has no log.
    vm.reach(|state| state != VmState::Creating).await;
    let path = vm.folder().console();
    let failed = |e: io::Error| ApiError::system(&format!("read the console of {}", vm.name()), &e);
    // Before the first look: what comes after it is then noticed.
    let followed = match query.follow {
        true => Some(app.follower.follow(&path).map_err(failed)?),
        false => None,
    };
    let reader = spawn_blocking(move || ConsoleReader::open(&path, query.tail))
        .await
        .unwrap_or_else(|e| Err(e.into()))
        .map_err(failed)?;
    let output = Output {
        reader,
        followed,
        vm: Arc::clone(&vm),
    };
    let body = Body::from_stream(stream::try_unfold(output, Output::next));
    Ok(([(CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// A console's output on its way to a client.
struct Output {
    reader: ConsoleReader,
    followed: Option<Followed>,
    vm: Arc<Vm>,
}

impl Output {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            // Before the read: what an ended VM wrote is all there.
            let over = self.vm.state().is_ended();
            let (reader, read) = spawn_blocking(move || {
                let read = self.reader.read_on();
                (self.reader, read)
            })
            .await?;
            self.reader = reader;
            let bytes = read?;
            if !bytes.is_empty() {
                return Ok(Some((bytes.into(), self)));
            }
            match &mut self.followed {
                Some(followed) if !over => {
                    tokio::select! {
                        () = followed.grown() => {}
                        () = self.vm.over() => {}
                    }
                }
                _ => return Ok(None),
            }
        }
    }
}

/// Types into the VM's console: the body, as it comes, at the speed at which the guest reads.
#[utoipa::path(post, path = "/v1/vms/{vm}/console", tag = "vms", params(("vm" = String, Path)),
    request_body(content_type = "application/octet-stream"), responses(
    (status = 204),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It has ended", body = ErrorBody),
))]
pub(super) async fn console(
    State(app): State<App>,
    Path(vm): Path<String>,
    mut body: Body,
) -> Result<StatusCode, ApiError> {
    let vm = app.fleet.find(&vm)?;
    let over = || {
        let message = format!(
            "VM {} is {}: nobody reads its console",
            vm.name(),
            vm.state()
        );
        ApiError::new(ErrorCode::Conflict, message)
    };
    if vm
        .reach(|state| state != VmState::Creating)
        .await
        .is_ended()
    {
        return Err(over());
    }
    let mut input = pipe::OpenOptions::new()
        .open_sender(vm.folder().input())
        // Without a reader: its monitor is gone.
        .map_err(|_| over())?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            let message = format!("the input did not arrive whole: {e}");
            ApiError::new(ErrorCode::BadRequest, message)
        })?;
        if let Ok(bytes) = frame.into_data() {
            tokio::select! {
                written = input.write_all(&bytes) => written.map_err(|_| over())?,
                () = vm.over() => return Err(over()),
            }
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What happens to VMs, one JSON object a line, until the client goes.
#[utoipa::path(get, path = "/v1/events", tag = "vms", params(EventsQuery), responses(
    (status = 200, content_type = "application/x-ndjson", body = api::Event),
))]
pub(super) async fn events(
    State(app): State<App>,
    extract::Params(query): extract::Params<EventsQuery>,
) -> Response {
    let listener = app.fleet.events.listen(query.since);
    let body = Body::from_stream(stream::try_unfold(listener, lines));
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

async fn lines(mut listener: Listener) -> io::Result<Option<(Bytes, Listener)>> {
    let mut text = Vec::new();
    for event in listener.next().await {
        serde_json::to_writer(&mut text, &event)?;
        text.push(b'\n');
    }
    Ok(Some((text.into(), listener)))
}
