//! The registry client: manifests, configurations and layers over the distribution API.
//!
//! It is our own, on reqwest, because what answers is a stranger's server: documents are bounded while they are read,
//! a redirect or a token service never leads from TLS to plain HTTP, a credential is sent only after the server asked
//! for one in a form we know, and mirrors get none. (`oci-client` reads whole bodies into memory and follows realms
//! anywhere.) Source: OCI distribution spec 1.1; token dance as in Docker's "Token Authentication Specification".

pub(crate) mod auth;
pub(crate) mod endpoint;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cakework_wire::host::{AgentProblem, Credential, ProblemCode};
use reqwest::StatusCode;
use reqwest::redirect::Policy;

pub(crate) use self::endpoint::pauses;
use self::endpoint::{Asked, Endpoint};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::egress::Gate;
use crate::manifest;
use crate::problem::{invalid, problem, too_large};
use crate::reference::{Reference, Version, check_host, is_loopback};

/// What servers get to know of us.
pub const USER_AGENT: &str = concat!("cakework/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of a server, before and within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A document and the token for it, from the call to the last byte.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(25);
const REDIRECTS_MAX: usize = 5;
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// Speaks to registries. Clones share connections.
#[derive(Debug, Clone)]
pub struct Registries {
    config: Arc<ImageConfig>,
    gate: Option<Gate>,
    tls: reqwest::Client,
    plain: reqwest::Client,
}

/// One repository, at its mirrors and at its registry.
#[derive(Debug)]
pub struct Repository {
    /// Mirrors first; never empty.
    endpoints: Vec<Endpoint>,
    document_max_bytes: u64,
}

impl Registries {
    /// Registries that a builder of ours chose: they may be anywhere.
    ///
    /// # Errors
    /// A sentence about the configuration.
    pub fn new(config: Arc<ImageConfig>) -> Result<Self, String> {
        Self::behind(config, None)
    }

    /// Registries that a stranger chose: the egress policy holds for them, their mirrors, their token services and all
    /// redirects, but for those that the operator named.
    ///
    /// # Errors
    /// A sentence about the configuration.
    pub fn guarded(config: Arc<ImageConfig>) -> Result<Self, String> {
        let mirrors = config.mirrors.values().flatten().map(|mirror| endpoint::split_prefix(mirror).0);
        let named = config.mirrors.keys().chain(&config.plain_http).map(|host| &host[..]).chain(mirrors);
        let gate = Gate::new(config.egress.clone(), named.map(str::to_owned));
        Self::behind(config, Some(gate))
    }

    fn behind(config: Arc<ImageConfig>, gate: Option<Gate>) -> Result<Self, String> {
        for host in config.mirrors.keys().chain(&config.plain_http) {
            check_host(host).map_err(|_| format!("{host} is not a registry's host[:port]"))?;
        }
        for mirror in config.mirrors.values().flatten() {
            let (host, prefix) = endpoint::split_prefix(mirror);
            let is_fine = check_host(host).is_ok() && prefix.bytes().all(|byte| byte.is_ascii_graphic());
            (is_fine && !prefix.contains(['?', '#', '%', '\\']))
                .then_some(())
                .ok_or_else(|| format!("{mirror} is not a mirror's host[:port][/prefix]"))?;
        }
        let certificates = certificates(config.ca_file.as_deref())?;
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                .referer(false)
                // A layer's bytes are hashed as they are stored; another crate may have switched one of these on.
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .no_deflate();
            match &gate {
                // A proxy would look names up itself.
                Some(gate) => builder.dns_resolver(gate.clone()).no_proxy(),
                None => builder,
            }
        };
        let (tls_gate, plain_gate) = (gate.clone(), gate.clone());
        let only_tls = Policy::custom(move |attempt| {
            let is_fine = attempt.url().scheme() == "https" && is_admitted(tls_gate.as_ref(), attempt.url());
            if attempt.previous().len() > REDIRECTS_MAX || !is_fine { attempt.stop() } else { attempt.follow() }
        });
        let plain_config = Arc::clone(&config);
        let plain_or_tls = Policy::custom(move |attempt| {
            let is_fine = is_admitted(plain_gate.as_ref(), attempt.url())
                && (attempt.url().scheme() == "https"
                    || url_host(attempt.url()).is_some_and(|host| is_plain(&plain_config, &host)));
            // From the first hop to TLS on, there is no way back.
            let was_tls = attempt.previous().iter().any(|url| url.scheme() == "https");
            if attempt.previous().len() > REDIRECTS_MAX || !is_fine || was_tls && attempt.url().scheme() != "https" {
                attempt.stop()
            } else {
                attempt.follow()
            }
        });
        let tls = builder().redirect(only_tls).tls_certs_merge(certificates).build();
        // A registry on this machine or in its own network is no business of a proxy.
        let plain = builder().redirect(plain_or_tls).no_proxy().build();
        let failed = |error: reqwest::Error| format!("the HTTP client: {error}");
        Ok(Self { config, gate, tls: tls.map_err(failed)?, plain: plain.map_err(failed)? })
    }

    /// The repository of a reference. Nothing is asked yet.
    pub fn repository(&self, reference: &Reference, credential: Option<Credential>) -> Repository {
        let mut endpoints = Vec::new();
        for mirror in self.config.mirrors.get(&reference.host).into_iter().flatten() {
            let (host, prefix) = endpoint::split_prefix(mirror);
            let path = if prefix.is_empty() {
                reference.repository.clone()
            } else {
                format!("{prefix}/{}", reference.repository)
            };
            endpoints.push(self.endpoint(host, &path, None, false));
        }
        let host = if reference.host == DOCKER_HUB { DOCKER_HUB_API } else { &reference.host };
        endpoints.push(self.endpoint(host, &reference.repository, credential, true));
        Repository { endpoints, document_max_bytes: self.config.limits.document_bytes }
    }

    fn endpoint(&self, host: &str, path: &str, credential: Option<Credential>, is_last: bool) -> Endpoint {
        let plain = is_plain(&self.config, host);
        let client = if plain { &self.plain } else { &self.tls };
        let plain = plain.then(|| Arc::clone(&self.config));
        Endpoint::new(client.clone(), self.gate.clone(), plain, host, path, credential, is_last)
    }
}

impl Repository {
    /// A manifest or index, with its digest: the one asked for, or that of the bytes.
    ///
    /// # Errors
    /// A problem of the registry, or bytes of another digest.
    pub async fn manifest(&self, version: &Version) -> Result<(Digest, Vec<u8>), AgentProblem> {
        let path = format!("manifests/{version}");
        let expected = match version {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(digest),
        };
        self.document(&path, Some(manifest::ACCEPTED), expected).await
    }

    /// A configuration.
    ///
    /// # Errors
    /// A problem of the registry, or bytes of another digest.
    pub async fn config(&self, digest: &Digest) -> Result<Vec<u8>, AgentProblem> {
        self.document(&format!("blobs/{digest}"), None, Some(digest)).await.map(|(_, bytes)| bytes)
    }

    /// A layer's bytes as they arrive, neither counted nor verified, and how many of them come before the byte `from`:
    /// some servers begin at the beginning all the same.
    ///
    /// # Errors
    /// A problem of the registry.
    pub async fn layer(&self, digest: &Digest, from: u64) -> Result<(reqwest::Response, u64), AgentProblem> {
        let path = format!("blobs/{digest}");
        let asked = Asked { path: &path, accept: None, from };
        let begun = |response: reqwest::Response| {
            let before = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { from };
            (response, before)
        };
        let (origin, mirrors) = self.in_order();
        for mirror in mirrors {
            match mirror.get(asked).await {
                Ok(response) => return Ok(begun(response)),
                Err(problem) => passed_over(mirror, &problem),
            }
        }
        origin.get(asked).await.map(begun)
    }

    /// The answer of the first endpoint that has one; the registry's own problem where none has.
    async fn document(
        &self,
        path: &str,
        accept: Option<&str>,
        expected: Option<&Digest>,
    ) -> Result<(Digest, Vec<u8>), AgentProblem> {
        let (origin, mirrors) = self.in_order();
        for mirror in mirrors {
            match self.document_at(mirror, path, accept, expected).await {
                Ok(document) => return Ok(document),
                Err(problem) => passed_over(mirror, &problem),
            }
        }
        self.document_at(origin, path, accept, expected).await
    }

    async fn document_at(
        &self,
        endpoint: &Endpoint,
        path: &str,
        accept: Option<&str>,
        expected: Option<&Digest>,
    ) -> Result<(Digest, Vec<u8>), AgentProblem> {
        let read = async {
            let response = endpoint.get(Asked { path, accept, from: 0 }).await?;
            bounded(response, self.document_max_bytes, endpoint).await
        };
        let bytes = match tokio::time::timeout(DOCUMENT_TIMEOUT, read).await {
            Ok(bytes) => bytes?,
            Err(_) => return Err(endpoint.unavailable("is too slow")),
        };
        let digest = Digest::of(&bytes);
        match expected {
            Some(expected) if *expected != digest => Err(invalid("The registry's answer is not what its digest says.")),
            _ => Ok((digest, bytes)),
        }
    }

    /// The registry itself, and the mirrors before it.
    fn in_order(&self) -> (&Endpoint, &[Endpoint]) {
        self.endpoints.split_last().expect("the registry itself is the last endpoint")
    }
}

fn passed_over(mirror: &Endpoint, problem: &AgentProblem) {
    tracing::debug!(mirror = mirror.name(), problem.message, "a mirror has no answer");
}

/// A whole body of at most so many bytes.
async fn bounded(
    mut response: reqwest::Response,
    max_bytes: u64,
    endpoint: &Endpoint,
) -> Result<Vec<u8>, AgentProblem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| endpoint.failed(&error))? {
        if (bytes.len() + chunk.len()) as u64 > max_bytes {
            return Err(too_large("The image's manifest or configuration is larger than this host takes."));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The egress policy, where one holds, has nothing against what a URL says.
fn is_admitted(gate: Option<&Gate>, url: &reqwest::Url) -> bool {
    gate.is_none_or(|gate| gate.check(url).is_ok())
}

/// The certificate authorities in a PEM file. Whoever makes a client comes here first, so a TLS provider is there too.
///
/// # Errors
/// A sentence with the file's name.
pub fn certificates(file: Option<&Path>) -> Result<Vec<reqwest::Certificate>, String> {
    // Another crate may have chosen one; either serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let pem = std::fs::read(file).map_err(|error| failed(&error))?;
    reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(&error))
}

/// A host may be spoken to without TLS.
fn is_plain(config: &ImageConfig, host: &str) -> bool {
    is_loopback(host) || config.plain_http.iter().any(|known| known == host)
}

/// `host[:port]` of a URL.
fn url_host(url: &reqwest::Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn unauthorized(message: impl Into<String>) -> AgentProblem {
    problem(ProblemCode::RegistryUnauthorized, message)
}
