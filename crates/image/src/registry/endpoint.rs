//! One repository at one server: a request, the credential that it turns out to need, and what its refusal means.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use backon::{ExponentialBuilder, Retryable as _};
use cakework_wire::host::{AgentProblem, Credential, ProblemCode};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};

use super::auth::{self, Challenge};
use super::{bounded, is_plain, unauthorized, url_host};
use crate::config::ImageConfig;
use crate::egress::{Gate, Refused};
use crate::problem::problem;

/// Largest answer of a token service: tokens of some registries carry a few KiB of grants.
const TOKEN_MAX_BYTES: u64 = 256 << 10;

/// Times that a request is made again after a failure that may be over in a moment.
const RETRIES: usize = 3;
/// The pause before a request to a registry is made again for the first time; each is longer.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause before a request to a registry is made again.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(4);
/// Longest `Retry-After` that is waited for: whoever asked waits too.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// What is asked of a repository.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Below the repository.
    pub path: &'a str,
    /// The forms that are understood.
    pub accept: Option<&'a str>,
    /// The first byte that is wanted; servers may send those before it too.
    pub from: u64,
}

/// A request failed.
struct Failure {
    problem: AgentProblem,
    /// It may go well in a moment.
    is_passing: bool,
    /// The server says how long that is.
    wait: Option<Duration>,
}

/// Pauses between attempts: growing, and never the same for all who wait.
pub fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(RETRY_PAUSE_MIN)
        .with_max_delay(RETRY_PAUSE_MAX)
        .with_max_times(RETRIES)
        .with_jitter()
}

/// One repository at one server.
#[derive(Debug)]
pub struct Endpoint {
    client: Client,
    /// Set where a stranger chose the server.
    gate: Option<Gate>,
    /// Set where the server is spoken to without TLS: its token service may be too, if this allows it.
    plain: Option<Arc<ImageConfig>>,
    name: String,
    path: String,
    credential: Option<Credential>,
    /// Nobody else has an answer: it is asked again.
    is_last: bool,
    /// What the server asked for last time.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Endpoint {
    /// The repository `path` at `name`, which is `host[:port]`.
    pub fn new(
        client: Client,
        gate: Option<Gate>,
        plain: Option<Arc<ImageConfig>>,
        name: &str,
        path: &str,
        credential: Option<Credential>,
        is_last: bool,
    ) -> Self {
        let authorization = Mutex::new(None);
        Self { client, gate, plain, name: name.into(), path: path.into(), credential, is_last, authorization }
    }

    /// The server, as `host[:port]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gets something of the repository; a refusal to answer without a credential is answered once.
    ///
    /// # Errors
    /// The problem that the answer means.
    pub async fn get(&self, asked: Asked<'_>) -> Result<Response, AgentProblem> {
        let url = self.url(&format!("{}/{}", self.path, asked.path))?;
        self.admit(&url)?;
        let response = self.ask(&url, asked).await?;
        let response = if response.status() == StatusCode::UNAUTHORIZED {
            let authorization = self.authorize(self.challenges(&response).await?).await?;
            self.remember(authorization);
            self.ask(&url, asked).await?
        } else {
            response
        };
        let response = self.judge(response)?;
        if response.status() == StatusCode::PARTIAL_CONTENT && first_byte(response.headers()) != Some(asked.from) {
            return Err(self.unavailable("answers with another part than it was asked for"));
        }
        Ok(response)
    }

    /// Something below the server's root.
    fn url(&self, path: &str) -> Result<reqwest::Url, AgentProblem> {
        let scheme = if self.plain.is_some() { "http" } else { "https" };
        let url = reqwest::Url::parse(&format!("{scheme}://{}/v2/{path}", self.name));
        url.map_err(|_| self.unavailable("has a name that is no host's"))
    }

    /// How the server wants to be convinced: as its refusal says, or as its root does, where some alone say it.
    async fn challenges(&self, refusal: &Response) -> Result<Vec<Challenge>, AgentProblem> {
        if refusal.headers().contains_key(WWW_AUTHENTICATE) {
            return Ok(auth::challenges(refusal.headers()));
        }
        let root = self.url("")?;
        self.admit(&root)?;
        Ok(auth::challenges(self.send(|| self.client.get(root.clone())).await?.headers()))
    }

    /// The server can't be used now.
    pub fn unavailable(&self, why: &str) -> AgentProblem {
        problem(ProblemCode::RegistryUnavailable, format!("The registry {} {why}.", self.name))
    }

    /// A request failed before or within its answer. The error's own text is for the log, without the URL: that may be
    /// signed.
    pub fn failed(&self, error: &reqwest::Error) -> AgentProblem {
        if Refused::is_in(error) {
            return self.refused();
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        tracing::debug!(registry = self.name, %cause, "a request failed");
        self.unavailable(if error.is_timeout() {
            "does not answer in time"
        } else if error.is_connect() {
            "can't be reached"
        } else {
            "broke off its answer"
        })
    }

    fn admit(&self, url: &reqwest::Url) -> Result<(), AgentProblem> {
        let judged = self.gate.as_ref().map_or(Ok(()), |gate| gate.check(url));
        judged.map_err(|Refused| self.refused())
    }

    fn refused(&self) -> AgentProblem {
        let message =
            format!("The registry {} or its token service is at an address that builds may not reach.", self.name);
        problem(ProblemCode::EgressDenied, message)
    }

    async fn ask(&self, url: &reqwest::Url, asked: Asked<'_>) -> Result<Response, AgentProblem> {
        self.send(|| {
            let mut request = self.client.get(url.clone());
            if let Some(accept) = asked.accept {
                request = request.header(ACCEPT, accept);
            }
            if asked.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", asked.from));
            }
            let authorization = self.authorization.lock().expect("no panic while it is held").clone();
            match authorization {
                Some(authorization) => request.header(AUTHORIZATION, authorization),
                None => request,
            }
        })
        .await
    }

    /// The answer to a request, which is made again after failures that may be over in a moment.
    async fn send(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, AgentProblem> {
        let attempt = async || {
            let sent = request().send().await;
            let response = sent.map_err(|error| Failure {
                // A server that says nothing for so long is not asked to do that again.
                is_passing: self.is_last && !error.is_timeout() && !error.is_redirect() && !Refused::is_in(&error),
                problem: self.failed(&error),
                wait: None,
            })?;
            let is_passing = matches!(response.status().as_u16(), 429 | 500 | 502..=504) && self.is_last;
            if is_passing {
                let wait = retry_after(response.headers(), SystemTime::now());
                let problem = self.judge(response).err().unwrap_or_else(|| self.unavailable("has no answer"));
                return Err(Failure { problem, is_passing, wait });
            }
            Ok(response)
        };
        let patient = attempt.retry(pauses()).sleep(tokio::time::sleep).when(|failure: &Failure| failure.is_passing);
        let answered = patient.adjust(|failure, pause| match failure.wait {
            Some(wait) if wait > RETRY_AFTER_MAX => None,
            wait => pause.map(|pause| pause.max(wait.unwrap_or_default())),
        });
        answered.await.map_err(|failure| failure.problem)
    }

    fn remember(&self, authorization: HeaderValue) {
        *self.authorization.lock().expect("no panic while it is held") = Some(authorization);
    }

    fn judge(&self, response: Response) -> Result<Response, AgentProblem> {
        let name = &self.name;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND => Err(problem(
                ProblemCode::ImageNotFound,
                format!("The registry {name} has no such image: neither this repository nor this tag may be there."),
            )),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.credential.is_some() => Err(unauthorized(
                format!("The registry {name} refused the user and password, or they do not open this repository."),
            )),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(unauthorized(format!(
                "The registry {name} does not show this repository to everyone: it is private, or it does not exist."
            ))),
            StatusCode::TOO_MANY_REQUESTS => Err(self.unavailable("allows no more requests for now")),
            status if status.is_redirection() => Err(self.unavailable("leads to an address that is not allowed")),
            status => Err(self.unavailable(&format!("answered with status {}", status.as_u16()))),
        }
    }

    async fn authorize(&self, challenges: Vec<Challenge>) -> Result<HeaderValue, AgentProblem> {
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service, scope } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        if let Some((realm, service, scope)) = bearer {
            return self.token(realm, service.as_deref(), scope.as_deref()).await;
        }
        if challenges.is_empty() {
            return Err(unauthorized(format!(
                "The registry {} wants a kind of authentication that is not supported.",
                self.name
            )));
        }
        match &self.credential {
            Some(credential) => Ok(auth::basic(credential)),
            None => Err(unauthorized(format!("The registry {} wants a user and a password.", self.name))),
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<HeaderValue, AgentProblem> {
        let odd = || self.unavailable("names a token service that is not allowed");
        let mut url = reqwest::Url::parse(realm).map_err(|_| odd())?;
        let is_allowed = match (url.scheme(), &self.plain) {
            ("https", _) => true,
            ("http", Some(config)) => url_host(&url).is_some_and(|host| is_plain(config, &host)),
            _ => false,
        };
        if !is_allowed || !url.username().is_empty() || url.password().is_some() {
            return Err(odd());
        }
        self.admit(&url)?;
        let pull = format!("repository:{}:pull", self.path);
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut().append_pair("scope", scope.unwrap_or(&pull));
        let sent = self.send(|| {
            let request = self.client.get(url.clone());
            match &self.credential {
                Some(credential) => request.header(AUTHORIZATION, auth::basic(credential)),
                None => request,
            }
        });
        let response = self.judge(sent.await?)?;
        let bytes = bounded(response, TOKEN_MAX_BYTES, self).await?;
        auth::bearer(&bytes).ok_or_else(|| self.unavailable("gave no token"))
    }
}

/// How long a server wants to be left alone (RFC 9110, section 10.2.3).
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    match text.parse() {
        Ok(secs) => Some(Duration::from_secs(secs)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// The first byte of a partial answer (RFC 9110, section 14.4).
pub fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.parse().ok()
}

/// Host and path prefix of a mirror.
pub fn split_prefix(mirror: &str) -> (&str, &str) {
    let (host, prefix) = mirror.split_once('/').unwrap_or((mirror, ""));
    (host, prefix.trim_matches('/'))
}
