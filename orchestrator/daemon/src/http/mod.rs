//! The API: HTTP/1.1 on a unix socket.
//!
//! Handlers are thin: they read a request, call the fleet, and say in HTTP what it said. What a client sends is
//! bounded in size and time where it enters ([`extract`], [`serve`]); what a slow client does not read stays unread
//! where it is (a file, a ring of events), never in memory of its own.

mod error;
mod extract;
mod host;
mod images;
pub mod serve;
mod streams;
mod vms;

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::routing::{get, post};
use tokio::sync::OnceCell;
use utoipa::OpenApi;

use crate::fleet::Fleet;
use crate::follow::Follower;
use error::ApiError;

/// What every handler works with.
#[derive(Clone, Debug)]
pub struct App {
    /// All VMs.
    pub fleet: Arc<Fleet>,
    /// Who notices that a console grew.
    pub follower: Arc<Follower>,
    probe: Arc<OnceCell<serde_json::Value>>,
}

impl App {
    /// The API of `fleet`.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, follower: Arc<Follower>) -> Self {
        Self {
            fleet,
            follower,
            probe: Arc::default(),
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
            .route("/v1/vms/{vm}/pause", post(vms::pause))
            .route("/v1/vms/{vm}/resume", post(vms::resume))
            .route("/v1/vms/{vm}/wait", get(vms::wait))
            .route("/v1/vms/{vm}/logs", get(streams::logs))
            .route("/v1/vms/{vm}/console", post(streams::console))
            .route("/v1/events", get(streams::events))
            .route("/v1/images", get(images::list).post(images::add))
            .route("/v1/images/gc", post(images::collect))
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
        vms::pause,
        vms::resume,
        vms::wait,
        streams::logs,
        streams::console,
        streams::events,
        images::list,
        images::add,
        images::collect,
        images::inspect,
        images::remove,
    ),
    components(schemas(api::ErrorBody, api::Event))
)]
pub struct Document;
