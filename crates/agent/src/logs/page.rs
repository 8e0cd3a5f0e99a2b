//! The lines of a query, a page at a time.
//!
//! A page ends when it is full, in lines or in bytes, or when much was read and little found: then `next` names the place
//! to go on. It also ends at the log's end (oldest first), its beginning (newest first), or the end of the time range:
//! then `next` is `None`. A full page has a `next` even if nothing is behind it yet.
//!
//! A line longer than the limit stands in several records, and so is several lines here, each with its part of the text
//! and nothing else.

use std::path::Path;

use cakework_core::logquery::{LogQuery, Order, Position};
use cakework_wire::host::{LogLine, LogPage};
use cakework_wire::segment::{Body, GapReason, HEADER_BYTES, Record};

use super::find::Needle;
use super::scan::Segment;
use super::{LogError, files, level};

/// Text of one page: what a caller has to hold.
pub(super) const PAGE_MAX_BYTES: usize = 4 << 20;
/// Records read for one page, found or not: some tens of milliseconds.
const SCAN_MAX_BYTES: u64 = 64 << 20;

/// Reads the page of the log in `dir` that `query` asks for. Blocks. A VM without a log has no lines.
///
/// # Errors
/// [`LogError`].
pub fn read_page(dir: &Path, query: &LogQuery) -> Result<LogPage, LogError> {
    let part = read_part(dir, query, &Needle::new(&query.contains), SCAN_MAX_BYTES)?;
    let lines = part.lines.into_iter().map(|(_, _, line)| line).collect();
    Ok(LogPage { lines, next: part.stopped.map(|(_, next)| next) })
}

/// The same, with the place behind each line; `needle` is the query's, and about `scan_max_bytes` are read for it.
pub(super) fn read_part(dir: &Path, query: &LogQuery, needle: &Needle, scan_max_bytes: u64) -> Result<Part, LogError> {
    let numbers = files::list(dir)?;
    let page =
        Page { needle, query, scan_max_bytes, lines: Vec::new(), text_bytes: 0, scanned_bytes: 0, stopped: None };
    match query.order {
        Order::OldestFirst => oldest_first(dir, &numbers, page),
        Order::NewestFirst => newest_first(dir, &numbers, page),
    }
}

/// What was read of a log.
pub(super) struct Part {
    /// The lines that were found, with their times and where the log goes on behind each.
    pub lines: Vec<(u64, Position, LogLine)>,
    /// Where reading stopped before the log's end, and the time of the last record that was read.
    pub stopped: Option<(u64, Position)>,
}

struct Page<'a> {
    query: &'a LogQuery,
    needle: &'a Needle,
    scan_max_bytes: u64,
    lines: Vec<(u64, Position, LogLine)>,
    text_bytes: usize,
    scanned_bytes: u64,
    stopped: Option<(u64, Position)>,
}

fn oldest_first(dir: &Path, numbers: &[u32], mut page: Page<'_>) -> Result<Part, LogError> {
    let after = page.query.after;
    let mut first = 0;
    if let Some(after) = after {
        first = numbers.partition_point(|&number| number < after.segment);
    } else if let Some(from_ms) = page.query.from_ms {
        // The segment before the first that begins in the range may end in it.
        first = partition(dir, numbers, |first_ms| first_ms < from_ms)?.saturating_sub(1);
    }
    for &number in &numbers[first..] {
        let Some(mut segment) = Segment::open(dir, number)? else { continue };
        let mut at = HEADER_BYTES;
        if let Some(after) = after {
            if segment.generation < after.generation {
                continue;
            }
            if (segment.generation, number) == (after.generation, after.segment) {
                at = after.offset.min(segment.len()?).max(HEADER_BYTES);
            }
        }
        let generation = segment.generation;
        while let Some((record, size)) = segment.forward(at)? {
            if page.query.to_ms.is_some_and(|to_ms| record.timestamp_ms > to_ms) {
                return Ok(page.finish());
            }
            at += size;
            if page.take(record, size, Position { generation, segment: number, offset: at }) {
                return Ok(page.finish());
            }
        }
    }
    Ok(page.finish())
}

fn newest_first(dir: &Path, numbers: &[u32], mut page: Page<'_>) -> Result<Part, LogError> {
    let after = page.query.after;
    let mut count = numbers.len();
    if let Some(after) = after {
        count = numbers.partition_point(|&number| number <= after.segment);
    } else if let Some(to_ms) = page.query.to_ms {
        count = partition(dir, numbers, |first_ms| first_ms <= to_ms)?;
    }
    for &number in numbers[..count].iter().rev() {
        let Some(mut segment) = Segment::open(dir, number)? else { continue };
        let mut end = segment.len()?;
        if let Some(after) = after {
            if segment.generation > after.generation {
                continue;
            }
            if (segment.generation, number) == (after.generation, after.segment) {
                end = end.min(after.offset);
            }
        }
        let generation = segment.generation;
        if end > HEADER_BYTES && segment.backward(end)?.is_none() {
            // A record is being written, was torn, or the position is none that was given out.
            end = segment.boundary(end)?;
        }
        while let Some((record, size)) = segment.backward(end)? {
            if page.query.from_ms.is_some_and(|from_ms| record.timestamp_ms < from_ms) {
                return Ok(page.finish());
            }
            end -= size;
            if page.take(record, size, Position { generation, segment: number, offset: end }) {
                return Ok(page.finish());
            }
        }
    }
    Ok(page.finish())
}

/// How many of the first segments begin at a time that `before` holds for: times never fall within a log. A segment
/// that has no record yet begins later than all; one that was removed meanwhile was older than all.
fn partition(dir: &Path, numbers: &[u32], before: impl Fn(u64) -> bool) -> Result<usize, LogError> {
    let (mut low, mut high) = (0, numbers.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let holds = match Segment::open(dir, numbers[middle])? {
            Some(segment) => segment.first_ms()?.is_some_and(&before),
            None => true,
        };
        if holds { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

impl Page<'_> {
    /// Takes a record, which the log goes on behind at `place`. `true`: the page ends there.
    fn take(&mut self, record: Record<'_>, size: u64, place: Position) -> bool {
        self.scanned_bytes += size;
        let ms = record.timestamp_ms;
        let too_early = self.query.from_ms.is_some_and(|from_ms| ms < from_ms);
        if !too_early
            && self.query.to_ms.is_none_or(|to_ms| ms <= to_ms)
            && let Some(line) = self.line(record)
        {
            self.text_bytes += line.message.len();
            self.lines.push((ms, place, line));
        }
        let is_full = self.lines.len() >= self.query.batch as usize
            || self.text_bytes >= PAGE_MAX_BYTES
            || self.scanned_bytes >= self.scan_max_bytes;
        if is_full {
            self.stopped = Some((ms, place));
        }
        is_full
    }

    /// The line of a record, where it is one that is looked for.
    fn line(&self, record: Record<'_>) -> Option<LogLine> {
        let continues = matches!(record.body, Body::Line { continues: true, .. });
        let (level, message) = match record.body {
            Body::Line { text, .. } if !self.needle.is_in(text) => return None,
            Body::Line { stream, continues: true, text } => (level::of_stream(stream).into(), text_of(text)),
            Body::Line { stream, continues: false, text } => (level::of_line(stream, text), text_of(text)),
            Body::Dropped { .. } | Body::Gap { .. } => ("warn".into(), sentence(record.body)),
        };
        // Of a line it was asked before, so that the text of the others is never copied.
        let is_line = matches!(record.body, Body::Line { .. });
        (is_line || self.needle.is_in(message.as_bytes())).then(|| LogLine {
            timestamp: record.timestamp_ms,
            level: level.into_owned(),
            message,
            continues,
        })
    }

    fn finish(self) -> Part {
        Part { lines: self.lines, stopped: self.stopped }
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a record that is no line says to the VM's owner.
fn sentence(body: Body<'_>) -> String {
    match body {
        Body::Dropped { lines: 1 } => "1 line was dropped here: the VM logged faster than its limit.".to_owned(),
        Body::Dropped { lines } => format!("{lines} lines were dropped here: the VM logged faster than its limit."),
        Body::Gap { reason: GapReason::MonitorLost } => {
            "Lines may be missing here: the process that collects this log was restarted.".to_owned()
        }
        Body::Gap { reason: GapReason::NoSpace } => {
            "Lines are missing here: there was no room to store them.".to_owned()
        }
        Body::Gap { reason: GapReason::HostLost } => "Lines may be missing here: the VM's host was lost.".to_owned(),
        Body::Line { text, .. } => String::from_utf8_lossy(text).into_owned(),
    }
}
