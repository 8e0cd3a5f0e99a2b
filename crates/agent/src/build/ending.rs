//! Why the work on a build ended without an image, in the words that its owner gets.

use cakework_core::build::BuildErrorCode;
use cakework_dockerfile::{Fault, FaultCode};
use cakework_image::rootfs::RootfsError;
use cakework_wire::build::BuildProblem;
use cakework_wire::host::{AgentProblem, ProblemCode};

use super::files::FilesError;
use super::record;
use crate::net::NetError;

/// How the work ended.
#[derive(Debug)]
pub enum Ending {
    /// By a fault of the Dockerfile, of what it needs, or of this host.
    Failed(BuildProblem),
    /// From outside.
    Stopped(Stop),
}

/// What ends a build from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its owner.
    Cancelled,
    /// Its deadline.
    Timeout,
    /// The agent's end.
    Shutdown,
}

impl Ending {
    /// A failure that is not the host's.
    pub fn new(code: BuildErrorCode, message: impl Into<String>) -> Self {
        Self::Failed(BuildProblem::new(code, message))
    }

    /// A failure of the host: the cause goes to the agent's log.
    pub fn host(doing: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let error: Box<dyn std::error::Error + Send + Sync> = error.into();
        let full = error.downcast_ref::<std::io::Error>().is_some_and(is_full);
        if full {
            return Self::new(BuildErrorCode::DiskFull, "The build's disk is full.");
        }
        tracing::error!(error = &*error as &(dyn std::error::Error + 'static), "a build could not {doing}");
        Self::new(BuildErrorCode::Internal, "The host failed; its operator finds the cause in the agent's log.")
    }

    /// What went wrong with a root, where it is the tree's fault: `code`.
    pub fn rootfs(code: BuildErrorCode, error: RootfsError) -> Self {
        match error {
            RootfsError::NoSpace(_) => Self::new(BuildErrorCode::DiskFull, "The build's disk is full."),
            RootfsError::TooManyLayers { .. } => Self::new(BuildErrorCode::ImageTooLarge, sentence(&error.to_string())),
            RootfsError::NoSuchUser { .. } | RootfsError::Unusable { .. } => {
                Self::new(code, sentence(&error.to_string()))
            }
            RootfsError::Host { .. } => Self::host("use a root", error),
        }
    }

    /// What went wrong with files; `code` where it is not the host's fault.
    pub fn files(code: BuildErrorCode, error: FilesError) -> Self {
        match error {
            FilesError::NoSpace => Self::new(BuildErrorCode::DiskFull, error.to_string()),
            FilesError::Changed(_) | FilesError::Host { .. } => Self::host("copy files", error),
            FilesError::NotFound(_)
            | FilesError::NothingMatches(_)
            | FilesError::NotADirectory(_)
            | FilesError::IsADirectory(_)
            | FilesError::Special { .. }
            | FilesError::Whiteout(_)
            | FilesError::Unusable { .. }
            | FilesError::TooLarge { .. } => Self::new(code, error.to_string()),
        }
    }

    /// What a registry, an image or an archive is to blame for; `code` where nothing better is known.
    pub fn image(code: BuildErrorCode, problem: AgentProblem) -> Self {
        let code = match problem.code {
            ProblemCode::RegistryUnauthorized => BuildErrorCode::RegistryUnauthorized,
            ProblemCode::EgressDenied => BuildErrorCode::EgressDenied,
            ProblemCode::DiskFull => BuildErrorCode::DiskFull,
            ProblemCode::Internal => BuildErrorCode::Internal,
            ProblemCode::ImageTooLarge if code == BuildErrorCode::BaseImage => BuildErrorCode::ImageTooLarge,
            ProblemCode::ImageNotFound
            | ProblemCode::ImageArchitecture
            | ProblemCode::ImageInvalid
            | ProblemCode::ImageTooLarge
            | ProblemCode::ImageReference
            | ProblemCode::RegistryUnavailable
            | ProblemCode::Unknown
            | ProblemCode::NotRunning
            | ProblemCode::Busy
            | ProblemCode::InvalidCommand
            | ProblemCode::Protocol => code,
        };
        Self::new(code, problem.message)
    }

    /// The same for what is fetched or unpacked onto the build's own disk: that one is full, and not the host's.
    pub fn onto_disk(code: BuildErrorCode, problem: AgentProblem) -> Self {
        match problem.code {
            ProblemCode::DiskFull => Self::new(BuildErrorCode::DiskFull, "The build's disk is full."),
            _ => Self::image(code, problem),
        }
    }

    /// Names the instruction that is to blame, where none is named yet.
    #[must_use]
    pub fn at(self, instruction: &str, line: u32) -> Self {
        match self {
            Self::Failed(problem) if problem.line.is_none() => {
                Self::Failed(BuildProblem { instruction: Some(instruction.to_owned()), line: Some(line), ..problem })
            }
            other => other,
        }
    }

    /// What the build's report says.
    pub fn problem(self) -> BuildProblem {
        match self {
            Self::Failed(problem) => problem,
            Self::Stopped(Stop::Cancelled) => record::cancelled(),
            Self::Stopped(Stop::Timeout) => {
                BuildProblem::new(BuildErrorCode::Timeout, "The build took longer than it may.")
            }
            Self::Stopped(Stop::Shutdown) => record::host_lost(),
        }
    }
}

impl From<BuildProblem> for Ending {
    fn from(problem: BuildProblem) -> Self {
        Self::Failed(problem)
    }
}

impl From<Fault> for Ending {
    fn from(fault: Fault) -> Self {
        let code = match fault.code {
            FaultCode::Invalid => BuildErrorCode::DockerfileInvalid,
            FaultCode::Unsupported => BuildErrorCode::DockerfileUnsupported,
        };
        Self::Failed(BuildProblem {
            code,
            message: fault.message,
            instruction: Some(fault.instruction).filter(|text| !text.is_empty()),
            line: Some(fault.line).filter(|line| *line > 0),
        })
    }
}

impl From<NetError> for Ending {
    fn from(error: NetError) -> Self {
        Self::host("make a network", error)
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// An error's text as a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_instruction_named_is_to_blame() {
        let ending = Ending::new(BuildErrorCode::CopyFailed, "No.").at("COPY a b", 3).at("FROM x", 1);
        let problem = ending.problem();
        assert_eq!((problem.instruction.as_deref(), problem.line), (Some("COPY a b"), Some(3)));
    }

    #[test]
    fn a_full_disk_is_told_from_a_failure_of_the_host() {
        let full = Ending::host("write", std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(full.problem().code, BuildErrorCode::DiskFull);
        let other = Ending::host("write", std::io::Error::other("/secret/path"));
        let problem = other.problem();
        assert_eq!(problem.code, BuildErrorCode::Internal);
        assert!(!problem.message.contains("secret"));
    }
}
