//! One repository at one server: a request, the credential that it turns out to need, and what its refusal means.

use std::sync::{Arc, Mutex};

use cakework_wire::host::{AgentProblem, Credential, ProblemCode};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Client, Response, StatusCode};

use super::auth::{self, Challenge};
use super::{bounded, is_plain, unauthorized, url_host};
use crate::config::ImageConfig;
use crate::egress::{Gate, Refused};
use crate::problem::problem;

/// Largest answer of a token service: tokens of some registries carry a few KiB of grants.
const TOKEN_MAX_BYTES: u64 = 256 << 10;

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
    ) -> Self {
        let authorization = Mutex::new(None);
        Self { client, gate, plain, name: name.into(), path: path.into(), credential, authorization }
    }

    /// The server, as `host[:port]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gets something of the repository; a refusal to answer without a credential is answered once.
    ///
    /// # Errors
    /// The problem that the answer means.
    pub async fn get(&self, path: &str, accept: Option<&str>) -> Result<Response, AgentProblem> {
        let scheme = if self.plain.is_some() { "http" } else { "https" };
        let url = format!("{scheme}://{}/v2/{}/{path}", self.name, self.path);
        let url = reqwest::Url::parse(&url).map_err(|_| self.unavailable("has a name that is no host's"))?;
        self.admit(&url)?;
        let response = self.send(&url, accept).await?;
        let response = if response.status() == StatusCode::UNAUTHORIZED {
            let authorization = self.authorize(auth::challenges(response.headers())).await?;
            self.remember(authorization);
            self.send(&url, accept).await?
        } else {
            response
        };
        self.judge(response)
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

    async fn send(&self, url: &reqwest::Url, accept: Option<&str>) -> Result<Response, AgentProblem> {
        let mut request = self.client.get(url.clone());
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        let authorization = self.authorization.lock().expect("no panic while it is held").clone();
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|error| self.failed(&error))
    }

    fn remember(&self, authorization: HeaderValue) {
        *self.authorization.lock().expect("no panic while it is held") = Some(authorization);
    }

    fn judge(&self, response: Response) -> Result<Response, AgentProblem> {
        let name = &self.name;
        match response.status() {
            StatusCode::OK => Ok(response),
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
        let mut request = self.client.get(url);
        if let Some(credential) = &self.credential {
            request = request.header(AUTHORIZATION, auth::basic(credential));
        }
        let response = self.judge(request.send().await.map_err(|error| self.failed(&error))?)?;
        let bytes = bounded(response, TOKEN_MAX_BYTES, self).await?;
        auth::bearer(&bytes).ok_or_else(|| self.unavailable("gave no token"))
    }
}

/// Host and path prefix of a mirror.
pub fn split_prefix(mirror: &str) -> (&str, &str) {
    let (host, prefix) = mirror.split_once('/').unwrap_or((mirror, ""));
    (host, prefix.trim_matches('/'))
}
