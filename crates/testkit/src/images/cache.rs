//! What fixtures keep between runs: a directory under a hash of what went in, made once, never changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// Where fixtures keep what is expensive: `CAKEWORK_TEST_CACHE`, else `/var/cache/cakework-test`.
pub fn cache_dir() -> PathBuf {
    std::env::var_os("CAKEWORK_TEST_CACHE").map_or_else(|| "/var/cache/cakework-test".into(), PathBuf::from)
}

/// The directory `name` of the cache, made by `make` when it is absent.
///
/// Tests of other processes wait for each other here; a directory is there whole or not at all.
pub(super) fn cached(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = cache_dir();
    fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    let done = cache.join(name);
    let lock = fs::File::create(cache.join(format!("{name}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if !done.is_dir() {
        let half = cache.join(format!("{name}.part"));
        if half.exists() {
            fs::remove_dir_all(&half)?;
        }
        fs::create_dir(&half)?;
        make(&half).with_context(|| format!("making the cached {name}"))?;
        fs::rename(&half, &done)?;
    }
    Ok(done)
}
