//! `/v1/vms`

use std::sync::Arc;
use std::time::Duration;

use api::{
    AgentState, CreateVm, ErrorBody, HealthState, ListQuery, RemoveQuery, StopVm, Until, VmState,
    WaitQuery,
};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use tokio::task::spawn_blocking;

use super::App;
use super::error::ApiError;
use super::extract;
use crate::vm::Vm;

type One = Result<Json<api::Vm>, ApiError>;

/// Creates a VM and starts it.
///
/// Answers when its monitor has it, before it runs: `wait` tells when it does. A client that goes away in the
/// middle leaves it created.
#[utoipa::path(post, path = "/v1/vms", tag = "vms", request_body = CreateVm, responses(
    (status = 201, body = api::Vm),
    (status = 400, description = "The request makes no sense", body = ErrorBody),
    (status = 404, description = "No such image", body = ErrorBody),
    (status = 409, description = "The name is taken", body = ErrorBody),
    (status = 422, description = "More memory than the host has", body = ErrorBody),
    (status = 507, description = "No space to write state", body = ErrorBody),
))]
pub(super) async fn create(
    State(app): State<App>,
    extract::Json(request): extract::Json<CreateVm>,
) -> Result<(StatusCode, Json<api::Vm>), ApiError> {
    let vm = app.fleet.create(request).await?;
    Ok((StatusCode::CREATED, Json(vm.summary())))
}

/// Lists the VMs that live, or all, the oldest first.
#[utoipa::path(get, path = "/v1/vms", tag = "vms", params(ListQuery), responses(
    (status = 200, body = Vec<api::Vm>),
))]
pub(super) async fn list(
    State(app): State<App>,
    extract::Params(query): extract::Params<ListQuery>,
) -> Json<Vec<api::Vm>> {
    let list = app.fleet.list(query.all);
    Json(list.iter().map(|vm| vm.summary()).collect())
}

/// Tells all there is of one VM.
#[utoipa::path(get, path = "/v1/vms/{vm}", tag = "vms", params(("vm" = String, Path)), responses(
    (status = 200, body = api::Vm),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn inspect(State(app): State<App>, Path(vm): Path<String>) -> One {
    let vm = app.fleet.find(&vm)?;
    detail(vm).await
}

/// Asks the guest to end, ends it by force after a deadline, and answers when it has ended.
#[utoipa::path(post, path = "/v1/vms/{vm}/stop", tag = "vms", params(("vm" = String, Path)),
    request_body(content = Option<StopVm>), responses(
    (status = 200, body = api::Vm),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn stop(
    State(app): State<App>,
    Path(vm): Path<String>,
    extract::Json(stop): extract::Json<StopVm>,
) -> One {
    let vm = app.fleet.find(&vm)?;
    let timeout = stop.timeout_ms.map(Duration::from_millis);
    app.fleet.stop(&vm, timeout).await?;
    detail(vm).await
}

/// Ends the VM at once, and answers when it has ended.
#[utoipa::path(post, path = "/v1/vms/{vm}/kill", tag = "vms", params(("vm" = String, Path)), responses(
    (status = 200, body = api::Vm),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It has ended already", body = ErrorBody),
))]
pub(super) async fn kill(State(app): State<App>, Path(vm): Path<String>) -> One {
    let vm = app.fleet.find(&vm)?;
    app.fleet.kill(&vm).await?;
    detail(vm).await
}

/// Starts a VM again that has ended, with its disk, its volumes, its addresses and its console's log.
#[utoipa::path(post, path = "/v1/vms/{vm}/start", tag = "vms", params(("vm" = String, Path)), responses(
    (status = 200, body = api::Vm),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It has not ended, or another VM runs on one of its volumes", body = ErrorBody),
))]
pub(super) async fn start(State(app): State<App>, Path(vm): Path<String>) -> One {
    let vm = app.fleet.find(&vm)?;
    app.fleet.again(&vm).await?;
    detail(vm).await
}

/// Makes the VM stand still.
#[utoipa::path(post, path = "/v1/vms/{vm}/pause", tag = "vms", params(("vm" = String, Path)), responses(
    (status = 200, body = api::Vm),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It does not run", body = ErrorBody),
))]
pub(super) async fn pause(State(app): State<App>, Path(vm): Path<String>) -> One {
    let vm = app.fleet.find(&vm)?;
    app.fleet.pause(&vm).await?;
    detail(vm).await
}

/// Lets the VM go on.
#[utoipa::path(post, path = "/v1/vms/{vm}/resume", tag = "vms", params(("vm" = String, Path)), responses(
    (status = 200, body = api::Vm),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It does not stand still", body = ErrorBody),
))]
pub(super) async fn resume(State(app): State<App>, Path(vm): Path<String>) -> One {
    let vm = app.fleet.find(&vm)?;
    app.fleet.resume(&vm).await?;
    detail(vm).await
}

/// Removes all that is left of the VM: record, console, everything.
#[utoipa::path(delete, path = "/v1/vms/{vm}", tag = "vms", params(("vm" = String, Path), RemoveQuery), responses(
    (status = 204),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It lives, and force was not asked for", body = ErrorBody),
))]
pub(super) async fn remove(
    State(app): State<App>,
    Path(vm): Path<String>,
    extract::Params(query): extract::Params<RemoveQuery>,
) -> Result<StatusCode, ApiError> {
    let vm = app.fleet.find(&vm)?;
    app.fleet.remove(&vm, query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Waits until the VM runs, its program does, its probe succeeds (or it has ended without), or until it has ended. Answers also where it is removed meanwhile.
#[utoipa::path(get, path = "/v1/vms/{vm}/wait", tag = "vms", params(("vm" = String, Path), WaitQuery), responses(
    (status = 200, body = api::Vm),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn wait(
    State(app): State<App>,
    Path(vm): Path<String>,
    extract::Params(query): extract::Params<WaitQuery>,
) -> One {
    let vm = app.fleet.find(&vm)?;
    let boots = |state| matches!(state, VmState::Creating | VmState::Starting);
    match query.until {
        Until::Running => drop(vm.reach(|state| !boots(state)).await),
        Until::Ended => drop(vm.reach(VmState::is_ended).await),
        Until::Ready | Until::Healthy => {
            // Until then it has no start that could be over.
            vm.reach(|state| !boots(state)).await;
            if let Some(linux) = vm.linux() {
                let probed = query.until == Until::Healthy && linux.health.is_some();
                vm.agent_reaches(|agent| match probed {
                    true => agent.health == Some(HealthState::Healthy),
                    false => agent.state == AgentState::Running,
                })
                .await;
            }
        }
    };
    detail(vm).await
}

/// With what the monitor has counted, which is in a file.
async fn detail(vm: Arc<Vm>) -> One {
    spawn_blocking(move || vm.detail())
        .await
        .map(Json)
        .map_err(|e| ApiError::system("read what the monitor counted", &e.into()))
}
