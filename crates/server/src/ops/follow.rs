//! Following a log: every line once, in order, until its owner is over and all were sent.
//!
//! A page says where the next one begins only once it is full. So a follower keeps the place where the page that
//! still grows begins, and how many of its lines it has passed on; both together are the place after a line, by which
//! a follower that was cut off goes on. Nothing is kept between two looks but that place and one page.

use std::collections::VecDeque;
use std::time::Duration;

use cakework_api::logs::LogLine;
use cakework_api::problem::ErrorCode;
use cakework_core::limit;
use cakework_core::logquery::{LogQuery, Order, write_token};
use tokio::time::Instant;

use super::logs::{self, Log};
use crate::app::Shared;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::host::HostError;
use crate::places::Place;

/// Time between two looks at a log that has nothing new.
const PAUSE: Duration = Duration::from_millis(300);
/// Longest time that a follower waits for a host that is away: then it has to come again.
const AWAY: Duration = Duration::from_secs(30);
/// Longest time of one follower: then its key is looked at again.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// A follower of a log.
pub(crate) struct Follower {
    app: Shared,
    caller: Caller,
    log: Log,
    query: LogQuery,
    /// Lines of the page at `query.after` that were passed on.
    passed: usize,
    ready: VecDeque<Event>,
    is_at_end: bool,
    until: Instant,
    _place: Place,
}

/// What a follower is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A line, and the place after it.
    Line { place: String, line: LogLine },
    /// The owner is over, with this word for how, and there are no more lines.
    End { word: &'static str },
}

/// The place after a line, as a follower names it: the page's token, and how many of its lines.
pub(crate) fn read_place(text: &str) -> Option<(Option<&str>, usize)> {
    let (token, passed) = text.rsplit_once('.')?;
    let passed = passed.parse().ok().filter(|passed| *passed <= limit::LOG_BATCH_MAX as usize)?;
    Some((Some(token).filter(|token| !token.is_empty()), passed))
}

/// Begins to follow a log after `passed` lines of the page at the query's place.
pub(crate) async fn follow(
    app: Shared,
    caller: Caller,
    log: Log,
    query: LogQuery,
    passed: usize,
) -> Result<Follower, ApiError> {
    if query.order == Order::NewestFirst {
        let detail = "A log is followed in the order `oldest_first`.";
        return Err(ApiError::field(ErrorCode::InvalidValue, "order", detail));
    }
    logs::kept(&app, &caller, &log).await?;
    let Some(place) = app.followers.enter(&caller.account) else {
        return Err(ApiError::new(ErrorCode::Overloaded, "Too many logs are being followed.").retry_after(10));
    };
    // Small pages: what is read again while a page grows, and what a follower holds, is bounded by them.
    let query = LogQuery { batch: limit::LOG_BATCH_MIN, ..query };
    let until = Instant::now() + LONGEST;
    let ready = VecDeque::new();
    Ok(Follower { app, caller, log, query, passed, ready, is_at_end: false, until, _place: place })
}

impl Follower {
    /// The next event; `None` where this follower has to come again, or has been told of the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let mut away_since = None;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_at_end || Instant::now() >= self.until {
                return None;
            }
            match self.look().await {
                Ok(true) => continue,
                Ok(false) => away_since = None,
                Err(error) => {
                    tracing::debug!(error = %error.detail, "a log could not be followed");
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if error.code != ErrorCode::HostUnavailable || since.elapsed() >= AWAY {
                        return None;
                    }
                }
            }
            tokio::select! {
                () = self.app.closing.cancelled() => return None,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Looks once; answers whether to look again at once.
    async fn look(&mut self) -> Result<bool, ApiError> {
        // Read before the log: what is over then has no line that the page lacks.
        let kept = logs::kept(&self.app, &self.caller, &self.log).await?;
        let page = logs::read(&self.app, &self.log, &kept, self.query.clone()).await;
        let page = page.map_err(|error: HostError| ApiError::from(error))?;
        let token = self.query.after.map(|after| write_token(after, self.query.order)).unwrap_or_default();
        let lines = page.lines.len();
        for (at, line) in page.lines.into_iter().enumerate().skip(self.passed) {
            let place = format!("{token}.{}", at + 1);
            self.ready.push_back(Event::Line { place, line: logs::line(line) });
        }
        if let Some(next) = page.next {
            self.query.after = Some(next);
            self.passed = self.passed.saturating_sub(lines);
            return Ok(true);
        }
        self.passed = self.passed.max(lines);
        if kept.over {
            self.ready.push_back(Event::End { word: kept.word });
            self.is_at_end = true;
        }
        Ok(!self.ready.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::read_place;

    #[test]
    fn a_place_reads_back_and_others_are_none() {
        assert_eq!(read_place(".3"), Some((None, 3)));
        assert_eq!(read_place("AQ-_.0"), Some((Some("AQ-_"), 0)));
        for text in ["", "3", ".", ".x", ".-1", ".1001", "AQ.99999999999999999999"] {
            assert_eq!(read_place(text), None, "{text}");
        }
    }
}
