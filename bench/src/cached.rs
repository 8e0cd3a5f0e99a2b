//! Cached VMs: from startCachedVM sent to the first byte of a body with a fresh nonce, through the edge, in each tier, beside
//! `crun run` of the same image, which isolates nothing; starts and wakes beside bare resumes and restores; fifty starts at
//! once; exec; what one that sleeps as files takes.
//!
//! An answer of another tier than the one that is measured fails the run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cakework_testkit::images::{self, Compression, Entry, Format, Layer};
use cakework_testkit::{Auth, Registry};
use reqwest::Method;
use serde_json::{Value, json};

use crate::sandbox::{PORT, Sandbox, disk_bytes};
use crate::stats::{Samples, TIMES, Table};
use crate::subject::{Access, Subject, echo, settle};

/// VMs that start at once.
const AT_ONCE: usize = 50;
/// A static program for exec, as most images have none.
const BUSYBOX: &str = "opt/busybox";
/// A server on which fifty instances may wait and have room, and one on which a sandbox may wait but no instance.
const ROOMY: &str =
    "[capacity]\ncpu_factor = 64\n[cached]\nwaiting_mib = 8192\naccount_waiting_mib = 8192\n[vm]\ndisk_mib = 256\n";
const SMALL: &str = "[cached]\nwaiting_mib = 20\naccount_waiting_mib = 20\n[vm]\ndisk_mib = 256\n";

/// Takes all paths in turns; the first round warms caches and is not counted.
pub async fn measure(access: &Access, runs: usize) -> Result<Table> {
    let busybox = std::fs::read("/usr/bin/busybox").context("busybox comes with the package busybox-static")?;
    let program = Layer::new(&[Entry::dir("opt"), Entry::program(BUSYBOX, busybox)], Compression::Gzip);
    let image = images::python_app(Format::Oci, Compression::Gzip)?.layer(program).build();
    let sandbox = Sandbox::prepare(&image)?;
    sandbox.checkpoint().await?;
    let command = [format!("/{BUSYBOX}"), "true".to_owned()];
    let registry = Registry::start(Auth::Basic).await?;
    registry.push("bench/app", "v1", &image).await?;
    let (roomy, small) = (access.start_with(ROOMY).await?, access.start_with(SMALL).await?);
    let reference = registry.reference("bench/app", "v1");
    let ids =
        [roomy.import(&reference, registry.password()).await?, small.import(&reference, registry.password()).await?];
    let paused = Cached::new(&roomy, &ids[0], "boot").await?;
    let cold = Cached::new(&roomy, &ids[0], "none").await?;
    let restored = Cached::new(&small, &ids[1], "boot").await?;
    let mut samples: [Samples; 13] = Default::default();
    // What is made for the start after would take its CPU from whatever is measured meanwhile.
    let at_rest = async || {
        roomy.until_waiting("paused", 1).await?;
        small.until_waiting("blank", 1).await?;
        settle().await;
        Ok::<_, anyhow::Error>(())
    };
    for round in 0..=runs {
        at_rest().await?;
        let crun = sandbox.crun().await?;
        settle().await;
        let resumed = sandbox.resume().await?;
        settle().await;
        let (_, first) = sandbox.restore(true).await?;
        settle().await;
        let (own_restore, bare_restore) = sandbox.restore(false).await?;
        settle().await;
        let (from_paused, own) = paused.start("paused").await?;
        let awake = paused.echo().await?;
        roomy.post(&format!("/v1/vm/{}/suspend", paused.id), json!({})).await?;
        let woken = paused.echo().await?;
        let began = Instant::now();
        let ran = roomy.post(&format!("/v1/vm/{}/exec", paused.id), json!({"command": command})).await?;
        let exec = began.elapsed();
        ensure!(ran["exit"]["code"] == 0, "{ran}");
        paused.stop().await?;
        at_rest().await?;
        let (from_restored, own_restored) = restored.start("restored").await?;
        restored.stop().await?;
        at_rest().await?;
        let (from_cold, _) = cold.start("cold").await?;
        cold.stop().await?;
        if round > 0 {
            let floors = [crun, resumed, first, own_restore, bare_restore];
            let ours = [from_paused, own, awake, woken, exec, from_restored, own_restored, from_cold];
            let all = floors.into_iter().chain(ours);
            samples.iter_mut().zip(all).for_each(|(samples, sample)| samples.add(sample));
        }
    }
    let mut crun_exec = Samples::default();
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    sandbox.crun_exec(&words, runs)?.into_iter().for_each(|sample| crun_exec.add(sample));
    let spilled = spill(&roomy, &paused, &sandbox).await?;
    paused.destroy().await?;
    let many = at_once(&roomy, &ids[0]).await?;
    let [
        crun,
        resumed,
        first,
        own_restore,
        bare_restore,
        from_paused,
        own,
        awake,
        woken,
        exec,
        from_restored,
        own_restored,
        from_cold,
    ] = &samples;
    let mut table = Table::new("A cached Python web app, from startCachedVM to the first byte of a body", &TIMES);
    table.times("crun run (isolates nothing) → first byte", crun, Some(crun), "");
    table.times("paused", from_paused, Some(crun), "≤ 0.15×");
    table.times("restored", from_restored, Some(crun), "≤ 0.85×");
    table.times("restored, until startCachedVM answered", own_restored, Some(crun), "");
    table.times("cold", from_cold, Some(crun), "");
    table.times("bare: created before, runsc restore", own_restore, Some(crun), "");
    table.times("bare: created before, runsc restore → first byte", bare_restore, Some(crun), "");
    table.times("bare: restored and paused before, resume → its first request's first byte", first, Some(crun), "");
    table.times("bare: resume of one that has answered → first byte", resumed, Some(resumed), "");
    table.times("paused, until startCachedVM answered", own, Some(resumed), "");
    table.times("a request to one that is awake", awake, Some(resumed), "");
    table.times("a request that wakes it", woken, Some(resumed), "");
    table.times("crun exec of a static true", &crun_exec, Some(&crun_exec), "");
    table.times("exec of it, at a client", exec, Some(&crun_exec), "≤ 2.00×");
    table.times(&format!("{AT_ONCE} paused ones at once, the last"), &many, Some(from_paused), "≤ 40×");
    let more = |samples: &Samples, floor: &Samples| samples.median_ms() - floor.median_ms();
    table.note(format!(
        "Beyond the engine's own, medians: a paused start {:.1} ms, a restored start {:.1} ms, a wake by a request {:.1} ms; \
         the target of each is ≤ 5 ms.",
        more(from_paused, first),
        more(from_restored, bare_restore),
        more(woken, resumed)
    ));
    table.note(spilled);
    Ok(table)
}

/// The time from when all are sent until the last one's first byte; none may be lost.
async fn at_once(subject: &Subject, image_id: &str) -> Result<Samples> {
    let mut vms = Vec::new();
    for _ in 0..AT_ONCE {
        vms.push(Cached::new(subject, image_id, "boot").await?);
    }
    subject.until_waiting("paused", AT_ONCE as u64).await?;
    let starts = vms.iter().map(|vm| vm.start("paused"));
    let times = futures_util::future::try_join_all(starts).await?;
    let last = times.iter().map(|(answered, _)| *answered).max().unwrap_or_default();
    for vm in &vms {
        vm.destroy().await?;
    }
    let mut samples = Samples::default();
    samples.add(last);
    Ok(samples)
}

/// Lets it sleep as files; what they take, in a sentence.
async fn spill(subject: &Subject, vm: &Cached<'_>, sandbox: &Sandbox) -> Result<String> {
    subject.until_waiting("paused", 1).await?;
    vm.start("paused").await?;
    let dir = subject.data_dir.join("agent/vms").join(&vm.id);
    // What a host does by itself where it needs the memory.
    let record: Value = serde_json::from_slice(&std::fs::read(dir.join("record.json"))?)?;
    let ask = json!({"generation": record["generation"], "spill": true});
    let answer = subject.ask_agent(Method::POST, &format!("vms/{}/sleep", vm.id), ask).await?;
    ensure!(answer["result"] == "asleep", "it does not sleep: {answer}");
    let taken = disk_bytes(&dir.join("spill"))?;
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let (ours, bare) = (mib(taken), mib(sandbox.image_bytes()?));
    Ok(format!(
        "Asleep as files: {ours:.1} MiB, {:.2}× of the {bare:.1} MiB of a bare checkpoint; the target is ≤ 1.20×.",
        ours / bare
    ))
}

/// A cached VM of the app.
struct Cached<'a> {
    subject: &'a Subject,
    id: String,
    hostname: String,
}

impl<'a> Cached<'a> {
    async fn new(subject: &'a Subject, image_id: &str, prewarm: &str) -> Result<Self> {
        let vm = subject.post("/v1/vm/cache", json!({"imageId": image_id, "port": PORT, "prewarm": prewarm})).await?;
        let text = |field: &str| vm[field].as_str().map(str::to_owned).context("cacheVM answers with the VM");
        Ok(Self { subject, id: text("id")?, hostname: text("hostname")? })
    }

    /// Starts it; the times until the first byte of a body, and until the call was answered.
    async fn start(&self, tier: &str) -> Result<(Duration, Duration)> {
        let began = Instant::now();
        let vm = self.subject.post(&format!("/v1/vm/cached/{}/start", self.id), json!({})).await?;
        let own = began.elapsed();
        self.echo().await?;
        let answered = began.elapsed();
        ensure!(vm["start"]["tier"] == tier, "it did not start {tier}: {vm}");
        Ok((answered, own))
    }

    async fn echo(&self) -> Result<Duration> {
        echo(&self.subject.edge, &self.hostname, &format!("{:032x}", rand::random::<u128>())).await
    }

    async fn stop(&self) -> Result<()> {
        self.subject.post(&format!("/v1/vm/cached/{}/stop", self.id), json!({})).await?;
        let vm = self.subject.get(&format!("/v1/vm/{}/wait?state=stopped&timeout=30", self.id)).await?;
        ensure!(vm["state"] == "stopped", "it does not stop: {vm}");
        Ok(())
    }

    async fn destroy(&self) -> Result<()> {
        self.subject.post(&format!("/v1/vm/{}/destroy", self.id), json!({})).await.map(drop)
    }
}
