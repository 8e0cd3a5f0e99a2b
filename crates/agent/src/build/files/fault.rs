//! Why files can't be copied, in the words that a Dockerfile's author gets.

use std::io;

/// The longest part of a stranger's name that a sentence repeats, in characters.
const SHOWN_CHARS: usize = 120;

/// Files can't be found, read or placed. Names in it are cut and free of control characters.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A source is not in its tree.
    #[error("{0} is not there, or is left out by .dockerignore.")]
    NotFound(String),
    /// No source with wildcards names anything.
    #[error("No file matches {0}.")]
    NothingMatches(String),
    /// Something is in the way of a directory.
    #[error("{0} is not a directory.")]
    NotADirectory(String),
    /// A directory is in the way of a file.
    #[error("{0} is a directory, and a file can't replace it.")]
    IsADirectory(String),
    /// What is there is not to be copied, or not to be mounted.
    #[error("{path} is a {kind}, which a build can't use.")]
    Special {
        /// Where it is.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A layer can't carry the name.
    #[error("The name {0} begins with .wh., which means a removed file in a layer.")]
    Whiteout(String),
    /// A path that leads nowhere, or is over the kernel's limits.
    #[error("{path} {problem}.")]
    Unusable {
        /// The path.
        path: String,
        /// Why, as the end of a sentence.
        problem: &'static str,
    },
    /// More than a build may copy at once.
    #[error("More than {max} {unit} would be copied at once.")]
    TooLarge {
        /// The limit.
        max: u64,
        /// Of what.
        unit: &'static str,
    },
    /// The disk is full: the build's own, as a rule.
    #[error("No space is left on the build's disk.")]
    NoSpace,
    /// Something changed between finding and copying it: a fault of ours.
    #[error("{0} changed while it was copied")]
    Changed(String),
    /// The host refused something.
    #[error("could not {doing}")]
    Host {
        /// What was tried.
        doing: &'static str,
        /// What the host said.
        #[source]
        source: io::Error,
    },
}

impl FilesError {
    /// What the host said of `path`, apart from what its author can do something about.
    pub(super) fn at<E: Into<io::Error>>(doing: &'static str, path: &[u8]) -> impl Fn(E) -> Self {
        let path = shown(path);
        move |error| {
            let source = error.into();
            let unusable = |problem| Self::Unusable { path: path.clone(), problem };
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
                io::ErrorKind::InvalidFilename => unusable("is too long a name"),
                _ if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                    unusable("leads through links in a circle")
                }
                _ => Self::Host { doing, source },
            }
        }
    }
}

/// A stranger's name, made fit for a sentence.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let readable = |char: char| if char.is_control() { '\u{fffd}' } else { char };
    let mut shown: String = text.chars().take(SHOWN_CHARS).map(readable).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    format!("“{shown}”")
}
