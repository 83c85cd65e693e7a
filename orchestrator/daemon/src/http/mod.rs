//! The API: HTTP/1.1 on a unix socket.
//!
//! Handlers are thin: they read a request, call the fleet, and say in HTTP what it said. What a client sends is
//! bounded in size and time where it enters ([`extract`], [`serve`]); what a slow client does not read stays unread
//! where it is (a file, a ring of events), never in memory of its own.

mod error;
mod extract;
mod guest;
mod host;
mod images;
mod networks;
mod recipes;
pub mod serve;
mod streams;
mod vms;
mod volumes;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use utoipa::OpenApi;

use crate::fleet::Fleet;
use crate::follow::Follower;
use error::ApiError;

/// Most clients that are joined to programs in guests at once; each takes two descriptors and two frames.
pub const SESSIONS: usize = 1024;

/// What every handler works with.
#[derive(Clone, Debug)]
pub struct App {
    /// All VMs.
    pub fleet: Arc<Fleet>,
    /// Who notices that a console grew.
    pub follower: Arc<Follower>,
    /// Where recipes are.
    recipes: Arc<Path>,
    /// Places for clients that are joined to programs in guests.
    sessions: Arc<Semaphore>,
}

impl App {
    /// The API of `fleet`, with the recipes of a directory.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, follower: Arc<Follower>, recipes: &Path) -> Self {
        Self {
            fleet,
            follower,
            recipes: recipes.into(),
            sessions: Arc::new(Semaphore::new(SESSIONS)),
        }
    }

    /// Every path.
    pub fn router(self) -> Router {
        Router::new()
            .route("/v1/version", get(host::version))
            .route("/v1/host", get(host::host))
            .route("/v1/openapi.json", get(host::openapi))
            .route("/v1/vms", get(vms::list).post(vms::create))
            .route("/v1/vms/{vm}", get(vms::inspect).delete(vms::remove))
            .route("/v1/vms/{vm}/stop", post(vms::stop))
            .route("/v1/vms/{vm}/kill", post(vms::kill))
            .route("/v1/vms/{vm}/start", post(vms::start))
            .route("/v1/vms/{vm}/pause", post(vms::pause))
            .route("/v1/vms/{vm}/resume", post(vms::resume))
            .route("/v1/vms/{vm}/wait", get(vms::wait))
            .route("/v1/vms/{vm}/logs", get(streams::logs))
            .route("/v1/vms/{vm}/console", post(streams::console))
            .route("/v1/vms/{vm}/exec", post(guest::exec))
            .route("/v1/vms/{vm}/attach", post(guest::attach))
            .route(
                "/v1/vms/{vm}/files",
                get(guest::copy_out).put(guest::copy_in),
            )
            .route("/v1/vms/{vm}/files/stat", get(guest::stat))
            .route("/v1/vms/{vm}/signal", post(guest::signal))
            .route("/v1/vms/{vm}/stats", get(guest::stats))
            .route("/v1/volumes", get(volumes::list).post(volumes::create))
            .route("/v1/volumes/prune", post(volumes::prune))
            .route(
                "/v1/volumes/{volume}",
                get(volumes::inspect).delete(volumes::remove),
            )
            .route("/v1/networks", get(networks::list).post(networks::create))
            .route(
                "/v1/networks/{network}",
                get(networks::inspect).delete(networks::remove),
            )
            .route("/v1/events", get(streams::events))
            .route("/v1/images", get(images::list).post(images::add))
            .route("/v1/images/gc", post(images::collect))
            .route("/v1/images/import", post(images::import))
            .route("/v1/images/pull", post(images::pull))
            .route("/v1/images/build", post(recipes::build))
            .route("/v1/recipes", get(recipes::list))
            .route(
                "/v1/images/{image}",
                get(images::inspect).delete(images::remove),
            )
            .fallback(nowhere)
            .method_not_allowed_fallback(wrong_method)
            .with_state(self)
    }
}

async fn nowhere(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        api::ErrorCode::NotFound,
        format!("there is nothing at {path:?}: GET /v1/openapi.json lists every path"),
    )
}

async fn wrong_method(method: axum::http::Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        api::ErrorCode::MethodNotAllowed,
        format!("{path:?} does not take {method}: GET /v1/openapi.json lists what it takes"),
    )
}

/// The document of the API, made from its types and handlers.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Shoal",
        description = "MicroVMs on one host, by vmd. A VM in a path is its id, a prefix that only one id has, or its name.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        host::version,
        host::host,
        host::openapi,
        vms::list,
        vms::create,
        vms::inspect,
        vms::remove,
        vms::stop,
        vms::kill,
        vms::start,
        vms::pause,
        vms::resume,
        vms::wait,
        streams::logs,
        streams::console,
        guest::exec,
        guest::attach,
        guest::copy_in,
        guest::copy_out,
        guest::stat,
        guest::signal,
        guest::stats,
        volumes::list,
        volumes::create,
        volumes::inspect,
        volumes::remove,
        volumes::prune,
        networks::list,
        networks::create,
        networks::inspect,
        networks::remove,
        streams::events,
        images::list,
        images::add,
        images::import,
        images::pull,
        recipes::build,
        recipes::list,
        images::collect,
        images::inspect,
        images::remove,
    ),
    components(schemas(api::ErrorBody, api::Event))
)]
pub struct Document;
