//! Builds: ask, look, list, cancel. A call records what is wanted; the reconciler of builds does the rest.

pub(crate) mod context;
pub(crate) mod paths;
pub(crate) mod plan;
pub(crate) mod request;

use cakework_api::build::{
    Build as ApiBuild, BuildError, BuildImageFromFiles, BuildImageFromGithub, BuildList, BuildPhase as ApiPhase,
    BuildStatus, Progress,
};
use cakework_api::problem::ErrorCode;
use cakework_api::time::rfc3339;
use cakework_core::build::{BuildErrorCode, BuildEvent};
use cakework_core::id::BuildId;
use cakework_wire::build::{BuildPhase, BuildProblem};
use zeroize::Zeroizing;

use self::context::{Draft, disk};
use self::request::{Asked, Repository};
use crate::app::App;
use crate::caller::Caller;
use crate::clock::now_ms;
use crate::error::ApiError;
use crate::reconcile::{build_secrets_place, build_token_place};
use crate::store::build_changes::BuildFacts;
use crate::store::builds::{Build, BuildFilter, BuildSpec, NewBuild, QueueLimits, QueueRefusal, Source};
use crate::store::keyed::Claim;

/// Takes on a build from files that were read already.
pub(crate) async fn from_files(
    app: &App,
    caller: &Caller,
    request: BuildImageFromFiles,
    draft: Draft,
    claim: Option<&Claim>,
) -> Result<ApiBuild, ApiError> {
    let asked = request::of_files(caller, request)?;
    let id = BuildId::mint(&mut rand::rng());
    let path = app.contexts.path(&id);
    let written = tokio::task::spawn_blocking(move || draft.write(&path)).await.map_err(ApiError::internal)?;
    let written = written.map_err(disk)?;
    let source = Source::Files { digest: written.digest, size_bytes: written.size_bytes };
    let taken_on = take_on(app, caller, id.clone(), asked, source, None, claim).await;
    if taken_on.is_err() {
        app.contexts.remove(&id).await;
    }
    taken_on
}

/// Takes on a build from a repository.
pub(crate) async fn from_github(
    app: &App,
    caller: &Caller,
    request: BuildImageFromGithub,
    claim: Option<&Claim>,
) -> Result<ApiBuild, ApiError> {
    let (asked, repository) = request::of_github(caller, request)?;
    let Repository { repository, reference, path, token } = repository;
    let source = Source::Git { repository, reference, path, private: token.is_some() };
    let id = BuildId::mint(&mut rand::rng());
    take_on(app, caller, id, asked, source, token, claim).await
}

async fn take_on(
    app: &App,
    caller: &Caller,
    id: BuildId,
    asked: Asked,
    source: Source,
    token: Option<Zeroizing<String>>,
    claim: Option<&Claim>,
) -> Result<ApiBuild, ApiError> {
    let now_ms = now_ms();
    let hidden = Zeroizing::new(serde_json::to_vec(&asked.hidden).expect("maps of strings are plain data"));
    let Asked { dockerfile, dockerignore, target, no_cache, metadata, tenant, hidden: _ } = asked;
    let new = NewBuild {
        account: caller.account.clone(),
        tenant,
        spec: BuildSpec { dockerfile, dockerignore, source, target, no_cache, is_bound: caller.tenant.is_some() },
        secrets: app.sealer.seal(&build_secrets_place(&id), &hidden),
        token: token.map(|token| app.sealer.seal(&build_token_place(&id), token.as_bytes())),
        metadata,
        deadline_ms: now_ms + app.config.builds.queue_timeout_secs * 1000,
        now_ms,
        id,
    };
    let (builds, limits) = (&app.config.builds, &app.config.limits);
    let most = QueueLimits { queued: builds.queued, queued_of_account: limits.queued_builds, images: limits.images };
    if let Err(refusal) = app.store.insert_build(&new, most, claim).await? {
        return Err(refused(refusal, most));
    }
    tracing::info!(build = %new.id, "build");
    app.pokes.builds.notify_one();
    Ok(fresh(new))
}

/// A build as its caller first sees it, whatever became of it meanwhile.
fn fresh(new: NewBuild) -> ApiBuild {
    ApiBuild {
        build_id: new.id.to_string(),
        image_id: None,
        status: BuildStatus::Created,
        phase: Some(ApiPhase::Queued),
        progress: None,
        error: None,
        metadata: new.metadata,
        tenant: new.tenant,
        created_at: rfc3339(new.now_ms),
        updated_at: rfc3339(new.now_ms),
    }
}

fn refused(refusal: QueueRefusal, most: QueueLimits) -> ApiError {
    const RETRY_SECS: u32 = 10;
    match refusal {
        QueueRefusal::Queued => {
            ApiError::new(ErrorCode::QueueFull, "Too many builds of all accounts wait.").retry_after(RETRY_SECS)
        }
        QueueRefusal::QueuedOfAccount => {
            let detail = format!("The account may have {} builds that wait.", most.queued_of_account);
            ApiError::new(ErrorCode::QueueFull, detail).retry_after(RETRY_SECS)
        }
        QueueRefusal::Images => {
            ApiError::new(ErrorCode::QuotaExceeded, format!("The account may have {} images.", most.images))
        }
    }
}

/// One build.
pub(crate) async fn get(app: &App, caller: &Caller, id: &BuildId) -> Result<ApiBuild, ApiError> {
    Ok(view(find(app, caller, id).await?))
}

/// One build, by the text of its id.
pub(crate) async fn get_made(app: &App, caller: &Caller, id: &str) -> Result<ApiBuild, ApiError> {
    get(app, caller, &id.parse().map_err(|_| unknown(id))?).await
}

/// A page of builds.
pub(crate) async fn list(app: &App, caller: &Caller, filter: BuildFilter, limit: usize) -> Result<BuildList, ApiError> {
    let filter = BuildFilter { tenant: caller.tenant_of(filter.tenant)?, ..filter };
    let page = app.store.builds(&caller.account, &filter, limit).await?;
    let builds = page.items.into_iter().map(view).collect();
    Ok(BuildList { builds, pagination: page.next.map(|next| next.write()) })
}

/// Ends a build. One that was cancelled before is left as it is.
pub(crate) async fn cancel(app: &App, caller: &Caller, id: &BuildId) -> Result<ApiBuild, ApiError> {
    // It may be placed between reading and writing; then the record is read again.
    const TRIES: u32 = 5;
    for _ in 0..TRIES {
        let build = find(app, caller, id).await?;
        if build.state.is_over() {
            break;
        }
        let problem = BuildProblem::new(BuildErrorCode::Cancelled, "The build was cancelled.");
        let facts = BuildFacts { tell_host: true, ..BuildFacts::problem(problem) };
        if app.apply_build(id, build.generation, BuildEvent::CancelAsked, facts).await?.is_some() {
            break;
        }
    }
    let build = find(app, caller, id).await?;
    if build.error.as_ref().is_some_and(|error| error.code == BuildErrorCode::Cancelled) {
        return Ok(view(build));
    }
    let word = build.state.as_str();
    Err(ApiError::new(ErrorCode::BuildOver, format!("The build {id} is over: it has {word}.")))
}

/// A build that exists for the caller.
pub(crate) async fn find(app: &App, caller: &Caller, id: &BuildId) -> Result<Build, ApiError> {
    let build = app.store.build(&caller.account, id).await?.filter(|build| caller.sees(build.tenant.as_deref()));
    build.ok_or_else(|| unknown(id))
}

/// That there is no such build.
pub(crate) fn unknown(id: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::UnknownBuild, format!("There is no build {id}."))
}

/// The API's words for a build.
fn view(build: Build) -> ApiBuild {
    let phase = match build.phase {
        _ if build.state.is_over() => None,
        None => Some(ApiPhase::Queued),
        Some(BuildPhase::Fetching) => Some(ApiPhase::Fetching),
        Some(BuildPhase::Pulling) => Some(ApiPhase::Pulling),
        Some(BuildPhase::Building) => Some(ApiPhase::Building),
        Some(BuildPhase::Exporting) => Some(ApiPhase::Exporting),
    };
    let error = build.error.map(|BuildProblem { code, message, instruction, line }| BuildError {
        code: code.as_str().to_owned(),
        message,
        instruction,
        line,
    });
    ApiBuild {
        build_id: build.id.to_string(),
        image_id: build.image.map(|id| id.to_string()),
        status: build.state.into(),
        phase,
        progress: (build.steps > 0).then_some(Progress { step: build.step, steps: build.steps }),
        error,
        metadata: build.metadata,
        tenant: build.tenant,
        created_at: rfc3339(build.created_ms),
        updated_at: rfc3339(build.updated_ms),
    }
}
