//! The frame around every request: its id, its log line, the bound on requests at once, and the body of a failure.
//!
//! The user gets a problem; the operator gets the chain of causes once, with the same id.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use cakework_api::problem::{ErrorCode, Problem};
use futures_util::FutureExt as _;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue};
use rand::Rng as _;
use tracing::Instrument as _;

use crate::app::Shared;
use crate::error::ApiError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs a request in its frame.
pub(crate) async fn frame(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let id = format!("{:032x}", (u128::from(rand::rng().next_u64()) << 64) | u128::from(rand::rng().next_u64()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!("request", id, %method, path);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let started = Instant::now();
    async {
        let mut response = match app.requests.try_acquire() {
            Err(_) => {
                let problem = ApiError::new(ErrorCode::Overloaded, "Too many requests are being served.");
                problem.retry_after(1).into_response()
            }
            Ok(_permit) => match AssertUnwindSafe(next.run(request)).catch_unwind().await {
                Ok(response) => response,
                // The panic's own words are on stderr already, by the hook.
                Err(_) => ApiError::internal(anyhow::anyhow!("a handler panicked")).into_response(),
            },
        };
        if let Some(error) = response.extensions_mut().remove::<Arc<ApiError>>() {
            response = render(&error, &id, &path, &response);
        }
        let (status, took) = (response.status().as_u16(), started.elapsed());
        app.metrics.called(route.as_ref().map(MatchedPath::as_str), status, took);
        tracing::debug!(status, ms = took.as_millis() as u64, "answered");
        let header = HeaderValue::from_str(&id).expect("hex digits");
        response.headers_mut().insert(REQUEST_ID, header);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
    .instrument(span)
    .await
}

fn render(error: &ApiError, id: &str, path: &str, bare: &Response) -> Response {
    if let Some(cause) = &error.cause {
        tracing::error!(code = error.code.as_str(), cause = format!("{cause:#}"), "request failed");
    }
    let problem = Problem {
        kind: error.code.kind(),
        title: error.code.title().to_owned(),
        status: error.code.status(),
        detail: error.detail.clone(),
        instance: path.to_owned(),
        code: error.code,
        field: error.field.clone(),
        request_id: id.to_owned(),
        fix: error.code.fix().map(str::to_owned),
    };
    let body = serde_json::to_vec(&problem).expect("a problem is plain data");
    let mut response = (bare.status(), body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(secs) = error.retry_after_secs {
        headers.insert(RETRY_AFTER, secs.into());
    }
    if let Some(allow) = bare.headers().get(ALLOW) {
        headers.insert(ALLOW, allow.clone());
    }
    response
}
