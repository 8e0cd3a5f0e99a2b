//! Problems in the words that a user gets. They hold no path of the host and no secret; a URL may carry a signature and
//! is never repeated.

use cakework_wire::host::{AgentProblem, ProblemCode};

/// A problem.
pub fn problem(code: ProblemCode, message: impl Into<String>) -> AgentProblem {
    AgentProblem { code, message: message.into() }
}

/// The image is not of a form that we read, or not what its digest says.
pub fn invalid(message: impl Into<String>) -> AgentProblem {
    problem(ProblemCode::ImageInvalid, message)
}

/// The image is over a limit.
pub fn too_large(message: impl Into<String>) -> AgentProblem {
    problem(ProblemCode::ImageTooLarge, message)
}

/// This host's fault: the cause goes to the log, not to the user.
pub fn internal(what: &str, cause: impl std::fmt::Display) -> AgentProblem {
    tracing::error!(%cause, "{what}");
    problem(ProblemCode::Internal, format!("The host failed: {what}."))
}

/// A failure of the host's own disk.
pub fn disk(what: &str, error: &std::io::Error) -> AgentProblem {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            problem(ProblemCode::DiskFull, "The host's disk is full.")
        }
        _ => internal(what, error),
    }
}
