//! Files of a VM, over the host protocol: `POST /v1/vms/{vm}/files?wish=JSON`, with the bytes that go in as its body.
//!
//! The wish is a [`FileWish`]. What the host answers comes from a program in the VM and is as little to be trusted as the
//! VM: one line of JSON, a [`FileAnswer`], then the bytes that come out. An answer that breaks off is not whole.
//!
//! Into the VM, bytes go in chunks, each after its length as four bytes, the highest first; a chunk of none is the end.

use cakework_core::id::{Generation, HostId};
use serde::{Deserialize, Serialize};

/// Bytes of the line that an answer begins with.
pub const ANSWER_LINE_MAX_BYTES: usize = 64 * 1024;
/// Bytes of a chunk.
pub const CHUNK_MAX_BYTES: usize = 64 * 1024;

/// Wants something done with a VM's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileWish {
    /// The host that is meant.
    pub host_id: HostId,
    /// The placement: one that runs, and is awake.
    pub generation: Generation,
    /// What is to be done.
    pub op: FileOp,
}

/// What is to be done. Paths are absolute, and resolved in the VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "op")]
pub enum FileOp {
    /// A file's bytes, or a directory's [`Listing`] as JSON, come out.
    Read {
        /// The file or directory.
        path: String,
    },
    /// A file is written whole or not at all. Directories on the way are made.
    Write {
        /// The file; a link is followed.
        path: String,
        /// Permission bits; absent, those of the file that is replaced, or 0644.
        mode: Option<u32>,
    },
    /// A directory is made where there is none, with those on the way.
    MakeDir {
        /// The directory.
        path: String,
        /// Permission bits; absent, 0755.
        mode: Option<u32>,
    },
    /// A file, a link, or a directory goes.
    Remove {
        /// What goes; a link is not followed.
        path: String,
        /// Also what is in a directory.
        recursive: bool,
    },
    /// A directory comes out as a tar archive.
    Pack {
        /// The directory.
        path: String,
    },
    /// A tar archive goes into a directory, which is made where there is none.
    Unpack {
        /// The directory.
        path: String,
    },
}

/// What the program in the VM is to do, and whose is what it makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestWish {
    /// What is to be done.
    pub op: FileOp,
    /// Owner of what is new.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// The first line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "result")]
pub enum FileAnswer {
    /// It is done, or its bytes follow.
    Done(Entry),
    /// It is not done.
    Refused {
        /// A word that programs branch on.
        code: FileRefusal,
        /// A sentence.
        message: String,
    },
}

/// Why something is not done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileRefusal {
    /// There is nothing at the path.
    NotFound,
    /// It is not of the kind that this is done with.
    Kind,
    /// A directory has something in it.
    NotEmpty,
    /// The VM's system says no.
    Denied,
    /// It is larger, or has more entries, than is passed on.
    TooLarge,
    /// The VM's disk is full.
    DiskFull,
    /// The bytes that went in are not whole, or no archive.
    Broken,
}

/// A file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The last part of its path. What is no UTF-8 in it is U+FFFD.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file.
    pub size: u64,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was last changed, in milliseconds since 1970.
    pub modified_ms: i64,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// Its entries.
    pub entries: Vec<Entry>,
    /// There are more.
    pub truncated: bool,
}
