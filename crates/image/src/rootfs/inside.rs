//! Files and directories inside a root, whose links, FIFOs and devices a stranger made.
//!
//! Invariant: the kernel resolves every path with `openat2(RESOLVE_IN_ROOT)` (Linux 5.6), so that none leaves the root,
//! and nothing but a regular file is ever opened for its content.

use std::fs::{File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::RootfsError;
use super::disk::host;

/// Bytes of a path.
const PATH_MAX_BYTES: usize = 4095;
/// The kernel answers `EAGAIN` when something was renamed while it resolved `..`.
const RESOLVE_ATTEMPTS_MAX: u32 = 32;
const PARENT_MODE: u32 = 0o755;

/// Writes a file at `path` inside `root`; parents are made with mode 0755. What was there is replaced, a link itself and
/// not what it points to.
///
/// # Errors
/// [`RootfsError::Unusable`] where a directory has the name, or a parent is none; [`RootfsError::NoSpace`],
/// [`RootfsError::Host`].
pub fn write_file(root: &Path, path: &str, bytes: &[u8], mode: u32) -> Result<(), RootfsError> {
    let components = components(path)?;
    let Some((&name, parents)) = components.split_last() else {
        return Err(unusable(path, "is a directory"));
    };
    if name == ".." {
        return Err(unusable(path, "is a directory"));
    }
    let root = open_root(root)?;
    let parent = make_dirs(&root, parents, PARENT_MODE, path)?;
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(Errno::ISDIR) => return Err(unusable(path, "is a directory")),
        Err(errno) => return Err(host("replace a file in the root")(errno)),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR);
    let mut file = file.map(File::from).map_err(host("make a file in the root"))?;
    // The mode is set apart, because the process's mask would cut the one given to open.
    file.write_all(bytes)
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .map_err(host("write a file in the root"))
}

/// Makes a directory at `path` inside `root`, and its parents, with mode 0755 for those. One that is there stays as it is.
///
/// # Errors
/// [`RootfsError::Unusable`] where something else has the name, or a link on the way leads nowhere;
/// [`RootfsError::NoSpace`], [`RootfsError::Host`].
pub fn make_dir(root: &Path, path: &str, mode: u32) -> Result<(), RootfsError> {
    make_dirs(&open_root(root)?, &components(path)?, mode, path).map(drop)
}

/// Whether something is at `path` inside `root`. Nothing is opened but its name.
///
/// # Errors
/// [`RootfsError::Unusable`] where it is no path; [`RootfsError::Host`].
pub fn is_there(root: &Path, path: &str) -> Result<bool, RootfsError> {
    match resolve(&open_root(root)?, &components(path)?.join("/"), OFlags::empty()) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(host("look into the root")(errno)),
    }
}

/// Reads the regular file at `path` inside `root`, of `max_bytes` at most. `None` where nothing is there.
pub(super) fn read_file(root: &Path, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, RootfsError> {
    // A descriptor that only names the file, so that no FIFO blocks and no device notices.
    let named = match resolve(&open_root(root)?, &components(path)?.join("/"), OFlags::empty()) {
        Ok(named) => named,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::LOOP) => return Err(unusable(path, "is a link that leads to itself")),
        Err(errno) => return Err(host("open a file in the root")(errno)),
    };
    let stat = rustix::fs::fstat(&named).map_err(host("look at a file in the root"))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(unusable(path, "is a directory")),
        _ => return Err(unusable(path, "is not a regular file")),
    }
    let file = File::open(format!("/proc/self/fd/{}", named.as_raw_fd())).map_err(host("open a file in the root"))?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(host("read a file in the root"))?;
    if bytes.len() as u64 > max_bytes {
        return Err(unusable(path, "is too large to read"));
    }
    Ok(Some(bytes))
}

/// Opens the directory of these components, making those that are missing; the last one with `mode`.
fn make_dirs(root: &OwnedFd, components: &[&str], mode: u32, path: &str) -> Result<OwnedFd, RootfsError> {
    let mut here = resolve(root, ".", OFlags::DIRECTORY).map_err(host("open the root"))?;
    for (index, name) in components.iter().enumerate() {
        // From the root again each time: only so does the kernel hold `..` and links inside it.
        let so_far = components[..=index].join("/");
        here = match resolve(root, &so_far, OFlags::DIRECTORY) {
            Ok(next) => next,
            Err(Errno::NOENT) => {
                let mode = if index + 1 == components.len() { mode } else { PARENT_MODE };
                make_one(&here, name, mode, path)?
            }
            Err(Errno::NOTDIR) => {
                return Err(unusable(path, "is not a directory, or lies below something that is none"));
            }
            Err(Errno::LOOP) => return Err(unusable(path, "leads through a link to itself")),
            Err(errno) => return Err(host("open a directory in the root")(errno)),
        };
    }
    Ok(here)
}

fn make_one(parent: &OwnedFd, name: &str, mode: u32, path: &str) -> Result<OwnedFd, RootfsError> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => {}
        // The name is taken, and yet nothing is found there.
        Err(Errno::EXIST) => return Err(unusable(path, "leads through a link to nowhere")),
        Err(errno) => return Err(host("make a directory in the root")(errno)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(host("open a directory in the root"))?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(mode)).map_err(host("make a directory in the root"))?;
    Ok(made)
}

fn resolve(root: &OwnedFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..RESOLVE_ATTEMPTS_MAX {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    rustix::fs::openat2(root, path, flags, Mode::empty(), how)
}

fn open_root(root: &Path) -> Result<OwnedFd, RootfsError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty()).map_err(host("open the root"))
}

/// The path's names, without empty ones and `.`; `..` stays, for the kernel to resolve.
fn components(path: &str) -> Result<Vec<&str>, RootfsError> {
    if path.len() > PATH_MAX_BYTES {
        return Err(unusable(&path[..path.floor_char_boundary(100)], "is too long a path"));
    }
    if path.contains('\0') {
        return Err(unusable(&path.replace('\0', "\u{fffd}"), "is not a path"));
    }
    Ok(path.split('/').filter(|name| !name.is_empty() && *name != ".").collect())
}

pub(super) fn unusable(path: &str, problem: &'static str) -> RootfsError {
    RootfsError::Unusable { path: path.to_owned(), problem }
}
