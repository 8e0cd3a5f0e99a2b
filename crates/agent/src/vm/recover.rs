//! What a new agent does with what an earlier one left: VMs on record are taken up, everything else that bears the
//! instance's name is destroyed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cakework_core::id::VmId;
use futures_util::StreamExt;

use super::clean;
use super::dir::VmDir;
use super::driver::Parts;
use super::kept::{AnyRecord, Restored};
use super::record::{Ask, Assignment, Record, Tombstone};
use super::registry::Registry;
use super::watcher;
use crate::cached;
use crate::net::Slot;
use crate::sys::file;
use crate::sys::{mounts, process};

/// Leftovers that are destroyed at the same time.
const PARALLEL: usize = 8;

/// Reads what is written down about each VM. Blocks.
///
/// # Errors
/// Where the directory can't be read. A VM whose own files can't be read is left out, and so becomes a leftover.
pub fn read(dir: &Path) -> std::io::Result<Vec<(VmId, Restored)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(VmDir::all(dir))? {
        let name = entry?.file_name();
        let Some(vm) = name.to_str().and_then(|name| name.parse::<VmId>().ok()) else { continue };
        match read_one(&VmDir::new(dir, &vm)) {
            Ok(files) => found.push((vm, files)),
            Err(error) => tracing::error!(%vm, %error, "a VM's files can't be read: it is destroyed"),
        }
    }
    Ok(found)
}

fn read_one(dir: &VmDir) -> std::io::Result<Restored> {
    let assignment: Option<Assignment> = file::read_json(&dir.assignment())?;
    let held = match assignment {
        Some(assignment) => {
            // A record that is damaged says nothing; the assignment was durable before it.
            let record = if assignment.cached.is_some() {
                let record: Option<cached::Record> = file::read_json(&dir.record()).ok().flatten();
                AnyRecord::Cached(record.unwrap_or_else(|| cached::Record::admitted(&assignment)))
            } else {
                // Nor does one of another placement.
                let record: Option<Record> = file::read_json(&dir.record()).ok().flatten();
                let record = record.filter(|record| record.generation == assignment.generation);
                AnyRecord::Once(record.unwrap_or_else(|| Record::admitted(&assignment)))
            };
            Some((assignment, record))
        }
        None => None,
    };
    let tombstone: Option<Tombstone> = file::read_json(&dir.tombstone())?;
    let ask: Option<Ask> = file::read_json(&dir.asked())?;
    Ok(Restored { held, tombstone, ask: ask.unwrap_or_default() })
}

/// Takes up all VMs that are on record, then destroys what else is there.
///
/// # Errors
/// Where the VMs' directory can't be read.
pub async fn recover(parts: &Arc<Parts>, registry: &Registry, dir: &Path) -> anyhow::Result<()> {
    let path = dir.to_owned();
    for (vm, files) in tokio::task::spawn_blocking(move || read(&path)).await?? {
        registry.restore(vm, files);
    }
    let live = registry.live();
    // A slot that no VM ever has: what has no assignment any more is found by its VM's name alone.
    let nobody = Slot(u16::try_from(registry.amounts().0.slots).unwrap_or(u16::MAX - 2).saturating_add(1));
    let found = tokio::task::spawn_blocking({
        let (parts, dir, live) = (Arc::clone(parts), dir.to_owned(), live.clone());
        move || leftovers(&parts, &dir, &live)
    });
    let mut leftovers = found.await??;
    leftovers.extend(parts.network.list().await?);
    leftovers.retain(|vm| !live.contains(vm));
    futures_util::stream::iter(leftovers)
        .for_each_concurrent(PARALLEL, |vm| async move {
            tracing::warn!(%vm, "leftovers of a VM are destroyed");
            let vm_dir = VmDir::new(dir, &vm);
            let assignment: Option<Assignment> = file::read_json(&vm_dir.assignment()).ok().flatten();
            let slot = assignment.map_or(nobody, |assignment| assignment.slot);
            if let Err(error) = clean::destroy(parts, &vm, &vm_dir, slot).await {
                tracing::error!(%vm, error = &error as &dyn std::error::Error, "leftovers of a VM are still there");
            }
        })
        .await;
    Ok(())
}

/// The VMs, beside those that live, that something on this host belongs to. Their monitors are killed at once: they
/// could still be about to make more.
fn leftovers(parts: &Parts, dir: &Path, live: &BTreeSet<VmId>) -> std::io::Result<BTreeSet<VmId>> {
    let all = VmDir::all(dir);
    let vm_in = |path: &Path| path.strip_prefix(&all).ok()?.iter().next()?.to_str()?.parse::<VmId>().ok();
    for (monitor, of) in watcher::all()? {
        if vm_in(&of).is_some_and(|vm| !live.contains(&vm)) {
            process::kill(monitor);
        }
    }
    let groups = parts.cgroups.list();
    let mut found: BTreeSet<VmId> = groups.iter().filter_map(|name| name.parse().ok()).collect();
    found.extend(parts.gvisor.known());
    found.extend(parts.gvisor.processes()?.into_iter().filter_map(|(_, vm)| vm));
    found.extend(mounts::below(&all)?.iter().filter_map(|point| vm_in(point)));
    Ok(found)
}
