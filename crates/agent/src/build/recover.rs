//! What a new agent does with the builds that an earlier one left: none goes on. What they took is given back, and those
//! that had no outcome yet have failed.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use cakework_core::id::BuildId;
use cakework_image::rootfs;
use cakework_wire::build::BuildReport;
use rustix::mount::MountFlags;

use super::Parts;
use super::dir::BuildDir;
use super::record::{self, Assignment, Tombstone};
use super::registry::Builds;
use crate::sys::file::{self, Survives};
use crate::sys::{mounts, process};
use crate::vm;
use crate::vm::clean;

/// What the engine's directory holds: a few files for each build that runs.
const RUNSC_ROOT_MAX: &std::ffi::CStr = c"size=64m,mode=700";

/// Ends what is left of builds, then takes up how they ended. To be called before VMs are taken up: a build's place on the
/// host may be given to one from then on.
///
/// # Errors
/// Where the builds' directory can't be read.
pub async fn recover(builds: &Builds) -> anyhow::Result<()> {
    let parts = Arc::clone(builds.parts());
    let found = tokio::task::spawn_blocking({
        let parts = Arc::clone(&parts);
        move || find(&parts)
    });
    for (build, dir) in found.await?? {
        if let Err(error) = take_up(builds, &build, &dir).await {
            tracing::error!(%build, %error, "a build that an earlier agent left could not be taken up");
        }
    }
    // Nobody's directories: what is in them hangs on no build any more.
    tokio::task::spawn_blocking(move || {
        for point in mounts::below(&BuildDir::all(&parts.dir))? {
            rootfs::unmount(&point)?;
        }
        parts.caches.sweep(&parts.vm.boot_id)?;
        mount_runsc_root(&parts.runsc_root)
    })
    .await?
}

/// The builds' directories. Their monitors are killed at once: they could still be about to make a sandbox.
fn find(parts: &Parts) -> std::io::Result<Vec<(BuildId, BuildDir)>> {
    let all = BuildDir::all(&parts.dir);
    for (monitor, of) in vm::monitors()? {
        if of.starts_with(&all) {
            process::kill(monitor);
        }
    }
    let names = std::fs::read_dir(&all)?.flatten().map(|entry| entry.file_name());
    let builds = names.filter_map(|name| name.to_str()?.parse::<BuildId>().ok());
    Ok(builds.map(|build| (build.clone(), BuildDir::new(&parts.dir, &build))).collect())
}

async fn take_up(builds: &Builds, build: &BuildId, dir: &BuildDir) -> anyhow::Result<()> {
    let parts = builds.parts();
    let assignment: Option<Assignment> = file::read_json(&dir.assignment())?;
    let mut outcome: Option<BuildReport> = file::read_json(&dir.outcome())?;
    let tombstone: Option<Tombstone> = file::read_json(&dir.tombstone())?;
    if let Some(assignment) = &assignment {
        if outcome.as_ref().is_none_or(|outcome| outcome.generation != assignment.generation) {
            let lost = record::failed(build, assignment.generation, record::host_lost());
            file::write_json(&dir.outcome(), &lost, Survives::PowerLoss)?;
            outcome = Some(lost);
        }
        tracing::warn!(%build, "leftovers of a build are destroyed");
        match clean::destroy(&parts.vm, &assignment.sandbox, dir.vm(), assignment.slot).await {
            Ok(()) => file::remove(&dir.assignment())?,
            // Its assignment stays, so that the next start tries again.
            Err(error) => {
                tracing::error!(%build, error = &error as &dyn std::error::Error, "leftovers of a build stay")
            }
        }
    }
    if outcome.is_none() && tombstone.is_none() {
        // A context whose build never came.
        file::remove(dir.path())?;
        return Ok(());
    }
    remove_contexts(dir)?;
    builds.restore(build.clone(), outcome, tombstone);
    Ok(())
}

/// Makes the engine's directory a file system in memory.
fn mount_runsc_root(root: &Path) -> anyhow::Result<()> {
    rootfs::unmount(root)?;
    file::remove(root)?;
    std::fs::DirBuilder::new().mode(0o700).create(root)?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    Ok(rustix::mount::mount("tmpfs", root, "tmpfs", flags, Some(RUNSC_ROOT_MAX))?)
}

/// Removes the contexts that were put for a build. Blocks.
///
/// # Errors
/// What the disk said.
pub fn remove_contexts(dir: &BuildDir) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir.path())? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with("context-")) {
            file::remove(&entry.path())?;
        }
    }
    Ok(())
}
