//! The verbs of the host protocol: read the message, call, wrap the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use cakework_core::id::{Generation, VmId};
use cakework_core::isolation::Isolation;
use cakework_core::limit;
use cakework_wire::host::{
    Accepted, CachedStatus, ClaimSpare, Claimed, Drain, EndVm, FoundPage, HostStatus, ImageReport, LogPage, LogRequest,
    PROTOCOL, PROTOCOL_HEADER, PROTOCOL_OLDEST, PullImage, PutVm, PutVmAnswer, Reply, ResolveImage, ResolvedImage,
    SearchLogs, SleepAnswer, SleepVm, VmReport, WATCH_WAIT_MAX_MS, WaitingVms, WakeVm, WatchPage,
};
use serde::Deserialize;

use super::problem::Problem;
use super::{State, builds};
use crate::cached::Waits;
use crate::vm::Ask;

/// Bytes of a message to a command: the first one holds its words and its environment.
const EXEC_WISH_MAX_BYTES: usize = 1 << 20;

pub(super) type Answer<T> = Result<Json<Reply<T>>, Problem>;

/// All verbs.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/v1/host", get(host))
        .route("/v1/host/drain", put(drain))
        .route("/v1/host/cached", get(cached))
        .route("/v1/spares/claim", post(claim_spare))
        .route("/v1/watch", get(watch))
        .route("/v1/vms/{vm}", put(put_vm).delete(delete_vm))
        .route("/v1/vms/{vm}/stop", post(stop_vm))
        .route("/v1/vms/{vm}/sleep", post(sleep_vm))
        .route("/v1/vms/{vm}/wake", post(wake_vm))
        .route("/v1/vms/{vm}/logs", post(logs))
        .route("/v1/logs/search", post(search_logs))
        .route("/v1/vms/{vm}/exec", get(exec))
        .route("/v1/vms/{vm}/files", post(files).layer(DefaultBodyLimit::disable()))
        .route("/v1/images/resolve", post(resolve))
        .route("/v1/images/{digest}", put(pull).get(image))
        .merge(builds::router())
        .fallback(|| async { Problem::protocol("there is no such verb") })
        .layer(axum::middleware::from_fn(check_protocol))
        .layer(DefaultBodyLimit::max(limit::BODY_MAX_BYTES))
        .with_state(state)
}

async fn check_protocol(request: Request, next: Next) -> Response {
    let header = request.headers().get(PROTOCOL_HEADER).and_then(|value| value.to_str().ok());
    match header.and_then(|value| value.parse::<u32>().ok()) {
        Some(protocol) if protocol >= PROTOCOL_OLDEST => next.run(request).await,
        Some(protocol) => Problem::protocol(format!(
            "protocol {protocol} is too old: this host speaks {PROTOCOL_OLDEST} to {PROTOCOL}"
        ))
        .into_response(),
        None => Problem::protocol(format!("the header {PROTOCOL_HEADER} is missing or no number")).into_response(),
    }
}

/// Extractors whose refusals are problems of the protocol.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub(super) struct Body<T>(pub T);

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(super) struct Path<T>(pub T);

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(super) struct Query<T>(pub T);

macro_rules! refusals {
    ($($rejection:ident),*) => {$(
        impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                Self::protocol(rejection.body_text())
            }
        }
    )*};
}
refusals!(JsonRejection, PathRejection, QueryRejection);

impl State {
    /// Wraps an answer.
    pub(super) fn reply<T>(&self, body: T) -> Answer<T> {
        let host = self.host.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(Json(Reply { host_id: host.host_id.clone(), incarnation: host.incarnation.clone(), body }))
    }

    fn status(&self) -> HostStatus {
        let (capacity, reserved) = self.registry.amounts();
        HostStatus {
            protocol: PROTOCOL,
            isolation: self.engine.as_ref().map(|_| Isolation::Gvisor),
            refusal: self.registry.refusal(),
            engine: self.engine.as_ref().map(|engine| format!("{} {}", engine.engine, engine.version)),
            capacity,
            reserved,
            draining: self.registry.draining(),
        }
    }
}

async fn host(Shared(state): Shared<Arc<State>>) -> Answer<HostStatus> {
    state.reply(state.status())
}

async fn drain(Shared(state): Shared<Arc<State>>, Body(Drain { draining }): Body<Drain>) -> Answer<HostStatus> {
    let saved = tokio::task::spawn_blocking({
        let state = Arc::clone(&state);
        move || {
            let mut host = state.host.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            host.draining = draining;
            host.save(&state.dir)
        }
    });
    saved.await.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|error| Problem::internal(&error))?;
    state.registry.set_draining(draining);
    state.reply(state.status())
}

#[derive(Deserialize)]
struct WatchQuery {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait_ms: u64,
}

async fn watch(Shared(state): Shared<Arc<State>>, Query(query): Query<WatchQuery>) -> Answer<WatchPage> {
    let wait = Duration::from_millis(query.wait_ms.min(WATCH_WAIT_MAX_MS));
    let news = async {
        while is_empty(&state.board.page(query.after)) {
            state.board.newer_than(query.after).await;
        }
    };
    tokio::select! {
        () = news => {}
        () = tokio::time::sleep(wait) => {}
        () = state.shutdown.cancelled() => {}
    }
    state.reply(state.board.page(query.after))
}

const fn is_empty(page: &WatchPage) -> bool {
    !page.resync && page.vms.is_empty() && page.images.is_empty() && page.builds.is_empty()
}

async fn put_vm(
    Shared(state): Shared<Arc<State>>,
    Path(vm): Path<VmId>,
    Body(put): Body<PutVm>,
) -> Answer<PutVmAnswer> {
    let answer = state.registry.put(vm, put).await?;
    state.reply(answer)
}

async fn stop_vm(Shared(state): Shared<Arc<State>>, Path(vm): Path<VmId>, Body(end): Body<EndVm>) -> Answer<Accepted> {
    let ask = if end.now { Ask::Kill } else { Ask::Stop };
    state.registry.end(vm, end.generation, ask).await?;
    state.reply(Accepted {})
}

#[derive(Deserialize)]
pub(super) struct DeleteQuery {
    pub generation: Generation,
}

async fn delete_vm(
    Shared(state): Shared<Arc<State>>,
    Path(vm): Path<VmId>,
    Query(query): Query<DeleteQuery>,
) -> Answer<Accepted> {
    state.registry.end(vm, query.generation, Ask::Destroy).await?;
    state.reply(Accepted {})
}

async fn sleep_vm(
    Shared(state): Shared<Arc<State>>,
    Path(vm): Path<VmId>,
    Body(ask): Body<SleepVm>,
) -> Answer<SleepAnswer> {
    let answer = state.registry.sleep(&vm, ask).await;
    state.reply(answer)
}

async fn wake_vm(Shared(state): Shared<Arc<State>>, Path(vm): Path<VmId>, Body(ask): Body<WakeVm>) -> Answer<VmReport> {
    let report = state.registry.wake(&vm, ask).await.ok_or_else(|| Problem::unknown("VM"))?;
    state.reply(report)
}

async fn claim_spare(Shared(state): Shared<Arc<State>>, Body(claim): Body<ClaimSpare>) -> Answer<Claimed> {
    let vm_id = state.registry.claim_spare(&claim);
    state.reply(Claimed { vm_id })
}

async fn cached(Shared(state): Shared<Arc<State>>) -> Answer<CachedStatus> {
    let of = |waits| {
        let (count, memory_mib) = state.cached.waiting(waits);
        WaitingVms { count, memory_mib }
    };
    let caps = state.cached.caps();
    state.reply(CachedStatus {
        paused: of(Waits::Paused),
        blank: of(Waits::Blank),
        created: of(Waits::Created),
        asleep: of(Waits::Asleep),
        restores_failed: state.cached.restores_failed(),
        host_cap_mib: caps.host_mib,
        scope_cap_mib: caps.scope_mib,
    })
}

async fn logs(
    Shared(state): Shared<Arc<State>>,
    Path(vm): Path<VmId>,
    Body(request): Body<LogRequest>,
) -> Answer<LogPage> {
    let dir = state.registry.logs(&vm).ok_or_else(|| Problem::unknown("VM"))?;
    let page = tokio::task::spawn_blocking(move || crate::logs::read_page(&dir, &request.query)).await;
    let page = page.map_err(|error| Problem::internal(&error))?.map_err(|error| Problem::internal(&error))?;
    state.reply(page)
}

async fn search_logs(Shared(state): Shared<Arc<State>>, Body(request): Body<SearchLogs>) -> Answer<FoundPage> {
    let SearchLogs { vms, query, after } = request;
    let page = tokio::task::spawn_blocking({
        let state = Arc::clone(&state);
        move || {
            let known = vms.into_iter().filter_map(|vm| state.registry.logs(&vm).map(|dir| (vm, dir)));
            crate::logs::search(&known.collect::<Vec<_>>(), &query, after.as_ref())
        }
    });
    let page = page.await.map_err(|error| Problem::internal(&error))?.map_err(|error| Problem::internal(&error))?;
    state.reply(page)
}

async fn exec(Shared(state): Shared<Arc<State>>, Path(vm): Path<VmId>, socket: WebSocketUpgrade) -> Response {
    let socket = socket.max_message_size(EXEC_WISH_MAX_BYTES).max_frame_size(EXEC_WISH_MAX_BYTES);
    let own = state.host.lock().unwrap_or_else(std::sync::PoisonError::into_inner).host_id.clone();
    socket.on_upgrade(move |socket| crate::exec::run(own, state.registry.clone(), vm, socket))
}

#[derive(Deserialize)]
struct FilesQuery {
    wish: String,
}

async fn files(
    Shared(state): Shared<Arc<State>>,
    Path(vm): Path<VmId>,
    Query(query): Query<FilesQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let wish = serde_json::from_str(&query.wish).map_err(|error| Problem::protocol(error.to_string()))?;
    let own = state.host.lock().unwrap_or_else(std::sync::PoisonError::into_inner).host_id.clone();
    let done = crate::exec::files::run(&own, &state.registry, &vm, wish, request.into_body()).await?;
    Ok(axum::body::Body::from_stream(done).into_response())
}

async fn resolve(Shared(state): Shared<Arc<State>>, Body(request): Body<ResolveImage>) -> Answer<ResolvedImage> {
    let resolved = state.images.resolve(&request).await?;
    state.reply(resolved)
}

async fn pull(
    Shared(state): Shared<Arc<State>>,
    Path(digest): Path<String>,
    Body(request): Body<PullImage>,
) -> Answer<ImageReport> {
    let report = state.images.pull(&digest, &request).await?;
    state.reply(report)
}

async fn image(Shared(state): Shared<Arc<State>>, Path(digest): Path<String>) -> Answer<ImageReport> {
    let report = state.images.report(&digest).ok_or_else(|| Problem::unknown("image"))?;
    state.reply(report)
}
