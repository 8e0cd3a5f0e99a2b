//! One file from a URL that a stranger wrote.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cakework_wire::host::{AgentProblem, ProblemCode};
use reqwest::header::LAST_MODIFIED;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

use super::file_name::file_name;
use super::{EgressConfig, Gate, Refused};
use crate::problem::{self, internal, problem, too_large};
use crate::registry;
use crate::unpack::fault::shown;

/// Longest time of a connection's making.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a server, before and within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const REDIRECTS_MAX: usize = 5;
const URL_MAX_BYTES: usize = 8192;

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// `sha256:<64 hex>`.
    pub digest: String,
    /// Bytes.
    pub size_bytes: u64,
    /// What the server says of its age, Unix seconds.
    pub modified_secs: Option<i64>,
    /// The name that the server gives it, or its URL's last part; `None` where neither is a plain name.
    pub file_name: Option<String>,
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Stray {
    #[error("leads to more than {REDIRECTS_MAX} other addresses in turn")]
    TooMany,
    #[error("leads away from http and https, from https to http, or to an address with a password")]
    Odd,
}

/// Fetches an http or https URL into a new file at `to`; at most 5 redirects, at most `max_bytes`, within `timeout`.
/// A user and password in the URL are refused, and the URL's query is repeated in no error. No proxy is asked, since its
/// look-ups would not be ours. Without success there is no file.
///
/// # Errors
/// A sentence for who wrote the URL: [`ProblemCode::ImageReference`] for a wrong URL, [`ProblemCode::EgressDenied`] for a refused address,
/// [`ProblemCode::ImageNotFound`], [`ProblemCode::RegistryUnavailable`] for other answers, none or a slow one,
/// [`ProblemCode::ImageTooLarge`], [`ProblemCode::DiskFull`].
pub async fn download(
    egress: &EgressConfig,
    ca_file: Option<&Path>,
    url: &str,
    to: &Path,
    max_bytes: u64,
    timeout: Duration,
) -> Result<Download, AgentProblem> {
    let url = parse(url)?;
    let gate = Gate::new(egress.clone(), []);
    gate.check(&url).map_err(|refused| refusal(&url, &refused))?;
    let certificates = registry::certificates(ca_file).map_err(|error| internal("reading a CA file", error))?;
    let client = Client::builder()
        .user_agent(registry::USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .referer(false)
        .no_proxy()
        // The file is what the server has; another crate may have switched one of these on.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .dns_resolver(gate.clone())
        .redirect(redirects(gate))
        .tls_certs_merge(certificates)
        .build()
        .map_err(|error| internal("making an HTTP client", error))?;
    let work = async {
        let response = client.get(url.clone()).send().await.map_err(|error| failed(&url, &error))?;
        let response = judge(&url, response)?;
        receive(&url, response, to, max_bytes).await
    };
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
        let seconds = timeout.as_secs();
        Err(unavailable(&url, &format!("did not arrive within {seconds} seconds")))
    })
}

fn parse(text: &str) -> Result<Url, AgentProblem> {
    let refused = |sentence: &str| problem(ProblemCode::ImageReference, sentence);
    if text.len() > URL_MAX_BYTES {
        return Err(refused(&format!("A URL has at most {URL_MAX_BYTES} bytes.")));
    }
    let url = Url::parse(text).map_err(|_| refused("The URL is not one."))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(refused("Only http and https URLs can be fetched."));
    }
    if has_password(&url) {
        return Err(refused("A URL can't have a user and a password in it: they would stand in the build's records."));
    }
    Ok(url)
}

fn has_password(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn redirects(gate: Gate) -> Policy {
    Policy::custom(move |attempt| {
        let was_tls = attempt.previous().iter().any(|url| url.scheme() == "https");
        let is_fine = match attempt.url().scheme() {
            "https" => true,
            "http" => !was_tls,
            _ => false,
        };
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error(Stray::TooMany)
        } else if !is_fine || has_password(attempt.url()) {
            attempt.error(Stray::Odd)
        } else if let Err(refused) = gate.check(attempt.url()) {
            attempt.error(refused)
        } else {
            attempt.follow()
        }
    })
}

fn judge(url: &Url, response: Response) -> Result<Response, AgentProblem> {
    match response.status() {
        StatusCode::OK => Ok(response),
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Err(problem(ProblemCode::ImageNotFound, format!("There is nothing at {}.", name(url))))
        }
        // One that leads to another scheme never came to be judged.
        status if status.is_redirection() => Err(strayed(url, Stray::Odd)),
        status => Err(unavailable(url, &format!("was answered with status {}", status.as_u16()))),
    }
}

async fn receive(url: &Url, mut response: Response, to: &Path, max_bytes: u64) -> Result<Download, AgentProblem> {
    let over = || too_large(format!("The file at {} has more than {max_bytes} bytes.", name(url)));
    if response.content_length().is_some_and(|length| length > max_bytes) {
        return Err(over());
    }
    let modified = response.headers().get(LAST_MODIFIED).and_then(|value| value.to_str().ok());
    let modified_secs = modified.and_then(|text| httpdate::parse_http_date(text).ok()).and_then(|time| {
        let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    });
    let file_name = file_name(response.headers(), response.url());
    let full = |error: std::io::Error| problem::disk("writing a download", &error);
    let mut file = tokio::fs::File::create_new(to).await.map_err(full)?;
    let partial = Partial(Some(to.to_owned()));
    let (mut hash, mut size_bytes) = (Sha256::new(), 0_u64);
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(url, &error))? {
        size_bytes += chunk.len() as u64;
        if size_bytes > max_bytes {
            return Err(over());
        }
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(full)?;
    }
    file.flush().await.map_err(full)?;
    partial.keep();
    Ok(Download { digest: format!("sha256:{}", hex::encode(hash.finalize())), size_bytes, modified_secs, file_name })
}

/// A file that is removed unless it is kept, also when its download is dropped.
struct Partial(Option<PathBuf>);

impl Partial {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn failed(url: &Url, error: &reqwest::Error) -> AgentProblem {
    let sources = || std::iter::successors(std::error::Error::source(error), |error| error.source());
    if sources().any(|error| error.is::<Refused>()) {
        return refusal(url, &Refused);
    }
    if let Some(stray) = sources().find_map(|error| error.downcast_ref::<Stray>()) {
        return strayed(url, *stray);
    }
    if let Some(cause) = sources().last() {
        tracing::debug!(host = url.host_str(), %cause, "a download failed");
    }
    unavailable(
        url,
        if error.is_timeout() {
            "does not answer in time"
        } else if error.is_connect() {
            "can't be reached"
        } else {
            "broke off"
        },
    )
}

fn strayed(url: &Url, stray: Stray) -> AgentProblem {
    problem(ProblemCode::ImageReference, format!("{} {stray}.", name(url)))
}

fn refusal(url: &Url, refused: &Refused) -> AgentProblem {
    problem(ProblemCode::EgressDenied, format!("{} can't be fetched: {refused}.", name(url)))
}

fn unavailable(url: &Url, why: &str) -> AgentProblem {
    problem(ProblemCode::RegistryUnavailable, format!("{} {why}.", name(url)))
}

/// A URL as a sentence names it: without its query, which may be signed.
fn name(url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    shown(bare.as_str().as_bytes())
}
