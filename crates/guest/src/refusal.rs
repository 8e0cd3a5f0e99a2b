//! Why something is not done, in the words of the answer.

use std::io;

use cakework_wire::files::FileRefusal;
use rustix::io::Errno;

/// Something that is not done; nothing of an answer was given before.
#[derive(Debug)]
pub struct Refusal {
    pub code: FileRefusal,
    pub message: String,
}

/// Why there is no whole answer.
#[derive(Debug)]
pub enum Failure {
    /// There is a word for it.
    Refused(Refusal),
    /// The answer had begun, or nobody hears it.
    Broken(io::Error),
}

impl Refusal {
    pub fn new(code: FileRefusal, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What the system says of a path.
    pub fn of(error: &io::Error) -> Self {
        let (code, message) = match Errno::from_io_error(error) {
            Some(Errno::NOENT) => (FileRefusal::NotFound, "there is no such file or directory"),
            Some(Errno::NOTDIR) => (FileRefusal::Kind, "a part of the path is no directory"),
            Some(Errno::ISDIR) => (FileRefusal::Kind, "it is a directory"),
            Some(Errno::LOOP) => (FileRefusal::Kind, "the path has too many links"),
            Some(Errno::NXIO | Errno::NODEV) => (FileRefusal::Kind, "it is a device or a pipe"),
            Some(Errno::NOTEMPTY | Errno::EXIST) => (FileRefusal::NotEmpty, "the directory is not empty"),
            Some(Errno::NOSPC | Errno::DQUOT) => (FileRefusal::DiskFull, "the VM's disk is full"),
            Some(Errno::FBIG) => (FileRefusal::TooLarge, "it is larger than the VM's disk takes"),
            Some(Errno::NAMETOOLONG) => (FileRefusal::Denied, "a part of the path is too long"),
            Some(Errno::ROFS) => (FileRefusal::Denied, "it is on a read-only file system"),
            Some(Errno::BUSY) => (FileRefusal::Denied, "something is mounted there"),
            Some(Errno::ACCESS | Errno::PERM) => (FileRefusal::Denied, "the VM's system does not permit it"),
            _ => return Self::new(FileRefusal::Denied, format!("the VM's system says: {error}")),
        };
        Self::new(code, message)
    }

    pub fn too_large() -> Self {
        let max = cakework_core::limit::VM_FILE_MAX_BYTES;
        Self::new(FileRefusal::TooLarge, format!("it has more than {max} bytes"))
    }

    pub fn kind(message: &str) -> Self {
        Self::new(FileRefusal::Kind, message)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// A refusal from what the system says.
pub trait OrRefused<T> {
    fn or_refused(self) -> Result<T, Refusal>;
}

impl<T> OrRefused<T> for io::Result<T> {
    fn or_refused(self) -> Result<T, Refusal> {
        self.map_err(|error| Refusal::of(&error))
    }
}
