//! Removes what builds left that nobody needs any more: cached steps and their layers, cache disks, and the logs and
//! outcomes of builds that are long over.

use std::path::Path;
use std::time::{Duration, SystemTime};

use cakework_core::id::BuildId;

use super::BuildConfig;
use super::dir::BuildDir;
use super::registry::Builds;
use crate::logs;
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

/// A build that is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Old {
    over_since: SystemTime,
    bytes: u64,
    build: BuildId,
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
        let Some(over_since) = changed else { continue };
        let waits_in_vain = !is_known && now.duration_since(over_since).is_ok_and(|age| age > CONTEXT_WAIT);
        if waits_in_vain {
            remove(builds, &build, &dir)?;
        } else if is_known {
            old.push(Old { over_since, bytes: size_of_logs(&dir.vm().logs()), build });
        }
    }
    for build in too_old(old, &parts.config, now) {
        remove(builds, &build, &BuildDir::new(&parts.dir, &build))?;
    }
    Ok(())
}

/// Which of them are to go: the old ones, then the oldest until the logs of the rest are few enough.
fn too_old(mut old: Vec<Old>, config: &BuildConfig, now: SystemTime) -> Vec<BuildId> {
    old.sort();
    let mut total: u64 = old.iter().map(|one| one.bytes).sum();
    let max_age = Duration::from_secs(config.log_age_secs);
    let goes = |one: &Old, total: u64| {
        total > config.logs_bytes || now.duration_since(one.over_since).is_ok_and(|age| age > max_age)
    };
    let mut gone = Vec::new();
    for one in old {
        if goes(&one, total) {
            total -= one.bytes;
            gone.push(one.build);
        }
    }
    gone
}

fn remove(builds: &Builds, build: &BuildId, dir: &BuildDir) -> std::io::Result<()> {
    // Something else may have begun with it: then it stays.
    if dir.assignment().exists() || !builds.forget(build) {
        return Ok(());
    }
    file::remove(dir.path())
}

fn size_of_logs(dir: &Path) -> u64 {
    let numbers = logs::files::list(dir).unwrap_or_default();
    numbers.iter().filter_map(|number| logs::files::path_of(dir, *number).metadata().ok()).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_no_more_than_needed() {
        let now = SystemTime::now();
        let mut rng = rand::rng();
        let mut ids = Vec::new();
        let mut one = |age_secs, bytes| {
            ids.push(BuildId::mint(&mut rng));
            Old { over_since: now - Duration::from_secs(age_secs), bytes, build: ids[ids.len() - 1].clone() }
        };
        let old = vec![one(10, 40), one(200, 40), one(30, 40), one(20, 1)];
        let config = BuildConfig { log_age_secs: 100, logs_bytes: 50, ..BuildConfig::default() };
        assert_eq!(too_old(old.clone(), &config, now), [ids[1].clone(), ids[2].clone()]);
        let roomy = BuildConfig { log_age_secs: 1000, logs_bytes: 1000, ..config };
        assert_eq!(too_old(old, &roomy, now), []);
    }
}
