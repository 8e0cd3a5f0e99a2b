//! A VM's root file system on the host: its writable disk, the overlay over its image's layers, and the few files that
//! Cakework puts in it or reads from it before it starts. It knows neither registries nor engines.
//!
//! Invariant: no path inside a root is resolved by anything but `openat2(RESOLVE_IN_ROOT)`, whatever links an image
//! brings. Every function blocks; call them from a blocking thread. Those that undo are idempotent.

use std::path::{Path, PathBuf};

/// Most layers of one root: a lower directory per layer, and the kernel's limit on them is far above it.
pub const LAYERS_MAX: usize = 127;

/// Why a root could not be made, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// The host's disk has no room.
    #[error("no space is left on the host's disk ({0})")]
    NoSpace(&'static str),
    /// The image has more layers than a root can stack.
    #[error("the image has {count} layers; at most {max} can be used", max = LAYERS_MAX)]
    TooManyLayers {
        /// How many it has.
        count: usize,
    },
    /// The image's `USER` names nobody in it.
    #[error("the image has no {kind} `{name}`")]
    NoSuchUser {
        /// `user` or `group`.
        kind: &'static str,
        /// The name, cut to a readable length.
        name: String,
    },
    /// The image has something at a path that can't be used: not a plain file or directory, or too large.
    #[error("`{path}` in the image {problem}")]
    Unusable {
        /// The path inside the root.
        path: String,
        /// Why, as the end of a sentence.
        problem: &'static str,
    },
    /// The host refused something.
    #[error("could not {doing}")]
    Host {
        /// What was tried.
        doing: String,
        /// What the host said.
        #[source]
        source: std::io::Error,
    },
}

/// Who a VM's process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Further groups, without the primary one.
    pub groups: Vec<u32>,
    /// Home directory, `/` where the image names none.
    pub home: String,
}

/// Makes a writable disk: a sparse file of `size_mib` MiB with an ext4 file system. An existing file is replaced.
///
/// # Errors
/// [`RootfsError`].
pub fn make_disk(_file: &Path, _size_mib: u64) -> Result<(), RootfsError> {
    unimplemented!()
}

/// Mounts a disk on `target`, which is made if absent. Unmounting frees the loop device. Mounted already is fine.
///
/// # Errors
/// [`RootfsError`].
pub fn mount_disk(_file: &Path, _target: &Path) -> Result<(), RootfsError> {
    unimplemented!()
}

/// Mounts on `target` the overlay of `layers` (lowest first; none is an empty root) with the writable layer on the mounted
/// `disk`, in `disk/upper` and `disk/work`.
///
/// # Errors
/// [`RootfsError`].
pub fn mount_overlay(_layers: &[PathBuf], _disk: &Path, _target: &Path) -> Result<(), RootfsError> {
    unimplemented!()
}

/// Unmounts everything on `target`. Nothing mounted, or no such directory, is fine.
///
/// # Errors
/// [`RootfsError`].
pub fn unmount(_target: &Path) -> Result<(), RootfsError> {
    unimplemented!()
}

/// Writes a file at `path` inside `root`; parents are made. What was there is replaced.
///
/// # Errors
/// [`RootfsError`].
pub fn write_file(_root: &Path, _path: &str, _bytes: &[u8], _mode: u32) -> Result<(), RootfsError> {
    unimplemented!()
}

/// Makes a directory at `path` inside `root`, and its parents. One that is there keeps its mode.
///
/// # Errors
/// [`RootfsError`].
pub fn make_dir(_root: &Path, _path: &str, _mode: u32) -> Result<(), RootfsError> {
    unimplemented!()
}

/// Finds who `user` is in `root`, by docker's rules: empty, `name`, `uid`, each with `:group` or `:gid`.
///
/// # Errors
/// [`RootfsError`].
pub fn find_user(_root: &Path, _user: &str) -> Result<User, RootfsError> {
    unimplemented!()
}
