//! Builds: what a RUN costs beside `runsc run`, a Dockerfile of six steps beside buildah with gVisor and with runc, the
//! same from the cache, with one changed file, and four at once; and what memory the agent has during all of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cakework_testkit::images::{self, Compression, Format};
use cakework_testkit::remote::USER;
use cakework_testkit::{Auth, Registry};
use serde_json::{Value, json};

use crate::buildah::{BASE, Buildah, Runtime};
use crate::memory::Peak;
use crate::sandbox::{PORT, Sandbox};
use crate::stats::{Samples, TIMES, Table};
use crate::subject::{Access, Subject, WAIT, first_byte};

const APP: &str = include_str!("../../examples/hello/main.py");
const GREETING: &str = include_str!("../../examples/hello/greeting.py");
/// RUNs of one build whose times are taken from its log.
const RUNS: usize = 8;
const AT_ONCE: usize = 4;
const POLL: Duration = Duration::from_millis(10);

struct Ours {
    subject: Subject,
    registry: Registry,
}

/// Takes all in turns; the first round warms caches and is not counted.
pub async fn measure(access: &Access, runs: usize) -> Result<Table> {
    let image = images::python(Format::Oci, Compression::Gzip)?.build();
    let sandbox = Sandbox::prepare(&image)?;
    let buildah = Buildah::prepare(&image)?;
    let folder = tempfile::Builder::new().prefix("cakework-bench-").tempdir()?;
    write_folder(folder.path())?;
    let registry = Registry::start(Auth::Basic).await?;
    registry.push("bench/python", "v1", &image).await?;
    let ours = Ours { subject: access.open().await?, registry };
    ours.keep_credential().await?;

    let peak = Peak::of_agent(&ours.subject.data_dir)?;
    let mut samples: [Samples; 10] = Default::default();
    for round in 0..=runs {
        let floor = sandbox.run_once(&["/usr/bin/true"])?;
        let step = ours.run_true().await?;
        let gvisor = buildah.build(folder.path(), Runtime::Gvisor, false)?;
        let runc = buildah.build(folder.path(), Runtime::Runc, false)?;
        let kept = buildah.build(folder.path(), Runtime::Runc, true)?;
        let cold = ours.build(GREETING, true).await?.0;
        let cached = ours.build(GREETING, false).await?.0;
        let greeting = format!("{GREETING}\n# round {round}\n");
        let began = Instant::now();
        let (changed, image_id) = ours.build(&greeting, false).await?;
        let vm_id = ours.answer(&image_id).await?;
        let answering = began.elapsed();
        ours.subject.stop(&vm_id).await?;
        let began = Instant::now();
        let builds = (0..AT_ONCE).map(|_| ours.build(GREETING, true));
        let many = futures_util::future::try_join_all(builds).await.map(|_| began.elapsed())?;
        if round > 0 {
            let all = [floor, step, gvisor, runc, kept, cold, cached, changed, answering, many];
            samples.iter_mut().zip(all).for_each(|(samples, sample)| samples.add(sample));
        }
    }
    let [floor, step, gvisor, runc, kept, cold, cached, changed, answering, many] = &samples;
    let mut table = Table::new("Builds of a Dockerfile with six steps, three of them RUN", &TIMES);
    table.times("runsc run of true", floor, Some(floor), "");
    table.times("RUN true, its layer included", step, Some(floor), "≤ 1.50×");
    table.times("buildah, runsc", gvisor, Some(gvisor), "");
    table.times("ours, cold", cold, Some(gvisor), "≤ 0.60×");
    table.times("buildah, runc (isolates nothing)", runc, Some(runc), "");
    table.times("ours, cold", cold, Some(runc), "≤ 1.50×");
    table.times("buildah, all cached", kept, Some(kept), "");
    table.times("ours, all cached", cached, Some(kept), "≤ 0.50×");
    table.times("ours, one file changed → image", changed, Some(cold), "≤ 1000 ms");
    table.times("ours, one file changed → its VM answers", answering, Some(cold), "≤ 3000 ms");
    table.times("ours, four cold ones at once", many, Some(cold), "≤ 2.60×");
    let memory = format!("the agent's own memory during all of it, at most {:.1} MiB", peak.mib()?);
    table.row(&[&memory, "", "", "", "", "", "≤ 100 MiB"].map(str::to_owned));
    table.note("buildah's RUNs have no network; ours have one each, with the VMs' rules.");
    Ok(table)
}

impl Ours {
    async fn keep_credential(&self) -> Result<()> {
        let reference = self.reference();
        let (host, _) = reference.split_once('/').context("a reference has a host")?;
        let credential = json!({"host": host, "username": USER, "password": self.registry.password()});
        self.subject.post("/v1/registry", credential).await.map(drop)
    }

    fn reference(&self) -> String {
        self.registry.reference("bench/python", "v1")
    }

    /// Builds the example; answers how long it took until a client knew of the image, and the image.
    async fn build(&self, greeting: &str, no_cache: bool) -> Result<(Duration, String)> {
        let files = [("main.py", APP), ("greeting.py", greeting)];
        let files = files.map(|(name, content)| json!({"dir": "", "name": name, "content": content}));
        let request = json!({"dockerfile": dockerfile(&self.reference()), "files": files, "noCache": no_cache});
        let began = Instant::now();
        let build = self.finish(request).await?;
        let image_id = build["imageId"].as_str().context("a build that succeeded has an imageId")?;
        Ok((began.elapsed(), image_id.to_owned()))
    }

    /// What one of several RUNs in a row took: from its line in the log to the next one's.
    async fn run_true(&self) -> Result<Duration> {
        let dockerfile = format!("FROM {}\n{}", self.reference(), "RUN [\"/usr/bin/true\"]\n".repeat(RUNS + 1));
        let build = self.finish(json!({"dockerfile": dockerfile, "files": [], "noCache": true})).await?;
        let id = build["buildId"].as_str().context("a build has an id")?;
        let logs = self.subject.get(&format!("/v1/image/build/{id}/logs?batch=1000")).await?;
        let lines = logs["lines"].as_array().cloned().unwrap_or_default();
        let is_step =
            |line: &&Value| line["message"].as_str().is_some_and(|text| text.starts_with('[') && text.contains("RUN"));
        let begins: Vec<u64> = lines.iter().filter(is_step).filter_map(|line| line["timestamp"].as_u64()).collect();
        ensure!(begins.len() == RUNS + 1, "the log names {} steps: {logs}", begins.len());
        let whole = begins[RUNS].saturating_sub(begins[0]);
        Ok(Duration::from_millis(whole) / u32::try_from(RUNS)?)
    }

    async fn finish(&self, request: Value) -> Result<Value> {
        let mut build = self.subject.post("/v1/image/build/files", request).await?;
        let path = format!("/v1/image/build/{}", build["buildId"].as_str().context("a build has an id")?);
        let end = Instant::now() + WAIT;
        loop {
            match build["status"].as_str() {
                Some("succeeded") => return Ok(build),
                Some("created") => ensure!(Instant::now() < end, "the build does not end: {build}"),
                _ => bail!("the build failed: {build}"),
            }
            tokio::time::sleep(POLL).await;
            build = self.subject.get(&path).await?;
        }
    }

    /// Starts a VM of the image and waits for its answer; gives the VM's id.
    async fn answer(&self, image_id: &str) -> Result<String> {
        let vm = self.subject.post("/v1/vm/start", json!({"imageId": image_id, "port": PORT})).await?;
        first_byte(&self.subject.edge, vm["hostname"].as_str().context("startVM answers a hostname")?).await?;
        Ok(vm["id"].as_str().context("startVM answers an id")?.to_owned())
    }
}

fn dockerfile(base: &str) -> String {
    format!(
        "FROM {base}\nWORKDIR /srv\nCOPY . .\nRUN true\nRUN python3 -m compileall -q .\nRUN python3 -c 'import greeting' && \
         echo ok > checked\nENV PORT={PORT}\nENTRYPOINT [\"python3\", \"-u\", \"main.py\"]\n"
    )
}

fn write_folder(folder: &Path) -> Result<()> {
    for (name, content) in [("Dockerfile", dockerfile(BASE).as_str()), ("main.py", APP), ("greeting.py", GREETING)] {
        std::fs::write(folder.join(name), content)?;
    }
    Ok(())
}
