//! A host's reports, applied to the record: list, then watch, with `(incarnation, seq)`.
//!
//! A report changes a VM only if the VM's placement is the report's, on this host, in this life. A host that does not
//! answer, or a list that lacks a VM, is no end of anything. What a host has and a record does not want is destroyed;
//! what no record names is only logged.

use std::time::Duration;

use cakework_core::build::BuildEvent;
use cakework_core::id::{HostId, ImageId, Incarnation};
use cakework_core::isolation::Isolation;
use cakework_core::lifecycle::VmState;
use cakework_wire::build::{BuildObservation, BuildReport};
use cakework_wire::host::{ImageObservation, ImageReport, ProblemCode, Reply, VmObservation, VmReport, WatchPage};
use tokio_util::sync::CancellationToken;

use super::observe::{observe, said};
use crate::app::{App, Shared};
use crate::clock::now_ms;
use crate::host::HostError;
use crate::store::build_changes::{BuildFacts, BuiltImage};
use crate::store::vm_changes::Taken;
use crate::store::vms::Vm;

/// For how long a host holds a question for its news open.
const HOLD: Duration = Duration::from_secs(20);
/// Time before a host that did not answer is asked again, doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(2);
/// Time between two pages that only tell of arriving bytes.
const PROGRESS_STEP: Duration = Duration::from_millis(200);
/// Time that whoever placed a VM has to write down that it runs, before it is done here.
const PLACER_FIRST: Duration = Duration::from_millis(5);

/// Where the watch of a host stands.
struct Place {
    host: HostId,
    incarnation: Incarnation,
    isolation: Option<Isolation>,
    /// 0: everything is to be listed.
    after: u64,
}

/// Runs until `shutdown`.
pub(crate) async fn run(app: Shared, shutdown: CancellationToken) {
    let mut place = None;
    let mut retry = RETRY_FIRST;
    let mut away = false;
    loop {
        let step = tokio::select! {
            () = shutdown.cancelled() => return,
            step = step(&app, &mut place) => step,
        };
        let pause = match step {
            Ok(pause) => {
                if std::mem::take(&mut away) {
                    tracing::info!("the host answers again");
                }
                retry = RETRY_FIRST;
                pause
            }
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(error = format!("{error:#}"), "the host can't be watched");
                }
                // What it holds is listed anew: a page may have been lost half applied.
                place = None;
                retry = (retry * 2).min(RETRY_MOST);
                retry
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Takes one page; answers the pause until the next.
async fn step(app: &App, place: &mut Option<Place>) -> anyhow::Result<Duration> {
    if place.is_none() {
        let status = app.host.status().await?;
        *place = Some(Place {
            host: status.host_id,
            incarnation: status.incarnation,
            isolation: status.body.isolation,
            after: 0,
        });
    }
    let Some(at) = place else { return Ok(Duration::ZERO) };
    // Read before the question: an answer can then not be older than what is on record.
    let known = app.store.incarnation(&at.host).await?;
    let hold = if at.after == 0 { Duration::ZERO } else { HOLD };
    let page = app.host.watch(at.after, hold).await?;
    if page.host_id != at.host || page.incarnation != at.incarnation {
        *place = None;
        return Ok(Duration::ZERO);
    }
    match known {
        None => app.store.insert_host(&at.host, &at.incarnation, now_ms()).await?,
        Some(known) if known != at.incarnation => {
            let lost = app.store.host_changed(&at.host, &known, &at.incarnation, now_ms()).await?;
            let Some(lost) = lost else { return Ok(Duration::ZERO) };
            tracing::warn!(host = %at.host, lost, "the host restarted: what ran there is over");
            app.pokes.follow.notify_one();
        }
        Some(_) => {}
    }
    let all = at.after == 0 || page.body.resync;
    let only_progress = apply(app, at, &page, all).await?;
    at.after = page.body.seq;
    let empty = page.body.vms.is_empty() && page.body.images.is_empty() && page.body.builds.is_empty();
    Ok(match (empty, only_progress) {
        // A host that is about to end answers at once.
        (true, _) => RETRY_FIRST,
        (_, true) => PROGRESS_STEP,
        (false, false) => Duration::ZERO,
    })
}

/// Applies a page; answers whether it told of nothing but arriving bytes. A build's steps are few, and its end is waited for.
async fn apply(app: &App, at: &Place, page: &Reply<WatchPage>, all: bool) -> anyhow::Result<bool> {
    for report in &page.body.vms {
        apply_vm(app, at, report).await?;
    }
    for report in &page.body.images {
        apply_image(app, report).await?;
    }
    for report in &page.body.builds {
        apply_build(app, at, report).await?;
    }
    if all {
        list_builds(app, at, &page.body.builds).await?;
        list_vms(app, at, &page.body.vms).await?;
        list_images(app, &page.body.images).await?;
    }
    let arriving = |report: &ImageReport| matches!(report.observation, ImageObservation::Pulling { .. });
    Ok(page.body.vms.is_empty() && page.body.builds.is_empty() && page.body.images.iter().all(arriving))
}

async fn apply_vm(app: &App, at: &Place, report: &VmReport) -> anyhow::Result<()> {
    let Some(mut vm) = app.store.any_vm(&report.vm_id).await? else {
        tracing::warn!(vm = %report.vm_id, "the host has a VM that no record names");
        return Ok(());
    };
    if vm.generation == report.generation && is_being_placed(&vm) {
        if report.observation == VmObservation::Starting {
            return Ok(());
        }
        tokio::time::sleep(PLACER_FIRST).await;
        let Some(now) = app.store.any_vm(&report.vm_id).await? else { return Ok(()) };
        vm = now;
    }
    let here = vm.host.as_ref() == Some(&at.host);
    if !here || vm.generation != report.generation || vm.state == VmState::Destroyed {
        return destroy_unwanted(app, at, &vm, report, here).await;
    }
    match &vm.incarnation {
        Some(incarnation) if *incarnation != at.incarnation => return Ok(()),
        Some(_) => {}
        None => {
            let (id, generation, host) = (&vm.id, vm.generation, &at.host);
            let taken = Taken { id, generation, host, incarnation: &at.incarnation, isolation: at.isolation };
            if app.confirm(&taken, said(&report.observation)).await?.is_some() {
                return Ok(());
            }
            // Whoever placed it was quicker, maybe without what is said here.
            let Some(now) = app.store.any_vm(id).await? else { return Ok(()) };
            if now.generation != generation || now.incarnation.as_ref() != Some(&at.incarnation) {
                return Ok(());
            }
            vm = now;
        }
    }
    Ok(observe(app, &vm, report).await?)
}

/// Whether somebody waits for a host's answer to the placement: that answer says the same, and is written down by whoever
/// waits for it, or by the reconciler once they did not.
fn is_being_placed(vm: &Vm) -> bool {
    vm.state == VmState::Created && vm.incarnation.is_none() && vm.due_ms.is_some_and(|due_ms| due_ms > now_ms())
}

/// Destroys what the record says is not wanted: a placement that is over, or one before the record's own. The earlier
/// placements of a cached VM are the same VM: its host turns to the new one by itself.
async fn destroy_unwanted(app: &App, at: &Place, vm: &Vm, report: &VmReport, here: bool) -> anyhow::Result<()> {
    let is_earlier = report.generation < vm.generation && vm.cached.is_none();
    let over = vm.state == VmState::Destroyed || is_earlier || !here;
    if !over || matches!(report.observation, VmObservation::Ended { .. }) {
        return Ok(());
    }
    tracing::info!(vm = %vm.id, generation = %report.generation, "the host has a VM that is not wanted");
    match app.host.delete_vm(&at.host, &vm.id, report.generation).await {
        Ok(_) => Ok(()),
        Err(HostError::Problem(problem)) if problem.code == ProblemCode::Unknown => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// VMs that are wanted, were confirmed and are missing from a list are asked for again, unless they ran.
async fn list_vms(app: &App, at: &Place, reports: &[VmReport]) -> anyhow::Result<()> {
    let listed: std::collections::HashSet<_> = reports.iter().map(|report| &report.vm_id).collect();
    for vm in app.store.vms_of_host(&at.host).await? {
        if vm.incarnation.as_ref() != Some(&at.incarnation) || listed.contains(&vm.id) {
            continue;
        }
        match vm.state {
            VmState::Created => {
                app.store.unconfirm(&vm, now_ms()).await?;
                app.pokes.vms.notify_one();
            }
            VmState::Started => tracing::error!(vm = %vm.id, "the host does not list a VM that ran there"),
            VmState::Stopped => {
                app.store.hold_anew(&vm, now_ms()).await?;
                app.pokes.vms.notify_one();
            }
            VmState::Stopping | VmState::Destroying | VmState::Destroyed => {}
        }
    }
    Ok(())
}

async fn apply_image(app: &App, report: &ImageReport) -> anyhow::Result<()> {
    let now_ms = now_ms();
    match &report.observation {
        ImageObservation::Pulling { done_bytes, .. } => {
            app.store.image_progress(&report.digest, *done_bytes, now_ms).await?;
        }
        ImageObservation::Ready => app.store.image_ready(&report.digest, now_ms).await?,
        ImageObservation::Failed { problem } => app.store.image_failed(&report.digest, problem, now_ms).await?,
    }
    Ok(())
}

/// Images that are missing from a list: the host is asked for each before anything is concluded.
async fn list_images(app: &App, reports: &[ImageReport]) -> anyhow::Result<()> {
    let listed: std::collections::HashSet<_> = reports.iter().map(|report| report.digest.as_str()).collect();
    for digest in app.store.pulling_digests().await? {
        if !listed.contains(digest.as_str()) {
            app.store.image_due(&digest, now_ms()).await?;
            app.pokes.images.notify_one();
        }
    }
    for digest in app.store.ready_digests().await? {
        if listed.contains(digest.as_str()) {
            continue;
        }
        if let Err(HostError::Problem(problem)) = app.host.image(&digest).await
            && problem.code == ProblemCode::Unknown
        {
            tracing::warn!(digest, "the host lost an image");
            app.store.image_lost(&digest, now_ms()).await?;
            app.pokes.images.notify_one();
        }
    }
    Ok(())
}

async fn apply_build(app: &App, at: &Place, report: &BuildReport) -> anyhow::Result<()> {
    let Some(build) = app.store.any_build(&report.build_id).await? else {
        tracing::warn!(build = %report.build_id, "the host has a build that no record names");
        return Ok(());
    };
    let here = build.host.as_ref() == Some(&at.host) && build.generation == report.generation;
    if !here || build.state.is_over() {
        return end_unwanted(app, at, report).await;
    }
    match &build.incarnation {
        Some(incarnation) if *incarnation != at.incarnation => return Ok(()),
        Some(_) => {}
        None => {
            app.store.confirm_build(&build.id, build.generation, &at.host, &at.incarnation).await?;
        }
    }
    let (event, facts) = match &report.observation {
        BuildObservation::Running { phase, step, steps } => {
            return Ok(app.store.build_progress(&build, *phase, (*step, *steps), now_ms()).await?);
        }
        BuildObservation::Succeeded { digest, size_bytes } => {
            let id = ImageId::mint(now_ms(), &mut rand::rng());
            let image = BuiltImage { id, digest: digest.clone(), size_bytes: *size_bytes };
            (BuildEvent::HostSucceeded, BuildFacts { image: Some(image), ..BuildFacts::default() })
        }
        BuildObservation::Failed { problem } => (BuildEvent::Failed, BuildFacts::problem(problem.clone())),
    };
    app.apply_build(&build.id, build.generation, event, facts).await?;
    Ok(())
}

/// Ends a build that goes on at the host and that the record does not want there.
async fn end_unwanted(app: &App, at: &Place, report: &BuildReport) -> anyhow::Result<()> {
    if !matches!(report.observation, BuildObservation::Running { .. }) {
        return Ok(());
    }
    tracing::info!(build = %report.build_id, generation = %report.generation, "the host has a build that is not wanted");
    match app.host.delete_build(&at.host, &report.build_id, report.generation).await {
        Ok(_) => Ok(()),
        Err(HostError::Problem(problem)) if problem.code == ProblemCode::Unknown => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Builds that were confirmed and are missing from a list are asked for again.
async fn list_builds(app: &App, at: &Place, reports: &[BuildReport]) -> anyhow::Result<()> {
    let listed: std::collections::HashSet<_> = reports.iter().map(|report| &report.build_id).collect();
    for build in app.store.builds_of_host(&at.host).await? {
        if build.incarnation.as_ref() == Some(&at.incarnation) && !listed.contains(&build.id) {
            app.store.unconfirm_build(&build, now_ms()).await?;
            app.pokes.builds.notify_one();
        }
    }
    Ok(())
}
