//! `/v1/images`

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::{AddImageQuery, CollectQuery, Collected, ErrorBody, ErrorCode, Image, ImageBoot};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use futures::{StreamExt, stream};
use images::{ImageName, Store};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::App;
use super::error::ApiError;
use super::extract;
use crate::fleet;

/// How long an upload may stand still.
const STALL: Duration = Duration::from_secs(30);

/// Lists every image.
#[utoipa::path(get, path = "/v1/images", tag = "images", responses((status = 200, body = Vec<Image>)))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<Image>>, ApiError> {
    let users = app.fleet.image_users();
    let list = store(&app, |store| store.list()).await??;
    let show = |image| shown(image, &users);
    Ok(Json(list.into_iter().map(show).collect()))
}

/// Adds an image and gives it a name, which another image may lose by it.
#[utoipa::path(post, path = "/v1/images", tag = "images", params(AddImageQuery),
    request_body(content_type = "application/octet-stream", description = "An ELF file"), responses(
    (status = 201, body = Image),
    (status = 413, description = "Too large", body = ErrorBody),
    (status = 422, description = "No microVM could boot it", body = ErrorBody),
))]
pub(super) async fn add(
    State(app): State<App>,
    extract::Params(query): extract::Params<AddImageQuery>,
    body: Body,
) -> Result<(StatusCode, Json<Image>), ApiError> {
    let name: ImageName = query
        .name
        .parse()
        .map_err(|e| ApiError::of(ErrorCode::BadRequest, &e))?;
    let chunks = stream::unfold(body.into_data_stream(), |mut body| async move {
        let chunk = match tokio::time::timeout(STALL, body.next()).await {
            Ok(chunk) => chunk?.map_err(io::Error::other),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("nothing came for {STALL:?}"),
            )),
        };
        Some((chunk, body))
    });
    let reader = StreamReader::new(Box::pin(chunks));
    let runtime = Handle::current();
    let added = store(&app, move |store| {
        store.add(&name, SyncIoBridge::new_with_handle(reader, runtime))
    })
    .await??;
    let users = app.fleet.image_users();
    Ok((StatusCode::CREATED, Json(shown(added.image, &users))))
}

/// Tells of one image, and what booting it takes.
#[utoipa::path(get, path = "/v1/images/{image}", tag = "images", params(("image" = String, Path)), responses(
    (status = 200, body = Image),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn inspect(
    State(app): State<App>,
    Path(image): Path<String>,
) -> Result<Json<Image>, ApiError> {
    let users = app.fleet.image_users();
    let found = store(&app, move |store| store.inspect(&image)).await??;
    let boot = match found.detail {
        images::Detail::LibOs(facts) => Some(ImageBoot {
            entry: facts.entry,
            memory_bytes: facts.memory,
        }),
        images::Detail::Linux(_) => None,
    };
    Ok(Json(Image {
        boot,
        ..shown(found.image, &users)
    }))
}

/// Takes a name away, or, given a digest, all names of that image. Its bytes go with the last name. One that VMs use keeps its
/// last name.
#[utoipa::path(delete, path = "/v1/images/{image}", tag = "images", params(("image" = String, Path)), responses(
    (status = 204),
    (status = 404, body = ErrorBody),
    (status = 409, description = "VMs use it", body = ErrorBody),
))]
pub(super) async fn remove(
    State(app): State<App>,
    Path(image): Path<String>,
) -> Result<StatusCode, ApiError> {
    let images = Arc::clone(&app.fleet.images);
    let removing = app.fleet.change_images(move |users| {
        let users = users.clone();
        spawn_blocking(move || {
            // Not inspected: a damaged one goes too.
            let found = images.find(&image)?;
            let by_name = image
                .parse::<ImageName>()
                .is_ok_and(|name| found.names.contains(&name));
            let last = !by_name || found.names.len() <= 1;
            if let Some(vms) = users.get(&found.digest.to_string()).filter(|_| last) {
                let shown: Vec<&str> = vms.iter().take(5).map(String::as_str).collect();
                let message = format!(
                    "image {image} is used by {} VMs ({}): remove them first",
                    vms.len(),
                    shown.join(", "),
                );
                return Err(ApiError::new(ErrorCode::Conflict, message));
            }
            images.remove(&image)?;
            images.gc(&fleet::digests(&users))?;
            Ok(StatusCode::NO_CONTENT)
        })
    });
    removing
        .await
        .await
        .unwrap_or_else(|e| Err(ApiError::system("start a thread", &e.into())))
}

/// Removes every image that has no VM and no name; with `all`, also those that have names.
#[utoipa::path(post, path = "/v1/images/gc", tag = "images", params(CollectQuery), responses((status = 200, body = Collected)))]
pub(super) async fn collect(
    State(app): State<App>,
    extract::Params(query): extract::Params<CollectQuery>,
) -> Result<Json<Collected>, ApiError> {
    let images = Arc::clone(&app.fleet.images);
    let collecting = app.fleet.change_images(move |users| {
        let in_use = fleet::digests(users);
        spawn_blocking(move || {
            if query.all {
                for image in images.list()? {
                    if !in_use.contains(&image.digest) {
                        images.remove(&image.digest.to_string())?;
                    }
                }
            }
            images.gc(&in_use)
        })
    });
    let freed = collecting
        .await
        .await
        .map_err(|e| ApiError::system("start a thread", &e.into()))??;
    Ok(Json(Collected {
        removed: freed.digests.iter().map(ToString::to_string).collect(),
        bytes: freed.bytes,
    }))
}

/// Does something with the store, which is files, off the threads that serve.
async fn store<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Store) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let images = Arc::clone(&app.fleet.images);
    spawn_blocking(move || work(&images))
        .await
        .map_err(|e| ApiError::system("start a thread", &e.into()))
}

fn shown(image: images::Image, users: &std::collections::HashMap<String, Vec<String>>) -> Image {
    let digest = image.digest.to_string();
    let used_by = users.get(&digest).map_or(0, Vec::len);
    Image {
        names: image.names.iter().map(ToString::to_string).collect(),
        bytes: image.size,
        kind: match image.kind {
            images::Kind::LibOs => "elf",
            images::Kind::Linux => "linux",
        }
        .to_owned(),
        added_at: image.created,
        used_by: u32::try_from(used_by).unwrap_or(u32::MAX),
        boot: None,
        config: None,
        digest,
    }
}
