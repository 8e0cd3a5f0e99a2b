//! An overlay's writable directory as a layer's tar stream: the same bytes for the same tree.
//!
//! Entries are sorted by name, each directory before what is in it; PAX headers stand only where a header's own fields
//! are too small; times are whole seconds. Whiteouts and opaque directories are told in the words of the OCI image spec
//! ("Whiteouts"), hard links within the directory are kept, sockets are left out, other device nodes are refused.
//! `security.capability` and `user.*` attributes are kept. The root itself is an entry only where its mode, owner or
//! attributes are not those of a directory that was just made, so that a step that changed nothing has no layer.
//!
//! Invariant: the files are a stranger's, so that no name is opened but by `openat2(RESOLVE_BENEATH |
//! RESOLVE_NO_SYMLINKS)`, and nothing but directories and regular files is opened at all. Blocking.

mod header;
mod node;
mod walk;

use std::io::Write;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use self::walk::Walk;
use crate::unpack::fault::Fault;

/// Writes what `upper` holds to `out`; answers how many entries it has. Without any nothing is written.
///
/// # Errors
/// What can't be in a layer, or a failure of `out` or the disk.
pub fn pack(upper: &Path, out: &mut impl Write) -> Result<u64, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(upper, flags, Mode::empty())
        .map_err(|error| Fault::Internal(format!("opening a writable layer: {error}")))?;
    let mut walk = Walk::new(root, out);
    walk.run()?;
    walk.finish()
}
