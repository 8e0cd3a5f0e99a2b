//! What those who use a server have in their hands: the command line's own time, a deployment of a change, and what the TypeScript
//! SDK adds to a call.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cakework_testkit::images::{self, Compression, Format};
use cakework_testkit::process::run;
use cakework_testkit::{Auth, Registry};
use serde_json::{Value, json};

use crate::stats::{Samples, TIMES, Table};
use crate::subject::{Access, Subject};

/// Calls by the SDK, and as many without it.
const CALLS: usize = 2_000;
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Measures all three.
pub async fn measure(access: &Access, runs: usize) -> Result<Table> {
    let subject = access.open().await?;
    let registry = Registry::start(Auth::Anonymous).await?;
    let image = images::python(Format::Oci, Compression::Gzip)?.build();
    registry.push("bench/python", "3", &image).await?;
    let base = registry.reference("bench/python", "3");
    let mut table = Table::new("In the hands of builders and end users", &TIMES);

    let program = access.program()?;
    let (mut help, mut floor) = (Samples::default(), Samples::default());
    for _ in 0..runs {
        floor.add(time(&mut Command::new("/bin/true"))?);
        help.add(time(Command::new(&program).arg("--help"))?);
    }
    table.times("a process that does nothing", &floor, None, "");
    table.times("cakework --help", &help, None, "≤ 20 ms");

    let deployed = deployments(&subject, &program, &base, runs)?;
    table.times("cakework deploy of a changed file → the VM answers", &deployed, None, "≤ 4 s");

    let image = subject.import(&base, "").await?;
    let vm = subject.post("/v1/vm/cache", json!({"imageId": image, "prewarm": "none"})).await?;
    let vm = vm["id"].as_str().context("cacheVM answers an id")?;
    let (sdk, bare) = calls(&subject, vm)?;
    table.times("getVm by a bare fetch", &bare, None, "");
    table.times("getVm by the SDK", &sdk, Some(&bare), "≤ 1 ms more");
    table.note(format!(
        "The SDK takes {:.2} ms more than a bare fetch, by the medians.",
        sdk.median_ms() - bare.median_ms()
    ));
    Ok(table)
}

fn time(command: &mut Command) -> Result<Duration> {
    let begin = Instant::now();
    let output = command.output()?;
    let took = begin.elapsed();
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

/// A line of a project's one file is changed, and it is deployed again.
fn deployments(subject: &Subject, program: &Path, base: &str, runs: usize) -> Result<Samples> {
    let dir = tempfile::tempdir()?;
    let cakework = |words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).current_dir(dir.path()).env("HOME", dir.path()).env_remove("CAKEWORK_PROFILE");
        command.env("CAKEWORK_URL", &subject.url).env("CAKEWORK_API_KEY", subject.key());
        command
    };
    run(&mut cakework(&["init"]))?;
    let main = dir.path().join("main.py");
    let text = std::fs::read_to_string(&main)?;
    let mut samples = Samples::default();
    // The first one has nothing cached and is not counted.
    for change in 0..=runs {
        std::fs::write(&main, format!("{text}# {change}\n"))?;
        let took = time(&mut cakework(&["deploy", "--build-arg", &format!("BASE={base}")]))?;
        if change > 0 {
            samples.add(took);
        }
    }
    Ok(samples)
}

/// Calls by the SDK and without it, in turns.
fn calls(subject: &Subject, vm: &str) -> Result<(Samples, Samples)> {
    run(Command::new("bash").args(["scripts/sdk.sh", "typescript"]).current_dir(ROOT))?;
    let mut command = Command::new("node");
    command.args(["bench/overhead.mjs", vm, &CALLS.to_string()]).current_dir(format!("{ROOT}/sdk/typescript"));
    let output = run(command.env("CAKEWORK_URL", &subject.url).env("CAKEWORK_API_KEY", subject.key()))?;
    let times: Value = serde_json::from_slice(&output.stdout)?;
    let samples = |name: &str| -> Result<Samples> {
        let mut samples = Samples::default();
        for ms in times[name].as_array().context("times")? {
            samples.add(Duration::from_secs_f64(ms.as_f64().context("a time")? / 1000.0));
        }
        Ok(samples)
    };
    Ok((samples("sdk")?, samples("bare")?))
}
