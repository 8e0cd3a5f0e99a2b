//! The steps of a stage: which of them the cache has, and what each of the others leaves.
//!
//! Invariant: a step is found in the cache by all that its result depends on, and in its own scope only. Its layer is what
//! it changed, and nothing of what it was given to work with.

use std::path::Path;
use std::time::Instant;

use cakework_core::build::BuildErrorCode;
use cakework_dockerfile::{Action, Base, Config, Key, MountKind, Plan, Step, Tree, Walker};
use cakework_image::{CachedStep, Image, StoredLayer, rootfs};
use cakework_wire::host::ProblemCode;
use serde_json::{Value, json};

use super::copy::{Content, MTIME_SECS};
use super::ending::Ending;
use super::execute::{Executor, blocking};
use super::files;
use crate::sys::file;

/// A disk with less than this is full: what failed on it, failed for that.
const FULL_BYTES: u64 = 4 << 20;

/// A stage, as far as it is built.
#[derive(Debug, Clone)]
pub struct Built {
    /// Its layers, lowest first.
    pub layers: Vec<StoredLayer>,
    /// Its configuration.
    pub config: Config,
    /// What made it, as an image's configuration tells it.
    pub history: Vec<Value>,
    /// By what it is found.
    pub key: Key,
}

impl Built {
    fn scratch() -> Self {
        Self { layers: Vec::new(), config: Config::default(), history: Vec::new(), key: Key::base("scratch") }
    }

    fn of(image: &Image) -> Result<Self, Ending> {
        let document: Value = serde_json::from_slice(&image.config_bytes)
            .map_err(|error| Ending::host("read an image's configuration", error))?;
        let config = match document.get("config") {
            None | Some(Value::Null) => Config::default(),
            Some(config) => serde_json::from_value(config.clone()).map_err(|_| {
                Ending::new(BuildErrorCode::BaseImage, "The base image's configuration is not one that builds read.")
            })?,
        };
        let history = document.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_layer = |entry: &&Value| entry.get("empty_layer").and_then(Value::as_bool) != Some(true);
        let told = history.iter().filter(is_layer).count();
        // A history that is missing, or tells another story than the layers do, is told anew.
        let history = if told == image.stored.len() {
            history
        } else {
            image.stored.iter().map(|layer| json!({"created_by": layer.diff_id})).collect()
        };
        Ok(Self { layers: image.stored.clone(), config, history, key: Key::base(&image.digest) })
    }

    fn push(&mut self, step: &Step, key: Key, layer: Option<StoredLayer>) {
        let mut entry = json!({"created_by": step.text});
        if layer.is_none() {
            entry["empty_layer"] = json!(true);
        }
        self.history.push(entry);
        self.layers.extend(layer);
        self.key = key;
    }
}

impl Executor<'_> {
    /// Builds a stage on those before it.
    ///
    /// # Errors
    /// With the instruction that is to blame.
    pub async fn stage(&mut self, plan: &Plan, index: usize, built: &[Built]) -> Result<Built, Ending> {
        let stage = &plan.stages[index];
        let header = self.next_step(&stage.text);
        self.log.say(&header);
        let at = |ending: Ending| ending.at(&stage.text, stage.line);
        let mut state = self.base(&stage.base, built).map_err(at)?;
        let mut walker = Walker::new(plan, index, state.config.clone()).map_err(Ending::from).map_err(at)?;
        while let Some(step) = walker.next() {
            let step = step?;
            self.step(&mut state, &step, built).await.map_err(|ending| ending.at(&step.text, step.line))?;
        }
        state.config = walker.config().clone();
        Ok(state)
    }

    fn base(&self, base: &Base, built: &[Built]) -> Result<Built, Ending> {
        match base {
            Base::Scratch => Ok(Built::scratch()),
            Base::Tree(Tree::Stage(index)) => {
                built.get(*index).cloned().ok_or_else(|| Ending::host("find a stage", "it is not built"))
            }
            Base::Tree(tree) => {
                let image = self.images.get(tree).ok_or_else(|| Ending::host("find an image", "it was not pulled"))?;
                Built::of(image)
            }
        }
    }

    async fn step(&mut self, state: &mut Built, step: &Step, built: &[Built]) -> Result<(), Ending> {
        self.check().await?;
        let header = self.next_step(&step.text);
        if step.action == Action::Configure {
            let key = state.key.step(step, &[]);
            self.log.say(&header);
            state.push(step, key, None);
            return Ok(());
        }
        let begin = Instant::now();
        let content = self.content(step, built).await?;
        let key = state.key.step(step, &content.digests);
        let (images, scope) = (self.parts.vm.images.clone(), self.job.assignment.scope.clone());
        if !self.job.put.no_cache
            && let Some(cached) = images.cached_step(&scope, key.as_str()).await
        {
            self.log.say(&format!("CACHED {header}"));
            state.push(step, key, cached.layer);
            return Ok(());
        }
        self.log.say(&header);
        let done = self.execute_step(state, step, content, built).await;
        let layer = match done {
            Ok(layer) => layer,
            Err(ending) => {
                let ending = self.or_disk_full(ending).await;
                return Err(ending);
            }
        };
        let cached = CachedStep { layer };
        images
            .cache_step(&scope, key.as_str(), &cached)
            .await
            .map_err(|problem| Ending::image(BuildErrorCode::Internal, problem))?;
        self.log.say(&format!("DONE {:.1}s", begin.elapsed().as_secs_f64()));
        state.push(step, key, cached.layer);
        Ok(())
    }

    /// What a step reads from outside its own root, and the digests of it.
    async fn content(&mut self, step: &Step, built: &[Built]) -> Result<Content, Ending> {
        match &step.action {
            Action::Copy(copy) => self.copy_content(copy, built).await,
            Action::Run(run) => {
                let mut content = Content::default();
                for mount in &run.mounts {
                    match &mount.kind {
                        MountKind::Bind { from, source, .. } | MountKind::Cache { from: Some((from, source)), .. } => {
                            content.digests.push(self.mount_digest(from, source, built).await?);
                        }
                        MountKind::Cache { from: None, .. } | MountKind::Secret { .. } | MountKind::Tmpfs { .. } => {}
                    }
                }
                Ok(content)
            }
            Action::Workdir { .. } | Action::Configure => Ok(Content::default()),
        }
    }

    /// By what a tree other than the context is found again: all of it.
    pub fn tree_digest(&self, tree: &Tree, built: &[Built]) -> Option<String> {
        match tree {
            Tree::Context => None,
            Tree::Stage(index) => Some(built.get(*index)?.key.as_str().to_owned()),
            Tree::Image(_) | Tree::Own(_) => Some(self.images.get(tree)?.digest.clone()),
        }
    }

    async fn execute_step(
        &mut self,
        state: &Built,
        step: &Step,
        content: Content,
        built: &[Built],
    ) -> Result<Option<StoredLayer>, Ending> {
        let layers = self.layer_dirs(&state.layers)?;
        let changes = self.job.dir.steps().join(self.step.to_string());
        match &step.action {
            Action::Run(run) => self.run(run, &layers, &changes, built).await?,
            Action::Copy(copy) => self.copy(copy, content, &layers, &changes, built).await?,
            Action::Workdir { path, user } => {
                let (path, user) = (path.clone(), user.clone());
                self.in_root(&layers, &changes, move |root| {
                    let owner = rootfs::find_user(root, &user)
                        .map_err(|error| Ending::rootfs(BuildErrorCode::DockerfileInvalid, error))?;
                    files::make_workdir(root, &path, owner.uid, owner.gid, MTIME_SECS)
                        .map_err(|error| Ending::files(BuildErrorCode::CopyFailed, error))
                })
                .await?;
            }
            Action::Configure => return Ok(None),
        }
        self.check().await?;
        let images = &self.parts.vm.images;
        let committed = images.commit_layer(&changes.join("upper"), self.parts.config.layer_max_bytes).await;
        let layer = committed.map_err(|problem| {
            let code = match (problem.code, &step.action) {
                (ProblemCode::ImageTooLarge, _) => BuildErrorCode::ImageTooLarge,
                (_, Action::Run(_)) => BuildErrorCode::CommandFailed,
                (_, Action::Copy(_) | Action::Workdir { .. } | Action::Configure) => BuildErrorCode::CopyFailed,
            };
            Ending::image(code, problem)
        })?;
        blocking("remove a step's files", move || {
            file::remove(&changes).map_err(|error| Ending::host("remove a step's files", error))
        })
        .await?;
        Ok(layer)
    }

    /// Works on the root that these layers make, with `changes` to take what is written.
    ///
    /// # Errors
    /// The work's own, or the host's.
    pub async fn in_root<T: Send + 'static>(
        &self,
        layers: &[std::path::PathBuf],
        changes: &Path,
        work: impl FnOnce(&Path) -> Result<T, Ending> + Send + 'static,
    ) -> Result<T, Ending> {
        let (layers, changes, root) = (layers.to_vec(), changes.to_owned(), self.job.dir.vm().rootfs());
        blocking("work on a root", move || {
            let failed = |error| Ending::rootfs(BuildErrorCode::Internal, error);
            rootfs::mount_overlay(&layers, &changes, &root).map_err(failed)?;
            let done = work(&root);
            let unmounted = rootfs::unmount(&root).map_err(failed);
            done.and_then(|value| unmounted.map(|()| value))
        })
        .await
    }

    /// Whoever finds no room on the build's disk may say anything: the disk itself says what it was.
    async fn or_disk_full(&self, ending: Ending) -> Ending {
        let Ending::Failed(problem) = ending else { return ending };
        let is_about_it = matches!(
            problem.code,
            BuildErrorCode::CommandFailed | BuildErrorCode::CopyFailed | BuildErrorCode::DownloadFailed
        );
        let disk = self.job.dir.vm().disk();
        let free = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&disk));
        let is_full = is_about_it
            && matches!(free.await, Ok(Ok(stat)) if stat.f_bavail * stat.f_frsize < FULL_BYTES || stat.f_favail == 0);
        if is_full {
            Ending::new(
                BuildErrorCode::DiskFull,
                format!("The build's disk of {} MiB is full. {}", self.parts.config.disk_mib, problem.message),
            )
        } else {
            Ending::Failed(problem)
        }
    }
}
