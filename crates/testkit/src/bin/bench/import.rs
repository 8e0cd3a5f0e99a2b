//! The import of a large image until every layer is unpacked, beside `skopeo copy` and `umoci unpack` on the same disk.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cakework_testkit::images::{self, Compression, Format};
use cakework_testkit::process::{POLL, run};
use cakework_testkit::remote::USER;
use cakework_testkit::server::Options;
use cakework_testkit::{Auth, Registry, Server};

use super::Comparison;

const LIMIT: Duration = Duration::from_secs(120);

/// Measures `runs` imports of each, in turn, each into an empty place.
pub async fn measure(program: &Path, runs: usize) -> Result<Comparison> {
    let registry = Registry::start(Auth::Basic).await?;
    registry.push("bench/large", "v1", &images::large(Format::Oci, Compression::Gzip)?.build()).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        ours.push(import_once(program, &registry).await?);
        theirs.push(copy_and_unpack(&registry)?);
    }
    let place = std::env::temp_dir();
    let what = format!("import of a 425 MB image under {} against skopeo + umoci", place.display());
    let on_tmpfs = run(Command::new("stat").args(["-f", "-c", "%T"]).arg(&place))?.stdout.starts_with(b"tmpfs");
    Ok(Comparison { what, ours, theirs, wanted_ratio: if on_tmpfs { 0.6 } else { 1.0 } })
}

async fn import_once(program: &Path, registry: &Registry) -> Result<Duration> {
    let server = Server::start(Options::new(program)).await?;
    let begun = Instant::now();
    let answer = server.import(&registry.reference("bench/large", "v1"), registry.password()).await?;
    ensure!(answer.status < 300, "the import was refused: {}", answer.text);
    let id = answer.json["imageId"].as_str().context("an import answers an imageId")?.to_owned();
    while begun.elapsed() < LIMIT {
        let image = server.get(&format!("/v1/image/{id}")).await?;
        match image.json["state"].as_str() {
            Some("ready") => return Ok(begun.elapsed()),
            Some("failed") => bail!("the import failed: {}", image.text),
            _ => tokio::time::sleep(POLL).await,
        }
    }
    bail!("the image was not there after {LIMIT:?}")
}

fn copy_and_unpack(registry: &Registry) -> Result<Duration> {
    let dir = tempfile::Builder::new().prefix("cakework-bench-").tempdir()?;
    let copy = format!("oci:{}:v1", dir.path().join("copy").display());
    let credential = format!("{USER}:{}", registry.password());
    let begun = Instant::now();
    run(Command::new("skopeo")
        .args(["copy", "--quiet", "--src-tls-verify=false", "--src-creds", &credential])
        .arg(format!("docker://{}", registry.reference("bench/large", "v1")))
        .arg(&copy))?;
    run(Command::new("umoci")
        .args(["unpack", "--image", copy.trim_start_matches("oci:")])
        .arg(dir.path().join("bundle")))?;
    Ok(begun.elapsed())
}
