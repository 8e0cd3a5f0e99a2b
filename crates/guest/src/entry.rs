//! Files as an answer says them.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use cakework_wire::files::{Entry, EntryKind};

/// What is at `path`, as `metadata` says.
pub fn entry(path: &Path, metadata: &Metadata) -> Entry {
    let name = path.file_name().map_or_else(|| "/".into(), |name| name.to_string_lossy());
    let kind = match metadata.file_type() {
        kind if kind.is_file() => EntryKind::File,
        kind if kind.is_dir() => EntryKind::Directory,
        kind if kind.is_symlink() => EntryKind::Link,
        _ => EntryKind::Other,
    };
    let target = (kind == EntryKind::Link).then(|| std::fs::read_link(path).ok()).flatten();
    Entry {
        name: name.into_owned(),
        kind,
        size: if kind == EntryKind::File { metadata.len() } else { 0 },
        mode: metadata.permissions().mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        modified_ms: metadata.mtime().saturating_mul(1000).saturating_add(metadata.mtime_nsec() / 1_000_000),
        target: target.map(|target| target.to_string_lossy().into_owned()),
    }
}
