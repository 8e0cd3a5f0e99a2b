//! Files of VMs.

use cakework_core::limit;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file or directory of a VM.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "name": "handlers.py", "kind": "file", "size": 15, "mode": "0644", "uid": 0, "gid": 0,
    "modifiedAt": "2026-01-05T14:00:00Z",
}))]
pub struct FileEntry {
    /// The last part of its path. What is no UTF-8 in it is U+FFFD.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a file.
    pub size: u64,
    /// Permission bits in octal digits, such as `0644`.
    #[schema(example = "0644")]
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was last changed.
    #[schema(format = DateTime)]
    pub modified_at: String,
    /// Where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket.
    Other,
}

/// What is in a directory, by name.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileList {
    /// The directory.
    pub directory: FileEntry,
    /// Its entries.
    #[schema(max_items = 10_000)]
    pub entries: Vec<FileEntry>,
    /// There are more.
    #[schema(example = false)]
    pub truncated: bool,
}

const _: () = assert!(limit::VM_LISTING_MAX == 10_000, "the schema says how many");
