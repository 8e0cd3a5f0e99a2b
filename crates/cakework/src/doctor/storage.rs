//! Checks of what VMs' root file systems are made of: a loop ext4 with an overlay on it, really made.
//!
//! Invariant: whatever was mounted is unmounted and removed, also where a later step fails.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use cakework_image::rootfs;

use super::host::has;
use super::row::Row;
use super::space::existing;

const DISK_MIB: u64 = 16;
/// What a scratch directory's name begins with; the process id follows.
const SCRATCH: &str = ".cakework-doctor-";

/// The rows `loop` and `overlay`.
pub fn overlay_and_loop(data_dir: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    let parent = existing(data_dir);
    sweep(&parent);
    let dir = parent.join(format!("{SCRATCH}{}", std::process::id()));
    if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        let fix = "choose a --data-dir on a writable file system";
        let why = format!("{} is not writable: {error}", parent.display());
        return vec![Row::gap("loop", why.clone(), fix), Row::gap("overlay", why, fix)];
    }
    let scratch = Scratch { dir };
    match make_loop(&scratch.dir) {
        Ok(()) => rows.push(Row::ok("loop", "an ext4 in a file was made and mounted")),
        Err(error) => {
            let fix = if has("mkfs.ext4") { "modprobe loop" } else { "apt-get install e2fsprogs" };
            rows.push(Row::gap("loop", error, fix));
            rows.push(Row::gap("overlay", "it needs the loop device", "close the gap above first"));
            return rows;
        }
    }
    rows.push(match make_overlay(&scratch.dir) {
        Ok(()) => Row::ok("overlay", format!("a root file system was put together at {}", parent.display())),
        Err(error) => Row::gap("overlay", error, "modprobe overlay, or choose a --data-dir on ext4 or xfs"),
    });
    rows
}

fn make_loop(dir: &Path) -> Result<(), String> {
    let file = dir.join("disk.img");
    std::fs::create_dir(dir.join("disk")).map_err(|error| error.to_string())?;
    rootfs::make_disk(&file, DISK_MIB).map_err(|error| chain(&error))?;
    rootfs::mount_disk(&file, &dir.join("disk")).map_err(|error| chain(&error))
}

/// A file of a lower layer that is changed through the overlay, and stays as it was below.
fn make_overlay(dir: &Path) -> Result<(), String> {
    let (lower, root) = (dir.join("lower"), dir.join("root"));
    let made = || -> std::io::Result<()> {
        std::fs::create_dir(&lower)?;
        std::fs::create_dir(&root)?;
        std::fs::write(lower.join("file"), "below")
    };
    made().map_err(|error| error.to_string())?;
    rootfs::mount_overlay(std::slice::from_ref(&lower), &dir.join("disk"), &root).map_err(|error| chain(&error))?;
    let changed = || -> std::io::Result<bool> {
        std::fs::write(root.join("file"), "above")?;
        Ok(std::fs::read(lower.join("file"))? == b"below" && std::fs::read(root.join("file"))? == b"above")
    };
    match changed() {
        Ok(true) => Ok(()),
        Ok(false) => Err("a write went through to the lower layer".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Takes away what a doctor that was killed has left in a directory.
pub fn sweep(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = name.strip_prefix(SCRATCH)
            && !Path::new("/proc").join(pid).exists()
        {
            drop(Scratch { dir: entry.path() });
        }
    }
}

struct Scratch {
    dir: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for name in ["root", "disk"] {
            if let Err(error) = rootfs::unmount(&self.dir.join(name)) {
                tracing::warn!("{} could not be unmounted: {error}", self.dir.join(name).display());
                return;
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!("{} could not be removed: {error}", self.dir.display());
        }
    }
}
