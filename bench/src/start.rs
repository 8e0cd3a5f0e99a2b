//! From startVM to the first byte of HTTP at a client of the edge, beside the same image in a bare sandbox.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cakework_testkit::images::{self, Compression, Format, Image};
use cakework_testkit::{Auth, Registry};
use serde_json::json;

use crate::sandbox::{PORT, Sandbox};
use crate::stats::{Samples, TIMES, Table};
use crate::subject::{Access, Subject, first_byte, settle};

/// Takes both paths in turns; the first round warms caches and is not counted.
pub async fn measure(access: &Access, runs: usize, floor_only: bool) -> Result<Table> {
    let image = images::python_app(Format::Oci, Compression::Gzip)?.build();
    let sandbox = Sandbox::prepare(&image)?;
    let ours = if floor_only { None } else { Some(prepare(access, &image).await?) };
    let ahead = if floor_only { None } else { Some(prepare_ahead(access, &image).await?) };
    let (mut created, mut started, mut bare) = (Samples::default(), Samples::default(), Samples::default());
    let (mut called, mut whole) = (Samples::default(), Samples::default());
    let (mut bare_ahead, mut whole_ahead) = (Samples::default(), Samples::default());
    for round in 0..=runs {
        if let Some((subject, _)) = &ahead {
            // What is made for later starts would take its CPU from what is measured.
            subject.until_steady("created").await?;
        }
        settle().await;
        let floor = sandbox.start().await?;
        settle().await;
        let vm = match &ours {
            Some((subject, image_id)) => Some(start(subject, image_id, "cold").await?),
            None => None,
        };
        settle().await;
        let quick = match &ahead {
            Some((subject, image_id)) => Some(start(subject, image_id, "created").await?),
            None => None,
        };
        if round > 0 {
            created.add(floor.created);
            started.add(floor.started);
            bare.add(floor.answered);
            bare_ahead.add(floor.answered.saturating_sub(floor.created));
            if let Some((_, answer)) = quick {
                whole_ahead.add(answer);
            }
            if let Some((call, answer)) = vm {
                called.add(call);
                whole.add(answer);
            }
        }
    }
    let mut table = Table::new("A Python web app, from the wish to the first byte of HTTP", &TIMES);
    table.times("runsc create", &created, Some(&bare), "");
    table.times("runsc create, start", &started, Some(&bare), "");
    table.times("runsc create, start → first byte", &bare, Some(&bare), "");
    if ours.is_some() {
        table.times("startVM answered", &called, Some(&bare), "");
        table.times("startVM → first byte through the edge", &whole, Some(&bare), "≤ 1.10×");
    }
    table.times("runsc start of one that was created → first byte", &bare_ahead, Some(&bare_ahead), "");
    if ahead.is_some() {
        table.times("startVM, its sandbox made ahead → first byte", &whole_ahead, Some(&bare_ahead), "≤ 1.10×");
    }
    table.note("The bare sandbox has its root file system, bundle and network namespace ready, and no cgroup.");
    Ok(table)
}

/// A server that makes no sandbox ahead.
async fn prepare(access: &Access, image: &Image) -> Result<(Subject, String)> {
    with_image(access.start_with("[cached]\nwaiting_mib = 0\n").await?, image).await
}

/// One that does, since it was asked for VMs of this kind before.
async fn prepare_ahead(access: &Access, image: &Image) -> Result<(Subject, String)> {
    let (subject, image_id) = with_image(access.open().await?, image).await?;
    for _ in 0..2 {
        start(&subject, &image_id, "cold").await?;
    }
    Ok((subject, image_id))
}

async fn with_image(subject: Subject, image: &Image) -> Result<(Subject, String)> {
    let registry = Registry::start(Auth::Basic).await?;
    registry.push("bench/app", "v1", image).await?;
    let image_id = subject.import(&registry.reference("bench/app", "v1"), registry.password()).await?;
    Ok((subject, image_id))
}

/// The times until startVM answered, and until the app did.
async fn start(subject: &Subject, image_id: &str, tier: &str) -> Result<(Duration, Duration)> {
    let began = Instant::now();
    let vm = subject.post("/v1/vm/start", json!({"imageId": image_id, "port": PORT})).await?;
    let called = began.elapsed();
    first_byte(&subject.edge, vm["hostname"].as_str().context("startVM answers a hostname")?).await?;
    let answered = began.elapsed();
    ensure!(vm["start"]["tier"] == tier, "it did not start {tier}: {vm}");
    subject.stop(vm["id"].as_str().context("startVM answers an id")?).await?;
    Ok((called, answered))
}
