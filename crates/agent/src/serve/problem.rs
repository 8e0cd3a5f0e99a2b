//! Failures as the host protocol says them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cakework_wire::host::{AgentProblem, ProblemCode};

/// A failure on its way out.
#[derive(Debug)]
pub struct Problem(pub AgentProblem);

impl Problem {
    /// A message that is none, or of too old a protocol.
    pub fn protocol(message: impl Into<String>) -> Self {
        Self(AgentProblem { code: ProblemCode::Protocol, message: message.into() })
    }

    /// Something the host does not have.
    pub fn unknown(what: &str) -> Self {
        Self(AgentProblem { code: ProblemCode::Unknown, message: format!("this host does not know the {what}") })
    }

    /// Something that the caller can't help; the cause goes to the log.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a request failed");
        Self(AgentProblem { code: ProblemCode::Internal, message: "the agent failed; its log has the cause".into() })
    }
}

impl From<AgentProblem> for Problem {
    fn from(problem: AgentProblem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (status(self.0.code), Json(self.0)).into_response()
    }
}

const fn status(code: ProblemCode) -> StatusCode {
    match code {
        ProblemCode::Protocol | ProblemCode::ImageReference | ProblemCode::InvalidCommand => StatusCode::BAD_REQUEST,
        ProblemCode::RegistryUnauthorized
        | ProblemCode::ImageArchitecture
        | ProblemCode::ImageInvalid
        | ProblemCode::EgressDenied
        | ProblemCode::ImageTooLarge => StatusCode::UNPROCESSABLE_ENTITY,
        ProblemCode::ImageNotFound | ProblemCode::Unknown => StatusCode::NOT_FOUND,
        ProblemCode::NotRunning => StatusCode::CONFLICT,
        ProblemCode::Busy => StatusCode::TOO_MANY_REQUESTS,
        ProblemCode::RegistryUnavailable => StatusCode::BAD_GATEWAY,
        ProblemCode::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        ProblemCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
