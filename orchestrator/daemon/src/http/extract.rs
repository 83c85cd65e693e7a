//! What a client sends, read within bounds of size and time, or refused in our own words.

use std::time::Duration;

use api::ErrorCode;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// Most bytes of a JSON body: a command line's worth, escaped, and room to spare.
pub(super) const MAX_JSON: usize = 512 << 10;
/// How long a JSON body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// A JSON body. An empty one is as `{}`.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let announced = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if let Some(length) = announced.filter(|length| *length > MAX_JSON as u64) {
            return Err(too_large(&format!("{length} bytes")));
        }
        let reading = Limited::new(request.into_body(), MAX_JSON).collect();
        let body = match tokio::time::timeout(BODY_TIME, reading).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(e)) if e.is::<LengthLimitError>() => return Err(too_large("more")),
            Ok(Err(e)) => {
                let message = format!("the body did not arrive whole: {e}");
                return Err(ApiError::new(ErrorCode::BadRequest, message));
            }
            Err(_) => {
                let message = format!("the body did not arrive within {BODY_TIME:?}");
                return Err(ApiError::new(ErrorCode::Timeout, message));
            }
        };
        let json: &[u8] = if body.is_empty() { b"{}" } else { &body };
        serde_json::from_slice(json).map(Self).map_err(|e| {
            let message = format!("the body is not what is expected here: {e}");
            ApiError::new(ErrorCode::BadRequest, message)
        })
    }
}

fn too_large(found: &str) -> ApiError {
    let message = format!("the body has {found}, {MAX_JSON} bytes are allowed");
    ApiError::new(ErrorCode::TooLarge, message)
}

/// The query of a path.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Query::<T>::try_from_uri(&parts.uri)
            .map(|Query(query)| Self(query))
            .map_err(|e| {
                let message = format!("the query is not what is expected here: {}", e.body_text());
                ApiError::new(ErrorCode::BadRequest, message)
            })
    }
}
