//! Layers that are made here: an overlay's writable directory becomes a tar stream, which is hashed on its way through
//! the confined child into the store. So a layer that was made lies there exactly as the same one, fetched, would.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cakework_wire::host::{AgentProblem, ProblemCode};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{ImageStore, Inner, StoredLayer, disk};
use crate::digest::Digest;
use crate::pack::pack;
use crate::problem::{self, internal, problem};
use crate::unpack::fault::Fault;
use crate::unpack::{Compression, Purpose, Request};
use crate::unpacking::Unpacking;

const CHUNK_BYTES: usize = 256 << 10;
/// Chunks between the directory and the child.
const CHUNKS_MAX: usize = 4;

impl ImageStore {
    /// Makes a layer of what an overlay's writable directory `upper` holds, which nothing may change meanwhile. `None`
    /// where it holds nothing. `max_bytes` bounds the tar stream.
    ///
    /// The layer's tar stream is the same for the same tree: entries sorted by name, PAX headers only where they are
    /// needed, times in whole seconds. `upper` is not removed. Dropped half-way it ends by itself.
    ///
    /// # Errors
    /// Over a limit, a file whose name only a whiteout may have, or no room.
    pub async fn commit_layer(&self, upper: &Path, max_bytes: u64) -> Result<Option<StoredLayer>, AgentProblem> {
        let cancel = self.inner.stop.child_token();
        let _ends_with_the_caller = cancel.clone().drop_guard();
        let (inner, upper) = (Arc::clone(&self.inner), upper.to_owned());
        // A task of its own, so that it cleans up behind itself whatever becomes of the caller.
        let task = self.inner.tasks.spawn(async move { inner.commit(upper, max_bytes, &cancel).await });
        task.await.map_err(|error| internal("making a layer", error))?
    }

    /// Where a layer lies; `None` where it is not (or no longer) here.
    pub fn layer_dir(&self, diff_id: &str) -> Option<PathBuf> {
        let diff_id = diff_id.parse().ok()?;
        let disk = &self.inner.fetcher.disk;
        disk.has_layer(&diff_id).then(|| disk.layer(&diff_id))
    }
}

/// What went through.
struct Packed {
    entries: u64,
    bytes: u64,
    diff_id: Digest,
}

impl Inner {
    async fn commit(
        self: Arc<Self>,
        upper: PathBuf,
        max_bytes: u64,
        cancel: &CancellationToken,
    ) -> Result<Option<StoredLayer>, AgentProblem> {
        let tmp = self.fetcher.disk.tmp();
        let made = tokio::fs::create_dir(&tmp).await;
        made.map_err(|error| problem::disk("making a layer's directory", &error))?;
        let packed = self.fill(&tmp, upper, max_bytes, cancel).await;
        let kept = tokio::task::spawn_blocking(move || match packed {
            Ok(Some(packed)) => self.keep_committed(&tmp, packed).map(Some),
            other => {
                disk::remove(&tmp).map_err(|error| problem::disk("removing a layer's directory", &error))?;
                other.map(|_| None)
            }
        });
        kept.await.map_err(|error| internal("keeping a layer", error))?
    }

    /// Fills the directory `tmp`; `None` where there is nothing for it.
    async fn fill(
        &self,
        tmp: &Path,
        upper: PathBuf,
        max_bytes: u64,
        cancel: &CancellationToken,
    ) -> Result<Option<Packed>, AgentProblem> {
        let (sender, mut chunks) = mpsc::channel(CHUNKS_MAX);
        let walk = tokio::task::spawn_blocking(move || {
            let mut sink = Sink::new(sender, max_bytes);
            match pack(&upper, &mut sink) {
                Ok(entries) => Ok(Packed { entries, bytes: sink.bytes, diff_id: Digest::finish(sink.hash) }),
                // The other end knows why.
                Err(_) if sink.is_closed => Err(None),
                Err(fault) => Err(Some(fault)),
            }
        });
        // Most steps that only set something change no file: no child is started for them.
        let first = tokio::select! {
            first = chunks.recv() => first,
            () = cancel.cancelled() => None,
        };
        let unpacked = match first {
            None => Ok(None),
            Some(first) => self.unpack_chunks(tmp, first, &mut chunks, max_bytes, cancel).await.map(Some),
        };
        // What is still under way finds nobody who listens.
        drop(chunks);
        let packed = walk.await.map_err(|error| internal("making a layer", error))?;
        match (packed, unpacked) {
            (Ok(Packed { entries: 0, .. }), Ok(None)) => Ok(None),
            (Ok(packed), Ok(Some(diff_id))) if diff_id.as_deref() == Some(packed.diff_id.hex()) => Ok(Some(packed)),
            (Ok(_), Ok(_)) => Err(internal("making a layer", "what was unpacked is not what was packed")),
            (Err(Some(fault)), _) => Err(told(&fault)),
            (_, Err(problem)) => Err(problem),
            (Err(None), Ok(_)) => Err(stopped()),
        }
    }

    /// Feeds a child in `tmp`; answers the diff-id of what it unpacked.
    async fn unpack_chunks(
        &self,
        tmp: &Path,
        first: Vec<u8>,
        chunks: &mut mpsc::Receiver<Vec<u8>>,
        max_bytes: u64,
        cancel: &CancellationToken,
    ) -> Result<Option<String>, AgentProblem> {
        let request = Request {
            purpose: Purpose::Layer,
            kind: Compression::None.into(),
            digest: None,
            size_bytes: None,
            diff_id: None,
            inflated_max_bytes: max_bytes,
            entries_max: self.config.limits.entries,
        };
        let mut child = Unpacking::start(&self.fetcher.unpacker, tmp, &request).await?;
        let feed = async {
            let mut next = Some(first);
            while let Some(chunk) = next {
                if !child.give(&chunk).await? {
                    break;
                }
                next = chunks.recv().await;
            }
            child.conclude().await
        };
        let result = tokio::select! {
            result = feed => result,
            () = cancel.cancelled() => Err(stopped()),
        };
        // It must be gone before its directory is.
        child.end().await?;
        result
    }

    /// Blocking.
    fn keep_committed(&self, tmp: &Path, packed: Packed) -> Result<StoredLayer, AgentProblem> {
        let Packed { bytes, diff_id, .. } = packed;
        let mut shelf = self.shelf();
        shelf.spare(&diff_id, bytes);
        let kept = self.fetcher.disk.keep_layer(tmp, &diff_id);
        kept.map_err(|error| problem::disk("keeping a layer", &error))?;
        let name = diff_id.to_string();
        Ok(StoredLayer { digest: name.clone(), diff_id: name, size_bytes: bytes, compression: Compression::None })
    }
}

fn stopped() -> AgentProblem {
    problem(ProblemCode::Internal, "Making the layer was stopped.")
}

/// The host's own faults go to the log.
fn told(fault: &Fault) -> AgentProblem {
    if let Fault::Internal(cause) = fault {
        tracing::error!(cause, "making a layer");
    }
    fault.problem(Purpose::Layer)
}

/// Hashes, bounds and hands on what is written to it.
struct Sink {
    to: mpsc::Sender<Vec<u8>>,
    chunk: Vec<u8>,
    hash: Sha256,
    bytes: u64,
    max_bytes: u64,
    /// Nobody listens any more.
    is_closed: bool,
}

impl Sink {
    fn new(to: mpsc::Sender<Vec<u8>>, max_bytes: u64) -> Self {
        Self { to, chunk: Vec::with_capacity(CHUNK_BYTES), hash: Sha256::new(), bytes: 0, max_bytes, is_closed: false }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.max_bytes {
            let most = self.max_bytes >> 20;
            return Err(Fault::TooLarge(format!("A layer is larger than the {most} MiB that it may have.")).into());
        }
        self.hash.update(bytes);
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.is_closed = self.to.blocking_send(chunk).is_err();
        if self.is_closed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}
