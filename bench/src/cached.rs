//! Cached VMs: from startCachedVM sent to the first byte of a body with a fresh nonce, through the edge, in each tier, beside
//! `crun run` of the same image, which isolates nothing; wakes beside a bare resume; fifty starts at once; exec.
//!
//! An answer of another tier than the one that is measured fails the run.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cakework_testkit::images::{self, Compression, Format};
use cakework_testkit::{Auth, Registry};
use serde_json::{Value, json};

use crate::sandbox::{PORT, Sandbox};
use crate::stats::{Samples, TIMES, Table};
use crate::subject::{Access, Subject, WAIT, echo};

/// VMs that start at once.
const AT_ONCE: usize = 50;
/// A server on which fifty instances may wait and have room, and one on which none may wait.
const ROOMY: &str =
    "[capacity]\ncpu_factor = 64\n[cached]\nwaiting_mib = 8192\naccount_waiting_mib = 8192\n[vm]\ndisk_mib = 256\n";
const BARE: &str = "[cached]\nwaiting_mib = 0\n[vm]\ndisk_mib = 256\n";

/// Takes all paths in turns; the first round warms caches and is not counted.
pub async fn measure(access: &Access, runs: usize) -> Result<Table> {
    let image = images::python_app(Format::Oci, Compression::Gzip)?.build();
    let sandbox = Sandbox::prepare(&image)?;
    let registry = Registry::start(Auth::Basic).await?;
    registry.push("bench/app", "v1", &image).await?;
    let (roomy, bare) = (access.start_with(ROOMY).await?, access.start_with(BARE).await?);
    let reference = registry.reference("bench/app", "v1");
    let ids =
        [roomy.import(&reference, registry.password()).await?, bare.import(&reference, registry.password()).await?];
    let paused = Cached::new(&roomy, &ids[0], "boot").await?;
    let cold = Cached::new(&roomy, &ids[0], "none").await?;
    let restored = Cached::new(&bare, &ids[1], "boot").await?;
    restored.until_prepared().await?;
    let mut samples: [Samples; 9] = Default::default();
    for round in 0..=runs {
        let crun = sandbox.crun().await?;
        let resumed = sandbox.resume().await?;
        paused.until_waiting(1).await?;
        let (from_paused, own) = paused.start("paused").await?;
        let awake = paused.echo().await?;
        roomy.post(&format!("/v1/vm/{}/suspend", paused.id), json!({})).await?;
        let woken = paused.echo().await?;
        let began = Instant::now();
        let ran = roomy.post(&format!("/v1/vm/{}/exec", paused.id), json!({"command": ["/usr/bin/true"]})).await?;
        let exec = began.elapsed();
        ensure!(ran["exit"]["code"] == 0, "{ran}");
        paused.stop().await?;
        let (from_restored, _) = restored.start("restored").await?;
        restored.stop().await?;
        let (from_cold, _) = cold.start("cold").await?;
        cold.stop().await?;
        if round > 0 {
            let all = [crun, resumed, from_paused, own, awake, woken, exec, from_restored, from_cold];
            samples.iter_mut().zip(all).for_each(|(samples, sample)| samples.add(sample));
        }
    }
    let mut crun_exec = Samples::default();
    sandbox.crun_exec(&["/usr/bin/true"], runs)?.into_iter().for_each(|sample| crun_exec.add(sample));
    paused.destroy().await?;
    let many = at_once(&roomy, &ids[0]).await?;
    let [crun, resumed, from_paused, own, awake, woken, exec, from_restored, from_cold] = &samples;
    let mut table = Table::new("A cached Python web app, from startCachedVM to the first byte of a body", &TIMES);
    table.times("crun run (isolates nothing) → first byte", crun, Some(crun), "");
    table.times("paused", from_paused, Some(crun), "≤ 0.15×");
    table.times("restored", from_restored, Some(crun), "≤ 0.85×");
    table.times("cold", from_cold, Some(crun), "");
    table.times("bare: resume → first byte", resumed, Some(resumed), "");
    table.times("paused, until startCachedVM answered", own, Some(resumed), "");
    table.times("a request to one that is awake", awake, Some(resumed), "");
    table.times("a request that wakes it", woken, Some(resumed), "");
    table.times("crun exec of true", &crun_exec, Some(&crun_exec), "");
    table.times("exec of true, at a client", exec, Some(&crun_exec), "≤ 2.00×");
    table.times(&format!("{AT_ONCE} paused ones at once, the last"), &many, Some(from_paused), "≤ 40×");
    let more = |samples: &Samples| samples.median_ms() - resumed.median_ms();
    table.note(format!(
        "Beyond the bare resume, medians: a paused start {:.1} ms, a wake by a request {:.1} ms; the target of each is ≤ 5 ms.",
        more(from_paused),
        more(woken)
    ));
    Ok(table)
}

/// The time from when all are sent until the last one's first byte; none may be lost.
async fn at_once(subject: &Subject, image_id: &str) -> Result<Samples> {
    let mut vms = Vec::new();
    for _ in 0..AT_ONCE {
        vms.push(Cached::new(subject, image_id, "boot").await?);
    }
    vms[0].until_waiting(AT_ONCE).await?;
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

    /// Waits until so many instances wait on the host.
    async fn until_waiting(&self, count: usize) -> Result<()> {
        let socket = self.subject.data_dir.join("run/agent.sock");
        let client = reqwest::Client::builder().unix_socket(socket).build()?;
        let end = Instant::now() + WAIT;
        loop {
            let asked = client.get("http://agent/v1/host/cached").header("cakework-protocol", "1").send().await?;
            let status: Value = serde_json::from_slice(&asked.bytes().await?)?;
            if status["body"]["paused"]["count"].as_u64() >= Some(count as u64) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "no instance waits: {status}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until its prepared state is on the disk of a host where none may wait.
    async fn until_prepared(&self) -> Result<()> {
        let state = self.subject.data_dir.join("agent/vms").join(&self.id).join("prepared");
        let end = Instant::now() + WAIT;
        while !is_prepared(&state) {
            ensure!(Instant::now() < end, "it is not prepared: {}", state.display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn is_prepared(state: &Path) -> bool {
    state.join("key.json").exists()
}
