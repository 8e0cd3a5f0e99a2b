//! The edge's own answers: RFC 9457 problems, each with a stable code, the request's id and, where there is one, the
//! fix.

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::json;

use crate::body::ResponseBody;

/// Seconds after which a client may try again where a queue was full.
const RETRY_AFTER_SECS: u64 = 1;

/// Why the edge answers for a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The request is not one that can be passed on.
    BadRequest(&'static str),
    /// No VM has the hostname.
    HostNotFound,
    /// The VM is not running.
    VmStopped,
    /// The VM was to be started or woken for the request, and did not come up.
    WakeFailed(&'static str),
    /// The VM's port refuses connections.
    VmRefused,
    /// The VM broke off before it answered, or what it said is not HTTP.
    VmBadResponse,
    /// The VM did not start, accept or answer in time.
    VmTimeout(&'static str),
    /// Too much waits for the VM, or is open.
    QueueFull(&'static str),
}

impl Problem {
    /// One of each.
    pub(crate) const ALL: [Self; 8] = [
        Self::BadRequest(""),
        Self::HostNotFound,
        Self::VmStopped,
        Self::WakeFailed(""),
        Self::VmRefused,
        Self::VmBadResponse,
        Self::VmTimeout(""),
        Self::QueueFull(""),
    ];

    /// The word that programs branch on.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::HostNotFound => "host_not_found",
            Self::VmStopped => "vm_stopped",
            Self::WakeFailed(_) => "wake_failed",
            Self::VmRefused => "vm_refused",
            Self::VmBadResponse => "vm_bad_response",
            Self::VmTimeout(_) => "vm_timeout",
            Self::QueueFull(_) => "queue_full",
        }
    }

    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::HostNotFound => StatusCode::NOT_FOUND,
            Self::VmStopped | Self::WakeFailed(_) | Self::QueueFull(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::VmRefused | Self::VmBadResponse => StatusCode::BAD_GATEWAY,
            Self::VmTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "The request is malformed",
            Self::HostNotFound => "No VM has this hostname",
            Self::VmStopped => "The VM is not running",
            Self::WakeFailed(_) => "The VM could not be started",
            Self::VmRefused => "The VM refuses connections",
            Self::VmBadResponse => "The VM gave no proper answer",
            Self::VmTimeout(_) => "The VM is too slow",
            Self::QueueFull(_) => "Too many requests are open",
        }
    }

    const fn detail(self) -> &'static str {
        match self {
            Self::BadRequest(detail) | Self::WakeFailed(detail) | Self::VmTimeout(detail) | Self::QueueFull(detail) => {
                detail
            }
            Self::HostNotFound => "The hostname was never given to a VM, or its VM is gone.",
            Self::VmStopped => {
                "The VM of this hostname has ended or is ending, or sleeps and is not woken by requests."
            }
            Self::VmRefused => "The VM runs, but nothing in it accepts connections on its port.",
            Self::VmBadResponse => "The VM closed the connection before it answered, or its answer is not HTTP.",
        }
    }

    const fn fix(self) -> Option<&'static str> {
        match self {
            Self::BadRequest(_) => None,
            Self::HostNotFound => Some("Take the hostname from the answer of startVM or getVm."),
            Self::VmStopped => {
                Some("Start a VM, a cached one with startCachedVM; getVm says how this one ended, getVMLogs why.")
            }
            Self::WakeFailed(_) => Some("See getVm and getVMLogs for why; try again later."),
            Self::VmRefused => {
                Some("Let the app listen on 0.0.0.0 and on the port that startVM was given; see getVMLogs.")
            }
            Self::VmBadResponse => Some("See getVMLogs for what the app said."),
            Self::VmTimeout(_) => Some("See getVMLogs for what the app is doing."),
            Self::QueueFull(_) => Some("Try again later, or spread the load over more VMs."),
        }
    }

    /// The response. The server leaves its body out where the request was HEAD (RFC 9110 §9.3.2).
    pub(crate) fn response(self, request_id: &HeaderValue) -> Response<ResponseBody> {
        let status = self.status();
        let mut body = json!({
            "type": format!("urn:cakework:problem:{}", self.code()),
            "title": self.title(),
            "status": status.as_u16(),
            "detail": self.detail(),
            "code": self.code(),
            "requestId": request_id.to_str().unwrap_or_default(),
        });
        if let Some(fix) = self.fix() {
            body["fix"] = fix.into();
        }
        let mut response = Response::new(ResponseBody::own(body.to_string().into()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            // Where one request is malformed, what follows it on the connection may be a part of it.
            Self::BadRequest(_) => drop(headers.insert(CONNECTION, HeaderValue::from_static("close"))),
            Self::QueueFull(_) | Self::WakeFailed(_) => {
                drop(headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS)))
            }
            Self::HostNotFound | Self::VmStopped | Self::VmRefused | Self::VmBadResponse | Self::VmTimeout(_) => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_code() {
        let text = include_str!("../../../docs/edge.md");
        let listed: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(listed.len(), Problem::ALL.len());
        for (problem, line) in Problem::ALL.into_iter().zip(listed) {
            let row = format!("| `{}` | {} | {} |", problem.code(), problem.status().as_u16(), problem.title());
            assert!(line.starts_with(&row), "{line}");
        }
    }
}
