//! Why a layer or archive can't be unpacked, in the words that its user gets. Each sentence speaks of a layer; of an
//! archive it is told as one.

use std::io;

use cakework_wire::host::{AgentProblem, ProblemCode};

use super::Purpose;

/// The longest part of a stranger's name that a sentence repeats, in characters.
const SHOWN_CHARS: usize = 120;
/// What a sentence begins with.
const LAYER: &str = "A layer";

/// A layer can't be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is not a layer, or not the one that was promised.
    #[error("{0}")]
    Invalid(String),
    /// It is over a limit.
    #[error("{0}")]
    TooLarge(String),
    /// It is no archive at all.
    #[error("The file is no tar archive.")]
    NoArchive,
    /// The disk is full.
    #[error("The host's disk is full.")]
    DiskFull,
    /// This host's fault.
    #[error("{0}")]
    Internal(String),
}

impl Fault {
    /// A fault of the layer.
    pub fn invalid(sentence: impl Into<String>) -> Self {
        Self::Invalid(sentence.into())
    }

    /// What went wrong while the stream was read: a fault of ours is carried through the readers, anything else is the
    /// decoder's complaint.
    pub fn reading(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(fault) => fault,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::invalid("A layer ends too early."),
            Err(error) => Self::Invalid(format!("A layer can't be decompressed: {error}.")),
        }
    }

    /// What went wrong while `name` was made.
    pub fn writing(name: &[u8], error: rustix::io::Errno) -> Self {
        use rustix::io::Errno;
        match error {
            Errno::NOSPC | Errno::DQUOT => Self::DiskFull,
            Errno::NAMETOOLONG | Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NOENT | Errno::EXIST => {
                Self::Invalid(format!("A layer's entry {} can't be placed: {}.", shown(name), words(error)))
            }
            error => Self::Internal(format!("unpacking {}: {error}", shown(name))),
        }
    }

    /// As the host protocol says it. What is the host's own fault is not told to the user.
    pub fn problem(&self, purpose: Purpose) -> AgentProblem {
        let code = match self {
            Self::Invalid(_) => ProblemCode::ImageInvalid,
            Self::TooLarge(_) => ProblemCode::ImageTooLarge,
            Self::NoArchive => ProblemCode::Unknown,
            Self::DiskFull => ProblemCode::DiskFull,
            Self::Internal(_) => ProblemCode::Internal,
        };
        let message = match self {
            Self::Internal(_) => "The host could not make a layer.".into(),
            other => other.to_string(),
        };
        let message = match (purpose, message.strip_prefix(LAYER)) {
            (Purpose::Archive, Some(rest)) => format!("The archive{rest}"),
            _ => message,
        };
        AgentProblem { code, message }
    }
}

/// Carries a fault through a chain of readers.
impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        Self::other(fault)
    }
}

/// A stranger's name, made fit for a sentence: cut, and without control characters.
pub fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut shown: String =
        text.chars().take(SHOWN_CHARS).map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    format!("“{shown}”")
}

fn words(error: rustix::io::Errno) -> &'static str {
    use rustix::io::Errno;
    match error {
        Errno::NAMETOOLONG => "a name is too long",
        Errno::LOOP => "symbolic links lead in a circle",
        Errno::NOTDIR => "something on its way is not a directory",
        Errno::ISDIR => "a directory is in its place",
        Errno::EXIST => "something is in its place",
        _ => "what it needs is not in its layer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_archive_it_is_told_as_one() {
        let fault = Fault::invalid("A layer's entry “x” leads upwards.");
        assert_eq!(fault.problem(Purpose::Layer).message, "A layer's entry “x” leads upwards.");
        assert_eq!(fault.problem(Purpose::Archive).message, "The archive's entry “x” leads upwards.");
        let fault = Fault::Internal("a path of the host".into());
        assert!(!fault.problem(Purpose::Archive).message.contains("path"));
    }
}
