//! Builds.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cakework_api::build::{Build, BuildFile, BuildImageFromFiles, BuildImageFromGithub, BuildList, BuildStatus};
use cakework_api::problem::ErrorCode;
use http::HeaderMap;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{OfBuild, Params, Reader, Writer};
use super::logs::{LogAnswers, LogParams, answer};
use super::openapi::{Failures, IdempotencyKey};
use super::upload::Upload;
use super::vms::cursor;
use crate::app::Shared;
use crate::error::ApiError;
use crate::ops;
use crate::ops::logs::Log;
use crate::ops::once::once;
use crate::store::builds::BuildFilter;
use crate::store::keyed::Claim;

/// Builds of a page.
const LIST_DEFAULT: u64 = 100;
const LIST_MAX: u64 = 1000;

#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(BuildFile)))]
struct Schemas;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(<Schemas as utoipa::OpenApi>::openapi())
        .routes(routes!(from_files))
        .routes(routes!(from_github))
        .routes(routes!(get))
        .routes(routes!(get_by_post))
        .routes(routes!(cancel))
        .routes(routes!(logs))
        .routes(routes!(function_logs))
        .routes(routes!(list))
}

/// Builds an image from files. Answers before the build begins.
#[utoipa::path(post, path = "/v1/image/build/files", operation_id = "buildImageFromFiles", tag = "images",
    security(("apiKey" = [])), params(IdempotencyKey), request_body = BuildImageFromFiles,
    responses((status = 201, body = Build), Failures))]
async fn from_files(State(app): State<Shared>, upload: Upload) -> Result<Response, ApiError> {
    let (caller, keyed) = (upload.caller.clone(), upload.keyed.clone());
    let (request, draft) = upload.read_files(&app).await?;
    let make = async |claim: Option<&Claim>| ops::builds::from_files(&app, &caller, request, draft, claim).await;
    once(&app, &caller, keyed, make, async |id: &str| ops::builds::get_made(&app, &caller, id).await).await
}

/// Builds an image from a repository on GitHub. Answers before the build begins.
#[utoipa::path(post, path = "/v1/image/build/github", operation_id = "buildImageFromGithub", tag = "images",
    security(("apiKey" = [])), params(IdempotencyKey), request_body = BuildImageFromGithub,
    responses((status = 201, body = Build), Failures))]
async fn from_github(State(app): State<Shared>, upload: Upload) -> Result<Response, ApiError> {
    let (caller, keyed) = (upload.caller.clone(), upload.keyed.clone());
    let request = upload.read::<BuildImageFromGithub>(&app).await?;
    let make = async |claim: Option<&Claim>| ops::builds::from_github(&app, &caller, request, claim).await;
    once(&app, &caller, keyed, make, async |id: &str| ops::builds::get_made(&app, &caller, id).await).await
}

/// A build: where it is, its image, or why it failed.
#[utoipa::path(get, path = "/v1/image/build/{buildId}", operation_id = "getBuild", tag = "images",
    security(("apiKey" = [])), params(("buildId" = String, Path)), responses((status = 200, body = Build), Failures))]
async fn get(State(app): State<Shared>, Reader(caller): Reader, OfBuild(id): OfBuild) -> Result<Json<Build>, ApiError> {
    Ok(Json(ops::builds::get(&app, &caller, &id).await?))
}

/// The same as `getBuild`, by the method that its documentation had.
#[utoipa::path(post, path = "/v1/image/build/{buildId}", operation_id = "getBuildByPost", tag = "images",
    security(("apiKey" = [])), params(("buildId" = String, Path)), responses((status = 200, body = Build), Failures))]
async fn get_by_post(state: State<Shared>, caller: Reader, id: OfBuild) -> Result<Json<Build>, ApiError> {
    get(state, caller, id).await
}

/// Ends a build that is not over.
#[utoipa::path(post, path = "/v1/image/build/{buildId}/cancel", operation_id = "cancelBuild", tag = "images",
    security(("apiKey" = [])), params(("buildId" = String, Path)), responses((status = 200, body = Build), Failures))]
async fn cancel(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfBuild(id): OfBuild,
) -> Result<Json<Build>, ApiError> {
    Ok(Json(ops::builds::cancel(&app, &caller, &id).await?))
}

/// A page of a build's log, or all of it as it grows.
#[utoipa::path(get, path = "/v1/image/build/{buildId}/logs", operation_id = "getBuildLogs", tag = "images",
    security(("apiKey" = [])), params(("buildId" = String, Path), LogParams),
    responses(LogAnswers, Failures))]
async fn logs(
    State(app): State<Shared>,
    Reader(caller): Reader,
    OfBuild(id): OfBuild,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    answer(app, caller, Log::Build(id), params, &headers).await
}

/// The same as `getBuildLogs`, for the build of a function.
#[utoipa::path(get, path = "/v1/function/build/{buildId}/logs", operation_id = "getFunctionBuildLogs", tag = "images",
    security(("apiKey" = [])), params(("buildId" = String, Path), LogParams),
    responses(LogAnswers, Failures))]
async fn function_logs(
    state: State<Shared>,
    caller: Reader,
    id: OfBuild,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    logs(state, caller, id, headers, params).await
}

/// Builds, the newest first.
#[utoipa::path(get, path = "/v1/builds", operation_id = "listBuilds", tag = "images", security(("apiKey" = [])),
    params(
        ("status" = Option<BuildStatus>, Query, description = "Only with this status."),
        ("imageId" = Option<String>, Query, description = "Only the one of this image."),
        ("tenant" = Option<String>, Query, description = "Only this end user's."),
        ("metadata.KEY" = Option<String>, Query, description = "Only with this mark; as often as needed."),
        ("limit" = Option<u64>, Query, description = "1–1000, 100 by default."),
        ("pagination" = Option<String>, Query, description = "The token of the page before."),
    ),
    responses((status = 200, body = BuildList), Failures))]
async fn list(
    State(app): State<Shared>,
    Reader(caller): Reader,
    mut params: Params,
) -> Result<Json<BuildList>, ApiError> {
    let bad = |field, detail| move |_| ApiError::field(ErrorCode::InvalidValue, field, detail);
    let status = params.take("status").map(|word| word.parse::<BuildStatus>()).transpose();
    let status = status.map_err(bad("status", "`status` must be `created`, `succeeded` or `failed`."))?;
    let image = params.take("imageId").map(|id| id.parse()).transpose();
    let bad_image = |_| ApiError::field(ErrorCode::InvalidValue, "imageId", "`imageId` is not an image's id.");
    let filter = BuildFilter {
        image: image.map_err(bad_image)?,
        states: status.map_or(&[], BuildStatus::recorded),
        tenant: params.take("tenant"),
        metadata: params.take_prefixed("metadata."),
        after: cursor(&mut params)?,
    };
    let limit = params.take_number("limit", LIST_DEFAULT, 1, LIST_MAX)?;
    params.done()?;
    Ok(Json(ops::builds::list(&app, &caller, filter, limit as usize).await?))
}
