//! Removes what builds left that nobody needs any more: cached steps and their layers, cache disks, and the logs and
//! outcomes of builds that are long over.

use std::time::{Duration, SystemTime};

use cakework_core::id::BuildId;

use super::dir::BuildDir;
use super::registry::Builds;
use crate::logs::Retention;
use crate::logs::ended::{Ended, size};
use crate::sys::file;

/// Time between two rounds while no build ends.
const EVERY: Duration = Duration::from_secs(600);
/// A context whose build does not come is kept for so long.
const CONTEXT_WAIT: Duration = Duration::from_secs(3600);

/// Collects after builds and at intervals, until the agent ends.
pub async fn collect_for_ever(builds: Builds) {
    let parts = builds.parts().clone();
    loop {
        tokio::select! {
            () = parts.vm.shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
            () = parts.ended.notified() => {}
        }
        let config = &parts.config;
        let freed_bytes = parts.vm.images.collect(config.cache_bytes, config.cache_age_secs).await;
        if freed_bytes > 0 {
            tracing::info!(freed_bytes, "old steps of builds were removed");
        }
        parts.caches.collect(config.cache_mounts_bytes, Duration::from_secs(config.cache_age_secs)).await;
        let builds = builds.clone();
        let done = tokio::task::spawn_blocking(move || forget_old(&builds)).await;
        if let Err(error) = done.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::warn!(%error, "old builds could not be removed");
        }
    }
}

fn forget_old(builds: &Builds) -> std::io::Result<()> {
    let parts = builds.parts();
    let (mut old, now) = (Vec::new(), SystemTime::now());
    for entry in std::fs::read_dir(BuildDir::all(&parts.dir))? {
        let name = entry?.file_name();
        let Some(build) = name.to_str().and_then(|name| name.parse::<BuildId>().ok()) else { continue };
        let dir = BuildDir::new(&parts.dir, &build);
        if builds.is_live(&build) {
            continue;
        }
        let is_known = builds.logs(&build).is_some();
        let last =
            if is_known { [dir.outcome(), dir.tombstone()] } else { [dir.path().to_owned(), dir.path().to_owned()] };
        let changed = last.iter().filter_map(|path| path.metadata().and_then(|meta| meta.modified()).ok()).max();
        let Some(since) = changed else { continue };
        let waits_in_vain = !is_known && now.duration_since(since).is_ok_and(|age| age > CONTEXT_WAIT);
        if waits_in_vain {
            remove(builds, &build, &dir)?;
        } else if is_known {
            old.push(Ended { since, bytes: size(&dir.vm().logs()), scope: String::new(), id: build });
        }
    }
    // What is left of a build does not say whose it was.
    let bytes = parts.config.logs_bytes;
    let keep = Retention { age_secs: parts.config.log_age_secs, bytes, scope_bytes: bytes };
    for build in keep.to_go(old, now) {
        remove(builds, &build, &BuildDir::new(&parts.dir, &build))?;
    }
    Ok(())
}

fn remove(builds: &Builds, build: &BuildId, dir: &BuildDir) -> std::io::Result<()> {
    // Something else may have begun with it: then it stays.
    if dir.assignment().exists() || !builds.forget(build) {
        return Ok(());
    }
    file::remove(dir.path())
}
