//! One attempt of a delivery: a POST to a stranger's URL.
//!
//! Invariant: it reaches public addresses and those that the operator allows, and no other. Names are judged by the
//! addresses that are then connected to, so that one that changes its mind leads nowhere else; redirects are not
//! followed, and nothing of an answer is read but its status and when to come back.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use cakework_core::egress;
use cakework_core::webhook::Answer;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Response, Url};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP};

/// Time of one attempt, from the look-up to the answer's head.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;
/// Bytes of the words about a failure.
const WORDS_MAX_BYTES: usize = 200;
const USER_AGENT: &str = concat!("Cakework-Webhooks/", env!("CARGO_PKG_VERSION"));

/// What is sent in one attempt.
pub(crate) struct Message {
    pub(crate) url: Url,
    /// The event's id, the same in every attempt.
    pub(crate) id: String,
    /// Of this attempt, Unix seconds.
    pub(crate) timestamp_secs: u64,
    /// One for each secret, with spaces between.
    pub(crate) signatures: String,
    pub(crate) body: Vec<u8>,
}

/// What came of it.
pub(crate) struct Sent {
    pub(crate) answer: Answer,
    /// What was wrong, for the endpoint's owner.
    pub(crate) error: Option<String>,
}

/// Sends messages. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Courier {
    http: reqwest::Client,
    allow: Arc<[IpNet]>,
}

/// An address that is not to be reached.
#[derive(Debug, thiserror::Error)]
#[error("the address is not public")]
struct NotPublic;

/// A name without an address.
#[derive(Debug, thiserror::Error)]
#[error("the name has no address")]
struct NoAddress(#[source] Option<hickory_resolver::net::NetError>);

impl Courier {
    /// A courier that also goes to these networks, public or not, and also trusts the authorities in a PEM file.
    pub(crate) fn new(allow: &[IpNet], ca_file: Option<&Path>) -> anyhow::Result<Self> {
        let allow: Arc<[IpNet]> = allow.into();
        let judge = Judge { allow: Arc::clone(&allow), resolver: Arc::new(OnceLock::new()) };
        let authorities = ca_file.map(authorities).transpose()?.unwrap_or_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_merge(authorities)
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(judge))
            // No connection outlives its attempt: the next one is judged anew.
            .pool_max_idle_per_host(0)
            .timeout(ATTEMPT_TIMEOUT)
            .user_agent(USER_AGENT)
            .build()
            .context("the webhooks' client can't be made")?;
        Ok(Self { http, allow })
    }

    /// Whether a URL that names an address, rather than a name, leads where the courier goes.
    pub(crate) fn goes_to(&self, url: &Url) -> bool {
        literal(url).is_none_or(|address| permitted(&self.allow, address))
    }

    /// Makes one attempt. `now_ms` is when it begins.
    pub(crate) async fn send(&self, message: Message, now_ms: u64) -> Sent {
        // An address is connected to without any look-up.
        if !self.goes_to(&message.url) {
            return Sent::failed(NotPublic.to_string());
        }
        let request = self
            .http
            .post(message.url)
            .header(CONTENT_TYPE, "application/json")
            .header(HEADER_WEBHOOK_ID, message.id)
            .header(HEADER_WEBHOOK_TIMESTAMP, message.timestamp_secs)
            .header(HEADER_WEBHOOK_SIGNATURE, message.signatures)
            .body(message.body);
        match request.send().await {
            Ok(response) => Sent::answered(&response, now_ms),
            Err(error) => Sent::failed(words(&error)),
        }
    }
}

impl Sent {
    fn failed(error: String) -> Self {
        Self { answer: Answer { status: None, retry_after_ms: None }, error: Some(error) }
    }

    fn answered(response: &Response, now_ms: u64) -> Self {
        let status = response.status();
        let error = match status.as_u16() {
            200..=299 => None,
            300..=399 => Some(format!("the receiver answered {}: redirects are not followed", status.as_u16())),
            code => Some(format!("the receiver answered {code}")),
        };
        let retry_after_ms = response.headers().get(RETRY_AFTER).and_then(|value| retry_after_ms(value, now_ms));
        Self { answer: Answer { status: Some(status.as_u16()), retry_after_ms }, error }
    }
}

fn authorities(file: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let pem = std::fs::read(file).with_context(|| format!("webhooks.ca_file: {} can't be read", file.display()))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).ok().filter(|found| !found.is_empty());
    found.with_context(|| format!("webhooks.ca_file: {} has no certificate in PEM", file.display()))
}

fn permitted(allow: &[IpNet], address: IpAddr) -> bool {
    egress::is_public(address) || egress::is_within(allow, address)
}

/// The address that a URL names.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Seconds, or a date (RFC 9110 §10.2.3).
fn retry_after_ms(value: &HeaderValue, now_ms: u64) -> Option<u64> {
    let text = value.to_str().ok()?.trim();
    if let Ok(secs) = text.parse::<u64>() {
        return Some(secs.saturating_mul(1000));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    u64::try_from(date.timestamp().as_millisecond()).ok().map(|then_ms| then_ms.saturating_sub(now_ms))
}

/// What failed, without anything that the endpoint's owner did not say.
fn words(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(error) = tls(inner) {
            let mut words = format!("TLS failed: {error}");
            words.truncate(words.floor_char_boundary(WORDS_MAX_BYTES));
            return words;
        }
        if inner.is::<NotPublic>() || inner.is::<NoAddress>() {
            return inner.to_string();
        }
        cause = inner.source();
    }
    if error.is_timeout() {
        format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs())
    } else if error.is_connect() {
        "the connection failed".to_owned()
    } else {
        "the receiver did not answer in HTTP".to_owned()
    }
}

/// The error of TLS that an I/O error, or one within it, was made of: `source` steps over it.
fn tls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<std::io::Error>() {
        Some(outer) => tls(outer.get_ref()?),
        None => error.downcast_ref(),
    }
}

/// Looks names up, and gives out only addresses that may be reached.
struct Judge {
    allow: Arc<[IpNet]>,
    /// Made at the first look-up, inside the runtime that it needs.
    resolver: Arc<OnceLock<TokioResolver>>,
}

impl Resolve for Judge {
    fn resolve(&self, name: Name) -> Resolving {
        let (allow, cell) = (Arc::clone(&self.allow), Arc::clone(&self.resolver));
        Box::pin(async move {
            let resolver = match cell.get() {
                Some(resolver) => resolver,
                None => {
                    let made = system_resolver().map_err(|error| NoAddress(Some(error)))?;
                    cell.get_or_init(|| made)
                }
            };
            let found = resolver.lookup_ip(name.as_str()).await.map_err(|error| NoAddress(Some(error)))?;
            let all: Vec<IpAddr> = found.iter().collect();
            if all.is_empty() {
                return Err(NoAddress(None).into());
            }
            let good: Vec<SocketAddr> = all
                .into_iter()
                .filter(|address| permitted(&allow, *address))
                .take(ADDRESSES_MAX)
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            if good.is_empty() {
                return Err(NotPublic.into());
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

/// Files and name servers of this machine.
fn system_resolver() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_urls_are_seen_in_all_their_forms() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let courier = Courier::new(&["10.9.0.0/16".parse().unwrap()], None).unwrap();
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://0/",
            "https://10.0.0.1:8443/a",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[fd00::1]:80/",
            "http://[fe80::1]/",
        ] {
            assert!(!courier.goes_to(&Url::parse(url).unwrap()), "{url}");
        }
        for url in ["http://1.1.1.1/", "https://[2606:4700::1]/", "http://10.9.1.1/", "http://[::ffff:10.9.1.1]/"] {
            assert!(courier.goes_to(&Url::parse(url).unwrap()), "{url}");
        }
        assert!(courier.goes_to(&Url::parse("http://localhost/").unwrap()), "names are judged when they are looked up");
    }

    #[test]
    fn when_to_come_back_is_read_in_both_forms() {
        let read = |text: &str| retry_after_ms(&HeaderValue::from_str(text).unwrap(), 1_445_412_470_000);
        assert_eq!(read("120"), Some(120_000));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(10_000));
        assert_eq!(read("Wed, 21 Oct 2015 07:27:00 GMT"), Some(0));
        assert_eq!(read("99999999999999999999"), None);
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }
}
