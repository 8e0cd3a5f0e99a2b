//! Files of VMs: what is asked for, of a VM that is awake, and what the VM says to it.
//!
//! Invariant: what comes out of a VM is hostile: it is read within bounds and passed on as bytes.

use std::io;
use std::pin::Pin;

use axum::body::Bytes;
use cakework_api::files::{FileEntry, FileKind, FileList};
use cakework_api::problem::ErrorCode;
use cakework_api::time::rfc3339;
use cakework_core::id::VmId;
use cakework_core::limit;
use cakework_wire::files::{Entry, EntryKind, FileAnswer, FileOp, FileRefusal, Listing};
use futures_util::{Stream, TryStreamExt as _};

use super::exec::{PAUSE, TRIES, awake, not_running, place};
use crate::app::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::host_exec::is_not_running;
use crate::places::Place;

/// Bytes of a directory's list: ten thousand names of 255 bytes, escaped, and what is said of each.
const LISTING_MAX_BYTES: usize = 32 * 1024 * 1024;

/// What comes out of a VM, as it comes.
pub(crate) struct Done {
    pub(crate) entry: Entry,
    pub(crate) bytes: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    pub(crate) place: Place,
}

/// A path in a VM.
pub(crate) fn path(path: String) -> Result<String, ApiError> {
    let is_one = path.starts_with('/') && path.len() <= limit::GUEST_PATH_MAX_BYTES && !path.contains('\0');
    if is_one { Ok(path) } else { Err(ApiError::field(ErrorCode::InvalidPath, "path", "`path` is no absolute path.")) }
}

/// Permission bits in octal digits.
pub(crate) fn mode(text: &str) -> Result<u32, ApiError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o7777);
    mode.ok_or_else(|| {
        ApiError::field(ErrorCode::InvalidValue, "mode", "`mode` is octal digits, such as 0644, at most 7777.")
    })
}

/// Does something with a VM's files; a sleeping VM is woken first.
pub(crate) async fn done(
    app: &App,
    caller: &Caller,
    id: &VmId,
    op: FileOp,
    mut body: Option<reqwest::Body>,
) -> Result<Done, ApiError> {
    let place = place(app, caller)?;
    // A body goes once.
    let mut tries = if body.is_none() { TRIES } else { 0 };
    loop {
        let vm = awake(app, caller, id).await?;
        let Some(host) = &vm.host else { return Err(not_running(id)) };
        match app.host.files(host, &vm, op.clone(), body.take()).await {
            Ok((FileAnswer::Done(entry), bytes)) => return Ok(Done { entry, bytes: Box::pin(bytes), place }),
            Ok((FileAnswer::Refused { code, message }, _)) => return Err(refused(code, &message)),
            Err(error) if is_not_running(&error) && tries > 0 => {
                tries -= 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) if is_not_running(&error) => return Err(not_running(id)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A directory's list, read whole.
pub(crate) async fn list(done: Done) -> Result<FileList, ApiError> {
    let Done { entry, mut bytes, place: _place } = done;
    let broken = || ApiError::new(ErrorCode::HostUnavailable, "The VM's answer broke off.").retry_after(1);
    let mut all = Vec::new();
    while let Some(chunk) = bytes.try_next().await.map_err(|_| broken())? {
        if all.len() + chunk.len() > LISTING_MAX_BYTES {
            return Err(ApiError::new(ErrorCode::FileTooLarge, "The directory's list is too large."));
        }
        all.extend_from_slice(&chunk);
    }
    let Listing { entries, truncated } = serde_json::from_slice(&all).map_err(|_| broken())?;
    let entries = entries.into_iter().take(limit::VM_LISTING_MAX).map(view).collect();
    Ok(FileList { directory: view(entry), entries, truncated })
}

/// An entry as the API shows it.
pub(crate) fn view(entry: Entry) -> FileEntry {
    let kind = match entry.kind {
        EntryKind::File => FileKind::File,
        EntryKind::Directory => FileKind::Directory,
        EntryKind::Link => FileKind::Link,
        EntryKind::Other => FileKind::Other,
    };
    FileEntry {
        name: entry.name,
        kind,
        size: entry.size,
        mode: format!("{:04o}", entry.mode & 0o7777),
        uid: entry.uid,
        gid: entry.gid,
        modified_at: rfc3339(u64::try_from(entry.modified_ms).unwrap_or(0)),
        target: entry.target,
    }
}

fn refused(code: FileRefusal, message: &str) -> ApiError {
    let code = match code {
        FileRefusal::NotFound => ErrorCode::UnknownFile,
        FileRefusal::Kind => ErrorCode::FileKind,
        FileRefusal::NotEmpty => ErrorCode::DirectoryNotEmpty,
        FileRefusal::Denied => ErrorCode::FileDenied,
        FileRefusal::TooLarge => ErrorCode::FileTooLarge,
        FileRefusal::DiskFull => ErrorCode::VmDiskFull,
        FileRefusal::Broken => ErrorCode::InvalidArchive,
    };
    // The words are the VM's own.
    let message: String = message.chars().take(500).filter(|c| !c.is_control()).collect();
    ApiError::new(code, format!("It was not done: {message}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_paths_absolute() {
        assert_eq!(
            [mode("644").ok(), mode("04755").ok(), mode("7777").ok()],
            [Some(0o644), Some(0o4755), Some(0o7777)]
        );
        for wrong in ["", "+644", "-1", "648", "rw", "17777", "99999999999999"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
        assert!(path("/a b/..".into()).is_ok());
        for wrong in ["", "a", "./a", "/a\0", &format!("/{}", "x".repeat(4096))] {
            assert!(path(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
