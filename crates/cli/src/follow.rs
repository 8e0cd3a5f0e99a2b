//! Logs that are followed: server-sent events, taken up again where the connection broke. No line is lost, none comes twice.

use std::time::Duration;

use cakework_api::logs::LogLine;
use futures_util::StreamExt as _;
use rand::RngExt as _;
use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sse_stream::SseByteStream;

use crate::client::Client;
use crate::failure::{Exit, Failure, Result};

/// The server gives a sign of life every 15 s; a stream without any for this long is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// How often in a row a stream may break without a line before it is given up.
const BREAKS_MAX: u32 = 8;
/// Shortest pause before a stream that broke is opened again; it doubles five times.
const PAUSE_MS: u64 = 200;

/// A log that is followed.
pub(crate) struct Follower {
    client: Client,
    path: String,
    query: Vec<(&'static str, String)>,
    last: Option<HeaderValue>,
}

impl Follower {
    /// The log at a path, such as `/v1/vm/ID/logs`.
    pub(crate) fn new(client: &Client, path: String, mut query: Vec<(&'static str, String)>) -> Self {
        query.push(("follow", "true".to_owned()));
        Self { client: client.clone(), path, query, last: None }
    }

    /// Hands on each line until there will be no more; gives the server's word for how it ended.
    pub(crate) async fn run(mut self, mut each: impl FnMut(LogLine) -> Result<()>) -> Result<String> {
        let mut breaks = 0;
        loop {
            let broken = match self.once(&mut each, &mut breaks).await {
                Ok(Ok(word)) => return Ok(word),
                Ok(Err(failure)) => failure,
                // Not to begin with: what was wrong with the first request is wrong with each.
                Err(failure) if self.last.is_some() && failure.exit == Exit::Unavailable => failure,
                Err(failure) => return Err(failure),
            };
            breaks += 1;
            if breaks > BREAKS_MAX {
                return Err(broken);
            }
            let longest = PAUSE_MS << breaks.min(5);
            tokio::time::sleep(Duration::from_millis(rand::rng().random_range(PAUSE_MS..=longest))).await;
        }
    }

    /// One connection: its end, or how it broke.
    async fn once(
        &mut self,
        each: &mut impl FnMut(LogLine) -> Result<()>,
        breaks: &mut u32,
    ) -> Result<std::result::Result<String, Failure>> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = &self.last {
            headers.insert(HeaderName::from_static("last-event-id"), last.clone());
        }
        let response = self.client.open(&self.path, &self.query, headers).await?;
        let mut events = SseByteStream::new(response.bytes_stream());
        loop {
            let event = match tokio::time::timeout(SILENCE, events.next()).await {
                Err(_) => return Ok(Err(broke("fell silent"))),
                Ok(None | Some(Err(_))) => return Ok(Err(broke("broke off"))),
                Ok(Some(Ok(event))) => event,
            };
            let data = event.data.unwrap_or_default();
            match event.event.as_deref() {
                Some("end") => {
                    let said: Value = serde_json::from_str(&data).unwrap_or_default();
                    return Ok(Ok(said["status"].as_str().unwrap_or_default().to_owned()));
                }
                Some("log") => {
                    let Ok(line) = serde_json::from_str(&data) else { return Ok(Err(broke("is not one of this API"))) };
                    each(line)?;
                    *breaks = 0;
                    self.last = event.id.and_then(|id| HeaderValue::from_str(&id).ok()).or(self.last.take());
                }
                _ => {}
            }
        }
    }
}

fn broke(how: &str) -> Failure {
    Failure::new(Exit::Unavailable, format!("the log's stream {how}")).fix("run it again")
}
