//! The server itself: health, and the document of the API.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Shared;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(health))
}

/// That the server serves.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`
    status: &'static str,
    /// The version of this build.
    version: &'static str,
}

/// Says that the server serves. It needs no key.
#[utoipa::path(get, path = "/healthz", operation_id = "health", tag = "server", responses((status = 200, body = Health)))]
async fn health() -> axum::Json<Health> {
    axum::Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// The document.
pub(super) async fn openapi(document: Arc<Vec<u8>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], document.to_vec()).into_response()
}
