//! One call of the API: its key, its tries, its time, and the failure that it ends with.
//!
//! A call that can do nothing twice is sent again after 429, 502, 503, 504 and lost connections, with growing pauses or as
//! the server says. What makes something carries an `Idempotency-Key`; what has none of these is never sent twice.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use cakework_api::problem::Problem;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rand::Rng as _;
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::args::Connection;
use crate::failure::{Exit, Failure, Result};
use crate::profile;

/// Longest time of a call with all its tries: the contract's own.
pub(crate) const CALL: Duration = Duration::from_secs(60);
/// Longest time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a call is sent again.
const RETRIES: usize = 4;
/// Shortest pause before a call is sent again.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause before a call is sent again.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Bytes of a failure's body that are read.
const FAILURE_MAX_BYTES: usize = 64 * 1024;

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Whether a call may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It can do nothing twice.
    Always,
    /// It makes something, and a key says that it is the same.
    Keyed,
    Never,
}

/// The server, as this command sees it.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

impl Client {
    /// The server that was chosen.
    pub(crate) fn new(to: &Connection) -> Result<Self> {
        let (url, key) = profile::chosen(to)?;
        Self::of(&url, key)
    }

    pub(crate) fn of(url: &str, key: Option<String>) -> Result<Self> {
        let parsed: reqwest::Url = url.parse().map_err(|_| wrong_url(url))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(wrong_url(url));
        }
        Ok(Self { http: builder(&parsed)?, base: url.trim_end_matches('/').to_owned(), key })
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T> {
        let request = || self.http.get(self.url(path)).query(query);
        read(self.send(Again::Always, CALL, request).await?).await
    }

    /// A call that makes something.
    pub(crate) async fn make<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let request = || self.http.post(self.url(path)).json(body);
        read(self.send(Again::Keyed, CALL, request).await?).await
    }

    /// A call that changes a thing's state. Its answer may have no body.
    pub(crate) async fn post(&self, path: &str, again: Again) -> Result<Value> {
        let response = self.send(again, CALL, || self.http.post(self.url(path))).await?;
        if response.status() == StatusCode::NO_CONTENT { Ok(Value::Null) } else { read(response).await }
    }

    pub(crate) async fn delete(&self, path: &str, query: &[(&str, String)]) -> Result<()> {
        self.send(Again::Always, CALL, || self.http.delete(self.url(path)).query(query)).await.map(drop)
    }

    /// An answer whose body is read as it comes; there is no bound on its time but on that of its beginning.
    pub(crate) async fn open(
        &self,
        path: &str,
        query: &[(&str, String)],
        headers: header::HeaderMap,
    ) -> Result<Response> {
        let request = || self.http.get(self.url(path)).query(query).headers(headers.clone());
        self.send(Again::Always, CALL, request).await
    }

    /// Sends a body of any length, made anew for each try.
    pub(crate) async fn upload<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        (again, limit, kind): (Again, Duration, &str),
        body: impl Fn() -> Body,
    ) -> Result<T> {
        let request = || {
            self.http
                .request(method.clone(), self.url(path))
                .query(query)
                .header(header::CONTENT_TYPE, kind)
                .body(body())
        };
        read(self.send(again, limit, request).await?).await
    }

    async fn send(&self, again: Again, limit: Duration, request: impl Fn() -> RequestBuilder) -> Result<Response> {
        let Some(key) = &self.key else {
            return Err(Failure::new(Exit::Denied, "there is no API key").fix(
                "run `cakework login`, or set CAKEWORK_API_KEY; on the server `cakework key create` makes a key",
            ));
        };
        let end = Instant::now() + limit;
        let once = format!("{:032x}", (u128::from(rand::rng().next_u64()) << 64) | u128::from(rand::rng().next_u64()));
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(PAUSE_MIN)
            .with_max_delay(PAUSE_MAX)
            .with_jitter()
            .with_max_times(if again == Again::Never { 0 } else { RETRIES })
            .build();
        loop {
            let mut asked = request().header("x-api-key", key);
            if again == Again::Keyed {
                asked = asked.header("idempotency-key", &once);
            }
            let (failure, wait) = match tokio::time::timeout_at(end, asked.send()).await {
                Err(_) => return Err(late(&self.base, limit)),
                Ok(Err(error)) => (self.unreachable(&error), Some(Duration::ZERO)),
                Ok(Ok(response)) if response.status().is_success() => return Ok(response),
                Ok(Ok(response)) => refusal(response).await,
            };
            let pause = pauses.next().zip(wait).map(|(pause, wait)| pause.max(wait));
            match pause.filter(|pause| Instant::now() + *pause < end) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(failure),
            }
        }
    }

    /// A VM's own answer at its URL: whether there was one.
    pub(crate) async fn knock(&self, url: &str, limit: Duration) -> Result<StatusCode> {
        let parsed: reqwest::Url = url.parse().map_err(|_| wrong_url(url))?;
        let http = builder(&parsed)?;
        let answer = tokio::time::timeout(limit, http.get(parsed).send()).await;
        let response = answer.map_err(|_| late(url, limit))?;
        let response = response.map_err(|error| unreachable(url, &error))?;
        let is_edges =
            response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
        if response.status().is_server_error() && is_edges {
            return Err(refusal(response).await.0);
        }
        Ok(response.status())
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        unreachable(&self.base, error)
    }
}

/// A client for a URL. `localhost` and all names below it are this machine (RFC 6761), whatever a resolver says.
fn builder(url: &reqwest::Url) -> Result<reqwest::Client> {
    // The error says that another part of the process has chosen already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("cakework/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT);
    if let Some(host) = url.host_str().filter(|host| *host == "localhost" || host.ends_with(".localhost")) {
        let port = url.port_or_known_default().unwrap_or(80);
        let addresses = [([127, 0, 0, 1], port).into(), (std::net::Ipv6Addr::LOCALHOST, port).into()];
        builder = builder.resolve_to_addrs(host, &addresses);
    }
    builder.build().map_err(|error| Failure::new(Exit::Failed, format!("the HTTP client can't be made: {error}")))
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T> {
    let url = response.url().clone();
    let bytes = response.bytes().await.map_err(|error| unreachable(url.as_str(), &error))?;
    serde_json::from_slice(&bytes).map_err(|_| {
        Failure::new(Exit::Failed, format!("{url} answers something that is not the API's"))
            .fix("check the URL: CAKEWORK_URL, --url, or `cakework login`")
    })
}

/// What the server refused, and how long to wait before it may be asked again, where that may help.
async fn refusal(mut response: Response) -> (Failure, Option<Duration>) {
    let status = response.status();
    let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > FAILURE_MAX_BYTES {
            break;
        }
    }
    let failure = match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => Failure::problem(problem),
        Err(_) => match serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|said| said["detail"].as_str().map(str::to_owned))
        {
            Some(detail) => Failure::new(Failure::exit_of(status.as_u16()), detail),
            None => Failure::new(Failure::exit_of(status.as_u16()), format!("{} answers {status}", response.url())),
        },
    };
    let is_passing =
        matches!(status.as_u16(), 429 | 502..=504) || failure.code.as_deref() == Some("request_in_progress");
    (failure, is_passing.then(|| Duration::from_secs(wait.unwrap_or(0))))
}

fn wrong_url(url: &str) -> Failure {
    Failure::usage(format!("{url:?} is not the URL of a server")).fix("write it like https://api.example.com")
}

fn late(url: &str, limit: Duration) -> Failure {
    Failure::new(Exit::TimedOut, format!("{url} did not answer within {} s", limit.as_secs()))
}

fn unreachable(url: &str, error: &reqwest::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Failure::new(Exit::Unavailable, format!("{url} can't be reached: {cause}"))
        .fix("is the server running, and is this its URL? CAKEWORK_URL, --url, or `cakework login`")
}

/// A part of a path: an id of somebody else's making leads nowhere else.
pub(crate) fn part(id: &str) -> Result<String> {
    if id.is_empty() || id == "." || id == ".." {
        return Err(Failure::usage(format!("{id:?} is not an id")));
    }
    Ok(utf8_percent_encode(id, RESERVED).to_string())
}
