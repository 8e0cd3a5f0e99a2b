//! One layer's way from the registry through the confined child into the store.
//!
//! The parent moves bytes and counts them; the child does everything that depends on what they say. A layer that two
//! images want at the same time from the same registry comes once: the second waits, and looks again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use backon::BackoffBuilder as _;
use cakework_wire::host::{AgentProblem, ProblemCode};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::disk::{self, Disk};
use crate::config::{ImageLimits, Unpacker};
use crate::digest::Digest;
use crate::manifest::Layer;
use crate::problem::{self, internal, invalid, problem};
use crate::registry::{Repository, pauses};
use crate::unpack::{Purpose, Request};
use crate::unpacking::Unpacking;

/// Layers that arrive at a time, for all images together.
const ARRIVING_MAX: usize = 12;
/// Bytes that have to have arrived since a stream broke off before, for the next break to be counted as the first.
const HEADWAY_BYTES: u64 = 1 << 20;
/// Longest time for one layer: an end to a server that sends a byte now and then.
const LAYER_TIMEOUT: Duration = Duration::from_secs(3600);

/// Held while one layer is fetched from one registry.
type Lock = tokio::sync::Mutex<()>;

/// Fetches layers.
#[derive(Debug)]
pub struct Fetcher {
    /// Where they go.
    pub disk: Disk,
    /// What unpacks them.
    pub unpacker: Unpacker,
    limits: ImageLimits,
    arriving: Semaphore,
    locks: Mutex<HashMap<(String, Digest), Weak<Lock>>>,
}

/// A layer on its way.
struct Coming<'a> {
    repository: &'a Repository,
    layer: &'a Layer,
    progress: &'a Progress,
    /// Its bytes that the child has.
    arrived: AtomicU64,
}

/// Compressed bytes of one image that have arrived.
#[derive(Debug)]
pub struct Progress {
    /// How many.
    pub done_bytes: AtomicU64,
    /// Told now and then.
    pub changed: Arc<watch::Sender<u64>>,
}

impl Fetcher {
    /// Fetches into `disk`.
    pub fn new(disk: Disk, unpacker: Unpacker, limits: ImageLimits) -> Self {
        Self { disk, unpacker, limits, arriving: Semaphore::new(ARRIVING_MAX), locks: Mutex::default() }
    }

    /// Brings a layer into the store, unless it is there; `registry` is where it comes from. To end it early, cancel it
    /// and wait: dropped half-way it would leave its directory behind.
    pub async fn fetch(
        &self,
        registry: &str,
        repository: &Repository,
        layer: &Layer,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), AgentProblem> {
        let lock = self.lock(registry, layer);
        let _alone = unless(cancel, lock.lock()).await?;
        if self.disk.has_layer(&layer.diff_id) {
            progress.add(layer.size_bytes);
            return Ok(());
        }
        let permit = unless(cancel, self.arriving.acquire()).await?;
        let _permit = permit.map_err(|error| internal("fetching a layer", error))?;
        let coming = Coming { repository, layer, progress, arrived: AtomicU64::new(0) };
        let fetched = self.bring(&coming, cancel).await;
        if fetched.is_err() {
            progress.done_bytes.fetch_sub(coming.arrived(), Ordering::Relaxed);
        }
        fetched
    }

    /// Registries are kept apart, so that a slow or lying one holds up nobody else's layer.
    fn lock(&self, registry: &str, layer: &Layer) -> Arc<Lock> {
        let mut locks = self.locks.lock().expect("no panic while it is held");
        locks.retain(|_, lock| lock.strong_count() > 0);
        let key = (format!("{registry} {}", layer.digest), layer.diff_id.clone());
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }

    async fn bring(&self, coming: &Coming<'_>, cancel: &CancellationToken) -> Result<(), AgentProblem> {
        // Nothing is begun for a registry that does not answer.
        let (stream, _) = unless(cancel, coming.repository.layer(&coming.layer.digest, 0)).await??;
        let tmp = self.disk.tmp();
        let failed = |error: std::io::Error| problem::disk("making a layer's directory", &error);
        tokio::fs::create_dir(&tmp).await.map_err(failed)?;
        let result = self.unpack(coming, stream, &tmp, cancel).await;
        let (disk, diff_id) = (self.disk.clone(), coming.layer.diff_id.clone());
        let is_good = result.is_ok();
        let kept =
            tokio::task::spawn_blocking(
                move || {
                    if is_good { disk.keep_layer(&tmp, &diff_id) } else { disk::remove(&tmp) }
                },
            );
        let kept = kept.await.map_err(|error| internal("keeping a layer", error))?;
        result.and(kept.map_err(|error| problem::disk("keeping a layer", &error)))
    }

    async fn unpack(
        &self,
        coming: &Coming<'_>,
        stream: reqwest::Response,
        tmp: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), AgentProblem> {
        let layer = coming.layer;
        // What a registry sends has to be what the manifest promised.
        let request = Request {
            purpose: Purpose::Layer,
            kind: layer.compression.into(),
            digest: Some(layer.digest.hex().to_owned()),
            size_bytes: Some(layer.size_bytes),
            diff_id: Some(layer.diff_id.hex().to_owned()),
            inflated_max_bytes: self.limits.inflated_bytes,
            entries_max: self.limits.entries,
        };
        let mut child = Unpacking::start(&self.unpacker, tmp, &request).await?;
        let work = async {
            coming.pump(stream, &mut child).await?;
            child.conclude().await.map(drop)
        };
        let result = tokio::select! {
            result = timeout(LAYER_TIMEOUT, work) => {
                result.unwrap_or_else(|_| Err(problem(ProblemCode::RegistryUnavailable, "A layer takes too long to arrive.")))
            }
            () = cancel.cancelled() => Err(stopped()),
        };
        // It must be gone before its directory is.
        child.end().await?;
        result
    }
}

impl Progress {
    /// Tells about every so many bytes.
    const STEP_BYTES: u64 = 4 << 20;

    fn add(&self, bytes: u64) {
        let before = self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / Self::STEP_BYTES != (before + bytes) / Self::STEP_BYTES {
            self.changed.send_modify(|count| *count += 1);
        }
    }
}

/// Awaits something that is of no use once the pull is cancelled.
async fn unless<T>(cancel: &CancellationToken, work: impl Future<Output = T>) -> Result<T, AgentProblem> {
    tokio::select! {
        done = work => Ok(done),
        () = cancel.cancelled() => Err(stopped()),
    }
}

fn stopped() -> AgentProblem {
    problem(ProblemCode::Internal, "The pull was stopped.")
}

impl Coming<'_> {
    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Gives the child the layer's bytes; where the registry breaks off, from there on. That the child has heard enough
    /// is no error: it says why.
    async fn pump(&self, mut stream: reqwest::Response, child: &mut Unpacking) -> Result<(), AgentProblem> {
        let (mut pauses, mut before) = (pauses().build(), 0);
        loop {
            let from = self.arrived();
            let Err(error) = self.pump_stream(stream, before, child).await? else { return Ok(()) };
            let problem = broken(error);
            if self.arrived() >= from + HEADWAY_BYTES {
                pauses = self::pauses().build();
            }
            let Some(pause) = pauses.next() else { return Err(problem) };
            tokio::time::sleep(pause).await;
            (stream, before) = self.repository.layer(&self.layer.digest, self.arrived()).await?;
        }
    }

    /// Gives the child what a stream has behind its first `before` bytes. The inner error is the stream's.
    async fn pump_stream(
        &self,
        mut stream: reqwest::Response,
        mut before: u64,
        child: &mut Unpacking,
    ) -> Result<Result<(), reqwest::Error>, AgentProblem> {
        loop {
            let mut chunk = match stream.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            let known = before.min(chunk.len() as u64);
            before -= known;
            let chunk = chunk.split_off(known as usize);
            let count = chunk.len() as u64;
            if self.arrived() + count > self.layer.size_bytes {
                return Err(invalid("A layer is larger than its manifest says."));
            }
            if !child.give(&chunk).await? {
                return Ok(Ok(()));
            }
            self.arrived.fetch_add(count, Ordering::Relaxed);
            self.progress.add(count);
        }
    }
}

/// A layer's stream broke off. The error's own text could hold a signed URL.
fn broken(error: reqwest::Error) -> AgentProblem {
    let error = error.without_url();
    tracing::debug!(%error, "a layer's stream broke off");
    problem(ProblemCode::RegistryUnavailable, "The registry broke off a layer.")
}
