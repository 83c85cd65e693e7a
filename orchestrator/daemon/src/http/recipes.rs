//! `/v1/recipes`, `/v1/images/build`

use std::io;
use std::path::Path;
use std::sync::Arc;

use api::{BuildImage, ErrorBody, ErrorCode, ImageEvent};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use images::recipe::{self, Recipe};
use tokio::task::spawn_blocking;

use super::App;
use super::error::ApiError;
use super::extract;
use super::images::{image_name, making};

/// Lists the recipes that the installation comes with.
#[utoipa::path(get, path = "/v1/recipes", tag = "images", responses((status = 200, body = Vec<api::Recipe>)))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<api::Recipe>>, ApiError> {
    let dir = Arc::clone(&app.recipes);
    let read = spawn_blocking(move || read_all(&dir));
    let found = read
        .await
        .unwrap_or_else(|e| Err(e.into()))
        .map_err(|e| ApiError::system("read the recipes", &e))?;
    let shown = found.into_iter().map(|recipe| api::Recipe {
        name: recipe.name,
        description: recipe.about,
    });
    Ok(Json(shown.collect()))
}

/// Builds a Linux image from a recipe. How far it is comes back, one object a line; the last line is `done` or `failed`. A client that
/// goes away ends it.
#[utoipa::path(post, path = "/v1/images/build", tag = "images", request_body = BuildImage, responses(
    (status = 200, content_type = "application/x-ndjson", body = ImageEvent),
    (status = 400, body = ErrorBody),
    (status = 404, description = "The installation has no such recipe", body = ErrorBody),
))]
pub(super) async fn build(
    State(app): State<App>,
    extract::Json(build): extract::Json<BuildImage>,
) -> Result<Response, ApiError> {
    // A name has no line's end, and a recipe no less than some.
    let recipe = match build.recipe.contains('\n') {
        true => {
            Recipe::parse(&build.recipe).map_err(|e| ApiError::of(ErrorCode::BadRequest, &e))?
        }
        false => named(&app, build.recipe).await?,
    };
    let name = image_name(build.name.as_deref().unwrap_or(&recipe.name))?;
    Ok(making(&app, move |store, progress| {
        recipe::build(store, &recipe, &name, progress)
    }))
}

async fn named(app: &App, name: String) -> Result<Recipe, ApiError> {
    let dir = Arc::clone(&app.recipes);
    let read = spawn_blocking(move || read_all(&dir));
    let found = read
        .await
        .unwrap_or_else(|e| Err(e.into()))
        .map_err(|e| ApiError::system("read the recipes", &e))?;
    let wanted = found.into_iter().find(|recipe| recipe.name == name);
    wanted.ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        let message = format!("there is no recipe {shown:?}: GET /v1/recipes lists them");
        ApiError::new(ErrorCode::NotFound, message)
    })
}

/// The recipes of a directory, by name; one that makes no sense is told of and left out, and an installation may have none.
fn read_all(dir: &Path) -> io::Result<Vec<Recipe>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        match Recipe::parse(&std::fs::read_to_string(&path)?) {
            Ok(recipe) => found.push(recipe),
            Err(error) => {
                let error = crate::chain(&error);
                tracing::warn!(recipe = %path.display(), error, "left out");
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
