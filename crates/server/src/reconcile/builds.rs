//! The record's wishes of builds, carried to their hosts: whose turn it is, the placement, an end that was asked for;
//! and the deadlines.
//!
//! A build is placed once. Until its host has confirmed it, it is asked for again: on one (build, generation) that is
//! idempotent. What became of it is reported by the watch.

use std::sync::Arc;
use std::time::Duration;

use cakework_core::build::{BuildErrorCode, BuildEvent, BuildState};
use cakework_core::id::HostId;
use cakework_wire::build::{BuildProblem, PutBuild, PutBuildAnswer};
use cakework_wire::host::{AgentProblem, ProblemCode};
use futures_util::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::build_wish::{Wish, wish};
use super::{CLAIM_MS, TICK, backoff_ms};
use crate::app::{App, Shared};
use crate::clock::now_ms;
use crate::host::HostError;
use crate::store::build_changes::BuildFacts;
use crate::store::builds::{Build, Source};

/// Builds that one look takes up.
const BATCH: u32 = 64;
const AT_ONCE: usize = 8;
/// Time between the deadline that the host enforces on a build and the api's own.
pub(super) const BUILD_MARGIN_MS: u64 = 15_000;
/// Time until it is seen again whether an image that a build needs has arrived.
const ARRIVING_MS: u64 = 250;
/// Time between two looks for contexts that belong to no build.
const SWEEP: Duration = Duration::from_secs(600);

/// Runs until `shutdown`.
pub(crate) async fn run(app: Shared, shutdown: CancellationToken) {
    let mut sweep_at = Instant::now();
    loop {
        let work = async {
            if let Err(error) = pass(&app).await {
                tracing::error!(error = ?error, "the builds' reconciler failed");
            }
            if Instant::now() >= sweep_at {
                sweep_at = Instant::now() + SWEEP;
                if let Err(error) = sweep(&app).await {
                    tracing::error!(error = ?error, "old contexts could not be removed");
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = work => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.pokes.builds.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn pass(app: &Shared) -> anyhow::Result<()> {
    give_turns(app).await?;
    let due = app.store.builds_due(now_ms(), BATCH).await?;
    futures_util::stream::iter(due)
        .for_each_concurrent(AT_ONCE, |build| {
            let app = Arc::clone(app);
            async move {
                let id = build.id.clone();
                if let Err(error) = act(&app, build).await {
                    tracing::error!(build = %id, error = ?error, "a build was not reconciled");
                }
            }
        })
        .await;
    Ok(())
}

/// Places builds as long as the host does fewer at a time than it may.
async fn give_turns(app: &App) -> anyhow::Result<()> {
    if !app.store.builds_wait().await? {
        return Ok(());
    }
    // A host that is away or drains gives no turns; builds wait.
    let Ok(status) = app.host.status().await else { return Ok(()) };
    if status.body.draining {
        return Ok(());
    }
    if app.store.incarnation(&status.host_id).await?.is_none() {
        app.store.insert_host(&status.host_id, &status.incarnation, now_ms()).await?;
    }
    let rules = &app.config.builds;
    loop {
        let now_ms = now_ms();
        let deadline_ms = now_ms + rules.timeout_secs * 1000 + BUILD_MARGIN_MS;
        let placed = app.store.place_next_build(&status.host_id, rules.parallel, deadline_ms, now_ms).await?;
        let Some(id) = placed else { return Ok(()) };
        tracing::info!(build = %id, host = %status.host_id, "a build has its turn");
    }
}

async fn act(app: &App, build: Build) -> anyhow::Result<()> {
    let now_ms = now_ms();
    if !build.state.is_over() && build.deadline_ms <= now_ms {
        return end_late(app, &build).await;
    }
    // A context may take longer on its way than a claim holds; to put it twice does no harm.
    if !app.store.claim_build(&build, now_ms + CLAIM_MS).await? {
        return Ok(());
    }
    match (build.state, build.host.clone()) {
        (BuildState::Building, Some(host)) if build.incarnation.is_none() => start(app, &build, &host).await,
        (BuildState::Succeeded | BuildState::Failed, Some(host)) => tell_end(app, &build, &host).await,
        (BuildState::Queued | BuildState::Building, _) => {
            Ok(app.store.build_due(&build, Some(build.deadline_ms)).await?)
        }
        (BuildState::Succeeded | BuildState::Failed, None) => Ok(app.store.build_due(&build, None).await?),
    }
}

async fn end_late(app: &App, build: &Build) -> anyhow::Result<()> {
    let message = match build.state {
        BuildState::Queued => {
            format!("The build did not have its turn within {} s.", app.config.builds.queue_timeout_secs)
        }
        _ => format!("The build took longer than {} s.", app.config.builds.timeout_secs),
    };
    let problem = BuildProblem::new(BuildErrorCode::Timeout, message);
    let facts = BuildFacts { tell_host: true, ..BuildFacts::problem(problem) };
    app.apply_build(&build.id, build.generation, BuildEvent::DeadlinePassed, facts).await?;
    Ok(())
}

/// Tells a build's host that it is over.
async fn tell_end(app: &App, build: &Build, host: &HostId) -> anyhow::Result<()> {
    let next_ms = match app.host.delete_build(host, &build.id, build.generation).await {
        Ok(_) => None,
        Err(HostError::Problem(problem)) if problem.code == ProblemCode::Unknown => None,
        Err(error) => {
            tracing::debug!(build = %build.id, error = %error, "the build's end could not be asked for");
            Some(now_ms() + backoff_ms(build.attempts))
        }
    };
    Ok(app.store.build_due(build, next_ms).await?)
}

/// Asks the host to take a build.
async fn start(app: &App, build: &Build, host: &HostId) -> anyhow::Result<()> {
    let put = match wish(app, build).await? {
        Wish::Put(put) => put,
        Wish::Later => {
            let next_ms = (now_ms() + ARRIVING_MS).min(build.deadline_ms);
            return Ok(app.store.build_due(build, Some(next_ms)).await?);
        }
        Wish::Hopeless(event, problem) => {
            // A call that was lost before may have been heard.
            let facts = BuildFacts { tell_host: build.attempts > 0, ..BuildFacts::problem(problem) };
            app.apply_build(&build.id, build.generation, event, facts).await?;
            return Ok(());
        }
    };
    let why = match ask(app, build, host, &put).await {
        Ok(why) => why,
        Err(HostError::Away(why)) => Some(why),
        Err(HostError::Problem(AgentProblem { code, message })) => {
            tracing::warn!(build = %build.id, ?code, message, "the host failed to take a build");
            let problem = match code {
                ProblemCode::DiskFull => BuildProblem::new(BuildErrorCode::DiskFull, message),
                _ => BuildProblem::new(BuildErrorCode::Internal, "The host failed to take the build."),
            };
            fail(app, build, problem).await?;
            None
        }
    };
    if let Some(why) = why {
        tracing::debug!(build = %build.id, why, "the build is asked for again");
        let next_ms = (now_ms() + backoff_ms(build.attempts)).min(build.deadline_ms);
        app.store.build_due(build, Some(next_ms)).await?;
    }
    Ok(())
}

/// One question, with the context put before it where the host wants that. Answers why to ask again.
async fn ask(app: &App, build: &Build, host: &HostId, put: &PutBuild) -> Result<Option<String>, HostError> {
    let mut reply = app.host.put_build(host, &build.id, put).await?;
    if reply.body == PutBuildAnswer::NoContext {
        if let Err(why) = put_context(app, build, host).await? {
            let failed = fail(app, build, BuildProblem::new(BuildErrorCode::Internal, why)).await;
            return failed.map(|()| None).map_err(|error| HostError::Away(error.to_string()));
        }
        reply = app.host.put_build(host, &build.id, put).await?;
    }
    let recorded = match reply.body {
        PutBuildAnswer::Admitted | PutBuildAnswer::Already => {
            // A life of the host that the watch has not seen yet can't be recorded: it is asked again when it has.
            let confirmed = app.store.confirm_build(&build.id, build.generation, host, &reply.incarnation).await;
            confirmed
                .map(|confirmed| (!confirmed).then(|| "the host has it, in a life that is not on record".to_owned()))
        }
        PutBuildAnswer::NoCapacity { shortage, .. } => Ok(Some(format!("the host has not enough {shortage}"))),
        PutBuildAnswer::Draining => Ok(Some("the host drains".to_owned())),
        PutBuildAnswer::NoContext => Ok(Some("the host lost the context".to_owned())),
        PutBuildAnswer::StaleGeneration { highest } => {
            tracing::error!(build = %build.id, %highest, "the host knows a later placement of the build");
            let problem = BuildProblem::new(BuildErrorCode::Internal, "The host refused the build as an old one.");
            fail(app, build, problem).await.map(|()| None)
        }
        PutBuildAnswer::Unsupported { reason } => {
            fail(app, build, BuildProblem::new(BuildErrorCode::IsolationUnavailable, reason)).await.map(|()| None)
        }
    };
    recorded.map_err(|error| HostError::Away(error.to_string()))
}

/// Puts the context; the inner error says why that can never be.
async fn put_context(app: &App, build: &Build, host: &HostId) -> Result<Result<(), String>, HostError> {
    let Source::Files { digest, .. } = &build.spec.source else {
        return Ok(Err("The host asks for files that the build does not have.".to_owned()));
    };
    let context = match app.contexts.open_one(&build.id).await {
        Ok(context) => context,
        Err(error) => {
            tracing::error!(build = %build.id, error = %error, "a context can't be read");
            return Ok(Err("The files of the build are lost.".to_owned()));
        }
    };
    app.host.put_context(host, &build.id, digest, context).await?;
    Ok(Ok(()))
}

async fn fail(app: &App, build: &Build, problem: BuildProblem) -> Result<(), crate::store::StoreError> {
    let facts = BuildFacts::problem(problem);
    app.apply_build(&build.id, build.generation, BuildEvent::Failed, facts).await?;
    Ok(())
}

/// Removes contexts of builds that are over or never were.
async fn sweep(app: &App) -> anyhow::Result<()> {
    let contexts = app.contexts.clone();
    for id in tokio::task::spawn_blocking(move || contexts.aged()).await?? {
        if app.store.any_build(&id).await?.is_none_or(|build| build.state.is_over()) {
            app.contexts.remove(&id).await;
        }
    }
    Ok(())
}
