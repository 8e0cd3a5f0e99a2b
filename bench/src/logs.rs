//! A million log lines, or as many as wanted: how fast a VM writes them, how fast pages of them come, and how fast a word
//! among them is found.
//! The VM's own pipe, and `grep` over the segments, stand beside.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cakework_testkit::images::{self, Compression, Format};
use cakework_testkit::{Auth, Registry};
use serde_json::{Value, json};

use crate::stats::{Samples, Table};
use crate::subject::{Access, Subject, WAIT};

const PAGES: usize = 200;

/// Writes numbered lines of some 60 bytes in blocks of 64 KiB, first through a pipe of its own, then to its log. Times are
/// the kernel's, in seconds.
fn app(lines: u64) -> String {
    format!(
        "seq -w 1 {lines} | sed 's/$/ the quick brown fox jumps over the lazy dog, again/' > /tmp/lines; \
         now() {{ cut -d' ' -f1 /proc/uptime; }}; \
         a=$(now); dd if=/tmp/lines bs=64k 2>/dev/null | cat >/dev/null; b=$(now); \
         dd if=/tmp/lines bs=64k 2>/dev/null; c=$(now); echo took $a $b $c; sleep 1000"
    )
}

/// A line that stands in the middle of them.
fn needle(lines: u64) -> String {
    let width = lines.to_string().len();
    format!("{:0width$} the quick", lines / 2)
}

/// Nothing is held back, and nothing goes.
const CONFIG: &str = "[logs]\ntotal_bytes = 4294967296\nlines_per_second = 100000000\nbytes_per_second = 10000000000\n\
     burst_lines = 100000000\nburst_bytes = 10000000000\n";

/// Measures all three.
pub async fn measure(access: &Access, runs: usize, lines: u64) -> Result<Table> {
    let needle = needle(lines);
    let subject = access.start_with(CONFIG).await?;
    let registry = Registry::start(Auth::Basic).await?;
    let image = images::busybox(Format::Oci, Compression::Gzip)?.build();
    registry.push("bench/busybox", "v1", &image).await?;
    let image_id = subject.import(&registry.reference("bench/busybox", "v1"), registry.password()).await?;
    let body = json!({"imageId": image_id, "memory": 1024, "command": ["sh", "-c", app(lines)]});
    let vm = subject.post("/v1/vm/start", body).await?;
    let id = vm["id"].as_str().context("startVM answers an id")?.to_owned();
    let logs = format!("/v1/vm/{id}/logs");
    let [began, piped, logged] = until_written(&subject, &logs).await?;
    let dropped = subject.get(&format!("{logs}?query=dropped+here")).await?;
    ensure!(dropped["lines"].as_array().is_some_and(Vec::is_empty), "lines were dropped: {dropped}");

    let kept = count(&subject, &id, " the quick brown fox")?;
    ensure!(kept == lines, "{kept} lines of {lines} are in the log");

    let mut table = Table::new(
        format!("{lines} log lines of a VM"),
        &["what", "runs", "median ms", "p99 ms", "ratio", "lines/s", "target"],
    );
    let mut row = |what: &str, samples: &Samples, ratio: f64, rate: Option<f64>, target: &str| {
        table.row(&[
            what.to_owned(),
            samples.count().to_string(),
            format!("{:.1}", samples.median_ms()),
            format!("{:.1}", samples.percentile_ms(99)),
            format!("{ratio:.2}×"),
            rate.map_or(String::new(), |rate| format!("{rate:.0}")),
            target.to_owned(),
        ]);
    };
    let once = |secs: f64| {
        let mut samples = Samples::default();
        samples.add(std::time::Duration::from_secs_f64(secs.max(0.01)));
        samples
    };
    let (pipe, log) = (once(piped - began), once(logged - piped));
    let rate = |samples: &Samples| lines as f64 / samples.median_ms() * 1000.0;
    row("written to a pipe in the VM", &pipe, 1.0, Some(rate(&pipe)), "");
    row("written to the log", &log, log.median_ms() / pipe.median_ms(), Some(rate(&log)), "≥ 100,000 lines/s");

    let newest = pages(&subject, &format!("{logs}?batch=100&order=newest_first")).await?;
    let deep = pages(&subject, &in_the_middle(&subject, &logs, &needle).await?).await?;
    row("a page of the newest 100", &newest, 1.0, None, "≤ 10 ms");
    row("a page of 100 in the middle", &deep, deep.median_ms() / newest.median_ms(), None, "≤ 10 ms");

    let (mut grep, mut query) = (Samples::default(), Samples::default());
    for _ in 0..runs {
        grep.add(grep_segments(&subject, &id, &needle)?);
        query.add(find(&subject, &logs, &needle).await?);
    }
    row("grep over the segments", &grep, 1.0, None, "");
    let target = if lines <= 1_000_000 { "≤ 300 ms" } else { "" };
    row("a query for one line in the middle", &query, query.median_ms() / grep.median_ms(), None, target);
    subject.stop(&id).await?;
    Ok(table)
}

/// Waits for the app's last line; its three times.
async fn until_written(subject: &Subject, logs: &str) -> Result<[f64; 3]> {
    let end = Instant::now() + WAIT;
    loop {
        let page = subject.get(&format!("{logs}?batch=50&order=newest_first")).await?;
        let last = page["lines"][0]["message"].as_str().unwrap_or_default();
        if let Some(times) = last.strip_prefix("took ") {
            let times: Vec<f64> = times.split(' ').map(str::parse).collect::<Result<_, _>>()?;
            return times.try_into().ok().context("three times");
        }
        ensure!(Instant::now() < end, "it does not end: {last}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

async fn pages(subject: &Subject, path: &str) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..PAGES {
        let began = Instant::now();
        let page = subject.get(path).await?;
        samples.add(began.elapsed());
        ensure!(page["lines"].as_array().is_some_and(|lines| lines.len() == 100), "a short page: {path}");
    }
    Ok(samples)
}

/// The page after the one that has the needle.
async fn in_the_middle(subject: &Subject, logs: &str, needle: &str) -> Result<String> {
    let page = found(subject, logs, needle).await?;
    let token = page["pagination"].as_str().context("the log goes on after the middle")?;
    Ok(format!("{logs}?batch=100&pagination={token}"))
}

/// The first page of a search that has a line, however many pages have none.
async fn found(subject: &Subject, logs: &str, needle: &str) -> Result<Value> {
    let query = format!("{logs}?batch=50&query={}", needle.replace(' ', "+"));
    let mut page = subject.get(&query).await?;
    while page["lines"].as_array().is_some_and(Vec::is_empty) {
        let token = page["pagination"].as_str().context("the needle is there")?.to_owned();
        page = subject.get(&format!("{query}&pagination={token}")).await?;
    }
    Ok(page)
}

async fn find(subject: &Subject, logs: &str, needle: &str) -> Result<std::time::Duration> {
    let began = Instant::now();
    let page = found(subject, logs, needle).await?;
    let took = began.elapsed();
    ensure!(page["lines"][0]["message"].as_str().is_some_and(|line| line.starts_with(needle)), "{page}");
    Ok(took)
}

fn grep_segments(subject: &Subject, vm: &str, needle: &str) -> Result<std::time::Duration> {
    let began = Instant::now();
    let lines = count(subject, vm, needle)?;
    ensure!(lines == 1, "{lines} needles");
    Ok(began.elapsed())
}

/// Lines that have a text, as grep counts them in the segments. Records end without a newline: each text is counted.
fn count(subject: &Subject, vm: &str, text: &str) -> Result<u64> {
    let dir: PathBuf = subject.data_dir.join("agent/vms").join(vm).join("logs");
    let script = "LC_ALL=C grep -rhoiaF -- \"$0\" \"$1\" | wc -l";
    let output = Command::new("sh").args(["-c", script, text]).arg(&dir).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
