//! `/v1/images`

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abi::agent::signal;
use api::{
    AddImageQuery, CollectQuery, Collected, ErrorBody, ErrorCode, Image, ImageBoot, ImageConfig,
    ImageEvent, ImportImageQuery, PullImage,
};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use images::oci;
use images::{Cancel, ImageName, Phase, Progress, Step, Store};
use tokio::io::AsyncRead;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
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
    let name = image_name(&query.name)?;
    let reader = upload(body);
    let runtime = Handle::current();
    let added = store(&app, move |store| {
        store.add(&name, SyncIoBridge::new_with_handle(reader, runtime))
    })
    .await??;
    let users = app.fleet.image_users();
    Ok((StatusCode::CREATED, Json(shown(added.image, &users))))
}

/// A body as it comes; one that stands still for long is broken off.
fn upload(body: Body) -> impl AsyncRead + Send + Unpin {
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
    StreamReader::new(Box::pin(chunks))
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
    let (boot, config) = match found.detail {
        images::Detail::LibOs(facts) => {
            let boot = ImageBoot {
                entry: facts.entry,
                memory_bytes: facts.memory,
            };
            (Some(boot), None)
        }
        images::Detail::Linux(manifest) => (None, Some(shown_config(manifest.config))),
    };
    Ok(Json(Image {
        boot,
        config,
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

/// Adds a Linux image from an archive: `docker save`'s, or an OCI layout in tar, also compressed. How far it is comes back, one object a
/// line; the last line is `done` or `failed`. A client that goes away ends it.
#[utoipa::path(post, path = "/v1/images/import", tag = "images", params(ImportImageQuery),
    request_body(content_type = "application/x-tar"), responses(
    (status = 200, content_type = "application/x-ndjson", body = ImageEvent),
    (status = 400, body = ErrorBody),
))]
pub(super) async fn import(
    State(app): State<App>,
    extract::Params(query): extract::Params<ImportImageQuery>,
    body: Body,
) -> Result<Response, ApiError> {
    let name = image_name(&query.name)?;
    let archive = SyncIoBridge::new_with_handle(upload(body), Handle::current());
    Ok(making(&app, move |store, progress| {
        let source = oci::Source::Stream(Box::new(archive));
        oci::import(store, source, query.tag.as_deref(), &name, progress)
    }))
}

/// Adds a Linux image from the registry that its reference names. How far it is comes back, one object a line; the last line is `done` or
/// `failed`. A client that goes away ends it.
#[utoipa::path(post, path = "/v1/images/pull", tag = "images", request_body = PullImage, responses(
    (status = 200, content_type = "application/x-ndjson", body = ImageEvent),
    (status = 400, body = ErrorBody),
))]
pub(super) async fn pull(
    State(app): State<App>,
    extract::Json(pull): extract::Json<PullImage>,
) -> Result<Response, ApiError> {
    let reference = image_name(&pull.reference)?;
    let name = image_name(pull.name.as_deref().unwrap_or(&pull.reference))?;
    let credentials = match pull.login {
        None => oci::Credentials::Anonymous,
        Some(login) => oci::Credentials::Basic {
            user: login.user,
            password: login.password,
        },
    };
    Ok(making(&app, move |store, progress| {
        oci::pull(store, &reference, &name, &credentials, progress)
    }))
}

/// Ends what makes an image when nobody hears of it any more.
struct Wanted(Cancel);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Makes an image on a thread of its own, and answers with what is heard of it. Of how far it is a slow client hears less.
pub(super) fn making<E>(
    app: &App,
    make: impl FnOnce(&Store, Progress<'_>) -> Result<images::Inspection, E> + Send + 'static,
) -> Response
where
    E: Into<ApiError>,
{
    let (teller, heard) = mpsc::channel(64);
    let (cancel, fleet) = (Cancel::default(), Arc::clone(&app.fleet));
    let wanted = Wanted(cancel.clone());
    spawn_blocking(move || {
        let told = Mutex::new(None);
        let tell = |step: Step| {
            // Each percent once: there are many more steps.
            let percent = step.done.saturating_mul(100).checked_div(step.total);
            let news = Some((step.phase, percent.unwrap_or(step.done >> 20)));
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if *told != news {
                *told = news;
                let _ = teller.try_send(progressed(step));
            }
        };
        let last = match make(&fleet.images, Progress::new(&tell, &cancel)) {
            Ok(made) => ImageEvent::Done {
                image: Box::new(shown(made.image, &fleet.image_users())),
            },
            Err(error) => ImageEvent::Failed {
                error: error.into().into_detail(),
            },
        };
        // Where nobody hears, nobody wants to know.
        let _ = teller.blocking_send(last);
    });
    let lines = stream::unfold((heard, wanted), |(mut heard, wanted)| async move {
        let event = heard.recv().await?;
        let line = serde_json::to_vec(&event).map_err(io::Error::other);
        let line = line.map(|mut line| {
            line.push(b'\n');
            Bytes::from(line)
        });
        Some((line, (heard, wanted)))
    });
    let body = Body::from_stream(lines);
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

fn shown_config(config: images::Config) -> ImageConfig {
    let env = config.env.iter().filter_map(|word| word.split_once('='));
    ImageConfig {
        env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        user: config.user,
        workdir: config.workdir,
        ports: config.ports.iter().map(ToString::to_string).collect(),
        volumes: config.volumes,
        stop_signal: config
            .stop_signal
            .map(|number| signal::name(number).map_or_else(|| number.to_string(), str::to_owned))
            .unwrap_or_default(),
    }
}

fn progressed(step: Step) -> ImageEvent {
    let of = match step.phase {
        Phase::Download => "download",
        Phase::Install => "install",
        Phase::Unpack => "unpack",
        Phase::Write => "write",
    };
    ImageEvent::Progress {
        of: of.to_owned(),
        done: step.done,
        total: Some(step.total).filter(|total| *total != 0),
    }
}

pub(super) fn image_name(text: &str) -> Result<ImageName, ApiError> {
    text.parse()
        .map_err(|e: images::NameError| ApiError::of(ErrorCode::BadRequest, &e))
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
