//! Executes a build from its first file to its image.
//!
//! ```text
//! plan ─> fetch (source) ─> pull (bases) ─> stages, one after the other (stage, run, copy) ─> export
//! ```
//! Invariants: nothing that was begun on a blocking thread is left alone: who cleans up finds nobody at work. What waits
//! for others is dropped when the build is stopped, and may be.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use cakework_core::build::BuildErrorCode;
use cakework_dockerfile::{Ignore, Inputs, Plan, Tree};
use cakework_image::{BuiltImage, Image, StoredLayer, rootfs};
use cakework_wire::build::{BuildObservation, BuildPhase, BuildReport};
use oci_spec::image::Arch;
use rustix::mount::MountFlags;
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::driver::Job;
use super::ending::{Ending, Stop};
use super::log::Log;
use super::stage::Built;
use crate::sys::cgroup::Limits;
use crate::sys::clock;
use crate::vm::PIDS_MAX;

/// What the file system in memory holds that secrets and the bundle lie on.
const BUNDLE_MAX: &std::ffi::CStr = c"size=16m,mode=700";

/// A build at work.
pub struct Executor<'a> {
    /// What all builds share.
    pub parts: &'a Arc<Parts>,
    /// What is built.
    pub job: Job,
    /// Its log.
    pub log: &'a Log,
    /// The build's files without these.
    pub ignore: Ignore,
    /// Where the build's files are.
    pub context: PathBuf,
    /// What is ignored is not even there.
    pub is_pruned: bool,
    /// The images that the Dockerfile names.
    pub images: BTreeMap<Tree, Arc<Image>>,
    /// Trees that are mounted for reading.
    pub views: BTreeMap<Tree, PathBuf>,
    /// The scope's cache disk is mounted for this build.
    pub uses_cache: bool,
    /// Steps that are done or under way, and all.
    pub step: u32,
    steps: u32,
    phase: BuildPhase,
    cancel: CancellationToken,
}

/// Executes a build.
///
/// # Errors
/// Why there is no image.
pub async fn execute(parts: &Arc<Parts>, job: Job, log: &Log, cancel: CancellationToken) -> Result<BuiltImage, Ending> {
    let mut executor = Executor {
        parts,
        log,
        ignore: Ignore::default(),
        context: job.dir.context(),
        is_pruned: false,
        images: BTreeMap::new(),
        views: BTreeMap::new(),
        uses_cache: false,
        step: 0,
        steps: 0,
        phase: BuildPhase::Fetching,
        job,
        cancel,
    };
    let image = executor.build().await;
    executor.let_go().await;
    image
}

impl Executor<'_> {
    async fn build(&mut self) -> Result<BuiltImage, Ending> {
        let begin = Instant::now();
        let inputs = Inputs {
            build_args: self.job.put.build_args.clone(),
            target: self.job.put.target.clone(),
            architecture: Arch::default().to_string(),
        };
        let plan = cakework_dockerfile::plan(&self.job.put.dockerfile, &inputs)?;
        let stages = u32::try_from(plan.stages.len()).unwrap_or(u32::MAX);
        self.steps = plan.steps().saturating_add(stages);
        let _pin = self.parts.vm.images.pin();
        self.lay_out().await?;
        self.enter(BuildPhase::Fetching);
        self.fetch().await?;
        self.enter(BuildPhase::Pulling);
        self.pull(&plan).await?;
        self.enter(BuildPhase::Building);
        let built = self.stages(&plan).await?;
        self.enter(BuildPhase::Exporting);
        let image = self.export(built).await?;
        self.log.say(&format!("Built {} in {:.1}s", image.digest, begin.elapsed().as_secs_f64()));
        Ok(image)
    }

    async fn stages(&mut self, plan: &Plan) -> Result<Built, Ending> {
        let mut built = Vec::with_capacity(plan.stages.len());
        for index in 0..plan.stages.len() {
            let stage = self.stage(plan, index, &built).await?;
            built.push(stage);
        }
        built.pop().ok_or_else(|| Ending::new(BuildErrorCode::DockerfileInvalid, "The Dockerfile has no stage."))
    }

    /// Makes the build's disk, its control group, and the file system in memory that nothing of is ever on a disk.
    async fn lay_out(&self) -> Result<(), Ending> {
        let (parts, dir) = (Arc::clone(self.parts), self.job.dir.clone());
        let group = self.job.assignment.sandbox.clone();
        blocking("lay out the build", move || {
            let (vm, config) = (dir.vm(), &parts.config);
            let failed = |error| Ending::rootfs(BuildErrorCode::Internal, error);
            rootfs::make_disk(&vm.disk_file(), u64::from(config.disk_mib)).map_err(failed)?;
            rootfs::mount_disk(&vm.disk_file(), &vm.disk()).map_err(failed)?;
            let host = |error| Ending::host("lay out the build", error);
            let made = [dir.context(), dir.steps(), dir.views(), dir.mounts(), dir.work(), dir.empty()];
            for path in made.into_iter().chain([vm.bundle(), vm.run()]) {
                std::fs::create_dir_all(path).map_err(host)?;
            }
            let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
            rustix::mount::mount("tmpfs", vm.bundle(), "tmpfs", flags, Some(BUNDLE_MAX))
                .map_err(|errno| host(errno.into()))?;
            let limits = Limits {
                memory_bytes: u64::from(config.memory_mib) << 20,
                cpu_milli: u64::from(config.cpu) * 1000,
                pids: PIDS_MAX,
            };
            parts.vm.cgroups.make(group.as_str(), Some(&limits)).map_err(host)
        })
        .await
    }

    /// Gives back what the cleaning does not find by the build's name.
    async fn let_go(&mut self) {
        if std::mem::take(&mut self.uses_cache)
            && let Err(error) = self.parts.caches.release(&self.job.assignment.scope).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a cache disk was not given back");
        }
    }

    /// Says that one more step begins, or is passed over; its header.
    pub fn next_step(&mut self, text: &str) -> String {
        self.step += 1;
        self.report();
        format!("[{}/{}] {text}", self.step, self.steps)
    }

    fn enter(&mut self, phase: BuildPhase) {
        self.phase = phase;
        self.report();
    }

    fn report(&self) {
        // The last word comes when all is given back.
        self.parts.vm.board.build(BuildReport {
            build_id: self.job.build.clone(),
            generation: self.job.assignment.generation,
            observation: BuildObservation::Running { phase: self.phase, step: self.step, steps: self.steps },
        });
    }

    /// Awaits something that may be dropped, and is when the build is stopped.
    ///
    /// # Errors
    /// The build was stopped.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Ending> {
        let stop = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Stop::Cancelled,
            () = self.parts.vm.shutdown.cancelled() => Stop::Shutdown,
            () = clock::sleep_until(Some(self.job.assignment.deadline_ms)) => Stop::Timeout,
            done = work => return Ok(done),
        };
        Err(Ending::Stopped(stop))
    }

    /// Fails where the build was stopped: before each thing that is not dropped once it was begun.
    ///
    /// # Errors
    /// The build was stopped.
    pub async fn check(&self) -> Result<(), Ending> {
        self.unless_stopped(std::future::ready(())).await
    }

    /// Where layers lie.
    ///
    /// # Errors
    /// One is gone, which the pin should have kept from happening.
    pub fn layer_dirs(&self, layers: &[StoredLayer]) -> Result<Vec<PathBuf>, Ending> {
        let dir = |layer: &StoredLayer| self.parts.vm.images.layer_dir(&layer.diff_id);
        layers
            .iter()
            .map(|layer| dir(layer).ok_or_else(|| Ending::host("find a layer", layer.diff_id.clone())))
            .collect()
    }

    /// Where a tree can be read: the context, or a mount of the tree's layers, which stays for the rest of the build.
    ///
    /// # Errors
    /// What the host said.
    pub async fn view(&mut self, tree: &Tree, built: &[Built]) -> Result<PathBuf, Ending> {
        let layers = match tree {
            Tree::Context => return Ok(self.context.clone()),
            Tree::Stage(index) => built.get(*index).map(|stage| stage.layers.clone()),
            Tree::Image(_) | Tree::Own(_) => self.images.get(tree).map(|image| image.stored.clone()),
        };
        if let Some(view) = self.views.get(tree) {
            return Ok(view.clone());
        }
        let layers = self.layer_dirs(&layers.ok_or_else(|| Ending::host("find a tree", "it is not planned"))?)?;
        let view = self.job.dir.views().join(self.views.len().to_string());
        if layers.is_empty() {
            return Ok(self.job.dir.empty());
        }
        let point = view.clone();
        blocking("mount a tree", move || {
            rootfs::mount_layers(&layers, &point).map_err(|error| Ending::rootfs(BuildErrorCode::CopyFailed, error))
        })
        .await?;
        self.views.insert(tree.clone(), view.clone());
        Ok(view)
    }
}

/// Runs what blocks on a thread where that may be, to its end.
///
/// # Errors
/// Its own.
pub async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, Ending> + Send + 'static,
) -> Result<T, Ending> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Ending::host(doing, error)))
}
