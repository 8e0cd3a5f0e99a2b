//! Starts and stops of one cached VM, again and again, each with a request between them, then imports and builds, each of
//! an image that was not there: what the server and the kernel hold afterwards beside what they held before. More than
//! before is a leak, and fails the run; but images stay, and what each of them takes is said.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cakework_testkit::images::{Compression, Entry, Format, Layer, busybox};
use cakework_testkit::kernel::{Census, Kind, Scope};
use cakework_testkit::{Auth, Registry};
use serde_json::json;

use crate::memory::processes;
use crate::sandbox::disk_bytes;
use crate::stats::Table;
use crate::subject::{Access, Subject, WAIT, first_byte};

/// Cycles before the first count: caches fill, pools of threads grow.
const WARM_UP: usize = 30;
/// Each such cycle waits for an instance, and starts from it; the others take what there is.
const PAUSED_EACH: usize = 25;
/// How much more resident memory the server may have: allocators give back late.
const RSS_MORE: f64 = 1.15;
/// How much more disk the host's files may take: a log of several runs ends where its last one did.
const DISK_MORE: u64 = 1 << 20;
/// How much disk an image of a file of some bytes may take: its documents, its layer, and a build's log.
const IMAGE_BYTES: u64 = 64 << 10;
/// Longest time until what a stop leaves to the background is done.
const SETTLE: Duration = Duration::from_secs(60);
const KINDS: [(Kind, &str); 7] = [
    (Kind::Process, "processes"),
    (Kind::Mount, "mounts"),
    (Kind::Netns, "network namespaces"),
    (Kind::Link, "network interfaces"),
    (Kind::Cgroup, "control groups"),
    (Kind::Loop, "loop devices"),
    (Kind::NftTable, "nft tables"),
];

/// What is held while the VM stands still and an instance waits.
struct Held {
    counts: BTreeMap<&'static str, u64>,
    rss_kib: u64,
    disk_bytes: u64,
}

impl Held {
    fn now(subject: &Subject, scope: &Scope) -> Result<Self> {
        let census = Census::take(scope)?;
        let mut counts: BTreeMap<_, _> = KINDS.map(|(kind, name)| (name, census.count(kind) as u64)).into();
        let processes = processes(&subject.data_dir)?;
        for process in &processes {
            let entries = |what: &str| -> Result<u64> {
                Ok(fs::read_dir(format!("/proc/{}/{what}", process.pid))?.count() as u64)
            };
            *counts.entry("open files").or_default() += entries("fd")?;
            *counts.entry("threads").or_default() += entries("task")?;
        }
        let rss_kib = processes.iter().map(|process| process.rss_kib).sum();
        Ok(Self { counts, rss_kib, disk_bytes: disk_bytes(&subject.data_dir.join("agent"))? })
    }

    /// Nothing more is held than before, with so many more images.
    fn is_within(&self, before: &Self, images: usize) -> bool {
        self.counts.iter().all(|(name, count)| *name == "threads" || *count <= before.counts[name])
            && self.rss_kib as f64 <= before.rss_kib as f64 * RSS_MORE
            && self.disk_bytes <= before.disk_bytes + DISK_MORE + images as u64 * IMAGE_BYTES
    }

    /// What is held once the background has done what was left to it.
    async fn settled(subject: &Subject, scope: &Scope, before: &Self, images: usize) -> Result<Self> {
        subject.until_waiting("paused", 1).await?;
        let end = Instant::now() + SETTLE;
        loop {
            let now = Self::now(subject, scope)?;
            if now.is_within(before, images) || Instant::now() >= end {
                return Ok(now);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Goes round `cycles` times, imports and builds `images` each, and compares.
pub async fn measure(access: &Access, cycles: usize, images: usize) -> Result<Table> {
    let subject = access.start().await?;
    let registry = Registry::start(Auth::Basic).await?;
    registry.push("bench/busybox", "v1", &busybox(Format::Oci, Compression::Gzip)?.build()).await?;
    let image = subject.import(&registry.reference("bench/busybox", "v1"), registry.password()).await?;
    let scope = Scope::of_data_dir(&subject.data_dir)?;
    let empty = Census::take(&scope)?;
    let serve = "mkdir -p /tmp/w; echo here > /tmp/w/index.html; exec httpd -f -p 80 -h /tmp/w";
    let wish = json!({"imageId": image, "port": 80, "prewarm": "boot", "command": ["sh", "-c", serve]});
    let vm = subject.post("/v1/vm/cache", wish).await?;
    let (id, name) = (vm["id"].as_str().context("an id")?, vm["hostname"].as_str().context("a hostname")?);
    let mut tiers = BTreeMap::new();
    for cycle in 0..WARM_UP {
        turn(&subject, id, name, cycle, &mut BTreeMap::new()).await?;
    }
    subject.until_waiting("paused", 1).await?;
    let before = Held::now(&subject, &scope)?;
    let began = Instant::now();
    for cycle in 0..cycles {
        turn(&subject, id, name, cycle, &mut tiers).await?;
    }
    let took = began.elapsed();
    let after = Held::settled(&subject, &scope, &before, 0).await?;
    // The first ones fill what is kept for builds; they are not counted.
    for number in 0..WARM_UP {
        bring(&subject, &registry, &image, number).await?;
    }
    let between = Held::settled(&subject, &scope, &before, 2 * WARM_UP).await?;
    let began = Instant::now();
    for number in WARM_UP..WARM_UP + images {
        bring(&subject, &registry, &image, number).await?;
    }
    let brought = began.elapsed();
    let last = Held::settled(&subject, &scope, &between, 2 * images).await?;

    let mut table = Table::new(
        format!("{cycles} starts and stops of a cached VM, then {images} imports and {images} builds"),
        &["held", "before", "after the cycles", "before the images", "after them", "target of each"],
    );
    let held = [&before, &after, &between, &last];
    for name in after.counts.keys() {
        let target = if *name == "threads" { "" } else { "≤ before" };
        table.row(&row(name, held.map(|held| held.counts[name].to_string()), target));
    }
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / 1_048_576.0);
    let more = format!("≤ {RSS_MORE}×");
    table.row(&row("RSS of the server, MiB", held.map(|held| mib(held.rss_kib << 10)), &more));
    table.row(&row(
        "disk of the host, MiB",
        held.map(|held| mib(held.disk_bytes)),
        "≤ 1 MiB more; 64 KiB for each image",
    ));
    let tiers: Vec<String> = tiers.iter().map(|(tier, count)| format!("{count} {tier}")).collect();
    let (took, brought) = (took.as_secs(), brought.as_secs());
    table.note(format!("Cycles in {took} s, images in {brought} s; starts: {}.", tiers.join(", ")));
    ensure!(after.is_within(&before, 0) && last.is_within(&between, 2 * images), "something leaks:\n{table}");
    subject.post(&format!("/v1/vm/{id}/destroy"), json!({})).await?;
    let left: Vec<_> = Census::leftovers(&scope, &empty, SETTLE)?;
    ensure!(left.is_empty(), "left over once the VM was destroyed: {left:?}");
    Ok(table)
}

fn row(name: &str, held: [String; 4], target: &str) -> [String; 6] {
    let [before, after, between, last] = held;
    [name.to_owned(), before, after, between, last, target.to_owned()]
}

/// Imports an image, and builds one, that were not there.
async fn bring(subject: &Subject, registry: &Registry, base: &str, number: usize) -> Result<()> {
    let tag = format!("n{number}");
    let layer = Layer::new(&[Entry::file("srv/n", tag.clone())], Compression::Gzip);
    registry.push("bench/busybox", &tag, &busybox(Format::Oci, Compression::Gzip)?.layer(layer).build()).await?;
    subject.import(&registry.reference("bench/busybox", &tag), registry.password()).await?;
    let file = json!({"dir": ".", "name": "f", "content": "f"});
    let dockerfile = format!("FROM cakework/{base}\nRUN echo {number} > /n\nCOPY f /f\n");
    let build = subject.post("/v1/image/build/files", json!({"dockerfile": dockerfile, "files": [file]})).await?;
    let id = build["buildId"].as_str().context("an id")?;
    let end = Instant::now() + WAIT;
    loop {
        let build = subject.get(&format!("/v1/image/build/{id}")).await?;
        match build["status"].as_str() {
            Some("succeeded") => return Ok(()),
            Some("failed") => bail!("the build failed: {build}"),
            _ => ensure!(Instant::now() < end, "the build does not end: {build}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One start, one request, one stop.
async fn turn(subject: &Subject, id: &str, name: &str, cycle: usize, tiers: &mut BTreeMap<String, u64>) -> Result<()> {
    if cycle.is_multiple_of(PAUSED_EACH) {
        subject.until_waiting("paused", 1).await?;
    }
    let vm = subject.post(&format!("/v1/vm/cached/{id}/start"), json!({})).await?;
    let tier = vm["start"]["tier"].as_str().with_context(|| format!("it did not start: {vm}"))?;
    ensure!(!cycle.is_multiple_of(PAUSED_EACH) || tier == "paused", "an instance waited, and the start was {tier}");
    *tiers.entry(tier.to_owned()).or_default() += 1;
    first_byte(&subject.edge, name).await?;
    subject.post(&format!("/v1/vm/cached/{id}/stop"), json!({})).await?;
    let vm = subject.get(&format!("/v1/vm/{id}/wait?state=stopped&timeout=30")).await?;
    ensure!(vm["state"] == "stopped", "it does not stop within {WAIT:?}: {vm}");
    Ok(())
}
