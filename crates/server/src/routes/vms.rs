//! VMs.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cakework_api::problem::ErrorCode;
use cakework_api::vm::{StartVm, Vm, VmList, VmState};
use cakework_core::id::ImageId;
use http::{HeaderMap, StatusCode};
use tracing::Instrument as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{KeyedBody, OfVm, Params, Reader, Writer};
use super::logs::{LogAnswers, LogParams, answer};
use super::openapi::{Failures, IdempotencyKey};
use crate::app::Shared;
use crate::error::ApiError;
use crate::ops;
use crate::ops::logs::Log;
use crate::ops::once::once;
use crate::store::keyed::Claim;
use crate::store::page::Cursor;
use crate::store::vms::VmFilter;

/// VMs of a page.
const LIST_DEFAULT: u64 = 100;
const LIST_MAX: u64 = 1000;
/// `timeout` of a wait that names none.
const WAIT_DEFAULT_SECS: u64 = 30;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(get))
        .routes(routes!(wait))
        .routes(routes!(logs))
        .routes(routes!(super::logs::search))
        .routes(routes!(list))
        .routes(routes!(list_unversioned))
}

/// Starts a VM. Answers when its sandbox runs; after ten seconds, or with the image still arriving, as `created`.
#[utoipa::path(post, path = "/v1/vm/start", operation_id = "startVM", tag = "vms", security(("apiKey" = [])),
    params(IdempotencyKey), request_body = StartVm, responses((status = 201, body = Vm), Failures))]
async fn start(
    State(app): State<Shared>,
    Writer(caller): Writer,
    KeyedBody(keyed, request): KeyedBody<StartVm>,
) -> Result<Response, ApiError> {
    // A caller who hangs up does not undo a start: it goes on, and the VM is in the list.
    let work = async move {
        let make = async |claim: Option<&Claim>| ops::vms::start(&app, &caller, request, claim).await;
        once(&app, &caller, keyed, make, async |id: &str| ops::vms::get_made(&app, &caller, id).await).await
    };
    tokio::spawn(work.in_current_span()).await.map_err(ApiError::internal)?
}

/// Ends a VM: its stop signal, then a kill. Answers at the end, or after some seconds while the end goes on. Of a cached
/// VM it ends the run, as `stopCachedVM` does.
#[utoipa::path(post, path = "/v1/vm/{vmId}/stop", operation_id = "stopVM", tag = "vms", security(("apiKey" = [])),
    params(("vmId" = String, Path)), responses((status = 204, description = "Its end is sure."), Failures))]
async fn stop(State(app): State<Shared>, Writer(caller): Writer, OfVm(id): OfVm) -> Result<StatusCode, ApiError> {
    ops::vms::stop(&app, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A VM.
#[utoipa::path(get, path = "/v1/vm/{vmId}", operation_id = "getVm", tag = "vms", security(("apiKey" = [])),
    params(("vmId" = String, Path)), responses((status = 200, body = Vm), Failures))]
async fn get(State(app): State<Shared>, Reader(caller): Reader, OfVm(id): OfVm) -> Result<Json<Vm>, ApiError> {
    Ok(Json(ops::vms::get(&app, &caller, &id).await?))
}

/// Waits until a VM is in a state, or a one-time VM beyond it. Answers the VM as it is then, or when the time is up.
#[utoipa::path(get, path = "/v1/vm/{vmId}/wait", operation_id = "waitVm", tag = "vms", security(("apiKey" = [])),
    params(
        ("vmId" = String, Path),
        ("state" = VmState, Query, description = "The state to wait for."),
        ("timeout" = Option<u64>, Query, description = "Seconds, 0–55, 30 by default."),
    ),
    responses((status = 200, body = Vm), Failures))]
async fn wait(
    State(app): State<Shared>,
    Reader(caller): Reader,
    OfVm(id): OfVm,
    mut params: Params,
) -> Result<Json<Vm>, ApiError> {
    let Some(word) = params.take("state") else {
        return Err(ApiError::field(ErrorCode::MissingField, "state", "The parameter `state` is missing."));
    };
    let state = state("state", &word)?;
    let secs = params.take_number("timeout", WAIT_DEFAULT_SECS, 0, ops::vms::WAIT_MAX_SECS)?;
    params.done()?;
    Ok(Json(ops::vms::wait(&app, &caller, &id, state, Duration::from_secs(secs)).await?))
}

/// A page of a VM's log, also after its end, or all of it as it grows.
#[utoipa::path(get, path = "/v1/vm/{vmId}/logs", operation_id = "getVMLogs", tag = "vms", security(("apiKey" = [])),
    params(("vmId" = String, Path), LogParams), responses(LogAnswers, Failures))]
async fn logs(
    State(app): State<Shared>,
    Reader(caller): Reader,
    OfVm(id): OfVm,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    answer(app, caller, Log::Vm(id), params, &headers).await
}

/// VMs, the newest first.
#[utoipa::path(get, path = "/v1/vms", operation_id = "listVMs", tag = "vms", security(("apiKey" = [])),
    params(
        ("imageId" = Option<String>, Query, description = "Only of this image."),
        ("status" = Option<VmState>, Query, description = "Only in this state."),
        ("tenant" = Option<String>, Query, description = "Only this end user's."),
        ("metadata.KEY" = Option<String>, Query, description = "Only with this mark; as often as needed."),
        ("limit" = Option<u64>, Query, description = "1–1000, 100 by default."),
        ("pagination" = Option<String>, Query, description = "The token of the page before."),
    ),
    responses((status = 200, body = VmList), Failures))]
async fn list(State(app): State<Shared>, Reader(caller): Reader, mut params: Params) -> Result<Json<VmList>, ApiError> {
    let states = params.take("status").map(|word| state("status", &word)).transpose()?;
    let filter = VmFilter {
        image: image(&mut params)?,
        states: states.map_or(&[], VmState::recorded),
        tenant: params.take("tenant"),
        metadata: params.take_prefixed("metadata."),
        after: cursor(&mut params)?,
    };
    let limit = params.take_number("limit", LIST_DEFAULT, 1, LIST_MAX)?;
    params.done()?;
    Ok(Json(ops::vms::list(&app, &caller, filter, limit as usize).await?))
}

/// The same as `listVMs`, at the path that its documentation had.
#[utoipa::path(get, path = "/vms", operation_id = "listVMsUnversioned", tag = "vms", security(("apiKey" = [])),
    params(
        ("imageId" = Option<String>, Query, description = "Only of this image."),
        ("status" = Option<VmState>, Query, description = "Only in this state."),
        ("tenant" = Option<String>, Query, description = "Only this end user's."),
        ("metadata.KEY" = Option<String>, Query, description = "Only with this mark; as often as needed."),
        ("limit" = Option<u64>, Query, description = "1–1000, 100 by default."),
        ("pagination" = Option<String>, Query, description = "The token of the page before."),
    ),
    responses((status = 200, body = VmList), Failures))]
async fn list_unversioned(state: State<Shared>, caller: Reader, params: Params) -> Result<Json<VmList>, ApiError> {
    list(state, caller, params).await
}

/// Takes the image that a list is narrowed to out of the parameters.
pub(super) fn image(params: &mut Params) -> Result<Option<ImageId>, ApiError> {
    let bad = |_| ApiError::field(ErrorCode::InvalidValue, "imageId", "`imageId` is not an image's id.");
    params.take("imageId").map(|id| id.parse()).transpose().map_err(bad)
}

fn state(field: &str, word: &str) -> Result<VmState, ApiError> {
    word.parse().map_err(|_| {
        let detail = format!("`{field}` must be `created`, `started`, `stopped` or `destroyed`.");
        ApiError::field(ErrorCode::InvalidValue, field, detail)
    })
}

/// Takes the place of the page out of the parameters.
pub(super) fn cursor(params: &mut Params) -> Result<Option<Cursor>, ApiError> {
    let Some(token) = params.take("pagination") else { return Ok(None) };
    let bad = || ApiError::field(ErrorCode::InvalidPageToken, "pagination", "No list returned this token.");
    Cursor::read(&token).map(Some).ok_or_else(bad)
}
