//! Cached VMs. What they share with every VM is in [`super::vms`].

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cakework_api::vm::{CacheVm, Vm, VmState};
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

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(cache))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(suspend))
        .routes(routes!(destroy))
        .routes(routes!(destroy_short))
        .routes(routes!(logs))
}

/// Caches a VM: it stands still, is made ready in the background, and starts with `startCachedVM` or by a request to its
/// hostname.
#[utoipa::path(post, path = "/v1/vm/cache", operation_id = "cacheVM", tag = "cached VMs", security(("apiKey" = [])),
    params(IdempotencyKey), request_body = CacheVm, responses((status = 201, body = Vm), Failures))]
async fn cache(
    State(app): State<Shared>,
    Writer(caller): Writer,
    KeyedBody(keyed, request): KeyedBody<CacheVm>,
) -> Result<Response, ApiError> {
    // A caller who hangs up does not undo it: it goes on, and the VM is in the list.
    let work = async move {
        let make = async |claim: Option<&Claim>| ops::cached::cache(&app, &caller, request, claim).await;
        once(&app, &caller, keyed, make, async |id: &str| ops::vms::get_made(&app, &caller, id).await).await
    };
    tokio::spawn(work.in_current_span()).await.map_err(ApiError::internal)?
}

/// Starts a cached VM, or wakes it. Answers when it runs, with how its run started; one that runs is left as it is.
#[utoipa::path(post, path = "/v1/vm/cached/{vmId}/start", operation_id = "startCachedVM", tag = "cached VMs",
    security(("apiKey" = [])), params(("vmId" = String, Path)), responses(
        (status = 200, description = "It runs.", body = Vm),
        (status = 202, description = "It goes on starting, or waking: its image may still arrive.", body = Vm),
        Failures,
    ))]
async fn start(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfVm(id): OfVm,
) -> Result<(StatusCode, Json<Vm>), ApiError> {
    let work = async move { ops::cached::start(&app, &caller, &id).await };
    let vm = tokio::spawn(work.in_current_span()).await.map_err(ApiError::internal)??;
    let goes_on = vm.state == VmState::Created || vm.sleep.is_some();
    Ok((if goes_on { StatusCode::ACCEPTED } else { StatusCode::OK }, Json(vm)))
}

/// Ends a cached VM's run: its stop signal, then a kill. It can be started again, from its prepared state.
#[utoipa::path(post, path = "/v1/vm/cached/{vmId}/stop", operation_id = "stopCachedVM", tag = "cached VMs",
    security(("apiKey" = [])), params(("vmId" = String, Path)),
    responses((status = 204, description = "The end of its run is sure."), Failures))]
async fn stop(State(app): State<Shared>, Writer(caller): Writer, OfVm(id): OfVm) -> Result<StatusCode, ApiError> {
    ops::cached::stop(&app, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts a running cached VM to sleep where it is. A request to its hostname, `startCachedVM` or a command wakes it.
#[utoipa::path(post, path = "/v1/vm/{vmId}/suspend", operation_id = "suspendVM", tag = "cached VMs",
    security(("apiKey" = [])), params(("vmId" = String, Path)),
    responses((status = 204, description = "It sleeps."), Failures))]
async fn suspend(State(app): State<Shared>, Writer(caller): Writer, OfVm(id): OfVm) -> Result<StatusCode, ApiError> {
    // A caller who hangs up leaves no VM asleep that the record takes for awake.
    let work = async move { ops::cached::suspend(&app, &caller, &id).await };
    tokio::spawn(work.in_current_span()).await.map_err(ApiError::internal)??;
    Ok(StatusCode::NO_CONTENT)
}

/// Destroys a VM and its volume, now, whatever its state.
#[utoipa::path(post, path = "/v1/vm/cached/{vmId}/destroy", operation_id = "destroyCachedVM", tag = "cached VMs",
    security(("apiKey" = [])), params(("vmId" = String, Path)),
    responses((status = 204, description = "Its end is sure."), Failures))]
async fn destroy(State(app): State<Shared>, Writer(caller): Writer, OfVm(id): OfVm) -> Result<StatusCode, ApiError> {
    ops::cached::destroy(&app, &caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The same as `destroyCachedVM`, at the path that its published client has.
#[utoipa::path(post, path = "/v1/vm/{vmId}/destroy", operation_id = "destroyCachedVMShort", tag = "cached VMs",
    security(("apiKey" = [])), params(("vmId" = String, Path)),
    responses((status = 204, description = "Its end is sure."), Failures))]
async fn destroy_short(app: State<Shared>, caller: Writer, id: OfVm) -> Result<StatusCode, ApiError> {
    destroy(app, caller, id).await
}

/// A page of a VM's log, of all its runs in their order, or all of it as it grows.
#[utoipa::path(get, path = "/v1/vm/cached/{vmId}/logs", operation_id = "getCachedVMLogs", tag = "cached VMs",
    security(("apiKey" = [])), params(("vmId" = String, Path), LogParams),
    responses(LogAnswers, Failures))]
async fn logs(
    State(app): State<Shared>,
    Reader(caller): Reader,
    OfVm(id): OfVm,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    answer(app, caller, Log::Vm(id), params, &headers).await
}
