//! What one name in an overlay's writable directory means.

use rustix::fs::{FileType, Stat};

/// What a name is in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// What lies below under this name is gone: a character device 0:0 (kernel, `overlayfs.rst`, "whiteouts").
    Whiteout,
    /// A socket: of no use to anybody but the process that made it.
    Socket,
    /// Another device.
    Device,
}

impl From<&Stat> for Node {
    fn from(found: &Stat) -> Self {
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::CharacterDevice if found.st_rdev == 0 => Self::Whiteout,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => Self::Device,
        }
    }
}
