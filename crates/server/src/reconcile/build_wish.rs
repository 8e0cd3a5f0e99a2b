//! What a host is told of a build: its Dockerfile is read, its own images and credentials are found, its secrets are
//! opened. They live in memory for the time of the call.

use std::collections::BTreeMap;

use cakework_core::build::{BuildErrorCode, BuildEvent};
use cakework_core::id::ImageId;
use cakework_core::registry::normal_host;
use cakework_dockerfile::Inputs;
use cakework_wire::build::{BuildProblem, BuildSource, PutBuild, Secrets, Token};
use cakework_wire::host::Credential;

use super::builds::BUILD_MARGIN_MS;
use super::{build_secrets_place, build_token_place, registry_place};
use crate::app::App;
use crate::clock::now_ms;
use crate::ops::builds::plan::{Needs, architecture};
use crate::ops::builds::request::Hidden;
use crate::store::builds::{Build, Source};
use crate::store::images::ImageState;

/// What became of the attempt to say what is wanted.
pub(super) enum Wish {
    Put(Box<PutBuild>),
    /// Not yet: an image of the account's own is still arriving.
    Later,
    /// It can't be built.
    Hopeless(BuildEvent, BuildProblem),
}

/// Puts together what the host is told.
pub(super) async fn wish(app: &App, build: &Build) -> anyhow::Result<Wish> {
    let hidden = hidden(app, build)?;
    let Some(source) = source(app, build)? else {
        let why = "The host lost the build after its repository was fetched, and the token is erased by then.";
        return Ok(Wish::Hopeless(BuildEvent::HostLost, BuildProblem::new(BuildErrorCode::HostLost, why)));
    };
    let needs = match needs(app, build, &hidden).await? {
        Ok(needs) => needs,
        Err(problem) => return Ok(Wish::Hopeless(BuildEvent::Failed, problem)),
    };
    let own_images = match own_images(app, build, &needs).await? {
        Own::All(images) => images,
        Own::Arriving => return Ok(Wish::Later),
        Own::Unusable(why) => {
            let problem = BuildProblem::new(BuildErrorCode::BaseImage, why);
            return Ok(Wish::Hopeless(BuildEvent::Failed, problem));
        }
    };
    let spec = &build.spec;
    Ok(Wish::Put(Box::new(PutBuild {
        generation: build.generation,
        scope: build.account.to_string(),
        dockerfile: spec.dockerfile.clone(),
        dockerignore: spec.dockerignore.clone(),
        source,
        build_args: hidden.build_args.clone(),
        target: spec.target.clone(),
        no_cache: spec.no_cache,
        secrets: Secrets::new(hidden.secrets.iter().map(|(name, value)| (name.clone(), value.clone()))),
        own_images,
        registries: credentials(app, build, &needs).await?,
        remaining_ms: build.deadline_ms.saturating_sub(BUILD_MARGIN_MS).saturating_sub(now_ms()),
    })))
}

fn hidden(app: &App, build: &Build) -> anyhow::Result<Hidden> {
    let Some(sealed) = &build.secrets else { return Ok(Hidden::default()) };
    Ok(serde_json::from_slice(&app.sealer.open_sealed(&build_secrets_place(&build.id), sealed)?)?)
}

/// `None`: it needs a token that is erased.
fn source(app: &App, build: &Build) -> anyhow::Result<Option<BuildSource>> {
    let (repository, reference, path, private) = match &build.spec.source {
        Source::Files { digest, .. } => return Ok(Some(BuildSource::Context { digest: digest.clone() })),
        Source::Git { repository, reference, path, private } => (repository, reference, path, *private),
    };
    let token = match &build.token {
        None if private => return Ok(None),
        None => None,
        Some(sealed) => {
            let text = app.sealer.open_sealed(&build_token_place(&build.id), sealed)?;
            Some(Token(std::str::from_utf8(&text)?.to_owned()))
        }
    };
    let (repository, path) = (repository.clone(), path.clone());
    Ok(Some(BuildSource::Git { repository, reference: Some(reference.clone()), path, token }))
}

/// Reads the Dockerfile, which is a stranger's: away from the threads that serve.
async fn needs(app: &App, build: &Build, hidden: &Hidden) -> anyhow::Result<Result<Needs, BuildProblem>> {
    let inputs = Inputs {
        build_args: hidden.build_args.clone(),
        target: build.spec.target.clone(),
        architecture: architecture().to_owned(),
    };
    let (planner, dockerfile) = (app.planner, build.spec.dockerfile.clone());
    match tokio::task::spawn_blocking(move || planner(&dockerfile, &inputs)).await {
        Ok(needs) => Ok(needs),
        Err(error) if error.is_panic() => {
            tracing::error!(build = %build.id, "the Dockerfile can't be planned: its reader panicked");
            Ok(Err(BuildProblem::new(BuildErrorCode::Internal, "The server failed to read the Dockerfile.")))
        }
        Err(error) => Err(error.into()),
    }
}

/// What is there of the account's own images that a Dockerfile names.
enum Own {
    /// Their digests.
    All(BTreeMap<String, String>),
    /// One is not whole yet.
    Arriving,
    /// One can't be used, and why.
    Unusable(String),
}

async fn own_images(app: &App, build: &Build, needs: &Needs) -> anyhow::Result<Own> {
    let mut images = BTreeMap::new();
    let mut is_arriving = false;
    for name in &needs.own {
        let found = match name.parse::<ImageId>() {
            Ok(id) => app.store.image(&build.account, &id).await?,
            Err(_) => None,
        };
        // A key that is bound to a tenant sees no other images, nor do its Dockerfiles; the builder's own may use
        // what is the whole account's.
        let is_seen = |tenant: &Option<String>| match &build.tenant {
            None => true,
            own if build.spec.is_bound => tenant == own,
            own => tenant.is_none() || tenant == own,
        };
        let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
        match found.filter(|image| is_seen(&image.tenant)) {
            None => return Ok(Own::Unusable(format!("There is no image cakework/{shown}."))),
            Some(image) => match image.state {
                ImageState::Ready => drop(images.insert(name.clone(), image.digest)),
                ImageState::Pulling => is_arriving = true,
                ImageState::Failed => return Ok(Own::Unusable(format!("The image cakework/{shown} failed."))),
            },
        }
    }
    Ok(if is_arriving { Own::Arriving } else { Own::All(images) })
}

/// The credentials of the registries that are needed, under the Dockerfile's spelling and the one of record.
async fn credentials(app: &App, build: &Build, needs: &Needs) -> anyhow::Result<BTreeMap<String, Credential>> {
    let mut credentials = BTreeMap::new();
    if needs.registries.is_empty() {
        return Ok(credentials);
    }
    let stored = app.store.registries(&build.account).await?;
    for spelled in &needs.registries {
        let normal = normal_host(spelled);
        let Some(registry) = stored.iter().find(|registry| Some(&registry.host) == normal.as_ref()) else { continue };
        let place = registry_place(&build.account, &registry.host);
        let password = app.sealer.open_sealed(&place, &registry.password)?;
        let password = std::str::from_utf8(&password)?.to_owned();
        let credential = Credential { username: registry.username.clone(), password };
        credentials.insert(spelled.clone(), credential.clone());
        credentials.insert(registry.host.clone(), credential);
    }
    Ok(credentials)
}
