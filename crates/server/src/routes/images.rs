//! Images.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cakework_api::image::{Image, ImageList, ImportImage, ImportedImage};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{KeyedBody, OfImage, Params, Reader, Writer};
use super::openapi::{Failures, IdempotencyKey};
use super::vms::cursor;
use crate::app::Shared;
use crate::error::ApiError;
use crate::ops;
use crate::ops::once::once;
use crate::store::keyed::Claim;

/// Images of a page.
const LIST_DEFAULT: u64 = 100;
const LIST_MAX: u64 = 1000;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(import)).routes(routes!(get)).routes(routes!(list))
}

/// Imports an image from a registry. Answers when manifest and config were verified; the layers follow.
#[utoipa::path(post, path = "/v1/image/import", operation_id = "importImage", tag = "images",
    security(("apiKey" = [])), params(IdempotencyKey), request_body = ImportImage, responses((status = 201, body = ImportedImage), Failures))]
async fn import(
    State(app): State<Shared>,
    Writer(caller): Writer,
    KeyedBody(keyed, request): KeyedBody<ImportImage>,
) -> Result<Response, ApiError> {
    let make = async |claim: Option<&Claim>| ops::images::import(&app, &caller, request, claim).await;
    let made = async |id: &str| Ok(ImportedImage { image_id: id.to_owned() });
    once(&app, &caller, keyed, make, made).await
}

/// An image: how far it is, or why it failed.
#[utoipa::path(get, path = "/v1/image/{imageId}", operation_id = "getImage", tag = "images",
    security(("apiKey" = [])), params(("imageId" = String, Path)), responses((status = 200, body = Image), Failures))]
async fn get(State(app): State<Shared>, Reader(caller): Reader, OfImage(id): OfImage) -> Result<Json<Image>, ApiError> {
    Ok(Json(ops::images::get(&app, &caller, &id).await?))
}

/// Images, the newest first.
#[utoipa::path(get, path = "/v1/images", operation_id = "listImages", tag = "images", security(("apiKey" = [])),
    params(
        ("tenant" = Option<String>, Query, description = "Only this end user's."),
        ("limit" = Option<u64>, Query, description = "1–1000, 100 by default."),
        ("pagination" = Option<String>, Query, description = "The token of the page before."),
    ),
    responses((status = 200, body = ImageList), Failures))]
async fn list(
    State(app): State<Shared>,
    Reader(caller): Reader,
    mut params: Params,
) -> Result<Json<ImageList>, ApiError> {
    let (tenant, after) = (params.take("tenant"), cursor(&mut params)?);
    let limit = params.take_number("limit", LIST_DEFAULT, 1, LIST_MAX)?;
    params.done()?;
    Ok(Json(ops::images::list(&app, &caller, tenant, after, limit as usize).await?))
}
