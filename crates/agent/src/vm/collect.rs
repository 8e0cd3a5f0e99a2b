//! Removes the logs of VMs that are long over. Their records stay: they refuse what was placed before.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cakework_core::id::VmId;
use tokio_util::sync::CancellationToken;

use super::dir::VmDir;
use super::record::Assignment;
use super::registry::Registry;
use crate::logs::Retention;
use crate::logs::ended::{Ended, size};
use crate::sys::file;

/// Time between two rounds.
const EVERY: Duration = Duration::from_secs(600);

/// Collects at the begin and at intervals, until the agent ends.
pub async fn collect_for_ever(registry: Registry, dir: PathBuf, keep: Retention, shutdown: CancellationToken) {
    loop {
        let (registry, dir) = (registry.clone(), dir.clone());
        let done = tokio::task::spawn_blocking(move || {
            let live = registry.live();
            forget_old(&dir, keep, |vm| live.contains(vm))
        });
        match done.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "logs of VMs that are long over were removed"),
            Err(error) => tracing::warn!(%error, "old logs of VMs could not be removed"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Answers how many logs went.
fn forget_old(dir: &Path, keep: Retention, is_live: impl Fn(&VmId) -> bool) -> std::io::Result<usize> {
    let mut ended = Vec::new();
    for entry in std::fs::read_dir(VmDir::all(dir))? {
        let name = entry?.file_name();
        let Some(vm) = name.to_str().and_then(|name| name.parse::<VmId>().ok()).filter(|vm| !is_live(vm)) else {
            continue;
        };
        let of = VmDir::new(dir, &vm);
        let bytes = size(&of.logs());
        let last = [of.record(), of.tombstone()];
        let since = last.iter().filter_map(|path| path.metadata().and_then(|meta| meta.modified()).ok()).max();
        if let (Some(since), true) = (since, bytes > 0) {
            let assignment: Option<Assignment> = file::read_json(&of.assignment()).ok().flatten();
            let scope = assignment.map(|assignment| assignment.scope).unwrap_or_default();
            ended.push(Ended { since, bytes, scope, id: vm });
        }
    }
    let old = keep.to_go(ended, SystemTime::now());
    for vm in &old {
        file::remove(&VmDir::new(dir, vm).logs())?;
    }
    Ok(old.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_go_and_records_and_what_lives_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut rng = rand::rng();
        let vms: Vec<_> = (0..3).map(|_| VmId::mint(&mut rng)).collect();
        for vm in &vms {
            let of = VmDir::new(dir.path(), vm);
            std::fs::create_dir_all(of.logs()).expect("made");
            std::fs::write(of.record(), "{}").expect("written");
            std::fs::write(of.logs().join("000001.seg"), [0; 100]).expect("written");
        }
        let older = std::fs::File::options().write(true).open(VmDir::new(dir.path(), &vms[1]).record()).expect("there");
        older.set_modified(SystemTime::now() - Duration::from_secs(1000)).expect("set");
        let is_live = |vm: &VmId| *vm == vms[0];
        let left = || vms.iter().map(|vm| VmDir::new(dir.path(), vm).logs().exists()).collect::<Vec<_>>();
        let roomy = Retention { age_secs: 5000, bytes: 1000, scope_bytes: 1000 };
        assert_eq!(forget_old(dir.path(), roomy, is_live).expect("looked"), 0);
        assert_eq!(forget_old(dir.path(), Retention { bytes: 150, ..roomy }, is_live).expect("looked"), 1);
        assert_eq!(left(), [true, false, true], "the one that is over longest went");
        assert_eq!(forget_old(dir.path(), Retention { bytes: 0, ..roomy }, is_live).expect("looked"), 1);
        assert_eq!(left(), [true, false, false]);
        assert!(vms.iter().all(|vm| VmDir::new(dir.path(), vm).record().exists()));
    }
}
