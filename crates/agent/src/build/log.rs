//! What a build says itself in its log, between what its commands write.
//!
//! Invariant: a log has one writer at a time. While a command runs that is its monitor: [`Log::hand_over`] comes before.
//! Lines are few and short, so they are written where they arise.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cakework_core::id::Generation;
use cakework_core::limit;
use cakework_wire::segment::{Body, Stream};

use crate::logs::LogConfig;
use crate::monitor::segments::Writer;
use crate::sys::clock;

/// The end of a build's log.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    generation: Generation,
    config: LogConfig,
    writer: Mutex<Option<Writer>>,
}

impl Log {
    /// The log in `dir`.
    pub const fn new(dir: PathBuf, generation: Generation, config: LogConfig) -> Self {
        Self { dir, generation, config, writer: Mutex::new(None) }
    }

    /// Adds a line.
    pub fn say(&self, text: &str) {
        self.write(Stream::Stdout, text);
    }

    /// Adds a line about something that went wrong.
    pub fn complain(&self, text: &str) {
        self.write(Stream::Stderr, text);
    }

    /// Lets go of the log, for another writer.
    pub fn hand_over(&self) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn write(&self, stream: Stream, text: &str) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = writer.get_or_insert_with(|| Writer::open(&self.dir, self.generation, &self.config, false));
        writer.stamp(clock::unix_ms());
        for line in text.lines() {
            let line = &line[..line.floor_char_boundary(limit::LOG_LINE_MAX_BYTES)];
            writer.push(Body::Line { stream, continues: false, text: line.as_bytes() });
        }
        writer.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs;
    use cakework_core::logquery::{LogQuery, Order};

    #[test]
    fn a_log_that_changed_hands_has_no_gap() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Log::new(dir.path().to_owned(), Generation::FIRST, LogConfig::default());
        log.say("[1/2] FROM busybox");
        log.hand_over();
        let mut other = Writer::open(dir.path(), Generation::FIRST, &LogConfig::default(), false);
        other.stamp(clock::unix_ms());
        other.push(Body::Line { stream: Stream::Stdout, continues: false, text: b"of the command" });
        other.flush();
        drop(other);
        log.complain("ERROR one\nand two");
        let query = LogQuery {
            contains: String::new(),
            batch: 100,
            order: Order::OldestFirst,
            from_ms: None,
            to_ms: None,
            after: None,
        };
        let page = logs::read_page(dir.path(), &query).expect("it reads");
        let lines: Vec<_> = page.lines.iter().map(|line| (line.level.as_str(), line.message.as_str())).collect();
        assert_eq!(
            lines,
            [("info", "[1/2] FROM busybox"), ("info", "of the command"), ("error", "ERROR one"), ("error", "and two")]
        );
    }
}
