//! The server itself: health, and the document of the API.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Shared;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(openapi))
}

/// That the server serves.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`
    #[schema(example = "ok")]
    status: &'static str,
    /// The version of this build.
    #[schema(example = "0.1.0")]
    version: &'static str,
}

/// Says that the server serves. It needs no key.
#[utoipa::path(get, path = "/healthz", operation_id = "health", tag = "server", responses((status = 200, body = Health)))]
async fn health() -> axum::Json<Health> {
    axum::Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// This document. It needs no key.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "server",
    responses((status = 200, body = serde_json::Value, content_type = "application/json")))]
async fn openapi() -> Response {
    static DOCUMENT: LazyLock<Vec<u8>> =
        LazyLock::new(|| serde_json::to_vec(&super::document()).expect("the document is plain data"));
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_slice()).into_response()
}
