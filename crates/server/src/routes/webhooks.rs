//! Webhook endpoints and their deliveries.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::response::Response;
use cakework_api::webhook::{CreateWebhook, Delivery, DeliveryList, Event, Webhook, WebhookList, WebhookSecret};
use cakework_core::id::{EventId, WebhookId};
use http::StatusCode;
use http::request::Parts;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{KeyedBody, Params, Reader, Writer};
use super::openapi::{Failures, IdempotencyKey};
use super::vms::cursor;
use crate::app::Shared;
use crate::error::ApiError;
use crate::ops;
use crate::ops::once::once;
use crate::store::keyed::Claim;

/// Deliveries of a page.
const LIST_DEFAULT: u64 = 100;
const LIST_MAX: u64 = 1000;

/// The body of events is described though no operation of ours takes or gives it.
#[derive(utoipa::OpenApi)]
#[openapi(
    components(schemas(Event)),
    tags((name = "webhooks", description = "Events, sent to endpoints of the builder's and signed.")),
)]
struct Described;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(<Described as utoipa::OpenApi>::openapi())
        .routes(routes!(create, list))
        .routes(routes!(get, delete))
        .routes(routes!(rotate))
        .routes(routes!(enable))
        .routes(routes!(test))
        .routes(routes!(deliveries))
        .routes(routes!(replay))
}

/// The endpoint that the path names.
struct OfWebhook(WebhookId);

impl FromRequestParts<Shared> for OfWebhook {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        super::extract::id(parts, |id| ops::webhooks::unknown(id)).await.map(Self)
    }
}

/// The endpoint and the event that the path names.
struct OfDelivery(WebhookId, EventId);

impl FromRequestParts<Shared> for OfDelivery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, &()).await;
        let (webhook, event) = path.map(|path| path.0).unwrap_or_default();
        let shown: String = webhook.chars().take(40).flat_map(char::escape_default).collect();
        let webhook = webhook.parse().map_err(|_| ops::webhooks::unknown(shown))?;
        Ok(Self(webhook, ops::webhooks::event_of(&event)?))
    }
}

/// Makes an endpoint. Its `secret` is shown this once.
#[utoipa::path(post, path = "/v1/webhook", operation_id = "createWebhook", tag = "webhooks", security(("apiKey" = [])),
    params(IdempotencyKey), request_body = CreateWebhook, responses((status = 201, body = WebhookSecret), Failures))]
async fn create(
    State(app): State<Shared>,
    Writer(caller): Writer,
    KeyedBody(keyed, request): KeyedBody<CreateWebhook>,
) -> Result<Response, ApiError> {
    let make = async |claim: Option<&Claim>| ops::webhooks::create(&app, &caller, request, claim).await;
    let made =
        async |id: &str| ops::webhooks::made(&app, &caller, &id.parse().map_err(|_| ops::webhooks::unknown(id))?).await;
    once(&app, &caller, keyed, make, made).await
}

/// All endpoints, the newest first.
#[utoipa::path(get, path = "/v1/webhook", operation_id = "listWebhooks", tag = "webhooks", security(("apiKey" = [])),
    params(("tenant" = Option<String>, Query, description = "Only this end user's.")),
    responses((status = 200, body = WebhookList), Failures))]
async fn list(
    State(app): State<Shared>,
    Reader(caller): Reader,
    mut params: Params,
) -> Result<Json<WebhookList>, ApiError> {
    let tenant = params.take("tenant");
    params.done()?;
    Ok(Json(ops::webhooks::list(&app, &caller, tenant).await?))
}

/// An endpoint: whether it is enabled, and since when it fails.
#[utoipa::path(get, path = "/v1/webhook/{webhookId}", operation_id = "getWebhook", tag = "webhooks",
    security(("apiKey" = [])), params(("webhookId" = String, Path)),
    responses((status = 200, body = Webhook), Failures))]
async fn get(
    State(app): State<Shared>,
    Reader(caller): Reader,
    OfWebhook(id): OfWebhook,
) -> Result<Json<Webhook>, ApiError> {
    Ok(Json(ops::webhooks::get(&app, &caller, &id).await?))
}

/// Removes an endpoint, with what is on its way to it.
#[utoipa::path(delete, path = "/v1/webhook/{webhookId}", operation_id = "deleteWebhook", tag = "webhooks",
    security(("apiKey" = [])), params(("webhookId" = String, Path)),
    responses((status = 204, description = "It is gone."), Failures))]
async fn delete(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfWebhook(id): OfWebhook,
) -> Result<StatusCode, ApiError> {
    ops::webhooks::delete(&app, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives an endpoint a new `secret`, shown this once. For a while deliveries are signed with both.
#[utoipa::path(post, path = "/v1/webhook/{webhookId}/rotate", operation_id = "rotateWebhookSecret", tag = "webhooks",
    security(("apiKey" = [])),
    params(
        ("webhookId" = String, Path),
        ("graceSeconds" = Option<u64>, Query,
            description = "How long the secret before signs, too: 0–604800, a day by default."),
    ),
    responses((status = 200, body = WebhookSecret), Failures))]
async fn rotate(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfWebhook(id): OfWebhook,
    mut params: Params,
) -> Result<Json<WebhookSecret>, ApiError> {
    let (default, most) = (ops::webhooks::GRACE_DEFAULT_SECS, ops::webhooks::GRACE_MAX_SECS);
    let grace_secs = params.take_number("graceSeconds", default, 0, most)?;
    params.done()?;
    Ok(Json(ops::webhooks::rotate(&app, &caller, &id, grace_secs).await?))
}

/// Enables an endpoint that was disabled. What it missed meanwhile is not sent.
#[utoipa::path(post, path = "/v1/webhook/{webhookId}/enable", operation_id = "enableWebhook", tag = "webhooks",
    security(("apiKey" = [])), params(("webhookId" = String, Path)),
    responses((status = 200, body = Webhook), Failures))]
async fn enable(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfWebhook(id): OfWebhook,
) -> Result<Json<Webhook>, ApiError> {
    Ok(Json(ops::webhooks::enable(&app, &caller, &id).await?))
}

/// Sends an endpoint an event `ping`, whatever it chose.
#[utoipa::path(post, path = "/v1/webhook/{webhookId}/test", operation_id = "testWebhook", tag = "webhooks",
    security(("apiKey" = [])), params(("webhookId" = String, Path)),
    responses((status = 202, body = Delivery), Failures))]
async fn test(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfWebhook(id): OfWebhook,
) -> Result<(StatusCode, Json<Delivery>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(ops::webhooks::test(&app, &caller, &id).await?)))
}

/// What was sent to an endpoint, and what is on its way; the newest first.
#[utoipa::path(get, path = "/v1/webhook/{webhookId}/deliveries", operation_id = "listWebhookDeliveries",
    tag = "webhooks", security(("apiKey" = [])),
    params(
        ("webhookId" = String, Path),
        ("limit" = Option<u64>, Query, description = "1–1000, 100 by default."),
        ("pagination" = Option<String>, Query, description = "The token of the page before."),
    ),
    responses((status = 200, body = DeliveryList), Failures))]
async fn deliveries(
    State(app): State<Shared>,
    Reader(caller): Reader,
    OfWebhook(id): OfWebhook,
    mut params: Params,
) -> Result<Json<DeliveryList>, ApiError> {
    let after = cursor(&mut params)?;
    let limit = params.take_number("limit", LIST_DEFAULT, 1, LIST_MAX)?;
    params.done()?;
    Ok(Json(ops::webhooks::deliveries(&app, &caller, &id, after, limit as usize).await?))
}

/// Delivers an event again, at once and with the same id.
#[utoipa::path(post, path = "/v1/webhook/{webhookId}/deliveries/{eventId}/replay",
    operation_id = "replayWebhookDelivery", tag = "webhooks", security(("apiKey" = [])),
    params(("webhookId" = String, Path), ("eventId" = String, Path)),
    responses((status = 202, body = Delivery), Failures))]
async fn replay(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfDelivery(id, event): OfDelivery,
) -> Result<(StatusCode, Json<Delivery>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(ops::webhooks::replay(&app, &caller, &id, &event).await?)))
}
