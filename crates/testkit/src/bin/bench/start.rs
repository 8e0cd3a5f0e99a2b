//! From the start call to the first byte of the app's answer, beside a bare `runsc create` and `start`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cakework_testkit::images::{self, Compression, Format};
use cakework_testkit::process::POLL;
use cakework_testkit::server::Options;
use cakework_testkit::{Auth, Registry, Server, http};
use serde_json::json;

use super::Comparison;
use super::bare::Bare;

const LIMIT: Duration = Duration::from_secs(30);

/// Measures `runs` starts of each, in turn; also says what memory the roles take.
pub async fn measure(program: &Path, runs: usize) -> Result<(Comparison, String)> {
    let registry = Registry::start(Auth::Basic).await?;
    registry.push("bench/app", "v1", &images::python_app(Format::Oci, Compression::Gzip)?.build()).await?;
    let bare = Bare::prepare(&registry, "bench/app", "v1")?;
    let server = Server::start(Options::new(program)).await?;
    let answer = server.import(&registry.reference("bench/app", "v1"), registry.password()).await?;
    let image = answer.json["imageId"].as_str().with_context(|| answer.text.clone())?.to_owned();
    wait_until_ready(&server, &image).await?;
    let idle = ["agent", "api"].map(|role| memory_kib(server.role_pid(role).ok(), "VmRSS:"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..runs {
        ours.push(start_once(&server, &image).await?);
        theirs.push(bare.start_once(run).await?);
    }
    let what = "startVM to the first byte against runsc create + start".to_owned();
    let memory =
        format!("Resident memory with an image and no VM: agent {} MiB, api {} MiB.", idle[0] / 1024, idle[1] / 1024);
    Ok((Comparison { what, ours, theirs, wanted_ratio: 1.1 }, memory))
}

async fn start_once(server: &Server, image: &str) -> Result<Duration> {
    let begun = Instant::now();
    let vm = server.start_vm(json!({"imageId": image, "port": 8080})).await?;
    ensure!(vm.status < 300, "the start was refused: {}", vm.text);
    let hostname = vm.json["hostname"].as_str().context("a VM has a hostname")?;
    // The edge holds the request until the port accepts.
    let answer = server.fetch(hostname, "/").await?;
    let took = begun.elapsed();
    ensure!(answer.status == 200, "the app answered {}: {}", answer.status, answer.text);
    let id = vm.json["id"].as_str().context("a VM has an id")?;
    server.stop_vm(id).await?;
    server.wait_vm(id, "destroyed").await?;
    Ok(took)
}

async fn wait_until_ready(server: &Server, image: &str) -> Result<()> {
    let end = Instant::now() + LIMIT;
    while server.get(&format!("/v1/image/{image}")).await?.json["state"] != "ready" {
        ensure!(Instant::now() < end, "the image was not there after {LIMIT:?}");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Asks an address until it answers.
pub async fn first_byte(url: &str) -> Result<()> {
    let end = Instant::now() + LIMIT;
    let client = http::client();
    loop {
        if client.get(url).send().await.is_ok_and(|answer| answer.status() == 200) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{url} did not answer");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A number of /proc/pid/status, in KiB; 0 for a process that is gone.
fn memory_kib(pid: Option<u32>, field: &str) -> u64 {
    let status = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok()).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
