//! `/v1/networks`

use std::sync::Arc;

use api::{CreateNetwork, ErrorBody, ErrorCode, Network};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use network::NetworkSpec;

use super::App;
use super::error::ApiError;
use super::extract;
use crate::fleet::{Fleet, NetworkError};

/// Lists every network, by name.
#[utoipa::path(get, path = "/v1/networks", tag = "networks", responses((status = 200, body = Vec<Network>)))]
pub(super) async fn list(State(app): State<App>) -> Json<Vec<Network>> {
    Json(all(&app.fleet))
}

/// Makes a network.
#[utoipa::path(post, path = "/v1/networks", tag = "networks", request_body = CreateNetwork, responses(
    (status = 201, body = Network),
    (status = 400, body = ErrorBody),
    (status = 409, description = "Its name or its addresses are taken", body = ErrorBody),
    (status = 503, description = "This host can have no networks", body = ErrorBody),
))]
pub(super) async fn create(
    State(app): State<App>,
    extract::Json(asked): extract::Json<CreateNetwork>,
) -> Result<(StatusCode, Json<Network>), ApiError> {
    let spec = NetworkSpec {
        ipv4: subnet(asked.ipv4.as_deref())?,
        ipv6: subnet(asked.ipv6.as_deref())?,
        mtu: asked.mtu,
    };
    let fleet = Arc::clone(&app.fleet);
    // A client that goes away in the middle leaves it made and written down.
    let made = tokio::spawn(async move { fleet.create_network(&asked.name, &spec).await });
    let made = finished(made).await?;
    Ok((StatusCode::CREATED, Json(shown(&app.fleet, made))))
}

/// Tells of one network.
#[utoipa::path(get, path = "/v1/networks/{network}", tag = "networks", params(("network" = String, Path)), responses(
    (status = 200, body = Network),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn inspect(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Network>, ApiError> {
    let found = all(&app.fleet).into_iter().find(|n| n.name == name);
    found.map(Json).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        ApiError::new(
            ErrorCode::NotFound,
            format!("there is no network {shown:?}"),
        )
    })
}

/// Removes a network that no VM is in.
#[utoipa::path(delete, path = "/v1/networks/{network}", tag = "networks", params(("network" = String, Path)), responses(
    (status = 204),
    (status = 404, body = ErrorBody),
    (status = 409, description = "VMs are in it", body = ErrorBody),
))]
pub(super) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let fleet = Arc::clone(&app.fleet);
    let removed = tokio::spawn(async move { fleet.remove_network(&name).await });
    finished(removed).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn finished<T>(
    task: tokio::task::JoinHandle<Result<T, NetworkError>>,
) -> Result<T, ApiError> {
    match task.await {
        Ok(result) => Ok(result?),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn all(fleet: &Fleet) -> Vec<Network> {
    let list = fleet.plugs.networks().map(network::Networks::list);
    let list = list.unwrap_or_default().into_iter();
    list.map(|network| shown(fleet, network)).collect()
}

fn shown(fleet: &Fleet, network: network::Network) -> Network {
    let networks = fleet.plugs.networks();
    Network {
        bridge: networks.ok().and_then(|all| all.bridge(&network.name)),
        ipv4: network.ipv4.to_string(),
        ipv6: network.ipv6.to_string(),
        mtu: network.mtu,
        vms: fleet.network_users(&network.name),
        name: network.name,
    }
}

fn subnet<T: std::str::FromStr>(text: Option<&str>) -> Result<Option<T>, ApiError> {
    let read = |text: &str| {
        text.parse().map_err(|_| {
            let shown: String = text.chars().take(64).collect();
            let message = format!("{shown:?} is no subnet: 10.88.0.0/24 and fd00:1::/64 are some");
            ApiError::new(ErrorCode::BadRequest, message)
        })
    };
    text.map(read).transpose()
}
