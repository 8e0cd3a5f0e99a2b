//! Pages of logs that grow while they are read. The segments here are written by the tests themselves; the monitor's tests
//! read what a real one wrote.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cakework_core::id::{Generation, VmId};
use cakework_core::logquery::{LogQuery, Order, Position};
use cakework_wire::host::LogLine;
use cakework_wire::segment::{self, Body, GapReason, Record, Stream};
use proptest::prelude::*;

use super::*;

fn query(order: Order, batch: u32) -> LogQuery {
    LogQuery { contains: String::new(), batch, order, from_ms: None, to_ms: None, after: None }
}

/// A log that grows record by record, also by halves of one.
struct Log {
    dir: tempfile::TempDir,
    segment: u32,
    lines: Vec<LogLine>,
    /// The second half of a record whose first half is in the file.
    rest: Vec<u8>,
}

impl Log {
    fn new() -> Self {
        let mut log =
            Self { dir: tempfile::tempdir().expect("a directory"), segment: 0, lines: Vec::new(), rest: Vec::new() };
        log.rotate();
        log
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn rotate(&mut self) {
        self.complete();
        self.segment += 1;
        fs::write(files::path_of(self.path(), self.segment), segment::header(Generation(1), self.segment))
            .expect("written");
    }

    fn write(&self, bytes: &[u8]) {
        let mut file =
            fs::File::options().append(true).open(files::path_of(self.path(), self.segment)).expect("a segment");
        file.write_all(bytes).expect("written");
    }

    fn complete(&mut self) {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.write(&rest);
        }
    }

    fn line(&mut self, ms: u64, text: &str) {
        self.complete();
        let mut bytes = Vec::new();
        let body = Body::Line { stream: Stream::Stdout, continues: false, text: text.as_bytes() };
        segment::append(&mut bytes, Record { timestamp_ms: ms, body });
        self.write(&bytes);
        self.lines.push(LogLine { timestamp: ms, level: "info".into(), message: text.into(), continues: false });
    }

    /// Like [`Self::line`], but only the first half is there until the next change.
    fn half_line(&mut self, ms: u64, text: &str) {
        self.complete();
        let mut bytes = Vec::new();
        let body = Body::Line { stream: Stream::Stdout, continues: false, text: text.as_bytes() };
        segment::append(&mut bytes, Record { timestamp_ms: ms, body });
        self.rest = bytes.split_off(bytes.len() / 2);
        self.write(&bytes);
        self.lines.push(LogLine { timestamp: ms, level: "info".into(), message: text.into(), continues: false });
    }

    /// The lines that are whole.
    fn whole(&self) -> &[LogLine] {
        &self.lines[..self.lines.len() - usize::from(!self.rest.is_empty())]
    }
}

/// Reads every page, with `between` after each.
fn read_all(log: &mut Log, mut query: LogQuery, mut between: impl FnMut(&mut Log)) -> Vec<LogLine> {
    let mut all = Vec::new();
    for _ in 0..10_000 {
        let page = read_page(log.path(), &query).expect("readable");
        assert!(page.lines.len() <= query.batch as usize);
        all.extend(page.lines);
        let Some(next) = page.next else { return all };
        query.after = Some(next);
        between(log);
    }
    panic!("the pages have no end");
}

#[test]
fn nothing_is_an_empty_page() {
    let dir = tempfile::tempdir().expect("a directory");
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let page = read_page(&dir.path().join("none"), &query(order, 100)).expect("no log is no error");
        assert!(page.lines.is_empty() && page.next.is_none());
    }
    remove(&dir.path().join("none")).expect("no log is no error");
    let log = Log::new();
    remove(log.path()).expect("removed");
    assert!(!log.path().exists());
}

#[test]
fn a_full_page_goes_on_and_a_short_one_is_the_end() {
    let mut log = Log::new();
    (0..100).for_each(|n| log.line(n, &n.to_string()));
    let page = read_page(log.path(), &query(Order::OldestFirst, 100)).expect("readable");
    let follow = LogQuery { after: page.next, ..query(Order::OldestFirst, 100) };
    assert!(follow.after.is_some(), "a full page has a place to go on, also at the end");
    assert!(read_page(log.path(), &follow).expect("readable").lines.is_empty());
    log.rotate();
    log.line(100, "later");
    let page = read_page(log.path(), &follow).expect("readable");
    assert_eq!((page.lines[0].message.as_str(), page.lines.len(), page.next), ("later", 1, None));
}

#[test]
fn times_are_inclusive_and_found_over_segments() {
    let mut log = Log::new();
    for segment in 0..8 {
        for n in 0..10 {
            log.line(1000 + segment * 100 + n / 2 * 10, &format!("{segment}-{n}"));
        }
        log.rotate();
    }
    for (from_ms, to_ms) in [
        (None, None),
        (Some(1310), Some(1310)),
        (Some(1340), Some(1400)),
        (Some(1341), Some(1399)),
        (Some(0), Some(999)),
        (Some(5000), None),
        (None, Some(1000)),
        (Some(1740), None),
        (None, Some(1050)),
    ] {
        let inside = |line: &&LogLine| {
            from_ms.is_none_or(|from| line.timestamp >= from) && to_ms.is_none_or(|to| line.timestamp <= to)
        };
        let mut expected: Vec<_> = log.lines.iter().filter(inside).cloned().collect();
        let ask = |order| LogQuery { from_ms, to_ms, ..query(order, 3) };
        assert_eq!(read_all(&mut log, ask(Order::OldestFirst), |_| {}), expected, "{from_ms:?} {to_ms:?}");
        expected.reverse();
        assert_eq!(read_all(&mut log, ask(Order::NewestFirst), |_| {}), expected, "{from_ms:?} {to_ms:?}");
    }
}

#[test]
fn what_was_lost_is_said_as_a_warning_and_can_be_found() {
    let log = Log::new();
    let mut bytes = Vec::new();
    let gap = |reason| Body::Gap { reason };
    let bodies = [
        Body::Dropped { lines: 1 },
        Body::Dropped { lines: 7 },
        gap(GapReason::MonitorLost),
        gap(GapReason::NoSpace),
        gap(GapReason::HostLost),
    ];
    bodies.into_iter().for_each(|body| segment::append(&mut bytes, Record { timestamp_ms: 1, body }));
    let long = Body::Line { stream: Stream::Stderr, continues: true, text: b"{\"level\":\"debug\"}" };
    segment::append(&mut bytes, Record { timestamp_ms: 1, body: long });
    log.write(&bytes);
    let page = read_page(log.path(), &query(Order::OldestFirst, 100)).expect("readable");
    assert!(page.lines[..5].iter().all(|line| line.level == "warn" && line.message.contains("here: ")));
    assert!(page.lines[0].message.starts_with("1 line was") && page.lines[1].message.starts_with("7 lines were"));
    assert_eq!(page.lines[5].level, "error", "a piece of a line speaks not for the whole");
    assert!(page.lines[5].continues && page.lines[..5].iter().all(|line| !line.continues));
    let found = LogQuery { contains: "NO ROOM".into(), ..query(Order::OldestFirst, 100) };
    assert_eq!(read_page(log.path(), &found).expect("readable").lines, page.lines[3..4]);
}

#[test]
fn a_page_is_bounded_in_bytes() {
    let mut log = Log::new();
    let text = "x".repeat(60_000);
    (0..200).for_each(|n| log.line(n, &text));
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let page = read_page(log.path(), &query(order, 1000)).expect("readable");
        assert!(page.lines.len() < 80 && page.next.is_some());
        assert_eq!(read_all(&mut log, query(order, 1000), |_| {}).len(), 200);
    }
}

#[test]
fn a_search_that_finds_nothing_stops_and_goes_on() {
    let mut log = Log::new();
    let text = "x".repeat(65_000);
    let mut bytes = Vec::new();
    for _ in 0..100 {
        segment::append(
            &mut bytes,
            Record {
                timestamp_ms: 1,
                body: Body::Line { stream: Stream::Stdout, continues: false, text: text.as_bytes() },
            },
        );
    }
    for _ in 0..14 {
        log.write(&bytes);
        log.rotate();
    }
    log.line(2, "Needle");
    let ask = LogQuery { contains: "needle".into(), ..query(Order::OldestFirst, 100) };
    let page = read_page(log.path(), &ask).expect("readable");
    assert!(page.lines.is_empty() && page.next.is_some(), "90 MB are too much for one page");
    assert_eq!(read_all(&mut log, ask, |_| {}).len(), 1);
}

#[test]
fn a_forged_or_outdated_position_is_a_place_in_this_log_or_its_end() {
    let mut log = Log::new();
    (0..50).for_each(|n| log.line(n, &format!("line {n}")));
    log.rotate();
    (50..100).for_each(|n| log.line(n, &format!("line {n}")));
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for generation in [0, 1, 2, u64::MAX] {
            for segment in [0, 1, 2, 3, u32::MAX] {
                for offset in [0, 1, 23, 24, 25, 100, 1700, 5000, u64::MAX] {
                    let after = Position { generation: Generation(generation), segment, offset };
                    let page = read_page(log.path(), &LogQuery { after: Some(after), ..query(order, 1000) })
                        .expect("readable");
                    assert!(page.lines.iter().all(|line| log.lines.contains(line)), "{after:?}");
                }
            }
        }
    }
    // The oldest segment is gone: what is still there follows.
    let first = read_page(log.path(), &query(Order::OldestFirst, 10)).expect("readable");
    fs::remove_file(files::path_of(log.path(), 1)).expect("removed");
    let page =
        read_page(log.path(), &LogQuery { after: first.next, ..query(Order::OldestFirst, 10) }).expect("readable");
    assert_eq!(page.lines, log.lines[50..60]);
}

#[test]
#[allow(clippy::print_stderr)]
fn the_speed_of_a_million_lines() {
    let mut log = Log::new();
    let mut bytes = Vec::new();
    for n in 0..1_000_000u64 {
        let text = format!("2023-03-07 06:12:56 INFO request {n} from 10.0.0.{} took {} ms", n % 256, n % 977);
        segment::append(
            &mut bytes,
            Record {
                timestamp_ms: n,
                body: Body::Line { stream: Stream::Stdout, continues: false, text: text.as_bytes() },
            },
        );
        if bytes.len() > 8 << 20 {
            log.write(&std::mem::take(&mut bytes));
            log.rotate();
        }
    }
    log.write(&bytes);
    let told = |what: &str, ask: LogQuery| {
        let started = Instant::now();
        let (mut calls, mut found, mut after) = (0, 0, None);
        loop {
            let page = read_page(log.path(), &LogQuery { after, ..ask.clone() }).expect("readable");
            (calls, found, after) = (calls + 1, found + page.lines.len(), page.next);
            if after.is_none() || found >= ask.batch as usize {
                break;
            }
        }
        eprintln!("{what}: {found} lines in {:?}, {calls} calls", started.elapsed());
        found
    };
    let find = |contains: &str, order| LogQuery { contains: contains.into(), ..query(order, 1000) };
    assert_eq!(told("first page", find("", Order::OldestFirst)), 1000);
    assert_eq!(told("last page", find("", Order::NewestFirst)), 1000);
    assert_eq!(told("page from the middle", LogQuery { from_ms: Some(500_000), ..find("", Order::OldestFirst) }), 1000);
    assert_eq!(told("substring that is rare", find("REQUEST 999999 ", Order::OldestFirst)), 1);
    assert_eq!(told("substring that is nowhere", find("timeout", Order::OldestFirst)), 0);
    assert_eq!(told("the same backwards", find("timeout", Order::NewestFirst)), 0);
    assert_eq!(told("substring beyond ASCII", find("Zeitüberschreitung", Order::OldestFirst)), 0);
}

#[derive(Debug, Clone)]
enum Change {
    Lines(Vec<String>),
    Half(String),
    Rotate,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => proptest::collection::vec("[abc ]{0,12}", 0..9).prop_map(Change::Lines),
        1 => "[abc]{0,12}".prop_map(Change::Half),
        2 => Just(Change::Rotate),
    ]
}

fn apply(log: &mut Log, change: &Change) {
    // Several lines have the same time.
    let now = |log: &Log| log.lines.len() as u64 / 3;
    match change {
        Change::Lines(lines) => lines.iter().for_each(|line| log.line(now(log), line)),
        Change::Half(line) => log.half_line(now(log), line),
        Change::Rotate => log.rotate(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn pages_never_skip_or_repeat_a_line(
        before in proptest::collection::vec(change(), 0..8),
        between in proptest::collection::vec(change(), 0..20),
        batch in 1u32..9,
        contains in "[aB]{0,2}",
        newest in any::<bool>(),
    ) {
        let mut log = Log::new();
        before.iter().for_each(|one| apply(&mut log, one));
        let order = if newest { Order::NewestFirst } else { Order::OldestFirst };
        let at_first = log.whole().to_vec();
        let mut changes = between.iter();
        let read = read_all(&mut log, LogQuery { contains: contains.clone(), ..query(order, batch) }, |log| {
            if let Some(change) = changes.next() { apply(log, change) }
        });
        // Oldest first sees what came meanwhile; newest first goes back from where it began.
        let mut expected = if newest { at_first } else { log.whole().to_vec() };
        expected.retain(|line| line.message.contains(&contains.to_lowercase()));
        if newest { expected.reverse() }
        prop_assert_eq!(read, expected);
    }
}

/// Reads every page of a search, with `between` after each.
fn search_all(logs: &[(VmId, PathBuf)], query: &LogQuery, mut between: impl FnMut()) -> Vec<(VmId, u64, String)> {
    let (mut all, mut mark) = (Vec::new(), None);
    for _ in 0..10_000 {
        let page = search(logs, query, mark.as_ref()).expect("readable");
        assert!(page.lines.len() <= query.batch as usize);
        all.extend(page.lines.into_iter().map(|found| (found.mark.vm, found.line.timestamp, found.line.message)));
        mark = page.next;
        if mark.is_none() {
            return all;
        }
        between();
    }
    panic!("the pages have no end");
}

#[test]
fn a_search_goes_through_many_logs_in_the_order_of_time() {
    let mut logs: Vec<_> = (0..5).map(|_| Log::new()).collect();
    let vms: Vec<VmId> = (0..5).map(|number| format!("{number:014x}").parse().expect("an id")).collect();
    let mut expected = Vec::new();
    for n in 0..700u64 {
        let owner = (n * n % 5) as usize;
        // Some in the same millisecond, some segments closed, and some that are not looked for.
        let text = if n % 7 == 0 { format!("other {n}") } else { format!("line {n}") };
        logs[owner].line(n / 3, &text);
        if n % 50 == 0 {
            logs[owner].rotate();
        }
        if n % 7 != 0 && (20..=200).contains(&(n / 3)) {
            expected.push((vms[owner].clone(), n / 3, text));
        }
    }
    let mut places: Vec<_> = vms.iter().cloned().zip(logs.iter().map(|log| log.path().to_owned())).collect();
    places.push(("ffffffffffffff".parse().expect("an id"), PathBuf::from("/nonexistent")));
    expected.sort_by_key(|(vm, ms, _)| (*ms, vm.clone()));
    let asked = |order| LogQuery { contains: "LINE".into(), from_ms: Some(20), to_ms: Some(200), ..query(order, 50) };
    // What is written meanwhile is later than what is looked for, or newer than where the search is.
    let found = search_all(&places, &asked(Order::OldestFirst), || logs[2].line(10_000, "line of later"));
    assert_eq!(found, expected);
    let mut found = search_all(&places, &asked(Order::NewestFirst), || logs[1].line(10_000, "line of later"));
    found.reverse();
    // Lines of one VM and millisecond come back in their own order; those of several by the VM.
    assert_eq!(found, expected);
}

#[test]
fn a_page_of_many_logs_holds_no_more_text_than_one_of_one() {
    let text = "\u{1}".repeat(60_000);
    let mut logs: Vec<_> = (0..3).map(|_| Log::new()).collect();
    for n in 0..150u64 {
        logs[(n % 3) as usize].line(n, &text);
    }
    let vms = (0..3).map(|number| format!("{number:014x}").parse().expect("an id"));
    let places: Vec<(VmId, PathBuf)> = vms.zip(logs.iter().map(|log| log.path().to_owned())).collect();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let page = search(&places, &query(order, 1000), None).expect("readable");
        let bytes: usize = page.lines.iter().map(|found| found.line.message.len()).sum();
        assert!(bytes < page::PAGE_MAX_BYTES + text.len() && page.lines.len() < 150);
        let mut times: Vec<_> =
            search_all(&places, &query(order, 1000), || {}).into_iter().map(|line| line.1).collect();
        times.sort_unstable();
        assert_eq!(times, (0..150).collect::<Vec<_>>());
    }
}
