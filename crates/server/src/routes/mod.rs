//! The HTTP surface: extractors authenticate and parse, operations do, views answer. The OpenAPI document is made
//! from the same handlers.
//!
//! No rule of the domain lives here.

mod browser;
mod builds;
mod cached;
mod exec;
pub(crate) mod extract;
mod files;
pub(crate) mod frame;
mod images;
mod later;
mod logs;
mod meta;
pub(crate) mod openapi;
mod registries;
pub(crate) mod upload;
mod vms;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use cakework_api::problem::ErrorCode;
use http::{Method, Uri};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::app::Shared;
use crate::error::ApiError;

/// Every route; the document that describes them is one of them.
pub(crate) fn router(app: Shared) -> Router {
    let (router, _) = described().split_for_parts();
    let cors = browser::cors(&app.config.cors_origins);
    let router = router
        .merge(browser::page())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::clone(&app), frame::frame))
        .with_state(app);
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// The document alone.
pub(crate) fn document() -> OpenApi {
    described().split_for_parts().1
}

fn described() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(openapi::base())
        .merge(meta::routes())
        .merge(images::routes())
        .merge(builds::routes())
        .merge(registries::routes())
        .merge(vms::routes())
        .merge(cached::routes())
        .merge(exec::routes())
        .merge(files::routes())
        .merge(webhooks::routes())
        .merge(later::routes())
}

async fn no_route(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::UnknownRoute, format!("There is nothing at {}.", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::MethodNotAllowed, format!("{} does not take {method}.", uri.path()))
}
