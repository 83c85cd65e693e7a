//! What is done inside Linux guests, by their agents: programs, files, signals, counters.

use std::sync::Arc;
use std::time::Duration;

use abi::agent::message::{Signal, Size};
use abi::agent::reply::{FileKind, Found, Reply, Report};
use abi::agent::request::{self, Program, Request, Tty};
use abi::agent::signal as signals;
use api::{
    AgentState, Attach, ErrorBody, ErrorCode, Exec, FileStat, FilesQuery, GuestReport, SendSignal,
    StatQuery, Stats, UPGRADE, WindowSize,
};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_blocking;
use tracing::debug;

use super::error::ApiError;
use super::extract;
use super::{App, SESSIONS};
use crate::agent::copy::{Archive, CopyError, copy_in as unpack, copy_out as pack};
use crate::agent::relay::{End, relay};
use crate::agent::{self, AgentError, PATIENCE};
use crate::linux::describe;
use crate::state::State as VmState;
use crate::vm::Vm;

/// How long a client waits for a guest that still boots.
const BOOT: Duration = Duration::from_secs(60);

/// Runs a program beside the main one; the connection then carries frames of the agent's protocol.
#[utoipa::path(post, path = "/v1/vms/{vm}/exec", tag = "guests", params(("vm" = String, Path)), request_body = Exec, responses(
    (status = 101, description = "The program runs"),
    (status = 404, description = "No such VM, program, user or directory", body = ErrorBody),
    (status = 409, description = "It does not run, or is no Linux guest", body = ErrorBody),
    (status = 422, description = "It cannot be run", body = ErrorBody),
    (status = 503, description = "Its agent does not answer", body = ErrorBody),
))]
pub(super) async fn exec(
    State(app): State<App>,
    Path(vm): Path<String>,
    upgrade: Upgrade,
    extract::Json(exec): extract::Json<Exec>,
) -> Result<Response, ApiError> {
    let vm = app.fleet.find(&vm)?;
    let detach = exec.detach;
    let env = exec.env.iter().map(|(key, value)| format!("{key}={value}"));
    let term = exec.term;
    let program = Program {
        env: env.collect(),
        cwd: exec.workdir,
        user: exec.user,
        tty: exec.tty.map(|size| Tty {
            size: sized(size),
            term,
        }),
        stdin: exec.stdin,
        ..describe::program(exec.command)
    };
    let request = Request::Exec(request::Exec { program, detach });
    joined(&app, &vm, request, upgrade, detach).await
}

/// Hears the main program and speaks to it; the connection then carries frames of the agent's protocol.
#[utoipa::path(post, path = "/v1/vms/{vm}/attach", tag = "guests", params(("vm" = String, Path)), request_body = Attach, responses(
    (status = 101, description = "Attached"),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It does not run, or is no Linux guest", body = ErrorBody),
    (status = 503, description = "Its agent does not answer", body = ErrorBody),
))]
pub(super) async fn attach(
    State(app): State<App>,
    Path(vm): Path<String>,
    upgrade: Upgrade,
    extract::Json(attach): extract::Json<Attach>,
) -> Result<Response, ApiError> {
    let vm = app.fleet.find(&vm)?;
    let request = Request::Attach(request::Attach {
        backlog: attach.backlog,
        stdin: attach.stdin,
        size: attach.size.map(sized),
    });
    joined(&app, &vm, request, upgrade, false).await
}

/// Unpacks a tar archive into a directory of the guest.
#[utoipa::path(put, path = "/v1/vms/{vm}/files", tag = "guests", params(("vm" = String, Path), FilesQuery),
    request_body(content_type = "application/x-tar"), responses(
    (status = 204),
    (status = 404, description = "No such VM or directory", body = ErrorBody),
    (status = 409, description = "It does not run, or is no Linux guest", body = ErrorBody),
    (status = 422, description = "The archive cannot be unpacked", body = ErrorBody),
    (status = 507, description = "No room in the guest", body = ErrorBody),
))]
pub(super) async fn copy_in(
    State(app): State<App>,
    Path(vm): Path<String>,
    extract::Params(query): extract::Params<FilesQuery>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let vm = app.fleet.find(&vm)?;
    ready(&vm).await?;
    match unpack(vm.folder(), query.path, body.into_data_stream()).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(CopyError::Agent(error)) => Err(error.into()),
        Err(error) => Err(ApiError::of(ErrorCode::BadRequest, &error)),
    }
}

/// A tar archive of what is at a path of the guest, by its last name. One that breaks off in the middle is not whole.
#[utoipa::path(get, path = "/v1/vms/{vm}/files", tag = "guests", params(("vm" = String, Path), FilesQuery), responses(
    (status = 200, content_type = "application/x-tar"),
    (status = 404, description = "No such VM or path", body = ErrorBody),
    (status = 409, description = "It does not run, or is no Linux guest", body = ErrorBody),
))]
pub(super) async fn copy_out(
    State(app): State<App>,
    Path(vm): Path<String>,
    extract::Params(query): extract::Params<FilesQuery>,
) -> Result<Response, ApiError> {
    let vm = app.fleet.find(&vm)?;
    ready(&vm).await?;
    let archive = pack(vm.folder(), query.path).await?;
    let body = Body::from_stream(stream::try_unfold(archive, next_of));
    Ok(([(CONTENT_TYPE, "application/x-tar")], body).into_response())
}

async fn next_of(mut archive: Archive) -> Result<Option<(Bytes, Archive)>, AgentError> {
    Ok(archive.next().await?.map(|bytes| (bytes, archive)))
}

/// What is at a path of the guest.
#[utoipa::path(get, path = "/v1/vms/{vm}/files/stat", tag = "guests", params(("vm" = String, Path), StatQuery), responses(
    (status = 200, body = FileStat),
    (status = 404, description = "No such VM or path", body = ErrorBody),
    (status = 409, description = "It does not run, or is no Linux guest", body = ErrorBody),
))]
pub(super) async fn stat(
    State(app): State<App>,
    Path(vm): Path<String>,
    extract::Params(query): extract::Params<StatQuery>,
) -> Result<Json<FileStat>, ApiError> {
    let vm = app.fleet.find(&vm)?;
    let request = Request::Stat(request::Stat {
        path: query.path,
        follow: query.follow,
    });
    match asked(&vm, request).await? {
        Reply::Stat(found) => Ok(Json(file_stat(found))),
        _ => Err(nonsense()),
    }
}

/// Sends a signal to the main program.
#[utoipa::path(post, path = "/v1/vms/{vm}/signal", tag = "guests", params(("vm" = String, Path)), request_body = SendSignal, responses(
    (status = 204),
    (status = 400, description = "No such signal", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It does not run, or is no Linux guest", body = ErrorBody),
))]
pub(super) async fn signal(
    State(app): State<App>,
    Path(vm): Path<String>,
    extract::Json(asked_for): extract::Json<SendSignal>,
) -> Result<StatusCode, ApiError> {
    let vm = app.fleet.find(&vm)?;
    let signal = signals::parse(&asked_for.signal).ok_or_else(|| {
        let shown: String = asked_for.signal.chars().take(40).collect();
        let message = format!("{shown:?} is no signal: TERM, SIGTERM or 15 is one");
        ApiError::new(ErrorCode::BadRequest, message)
    })?;
    match asked(&vm, Request::Signal(Signal { signal })).await? {
        Reply::Done => Ok(StatusCode::NO_CONTENT),
        _ => Err(nonsense()),
    }
}

/// What the VM uses now; what only its agent knows is left out where that does not answer.
#[utoipa::path(get, path = "/v1/vms/{vm}/stats", tag = "guests", params(("vm" = String, Path)), responses(
    (status = 200, body = Stats),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It does not run", body = ErrorBody),
))]
pub(super) async fn stats(
    State(app): State<App>,
    Path(vm): Path<String>,
) -> Result<Json<Stats>, ApiError> {
    let vm = app.fleet.find(&vm)?;
    if vm.state().is_ended() {
        return Err(not_running(&vm));
    }
    let guest = report(&vm).await;
    let counted = Arc::clone(&vm);
    let (detail, host_memory_bytes) = spawn_blocking(move || {
        let pid = counted.monitor().map(|monitor| monitor.pid());
        (counted.detail(), pid.and_then(proportional_memory))
    })
    .await
    .map_err(|e| ApiError::system("start a thread", &e.into()))?;
    let metrics = detail.metrics.unwrap_or_default();
    let uptime = detail
        .started_at
        .map(|at| jiff::Timestamp::now().duration_since(at));
    Ok(Json(Stats {
        cpu_ns: metrics
            .vcpus
            .iter()
            .map(|v| v.guest_ns + v.monitor_ns)
            .sum(),
        uptime_ms: uptime
            .and_then(|uptime| u64::try_from(uptime.as_millis()).ok())
            .unwrap_or_default(),
        host_memory_bytes,
        counters: metrics.counters,
        guest,
    }))
}

async fn report(vm: &Vm) -> Option<GuestReport> {
    let status = vm.agent();
    if vm.linux().is_none() || status.state != AgentState::Running || vm.state() != VmState::Running
    {
        return None;
    }
    match agent::ask(vm.folder(), Request::Report, PATIENCE).await {
        Ok(Reply::Report(report)) => Some(shown_report(report, status.restarts)),
        _ => None,
    }
}

/// What a process has of the host's memory, shared pages by their part (`smaps_rollup`, proc(5)).
fn proportional_memory(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// Asks the agent of a guest that runs, or waits for one that boots.
async fn asked(vm: &Vm, request: Request) -> Result<Reply, ApiError> {
    ready(vm).await?;
    Ok(agent::ask(vm.folder(), request, PATIENCE).await?)
}

/// Opens a connection to the guest, answers that it is open, and relays from then on.
async fn joined(
    app: &App,
    vm: &Vm,
    request: Request,
    upgrade: Upgrade,
    alone: bool,
) -> Result<Response, ApiError> {
    let place = Arc::clone(&app.sessions).try_acquire_owned().map_err(|_| {
        let message = format!("{SESSIONS} clients are joined to guests already");
        ApiError::new(ErrorCode::Unavailable, message)
    })?;
    ready(vm).await?;
    let turn = vm.joining().await;
    let (connection, reply) = agent::open(vm.folder(), request, PATIENCE).await?;
    drop(turn);
    let id = vm.id().to_owned();
    tokio::spawn(async move {
        let _place = place;
        let client = match upgrade.0.await {
            Ok(client) => TokioIo::new(client),
            // It went before it had its answer.
            Err(error) => return debug!(vm = id, %error, "a client did not join"),
        };
        match relay(client, connection, reply, alone).await {
            End::Done | End::Client => {}
            End::Agent(error) => debug!(vm = id, %error, "a relay broke off"),
        }
    });
    let headers = [(CONNECTION, "upgrade"), (header::UPGRADE, UPGRADE)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// Waits until the guest's agent can be asked.
async fn ready(vm: &Vm) -> Result<(), ApiError> {
    if vm.linux().is_none() {
        let message = format!(
            "VM {} runs on the library OS, which has no agent",
            vm.name()
        );
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    match vm.state() {
        VmState::Paused => return Err(not_running(vm)),
        state if state.is_ended() => return Err(not_running(vm)),
        _ => {}
    }
    // One that is in trouble may be better by now: asking it is how to know.
    let askable = |state| matches!(state, AgentState::Running | AgentState::Unresponsive);
    let booted = vm.agent_reaches(|agent| askable(agent.state));
    match tokio::time::timeout(BOOT, booted).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(not_running(vm)),
        Err(_) => {
            let message = format!("the agent of VM {} is not there after {BOOT:?}", vm.name());
            Err(ApiError::new(ErrorCode::Unavailable, message))
        }
    }
}

fn not_running(vm: &Vm) -> ApiError {
    let message = format!("VM {} is {}, not running", vm.name(), vm.state());
    ApiError::new(ErrorCode::Conflict, message)
}

fn nonsense() -> ApiError {
    AgentError::Nonsense("another answer than that asked for".to_owned()).into()
}

fn sized(size: WindowSize) -> Size {
    Size {
        rows: size.rows,
        cols: size.cols,
    }
}

fn shown_report(report: Report, restarts: u32) -> GuestReport {
    let disks = report.disks.into_iter().map(|disk| api::DiskUse {
        path: disk.path,
        total_bytes: disk.total,
        available_bytes: disk.available,
    });
    GuestReport {
        memory_total_bytes: report.memory.total,
        memory_available_bytes: report.memory.available,
        memory_cached_bytes: report.memory.cached,
        load: report.load.map(|hundredths| f64::from(hundredths) / 100.0),
        runnable: report.runnable,
        threads: report.threads,
        cpu_busy_ms: report.cpu_busy_ms,
        cpu_idle_ms: report.cpu_idle_ms,
        disks: disks.collect(),
        pid: None,
        restarts,
    }
}

fn file_stat(found: Found) -> FileStat {
    FileStat {
        kind: match found.kind {
            FileKind::File => api::FileKind::File,
            FileKind::Directory => api::FileKind::Directory,
            FileKind::Link => api::FileKind::Link,
            FileKind::Other => api::FileKind::Other,
        },
        size: found.size,
        mode: found.mode,
        uid: found.uid,
        gid: found.gid,
        modified: found.modified,
        target: found.target,
    }
}

/// A request that wants to go on as something else than HTTP.
#[derive(Debug)]
pub(super) struct Upgrade(OnUpgrade);

impl<S: Sync> FromRequestParts<S> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let asked = |headers: &HeaderMap| {
            let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?;
            upgrade.eq_ignore_ascii_case(UPGRADE).then_some(())
        };
        let joins = asked(&parts.headers).and_then(|()| parts.extensions.remove::<OnUpgrade>());
        joins.map(Self).ok_or_else(|| {
            let message = format!("this goes on as frames: send `Upgrade: {UPGRADE}`");
            ApiError::new(ErrorCode::BadRequest, message)
        })
    }
}
