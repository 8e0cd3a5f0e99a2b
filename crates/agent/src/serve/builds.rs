//! The verbs about builds.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::routing::{post, put};
use cakework_core::id::BuildId;
use cakework_wire::build::{ContextKept, PutBuild, PutBuildAnswer};
use cakework_wire::host::{Accepted, LogPage, LogRequest};
use serde::Deserialize;

use super::State;
use super::problem::Problem;
use super::routes::{Answer, Body, DeleteQuery, Path, Query};

/// Bytes of a [`PutBuild`]: two texts of a MiB, arguments and secrets, with what JSON adds to them.
const PUT_MAX_BYTES: usize = 16 << 20;

/// All of them.
pub fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/v1/builds/{build}", put(put_build).layer(DefaultBodyLimit::max(PUT_MAX_BYTES)).delete(delete_build))
        .route("/v1/builds/{build}/context", put(put_context))
        .route("/v1/builds/{build}/logs", post(logs))
}

#[derive(Deserialize)]
struct ContextQuery {
    digest: String,
}

async fn put_context(
    Shared(state): Shared<Arc<State>>,
    Path(build): Path<BuildId>,
    Query(query): Query<ContextQuery>,
    body: axum::body::Body,
) -> Answer<ContextKept> {
    let kept = state.builds.keep_context(&build, &query.digest, body.into_data_stream()).await?;
    state.reply(kept)
}

async fn put_build(
    Shared(state): Shared<Arc<State>>,
    Path(build): Path<BuildId>,
    Body(put): Body<PutBuild>,
) -> Answer<PutBuildAnswer> {
    let answer = state.builds.put(build, put).await?;
    state.reply(answer)
}

async fn delete_build(
    Shared(state): Shared<Arc<State>>,
    Path(build): Path<BuildId>,
    Query(query): Query<DeleteQuery>,
) -> Answer<Accepted> {
    state.builds.end(build, query.generation).await?;
    state.reply(Accepted {})
}

async fn logs(
    Shared(state): Shared<Arc<State>>,
    Path(build): Path<BuildId>,
    Body(request): Body<LogRequest>,
) -> Answer<LogPage> {
    let dir = state.builds.logs(&build).ok_or_else(|| Problem::unknown("build"))?;
    let page = tokio::task::spawn_blocking(move || crate::logs::read_page(&dir, &request.query)).await;
    let page = page.map_err(|error| Problem::internal(&error))?.map_err(|error| Problem::internal(&error))?;
    state.reply(page)
}
