//! The store of images and layers on this host: what is there, what arrives, and who waits for it.
//!
//! An image is `Pulling` while a task of this store brings its layers, then `Ready` or `Failed`; a failed one may be
//! pulled again. Nothing but that task changes the state. After a restart images whose layers are all there are
//! `Ready`; of the others the store says nothing until they are pulled again, which takes up the layers that arrived.

mod base;
mod built;
mod commit;
mod disk;
mod layer;
mod shelf;
mod steps;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cakework_wire::host::{
    AgentProblem, ImageObservation, ImageReport, ProblemCode, PullImage, ResolveImage, ResolvedImage,
};
use futures_util::{StreamExt, TryFutureExt};
use oci_spec::image::ImageConfiguration;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::built::{BuiltImage, StoredLayer};
use self::disk::Disk;
use self::layer::{Fetcher, Progress};
pub use self::shelf::Pin;
use self::shelf::Shelf;
pub use self::steps::CachedStep;
use crate::config::{ImageConfig, Unpacker};
use crate::digest::Digest;
use crate::manifest::{self, Document, Plan};
use crate::problem::{self, internal, invalid, problem};
use crate::reference::{Reference, Version};
use crate::registry::{Registries, Repository};

/// Registries that are asked at a time.
const ASKING_MAX: usize = 16;
/// From the call until manifest and configuration are there, the wait for a turn included: callers of the API wait for
/// it, and their client gives up after a minute.
const ASK_TIMEOUT: Duration = Duration::from_secs(45);

/// The store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its directory.
    #[error("the image store at {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its configuration.
    #[error("the image configuration: {0}")]
    Config(String),
}

/// An image whose layers are all unpacked.
#[derive(Debug, Clone)]
pub struct Image {
    /// Manifest digest, `sha256:<64 hex>`.
    pub digest: String,
    /// Entrypoint, environment, user and the like.
    pub config: ImageConfiguration,
    /// Unpacked layers, lowest first, each once.
    pub layers: Vec<PathBuf>,
    /// The bytes of its configuration, as its manifest names them.
    pub config_bytes: Arc<[u8]>,
    /// Its layers as its manifest names them, lowest first.
    pub stored: Vec<StoredLayer>,
}

/// Images and layers under one directory. Clones share it.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Arc<ImageConfig>,
    registries: Registries,
    /// Those that builds name.
    guarded: Registries,
    fetcher: Fetcher,
    asking: Semaphore,
    shelf: Arc<Mutex<Shelf>>,
    images: Mutex<HashMap<Digest, Known>>,
    changed: Arc<watch::Sender<u64>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Known {
    layers: HashSet<Digest>,
    state: State,
}

#[derive(Debug)]
enum State {
    Pulling { progress: Arc<Progress>, total_bytes: u64 },
    Ready(Arc<Image>),
    Failed(AgentProblem),
}

/// What a registry said about an image: manifest and config were verified and may be kept.
struct Resolved {
    digest: Digest,
    manifest: Vec<u8>,
    config: Vec<u8>,
    plan: Plan,
}

impl ImageStore {
    /// Opens the store and removes what an interrupted pull left. The caller sees to it that no other process has it
    /// open.
    ///
    /// # Errors
    /// [`StoreError`] where the directory can't be used or the configuration is wrong.
    pub async fn open(dir: &Path, config: ImageConfig, unpacker: Unpacker) -> Result<Self, StoreError> {
        let config = Arc::new(config);
        if config.parallel_layers == 0 {
            return Err(StoreError::Config("parallel_layers is at least 1".into()));
        }
        let registries = Registries::new(Arc::clone(&config)).map_err(StoreError::Config)?;
        let guarded = Registries::guarded(Arc::clone(&config)).map_err(StoreError::Config)?;
        let (path, limits) = (dir.to_owned(), config.limits.clone());
        let opened = tokio::task::spawn_blocking(move || -> std::io::Result<_> {
            let disk = Disk::open(&path)?;
            let images = disk.images(&limits)?;
            let of_images = images.iter().flat_map(|(_, plan)| diff_ids(plan));
            let of_steps = steps::list(&disk.steps())?.into_iter().filter_map(|record| record.layer);
            let wanted = of_images.chain(of_steps.map(|(diff_id, _)| diff_id)).collect();
            disk.sweep_layers(&wanted)?;
            Ok((disk, images))
        });
        let failed = |source| StoreError::Io { path: dir.to_owned(), source };
        let (disk, images) = opened.await.map_err(|error| failed(error.into()))?.map_err(failed)?;
        let whole =
            images.into_iter().filter(|(_, plan)| plan.layers.iter().all(|layer| disk.has_layer(&layer.diff_id)));
        let images = whole.map(|(digest, plan)| {
            let image = Image::new(&digest, &plan, &disk);
            (digest, Known { layers: diff_ids(&plan).collect(), state: State::Ready(Arc::new(image)) })
        });
        let inner = Inner {
            images: Mutex::new(images.collect()),
            registries,
            guarded,
            shelf: Arc::default(),
            fetcher: Fetcher::new(disk, unpacker, config.limits.clone()),
            asking: Semaphore::new(ASKING_MAX),
            changed: Arc::new(watch::Sender::new(0)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Asks the registry what a reference names on this architecture; keeps nothing.
    ///
    /// # Errors
    /// A problem of the registry or of the image.
    pub async fn resolve(&self, request: &ResolveImage) -> Result<ResolvedImage, AgentProblem> {
        let reference: Reference = request.reference.parse()?;
        let repository = self.inner.registries.repository(&reference, request.credential.clone());
        let resolved = self.inner.ask(&repository, &reference.version).await?;
        Ok(ResolvedImage {
            digest: resolved.digest.to_string(),
            size_bytes: resolved.plan.total_bytes,
            layers: u32::try_from(resolved.plan.layers.len()).unwrap_or(u32::MAX),
        })
    }

    /// Wants an image here. It answers once manifest and config are verified; the layers follow. An image that is here
    /// or on its way is left as it is.
    ///
    /// # Errors
    /// A problem of the registry or of the image.
    pub async fn pull(&self, digest: &str, request: &PullImage) -> Result<ImageReport, AgentProblem> {
        let digest = parse(digest)?;
        let reference: Reference = request.reference.parse()?;
        if let Some(report) = self.inner.report_unless_failed(&digest) {
            return Ok(report);
        }
        let repository = self.inner.registries.repository(&reference, request.credential.clone());
        let resolved = self.inner.ask(&repository, &Version::Digest(digest.clone())).await?;
        if resolved.digest != digest {
            return Err(invalid("The digest is that of an index, not of one image."));
        }
        if self.inner.stop.is_cancelled() {
            return Err(problem(ProblemCode::Internal, "The host is stopping."));
        }
        self.inner.keep_and_start(resolved, repository, reference.host).await
    }

    /// Where an image is.
    pub fn report(&self, digest: &str) -> Option<ImageReport> {
        let digest = digest.parse().ok()?;
        self.inner.images().get(&digest).map(|known| known.report(&digest))
    }

    /// Where each image is, in the order of their digests.
    pub fn reports(&self) -> Vec<ImageReport> {
        let mut reports: Vec<_> = self.inner.images().iter().map(|(digest, known)| known.report(digest)).collect();
        reports.sort_by(|a, b| a.digest.cmp(&b.digest));
        reports
    }

    /// Its value changes when a report does.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Waits until an image can be used.
    ///
    /// # Errors
    /// Its problem where it failed; [`ProblemCode::Unknown`] where it was never pulled; [`ProblemCode::Internal`] when
    /// the store shuts down first.
    pub async fn ready(&self, digest: &str) -> Result<Arc<Image>, AgentProblem> {
        let digest = parse(digest)?;
        let mut changed = self.changed();
        loop {
            match self.inner.images().get(&digest).map(|known| &known.state) {
                None => return Err(problem(ProblemCode::Unknown, "This host does not have the image.")),
                Some(State::Ready(image)) => return Ok(Arc::clone(image)),
                Some(State::Failed(problem)) => return Err(problem.clone()),
                Some(State::Pulling { .. }) => {}
            }
            tokio::select! {
                result = changed.changed() => result.map_err(|error| internal("waiting for an image", error))?,
                () = self.inner.stop.cancelled() => return Err(problem(ProblemCode::Internal, "The host is stopping.")),
            }
        }
    }

    /// Ends the pulls that are under way and waits for them. Their layers that arrived stay for the next time.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Image {
    fn new(digest: &Digest, plan: &Plan, disk: &Disk) -> Self {
        let layers = disk.lower_directories(&plan.layers);
        Self {
            digest: digest.to_string(),
            config: plan.config.clone(),
            layers,
            config_bytes: Arc::clone(&plan.config_bytes),
            stored: plan.layers.iter().map(StoredLayer::from).collect(),
        }
    }
}

impl Known {
    fn report(&self, digest: &Digest) -> ImageReport {
        let observation = match &self.state {
            State::Pulling { progress, total_bytes } => ImageObservation::Pulling {
                done_bytes: progress.done_bytes.load(Ordering::Relaxed).min(*total_bytes),
                total_bytes: *total_bytes,
            },
            State::Ready(_) => ImageObservation::Ready,
            State::Failed(problem) => ImageObservation::Failed { problem: problem.clone() },
        };
        ImageReport { digest: digest.to_string(), observation }
    }
}

impl Inner {
    fn images(&self) -> MutexGuard<'_, HashMap<Digest, Known>> {
        self.images.lock().expect("no panic while it is held")
    }

    fn report_unless_failed(&self, digest: &Digest) -> Option<ImageReport> {
        let images = self.images();
        let known = images.get(digest).filter(|known| !matches!(known.state, State::Failed(_)))?;
        Some(known.report(digest))
    }

    /// Manifest and config of what a version names on this architecture, verified and within the limits.
    async fn ask(&self, repository: &Repository, version: &Version) -> Result<Resolved, AgentProblem> {
        tokio::time::timeout(ASK_TIMEOUT, self.ask_patiently(repository, version)).await.unwrap_or_else(|_| {
            Err(problem(ProblemCode::RegistryUnavailable, "The registry takes too long to say what the image is."))
        })
    }

    async fn ask_patiently(&self, repository: &Repository, version: &Version) -> Result<Resolved, AgentProblem> {
        let _permit = self.asking.acquire().await.map_err(|error| internal("asking a registry", error))?;
        let (mut digest, mut manifest) = repository.manifest(version).await?;
        let mut document = manifest::read(&manifest)?;
        if let Document::Index(manifests) = &document {
            let picked = Version::Digest(manifest::pick(manifests)?.digest()?);
            (digest, manifest) = repository.manifest(&picked).await?;
            document = manifest::read(&manifest)?;
        }
        let Document::Manifest(parsed) = document else {
            return Err(invalid("The image's index leads to another index."));
        };
        let limits = &self.config.limits;
        manifest::check(&parsed, limits)?;
        let config = repository.config(&parsed.config.digest()?).await?;
        if config.len() as u64 != parsed.config.size_bytes() {
            return Err(invalid("The image's configuration has not the size that its manifest says."));
        }
        let plan = manifest::plan(&parsed, &config, limits)?;
        Ok(Resolved { digest, manifest, config, plan })
    }

    /// Writes down what an image is and brings its layers.
    async fn keep_and_start(
        self: &Arc<Self>,
        resolved: Resolved,
        repository: Repository,
        registry: String,
    ) -> Result<ImageReport, AgentProblem> {
        let Resolved { digest, manifest, config, plan } = resolved;
        let inner = Arc::clone(self);
        let kept = tokio::task::spawn_blocking(move || {
            // Until it is known to be on its way nobody may take what is there of it for the rest of a failed pull.
            let _shelf = inner.shelf();
            inner.fetcher.disk.keep_image(&digest, &manifest, &config)?;
            Ok(inner.start(&digest, plan, repository, registry))
        });
        let kept = kept.await.map_err(|error| internal("keeping an image", error))?;
        kept.map_err(|error| problem::disk("keeping an image", &error))
    }

    /// Starts the task that brings the layers, unless another call was quicker.
    fn start(self: &Arc<Self>, digest: &Digest, plan: Plan, repository: Repository, registry: String) -> ImageReport {
        let progress = Arc::new(Progress { done_bytes: AtomicU64::new(0), changed: Arc::clone(&self.changed) });
        let report = {
            let mut images = self.images();
            if let Some(known) = images.get(digest)
                && !matches!(known.state, State::Failed(_))
            {
                return known.report(digest);
            }
            let state = State::Pulling { progress: Arc::clone(&progress), total_bytes: plan.total_bytes };
            let known = Known { layers: diff_ids(&plan).collect(), state };
            let report = known.report(digest);
            images.insert(digest.clone(), known);
            report
        };
        self.changed.send_modify(|count| *count += 1);
        let (inner, digest) = (Arc::clone(self), digest.clone());
        self.tasks.spawn(async move { inner.bring(digest, plan, &repository, &registry, &progress).await });
        report
    }

    async fn bring(
        self: Arc<Self>,
        digest: Digest,
        plan: Plan,
        repository: &Repository,
        registry: &str,
        progress: &Progress,
    ) {
        // The first failure ends the others, which then clean up behind themselves.
        let cancel = self.stop.child_token();
        let mut fetches = Vec::new();
        for layer in &plan.layers {
            let fetch = self.fetcher.fetch(registry, repository, layer, progress, &cancel);
            fetches.push(fetch.inspect_err(|_| cancel.cancel()));
        }
        let fetched = futures_util::stream::iter(fetches)
            .buffer_unordered(self.config.parallel_layers)
            .fold(Ok(()), async |first: Result<(), AgentProblem>, fetched| first.and(fetched))
            .await;
        if fetched.is_err() && self.stop.is_cancelled() {
            // Nothing is wrong with the image: the next life of this store goes on with it.
            return;
        }
        let state = match fetched {
            Ok(()) => {
                tracing::info!(%digest, "an image is ready");
                State::Ready(Arc::new(Image::new(&digest, &plan, &self.fetcher.disk)))
            }
            Err(problem) => {
                tracing::info!(%digest, code = ?problem.code, problem.message, "an image failed");
                State::Failed(problem)
            }
        };
        let Some(layers) = self.conclude(&digest, state) else {
            return;
        };
        let removed = tokio::task::spawn_blocking(move || {
            self.unname_hopeless(&digest, &layers)?.iter().try_for_each(|path| disk::remove(path))
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, "removing a failed image");
        }
    }

    /// Writes down how a pull ended. Of an image that can't ever be used nothing may stay but what others share: the
    /// answer is its layers then.
    fn conclude(&self, digest: &Digest, state: State) -> Option<HashSet<Digest>> {
        let is_hopeless = matches!(&state, State::Failed(problem) if matches!(
            problem.code,
            ProblemCode::ImageInvalid | ProblemCode::ImageTooLarge
        ));
        let mut hopeless = None;
        if let Some(known) = self.images().get_mut(digest)
            && matches!(known.state, State::Pulling { .. })
        {
            hopeless = is_hopeless.then(|| known.layers.clone());
            known.state = state;
        }
        self.changed.send_modify(|count| *count += 1);
        hopeless
    }
}

fn diff_ids(plan: &Plan) -> impl Iterator<Item = Digest> {
    plan.layers.iter().map(|layer| layer.diff_id.clone())
}

fn parse(digest: &str) -> Result<Digest, AgentProblem> {
    digest.parse().map_err(|error| problem(ProblemCode::ImageReference, format!("In the image's digest {error}.")))
}
