//! A VM's root file system on the host: its writable disk, the overlay over its image's layers, and the few files that
//! Cakework puts in it or reads from it before it starts. It knows neither registries nor engines.
//!
//! Invariant: no path inside a root is resolved by anything but `openat2(RESOLVE_IN_ROOT)`, whatever links an image
//! brings. Every function blocks; call them from a blocking thread. Those that undo are idempotent.

mod disk;
mod inside;
mod overlay;
mod sys;
#[cfg(test)]
mod tests;
pub(crate) mod user;

pub use disk::{copy_disk, make_disk, make_durable_disk, mount_disk, unmount, unmount_whole};
pub use inside::{is_there, make_dir, write_file};
pub use overlay::{mount_layers, mount_overlay};
pub use user::{User, find_user};

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
