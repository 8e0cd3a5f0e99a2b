//! importImage until the image is ready, beside `skopeo copy` and `umoci unpack` of the same image from the same
//! registry, on the same file system. Each run of ours has a server of its own: the layer store keeps what it has.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cakework_testkit::images::{self, Compression, Format};
use cakework_testkit::process::run;
use cakework_testkit::remote::USER;
use cakework_testkit::{Auth, Registry};

use crate::stats::{Samples, TIMES, Table};
use crate::subject::Access;

/// Takes both paths in turns; the first round warms caches and is not counted.
pub async fn measure(access: &Access, runs: usize, floor_only: bool) -> Result<Table> {
    let image = images::large(Format::Oci, Compression::Gzip)?.build();
    let packed_mb = image.layers().iter().map(images::Blob::size_bytes).sum::<u64>() / 1_000_000;
    let registry = Registry::start(Auth::Basic).await?;
    registry.push("bench/large", "v1", &image).await?;
    drop(image);
    let reference = registry.reference("bench/large", "v1");
    let (mut copied, mut floor, mut ours) = (Samples::default(), Samples::default(), Samples::default());
    let mut unpacked_mb = 0;
    for round in 0..=runs {
        let dir = tempfile::Builder::new().prefix("cakework-bench-").tempdir()?;
        settle();
        let (copy, whole) = unpack(dir.path(), &reference, registry.password())?;
        unpacked_mb = size_mb(&dir.path().join("bundle/rootfs"))?;
        drop(dir);
        let import = if floor_only {
            None
        } else {
            let subject = access.start().await?;
            settle();
            let began = Instant::now();
            subject.import(&reference, registry.password()).await?;
            Some(began.elapsed())
        };
        if round > 0 {
            copied.add(copy);
            floor.add(whole);
            import.into_iter().for_each(|import| ours.add(import));
        }
    }
    let place = file_system(&std::env::temp_dir())?;
    let title = format!("An image of {unpacked_mb} MB ({packed_mb} MB packed) until it can be used, on {place}");
    let mut table = Table::new(title, &TIMES);
    table.times("skopeo copy", &copied, Some(&floor), "");
    table.times("skopeo copy, umoci unpack", &floor, Some(&floor), "");
    if !floor_only {
        let target = if place == "tmpfs" { "≤ 0.60×" } else { "≤ 1.00×" };
        table.times("importImage → ready", &ours, Some(&floor), target);
    }
    Ok(table)
}

fn unpack(dir: &Path, reference: &str, password: &str) -> Result<(Duration, Duration)> {
    let layout = format!("{}:v1", dir.join("oci").display());
    let began = Instant::now();
    run(Command::new("skopeo")
        .args(["copy", "--quiet", "--src-tls-verify=false", "--src-creds", &format!("{USER}:{password}")])
        .arg(format!("docker://{reference}"))
        .arg(format!("oci:{layout}")))?;
    let copied = began.elapsed();
    run(Command::new("umoci").args(["unpack", "--image", &layout]).arg(dir.join("bundle")))?;
    Ok((copied, began.elapsed()))
}

/// Writes back what an earlier run left dirty, so that the next does not pay for it.
fn settle() {
    rustix::fs::sync();
}

fn size_mb(dir: &Path) -> Result<u64> {
    let output = run(Command::new("du").args(["--apparent-size", "-sB1"]).arg(dir))?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().next().context("du answers a number")?.parse::<u64>()? / 1_000_000)
}

fn file_system(dir: &Path) -> Result<String> {
    let output = run(Command::new("stat").args(["-f", "-c", "%T"]).arg(dir))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
