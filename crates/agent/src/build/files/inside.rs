//! Paths inside a tree, resolved by the kernel.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::fault::{FilesError, shown};

/// Longest path that the kernel takes (`PATH_MAX` without its NUL).
pub(super) const PATH_MAX_BYTES: usize = 4095;
/// The kernel answers `EAGAIN` when something was renamed while it resolved `..`.
const RESOLVE_ATTEMPTS_MAX: u32 = 32;
const WHITEOUT: &[u8] = b".wh.";

/// A tree to read from: a directory of the host, or one inside it whose way there is a stranger's.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    /// From the root.
    path: Vec<u8>,
}

impl Folder {
    /// All of a directory, whose own path is the host's.
    pub fn all(root: &Path) -> Self {
        Self { root: root.to_owned(), path: Vec::new() }
    }

    /// A directory inside that one, for which no link leads out of it. It is the root of the tree then.
    pub fn inside(root: &Path, path: &str) -> Self {
        Self { root: root.to_owned(), path: path.as_bytes().to_vec() }
    }

    pub(super) fn open(&self) -> Result<OwnedFd, FilesError> {
        let root = open_root(&self.root)?;
        match resolve(&root, &self.path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => Err(FilesError::NotFound(shown(&self.path))),
            Err(Errno::NOTDIR) => Err(FilesError::NotADirectory(shown(&self.path))),
            other => other.map_err(FilesError::at("open a tree", &self.path)),
        }
    }
}

/// Something that can be mounted.
#[derive(Debug)]
pub struct Found {
    /// Names it and gives no access to what is in it (`O_PATH`).
    pub node: OwnedFd,
    /// It is a directory, or else a regular file.
    pub is_dir: bool,
}

/// Finds a directory or a regular file in a tree, wherever links inside it lead.
///
/// # Errors
/// [`FilesError::NotFound`], [`FilesError::Special`], [`FilesError::Unusable`], [`FilesError::Host`].
pub fn find(folder: &Folder, path: &str) -> Result<Found, FilesError> {
    let node = match resolve(&folder.open()?, path.as_bytes(), OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(FilesError::NotFound(shown(path.as_bytes()))),
        other => other.map_err(FilesError::at("find a file", path.as_bytes()))?,
    };
    match kind(&stat(&node, path.as_bytes())?) {
        FileType::Directory => Ok(Found { node, is_dir: true }),
        FileType::RegularFile => Ok(Found { node, is_dir: false }),
        other => Err(special(path.as_bytes(), other)),
    }
}

pub(super) fn open_root(root: &Path) -> Result<OwnedFd, FilesError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty()).map_err(FilesError::at("open a root", b"/"))
}

/// Opens a path wherever symbolic links lead inside the root.
pub(super) fn resolve(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    open(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens a path on which nothing may be a link: one that a walk has found.
pub(super) fn walk_to(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    open(root, path, flags | OFlags::NOFOLLOW, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn open(root: &OwnedFd, path: &[u8], flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = flags | OFlags::CLOEXEC;
    for _ in 1..RESOLVE_ATTEMPTS_MAX {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    rustix::fs::openat2(root, path, flags, Mode::empty(), how)
}

/// Opens for reading what a descriptor names, if it is a regular file: so no FIFO blocks and no device notices.
pub(super) fn open_file(node: &OwnedFd, path: &[u8]) -> Result<File, FilesError> {
    match kind(&stat(node, path)?) {
        FileType::RegularFile => File::open(format!("/proc/self/fd/{}", node.as_raw_fd()))
            .map_err(FilesError::at("open a file of a tree", path)),
        other => Err(special(path, other)),
    }
}

/// Where in the root something lies, when all links on the way to it are resolved.
pub(super) fn real_path(root: &OwnedFd, node: &OwnedFd, path: &[u8]) -> Result<Vec<u8>, FilesError> {
    let link = |of: &OwnedFd| {
        std::fs::read_link(format!("/proc/self/fd/{}", of.as_fd().as_raw_fd()))
            .map_err(FilesError::at("find where a file lies", path))
    };
    let (root, node) = (link(root)?, link(node)?);
    let outside = |_| FilesError::Changed(shown(path));
    Ok(node.strip_prefix(&root).map_err(outside)?.as_os_str().as_bytes().to_vec())
}

pub(super) fn stat(node: &OwnedFd, path: &[u8]) -> Result<Stat, FilesError> {
    rustix::fs::fstat(node).map_err(FilesError::at("look at a file", path))
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(super) fn special(path: &[u8], kind: FileType) -> FilesError {
    let kind = match kind {
        FileType::Socket => "socket",
        FileType::Fifo => "FIFO",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "thing of an unknown kind",
    };
    FilesError::Special { path: shown(path), kind }
}

/// Refuses a name that a layer would take for a removed file.
pub(super) fn check_name(name: &[u8], path: &[u8]) -> Result<(), FilesError> {
    if name.starts_with(WHITEOUT) { Err(FilesError::Whiteout(shown(path))) } else { Ok(()) }
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

/// A path's names, without empty ones and `.`; `..` stays, for the kernel to resolve.
pub(super) fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}
