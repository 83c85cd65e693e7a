//! `/v1/version`, `/v1/host`, `/v1/openapi.json`

use api::{Host, Version};
use axum::Json;
use axum::extract::State;
use utoipa::OpenApi;

use super::error::ApiError;
use super::{App, Document};
use crate::host;

/// Who answers.
#[utoipa::path(get, path = "/v1/version", tag = "host", responses((status = 200, body = Version)))]
pub(super) async fn version() -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: "v1".to_owned(),
        pid: std::process::id(),
    })
}

/// What this host has and can do.
#[utoipa::path(get, path = "/v1/host", tag = "host", responses((status = 200, body = Host)))]
pub(super) async fn host(State(app): State<App>) -> Result<Json<Host>, ApiError> {
    let fleet = &app.fleet;
    let probe = fleet.probe().await;
    let (vms, memory_promised_mib) = fleet.counts();
    Ok(Json(Host {
        cpus: fleet.host.cpus,
        memory_mib: fleet.host.memory_mib,
        memory_available_mib: host::memory_available_mib()
            .map_err(|e| ApiError::system("read the host's memory", &e))?,
        memory_promised_mib,
        vms,
        probe: probe.as_ref().ok().map(|value| (*value).clone()),
        probe_error: probe.err().map(|error| error.to_string()),
        dir: fleet.home.dir().display().to_string(),
    }))
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "host", responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
