//! `/v1/volumes`

use std::sync::Arc;

use api::{CreateVolume, ErrorBody, PrunedVolumes, Volume};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use tokio::task::spawn_blocking;

use super::App;
use super::error::ApiError;
use super::extract;
use crate::disk::volume::{self, VolumeError};
use crate::fleet::Fleet;

/// Lists every volume, by name.
#[utoipa::path(get, path = "/v1/volumes", tag = "volumes", responses((status = 200, body = Vec<Volume>)))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<Volume>>, ApiError> {
    let list = work(&app, |fleet| {
        let list = fleet.volumes.list()?;
        Ok(list.into_iter().map(|one| shown(fleet, one)).collect())
    });
    list.await.map(Json)
}

/// Makes a volume.
#[utoipa::path(post, path = "/v1/volumes", tag = "volumes", request_body = CreateVolume, responses(
    (status = 201, body = Volume),
    (status = 400, body = ErrorBody),
    (status = 409, description = "There is one of that name", body = ErrorBody),
    (status = 507, description = "No space", body = ErrorBody),
))]
pub(super) async fn create(
    State(app): State<App>,
    extract::Json(asked): extract::Json<CreateVolume>,
) -> Result<(StatusCode, Json<Volume>), ApiError> {
    let made = work(&app, move |fleet| {
        let still = fleet.volumes.still();
        let made = still.create(&fleet.disks, &asked.name, asked.size_mib)?;
        Ok(shown(fleet, made))
    });
    Ok((StatusCode::CREATED, Json(made.await?)))
}

/// Tells of one volume.
#[utoipa::path(get, path = "/v1/volumes/{volume}", tag = "volumes", params(("volume" = String, Path)), responses(
    (status = 200, body = Volume),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn inspect(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Volume>, ApiError> {
    let found = work(&app, move |fleet| {
        Ok(shown(fleet, fleet.volumes.get(&name)?))
    });
    found.await.map(Json)
}

/// Removes a volume and all that is on it.
#[utoipa::path(delete, path = "/v1/volumes/{volume}", tag = "volumes", params(("volume" = String, Path)), responses(
    (status = 204),
    (status = 404, body = ErrorBody),
    (status = 409, description = "VMs have it", body = ErrorBody),
))]
pub(super) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let removed = work(&app, move |fleet| {
        let still = fleet.volumes.still();
        still.remove(&name, fleet.volume_users(&name))
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes every volume that no VM has.
#[utoipa::path(post, path = "/v1/volumes/prune", tag = "volumes", responses((status = 200, body = PrunedVolumes)))]
pub(super) async fn prune(State(app): State<App>) -> Result<Json<PrunedVolumes>, ApiError> {
    let pruned = work(&app, |fleet| {
        let still = fleet.volumes.still();
        let mut pruned = PrunedVolumes::default();
        for volume in fleet.volumes.list()? {
            match still.remove(&volume.name, fleet.volume_users(&volume.name)) {
                Ok(()) => {
                    pruned.bytes += volume.used_bytes;
                    pruned.removed.push(volume.name);
                }
                Err(VolumeError::Used { .. } | VolumeError::Locked(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pruned)
    });
    pruned.await.map(Json)
}

/// Does something with files, off the threads that serve.
async fn work<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Fleet) -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, ApiError> {
    let fleet = Arc::clone(&app.fleet);
    spawn_blocking(move || work(&fleet))
        .await
        .map_err(|e| ApiError::system("start a thread", &e.into()))?
        .map_err(ApiError::from)
}

fn shown(fleet: &Fleet, volume: volume::Volume) -> Volume {
    Volume {
        used_by: fleet.volume_users(&volume.name),
        name: volume.name,
        size_mib: volume.size_mib,
        used_bytes: volume.used_bytes,
        created_at: volume.created_at,
    }
}
