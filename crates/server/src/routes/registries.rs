//! Registries that builds may pull from.

use axum::Json;
use axum::extract::State;
use cakework_api::problem::ErrorCode;
use cakework_api::registry::{PutRegistry, Registry, RegistryList};
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Body, Params, Reader, Writer};
use super::openapi::Failures;
use crate::app::Shared;
use crate::error::ApiError;
use crate::ops;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(put, list, delete))
}

/// Keeps a registry's credential for the account's builds, in place of the one before.
#[utoipa::path(post, path = "/v1/registry", operation_id = "putRegistry", tag = "images", security(("apiKey" = [])),
    request_body = PutRegistry, responses((status = 200, body = Registry), Failures))]
async fn put(
    State(app): State<Shared>,
    Writer(caller): Writer,
    Body(request): Body<PutRegistry>,
) -> Result<Json<Registry>, ApiError> {
    Ok(Json(ops::registries::put(&app, &caller, request).await?))
}

/// The registries that there are credentials of. Passwords are never shown.
#[utoipa::path(get, path = "/v1/registry", operation_id = "listRegistries", tag = "images", security(("apiKey" = [])),
    responses((status = 200, body = RegistryList), Failures))]
async fn list(
    State(app): State<Shared>,
    Reader(caller): Reader,
    params: Params,
) -> Result<Json<RegistryList>, ApiError> {
    params.done()?;
    Ok(Json(ops::registries::list(&app, &caller).await?))
}

/// Erases a registry's credential.
#[utoipa::path(delete, path = "/v1/registry", operation_id = "deleteRegistry", tag = "images",
    security(("apiKey" = [])), params(("host" = String, Query, description = "The registry.")),
    responses((status = 204, description = "It is erased."), Failures))]
async fn delete(State(app): State<Shared>, Writer(caller): Writer, mut params: Params) -> Result<StatusCode, ApiError> {
    let Some(host) = params.take("host") else {
        return Err(ApiError::field(ErrorCode::MissingField, "host", "The parameter `host` is missing."));
    };
    params.done()?;
    ops::registries::delete(&app, &caller, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}
