//! The cache of build steps, which keeps layers that no image has yet.
//!
//! ```text
//! DIR/steps/<scope>/<key>.json   a CachedStep; its time of modification is when it was last used
//! ```
//! A record is written whole and then named, after its layer is on the disk. One that can't be read, or whose layer is
//! gone, is no record: all that is lost with one is time. Scopes see nothing of each other. Blocking.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use cakework_wire::host::AgentProblem;
use serde::{Deserialize, Serialize};

use super::{ImageStore, StoredLayer, disk};
use crate::digest::Digest;
use crate::problem::{self, internal};

/// Bytes of a cached step's record.
const RECORD_MAX_BYTES: u64 = 4096;
/// Bytes of a scope's name.
const SCOPE_MAX_BYTES: usize = 64;

/// What a cached step left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CachedStep {
    /// The layer; `None` where the step changed no file.
    pub layer: Option<StoredLayer>,
}

/// A record as it lies on the disk.
#[derive(Debug)]
pub struct Record {
    /// Where.
    pub path: PathBuf,
    /// When it was last used.
    pub used: SystemTime,
    /// Its layer and that layer's bytes.
    pub layer: Option<(Digest, u64)>,
}

impl ImageStore {
    /// What a step of this scope left, if its layer is still here. The step counts as used now.
    pub async fn cached_step(&self, scope: &str, key: &str) -> Option<CachedStep> {
        let path = self.inner.step_path(scope, key)?;
        let inner = Arc::clone(&self.inner);
        let read = tokio::task::spawn_blocking(move || {
            // Nobody forgets the step between the look and the touch.
            let _shelf = inner.shelf();
            let file = File::options().read(true).write(true).open(&path).ok()?;
            let step = read(&file)?;
            let is_here = layer_of(&step)
                .is_ok_and(|layer| layer.is_none_or(|(diff_id, _)| inner.fetcher.disk.has_layer(&diff_id)));
            // Without the touch the step only seems older than it is.
            let _ = is_here.then(|| file.set_modified(SystemTime::now()));
            is_here.then_some(step)
        });
        read.await.ok()?
    }

    /// Notes what a step left. Its layer stays at least until the next [`Self::collect`].
    ///
    /// # Errors
    /// No room.
    pub async fn cache_step(&self, scope: &str, key: &str, step: &CachedStep) -> Result<(), AgentProblem> {
        let path = self.inner.step_path(scope, key).ok_or_else(|| internal("caching a step", "an odd scope or key"))?;
        let layer = layer_of(step)?;
        let bytes = serde_json::to_vec(step).expect("plain data");
        let inner = Arc::clone(&self.inner);
        let written = tokio::task::spawn_blocking(move || {
            let mut shelf = inner.shelf();
            if let Some((diff_id, size_bytes)) = &layer {
                shelf.spare(diff_id, *size_bytes);
            }
            write(&inner.fetcher.disk.tmp(), &path, &bytes)
        });
        let written = written.await.map_err(|error| internal("caching a step", error))?;
        written.map_err(|error| problem::disk("caching a step", &error))
    }
}

impl super::Inner {
    fn step_path(&self, scope: &str, key: &str) -> Option<PathBuf> {
        let is_scope =
            (1..=SCOPE_MAX_BYTES).contains(&scope.len()) && scope.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_key = key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (is_scope && is_key).then(|| self.fetcher.disk.steps().join(scope).join(format!("{key}.json")))
    }
}

/// Every record in `directory`; what is none is removed.
pub fn list(directory: &Path) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for scope in fs::read_dir(directory)? {
        for entry in fs::read_dir(scope?.path())? {
            let path = entry?.path();
            match record(&path) {
                Some(record) => records.push(record),
                None => disk::remove(&path)?,
            }
        }
    }
    Ok(records)
}

/// Forgets a step, and its scope with the last one.
pub fn forget(record: &Record) -> io::Result<()> {
    disk::remove(&record.path)?;
    // Refused while another step is in it.
    let _ = record.path.parent().map(fs::remove_dir);
    Ok(())
}

fn record(path: &Path) -> Option<Record> {
    let file = File::open(path).ok()?;
    let step = read(&file)?;
    let used = file.metadata().and_then(|found| found.modified()).ok()?;
    Some(Record { path: path.to_owned(), used, layer: layer_of(&step).ok()? })
}

fn read(file: &File) -> Option<CachedStep> {
    let mut bytes = Vec::new();
    file.take(RECORD_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn layer_of(step: &CachedStep) -> Result<Option<(Digest, u64)>, AgentProblem> {
    step.layer.as_ref().map(|layer| Ok((super::parse(&layer.diff_id)?, layer.size_bytes))).transpose()
}

fn write(tmp: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let scope = path.parent().expect("below the store's directory");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(scope)?;
    fs::write(tmp, bytes)?;
    fs::rename(tmp, path)
}
