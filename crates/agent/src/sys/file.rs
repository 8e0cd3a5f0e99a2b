//! Files that are whole after any crash: written beside, then renamed over.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest file that is read back: an assignment holds the environment, at most a few MiB.
const READ_MAX_BYTES: u64 = 16 << 20;

/// What a write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// The end of this process. For what a reboot makes void anyhow: processes, mounts, cgroups, networks.
    Process,
    /// The loss of power.
    PowerLoss,
}

/// Replaces `path` by `value` as JSON, readable by root only.
///
/// # Errors
/// What the disk said; the old content is then still there.
pub fn write_json(path: &Path, value: &impl Serialize, survives: Survives) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let beside = path.with_extension("tmp");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&bytes)?;
    if survives == Survives::PowerLoss {
        file.sync_all()?;
    }
    std::fs::rename(&beside, path)?;
    if survives == Survives::PowerLoss
        && let Some(parent) = path.parent()
    {
        sync_dir(parent)?;
    }
    Ok(())
}

/// Makes the names in a directory durable.
///
/// # Errors
/// What the disk said.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Reads a JSON file; `None` where it does not exist.
///
/// # Errors
/// Where it can't be read, is too large or is not of the form.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> std::io::Result<Option<T>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(READ_MAX_BYTES).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Removes a file, directory or link with all that is in it; absent is fine. Never follows a link.
///
/// # Errors
/// What the disk said.
pub fn remove(path: &Path) -> std::io::Result<()> {
    let gone = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
