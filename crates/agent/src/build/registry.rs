//! All builds of the host: who may come, who is here, and how they ended.
//!
//! Invariants: of each build the highest placement seen is on disk, and no lower one is taken; a build's share of the host
//! comes out of the same capacity as the VMs', and is given back once nothing of the build is left; an answer is given
//! only once what it says is on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cakework_core::admission::{Amounts, Shortage};
use cakework_core::id::{BuildId, Generation, VmId};
use cakework_core::limit;
use cakework_wire::build::{BuildObservation, BuildPhase, BuildReport, BuildSource, PutBuild, PutBuildAnswer};
use cakework_wire::host::{AgentProblem, ProblemCode};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Parts;
use super::context::hex_of;
use super::dir::BuildDir;
use super::driver::{Driver, Job};
use super::record::{Assignment, Tombstone};
use crate::sys::clock;
use crate::sys::file::{self, Survives};
use crate::vm;

/// How long a new placement waits for the end of the one before.
const REPLACE_WAIT: Duration = Duration::from_secs(20);
/// Longest time that a build may ask for: a day.
const REMAINING_MAX_MS: u64 = 24 * 3600 * 1000;
/// Bytes of a scope's name.
const SCOPE_MAX_BYTES: usize = 64;

/// The builds of this host. Clones share them.
#[derive(Debug, Clone)]
pub struct Builds {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parts: Arc<Parts>,
    vms: vm::Registry,
    /// One admission at a time, held while it is written to disk; only taken on blocking threads.
    admission: Mutex<()>,
    state: Mutex<BTreeMap<BuildId, Entry>>,
    drivers: TaskTracker,
}

#[derive(Debug, Clone)]
struct Entry {
    highest: Generation,
    /// The highest placement is refused, not held.
    buried: bool,
    live: Option<Live>,
}

#[derive(Debug, Clone)]
struct Live {
    /// Its end is wanted.
    cancel: CancellationToken,
    /// Its end has come.
    over: CancellationToken,
}

enum Admission {
    Answer(PutBuildAnswer),
    /// An earlier placement has to end first.
    Occupied(Live),
}

impl Builds {
    /// A registry without builds. Shares of the host are taken from `vms`.
    pub fn new(parts: Arc<Parts>, vms: vm::Registry) -> Self {
        let inner =
            Inner { parts, vms, admission: Mutex::default(), state: Mutex::default(), drivers: TaskTracker::new() };
        Self { inner: Arc::new(inner) }
    }

    /// What builds are made with.
    pub fn parts(&self) -> &Arc<Parts> {
        &self.inner.parts
    }

    /// Takes up a build that is over, or a placement that is refused: what its files say.
    pub fn restore(&self, build: BuildId, outcome: Option<BuildReport>, tombstone: Option<Tombstone>) {
        let buried = tombstone.map(|tombstone| tombstone.generation);
        let held = outcome.as_ref().map(|report| report.generation);
        let Some(highest) = held.max(buried) else { return };
        let is_buried = held != Some(highest);
        let report = match (outcome, tombstone) {
            (Some(report), _) if !is_buried => report,
            (Some(report), _) => BuildReport { generation: highest, ..report },
            (None, Some(tombstone)) => tombstone.report(&build),
            (None, None) => return,
        };
        self.inner.state().insert(build, Entry { highest, buried: is_buried, live: None });
        self.inner.parts.vm.board.build(report);
    }

    /// Where a build's log is; `None` where the host never had the build.
    pub fn logs(&self, build: &BuildId) -> Option<PathBuf> {
        self.inner.state().contains_key(build).then(|| self.inner.dir(build).vm().logs())
    }

    /// Whether a build is on its way.
    pub fn is_live(&self, build: &BuildId) -> bool {
        self.inner.state().get(build).is_some_and(|entry| entry.live.is_some())
    }

    /// Forgets a build that is over; its files are the caller's to remove. True where nothing speaks against it.
    pub fn forget(&self, build: &BuildId) -> bool {
        let mut state = self.inner.state();
        if state.get(build).is_some_and(|entry| entry.live.is_some()) {
            return false;
        }
        state.remove(build);
        self.inner.parts.vm.board.forget_build(build);
        true
    }

    /// Wants an image to be built.
    ///
    /// # Errors
    /// Where it can't be written down, or an earlier placement does not end.
    pub async fn put(&self, build: BuildId, put: PutBuild) -> Result<PutBuildAnswer, AgentProblem> {
        let put = Arc::new(put);
        let answer = async {
            loop {
                let admission = self.blocking({
                    let (build, put) = (build.clone(), Arc::clone(&put));
                    move |this| this.admit(&build, &put)
                });
                match admission.await? {
                    Admission::Answer(answer) => return Ok(answer),
                    Admission::Occupied(live) => {
                        live.cancel.cancel();
                        live.over.cancelled().await;
                    }
                }
            }
        };
        tokio::time::timeout(REPLACE_WAIT, answer)
            .await
            .unwrap_or_else(|_| Err(problem("an earlier placement of this build is still being ended; ask again")))
    }

    /// Wants a build to end. A placement that is not known is refused from then on.
    ///
    /// # Errors
    /// Where the wish can't be written down.
    pub async fn end(&self, build: BuildId, generation: Generation) -> Result<(), AgentProblem> {
        self.blocking(move |this| this.cancel(&build, generation)).await
    }

    /// Waits until no build runs; they end once the agent shuts down.
    pub async fn shutdown(&self) {
        self.inner.drivers.close();
        self.inner.drivers.wait().await;
    }

    fn admit(&self, build: &BuildId, put: &Arc<PutBuild>) -> Result<Admission, AgentProblem> {
        let _one = self.inner.admission.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = self.inner.dir(build);
        if let Some(answer) = self.inner.answer(build, put, &dir) {
            return Ok(answer);
        }
        let sandbox = VmId::mint(&mut rand::rng());
        let share = match self.inner.vms.reserve(sandbox.clone(), self.inner.demand(), None) {
            Ok(share) => share,
            Err((shortage, free)) => return Ok(Admission::Answer(PutBuildAnswer::NoCapacity { shortage, free })),
        };
        let assignment = Assignment {
            generation: put.generation,
            scope: put.scope.clone(),
            sandbox,
            slot: share.slot(),
            boot_id: self.inner.parts.vm.boot_id.clone(),
            deadline_ms: clock::boottime_ms().saturating_add(put.remaining_ms.min(REMAINING_MAX_MS)),
        };
        if let Err(error) = write_down(&dir, &assignment) {
            tracing::error!(%build, %error, "an admission could not be written down");
            return Err(disk_problem(&error));
        }
        let live = Live { cancel: CancellationToken::new(), over: CancellationToken::new() };
        let entry = Entry { highest: put.generation, buried: false, live: Some(live.clone()) };
        self.inner.state().insert(build.clone(), entry);
        self.inner.parts.vm.board.build(BuildReport {
            build_id: build.clone(),
            generation: put.generation,
            observation: BuildObservation::Running { phase: BuildPhase::Fetching, step: 0, steps: 0 },
        });
        let job = Job { build: build.clone(), dir, put: PutBuild::clone(put), assignment };
        let driver = Driver::new(Arc::clone(&self.inner.parts), job, live.cancel.clone());
        let inner = Arc::clone(&self.inner);
        self.inner.drivers.spawn(async move {
            let report = driver.run().await;
            drop(share);
            inner.over(report);
            live.over.cancel();
        });
        Ok(Admission::Answer(PutBuildAnswer::Admitted))
    }

    fn cancel(&self, build: &BuildId, generation: Generation) -> Result<(), AgentProblem> {
        let _one = self.inner.admission.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = self.inner.state().get(build).cloned();
        if entry.as_ref().is_some_and(|entry| generation < entry.highest) {
            return Ok(());
        }
        if let Some(live) = entry.as_ref().and_then(|entry| entry.live.as_ref()) {
            live.cancel.cancel();
        }
        if entry.as_ref().is_some_and(|entry| generation == entry.highest) {
            return Ok(());
        }
        let (dir, tombstone) = (self.inner.dir(build), Tombstone { generation });
        std::fs::create_dir_all(dir.path())
            .and_then(|()| file::write_json(&dir.tombstone(), &tombstone, Survives::PowerLoss))
            .and_then(|()| file::sync_dir(&BuildDir::all(&self.inner.parts.dir)))
            .map_err(|error| disk_problem(&error))?;
        let live = entry.and_then(|entry| entry.live);
        if live.is_none() {
            self.inner.parts.vm.board.build(tombstone.report(build));
        }
        self.inner.state().insert(build.clone(), Entry { highest: generation, buried: true, live });
        Ok(())
    }

    /// Runs what writes to the disk on a thread where that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, AgentProblem> + Send + 'static,
    ) -> Result<T, AgentProblem> {
        let this = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let done = tokio::task::spawn_blocking(move || {
            let _runtime = runtime.enter();
            work(&this)
        });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request panicked");
            Err(problem("the agent failed"))
        })
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, BTreeMap<BuildId, Entry>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, build: &BuildId) -> BuildDir {
        BuildDir::new(&self.parts.dir, build)
    }

    fn demand(&self) -> Amounts {
        let config = &self.parts.config;
        Amounts {
            memory_mib: u64::from(config.memory_mib),
            cpu_milli: u64::from(config.cpu) * 1000,
            disk_mib: u64::from(config.disk_mib),
            slots: 1,
        }
    }

    /// The answer to `put`, unless it is to be admitted as far as it depends on the build alone.
    fn answer(&self, build: &BuildId, put: &PutBuild, dir: &BuildDir) -> Option<Admission> {
        let answer = |answer| Some(Admission::Answer(answer));
        let (entry, live) = {
            let state = self.state();
            (state.get(build).cloned(), state.values().filter(|entry| entry.live.is_some()).count())
        };
        if let Some(entry) = &entry {
            if put.generation < entry.highest || (put.generation == entry.highest && entry.buried) {
                return answer(PutBuildAnswer::StaleGeneration { highest: entry.highest });
            }
            if put.generation == entry.highest {
                return answer(PutBuildAnswer::Already);
            }
        }
        if let Some(reason) = self.vms.refusal().or_else(|| unsupported(put)) {
            return answer(PutBuildAnswer::Unsupported { reason });
        }
        if self.vms.draining() {
            return answer(PutBuildAnswer::Draining);
        }
        if let Some(live) = entry.and_then(|entry| entry.live) {
            return Some(Admission::Occupied(live));
        }
        if let BuildSource::Context { digest } = &put.source
            && !hex_of(digest).is_some_and(|hex| dir.context_tar(hex).is_file())
        {
            return answer(PutBuildAnswer::NoContext);
        }
        if live >= usize::from(self.parts.config.parallel) {
            let (capacity, reserved) = self.vms.amounts();
            return answer(PutBuildAnswer::NoCapacity { shortage: Shortage::Slots, free: capacity.minus(reserved) });
        }
        None
    }

    /// Says that a build is over, once what was promised to it is given back: whoever hears it finds the room.
    fn over(&self, report: BuildReport) {
        let buried = {
            let mut state = self.state();
            let Some(entry) = state.get_mut(&report.build_id) else { return };
            entry.live = None;
            entry.buried.then_some(entry.highest)
        };
        self.parts.vm.board.build(match buried {
            Some(generation) => BuildReport { generation, ..report },
            None => report,
        });
        self.parts.ended.notify_one();
    }
}

fn write_down(dir: &BuildDir, assignment: &Assignment) -> std::io::Result<()> {
    std::fs::create_dir_all(dir.path())?;
    // What an earlier placement left says nothing of this one.
    file::remove(&dir.outcome())?;
    file::write_json(&dir.assignment(), assignment, Survives::PowerLoss)?;
    match dir.path().parent() {
        Some(all) => file::sync_dir(all),
        None => Ok(()),
    }
}

/// Why this host can't build what is asked for. The api has checked it; the agent relies on nobody.
fn unsupported(put: &PutBuild) -> Option<String> {
    let is_scope = |scope: &str| {
        (1..=SCOPE_MAX_BYTES).contains(&scope.len()) && scope.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let is_digest = |digest: &str| hex_of(digest).is_some();
    let args_bytes: usize = put.build_args.iter().map(|(name, value)| name.len() + value.len()).sum();
    let wrong = if !is_scope(&put.scope) {
        "the scope"
    } else if put.dockerfile.len() > limit::DOCKERFILE_MAX_BYTES {
        "the Dockerfile's size"
    } else if put.dockerignore.as_ref().is_some_and(|text| text.len() > limit::DOCKERFILE_MAX_BYTES) {
        "the .dockerignore's size"
    } else if put.build_args.len() > limit::BUILD_ARGS_MAX || args_bytes > limit::BUILD_ARGS_TOTAL_MAX_BYTES {
        "the build arguments' size"
    } else if !put.own_images.values().all(|digest| is_digest(digest)) {
        "an image's digest"
    } else if matches!(&put.source, BuildSource::Context { digest } if !is_digest(digest)) {
        "the context's digest"
    } else {
        return None;
    };
    Some(format!("{wrong} is not one that a host can build with"))
}

pub(super) fn disk_problem(error: &std::io::Error) -> AgentProblem {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            AgentProblem { code: ProblemCode::DiskFull, message: "the host has no room on its disk".into() }
        }
        _ => problem("the host could not write the request down"),
    }
}

fn problem(message: &str) -> AgentProblem {
    AgentProblem { code: ProblemCode::Internal, message: message.into() }
}
