//! Failures of requests in two voices: a problem for the user, the chain of causes for the operator's log.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use cakework_api::problem::ErrorCode;
use cakework_wire::host::{AgentProblem, ProblemCode};
use http::StatusCode;

use crate::host::HostError;
use crate::store::StoreError;

/// A request's failure. [`crate::routes::frame`] gives it its body and logs the cause.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) code: ErrorCode,
    pub(crate) detail: String,
    pub(crate) field: Option<String>,
    pub(crate) retry_after_secs: Option<u32>,
    pub(crate) cause: Option<anyhow::Error>,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), field: None, retry_after_secs: None, cause: None }
    }

    /// A failure that is wrong with one field or parameter.
    pub(crate) fn field(code: ErrorCode, field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(code, detail) }
    }

    /// A failure that the user can do nothing about.
    pub(crate) fn internal(cause: impl Into<anyhow::Error>) -> Self {
        let detail = "The server failed to do this.";
        Self { cause: Some(cause.into()), ..Self::new(ErrorCode::Internal, detail) }
    }

    /// Says when to try again.
    pub(crate) fn retry_after(self, secs: u32) -> Self {
        Self { retry_after_secs: Some(secs), ..self }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(_) => {
                let problem = Self::new(ErrorCode::DiskFull, "The server has no room for the record.");
                Self { cause: Some(error.into()), ..problem.retry_after(30) }
            }
            StoreError::Repeated => {
                let detail = "Another request with this key is being carried out.";
                Self::new(ErrorCode::RequestInProgress, detail).retry_after(1)
            }
            StoreError::Database(_) | StoreError::Row { .. } => Self::internal(error),
        }
    }
}

impl From<HostError> for ApiError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Problem(problem) => Self::from(problem),
            HostError::Away(_) => {
                let problem = Self::new(ErrorCode::HostUnavailable, "The host did not answer.");
                Self { cause: Some(error.into()), ..problem.retry_after(2) }
            }
        }
    }
}

impl From<AgentProblem> for ApiError {
    fn from(problem: AgentProblem) -> Self {
        match code_of(problem.code) {
            ErrorCode::Internal => Self::internal(HostError::Problem(problem)),
            code => Self::new(code, problem.message),
        }
    }
}

/// How the API names a failure of the agent.
pub(crate) const fn code_of(code: ProblemCode) -> ErrorCode {
    match code {
        ProblemCode::RegistryUnauthorized => ErrorCode::RegistryUnauthorized,
        ProblemCode::ImageNotFound => ErrorCode::ImageNotFound,
        ProblemCode::ImageArchitecture => ErrorCode::ImageArchitecture,
        ProblemCode::ImageInvalid => ErrorCode::ImageInvalid,
        ProblemCode::ImageTooLarge => ErrorCode::ImageTooLarge,
        ProblemCode::ImageReference | ProblemCode::EgressDenied => ErrorCode::ImageReference,
        ProblemCode::RegistryUnavailable => ErrorCode::RegistryUnavailable,
        ProblemCode::DiskFull => ErrorCode::DiskFull,
        ProblemCode::NotRunning => ErrorCode::VmNotRunning,
        ProblemCode::Busy => ErrorCode::TooManyExecs,
        ProblemCode::InvalidCommand => ErrorCode::InvalidCommand,
        ProblemCode::Unknown | ProblemCode::Protocol | ProblemCode::Internal => ErrorCode::Internal,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).expect("the codes' statuses are statuses");
        let mut response = status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
