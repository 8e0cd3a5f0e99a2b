//! The record's changes, followed by number: routes for the edge, and a wake-up for whoever waits. Changes that
//! another api process made are seen within a second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cakework_core::cached::Sleep;
use cakework_core::lifecycle::VmState;
use cakework_edge::{Route, Target};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Shared};
use crate::clock::now_ms;
use crate::ops::cached::run;
use crate::store::vms::Vm;

/// Changed VMs that one look takes up.
const BATCH: u32 = 512;
/// Time between two looks at changes that another process may have made.
const POLL: Duration = Duration::from_secs(1);
/// Time after its end that a VM's hostname still says so, instead of being unknown.
const ENDED_SHOWN_MS: u64 = 24 * 3600 * 1000;
const SWEEP: Duration = Duration::from_secs(600);

/// Runs until `shutdown`.
pub(crate) async fn run(app: Shared, mut seq: u64, shutdown: CancellationToken) {
    let mut swept_ms = now_ms();
    let mut sweep_at = Instant::now() + SWEEP;
    loop {
        match follow(&app, &mut seq).await {
            Ok(()) => {}
            Err(error) => tracing::error!(error = ?error, "changes could not be followed"),
        }
        if Instant::now() >= sweep_at {
            sweep_at = Instant::now() + SWEEP;
            sweep(&app, &mut swept_ms).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.pokes.follow.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Fills the table; answers the number to follow from.
pub(crate) async fn fill(app: &Shared) -> anyhow::Result<u64> {
    let mut seq = app.store.routes_start(now_ms().saturating_sub(ENDED_SHOWN_MS)).await?;
    follow(app, &mut seq).await?;
    Ok(seq)
}

async fn follow(app: &Shared, seq: &mut u64) -> anyhow::Result<()> {
    loop {
        let vms = app.store.vms_after(*seq, BATCH).await?;
        let Some(last) = vms.last() else { return Ok(()) };
        *seq = last.seq;
        let oldest_ms = now_ms().saturating_sub(ENDED_SHOWN_MS);
        for vm in vms.into_iter().filter(|vm| vm.state != VmState::Destroyed || vm.updated_ms >= oldest_ms) {
            lead(app, &vm);
            // Another process put it to sleep under a request that is open here.
            if is_asleep(&vm) && app.routes.in_flight(&vm.id) > 0 {
                app.tasks.spawn(run::wake(Arc::clone(app), vm.id));
            }
        }
        app.changes.send_replace(*seq);
    }
}

/// Tells the edge where a VM's hostname leads. One without a port has a name that leads nowhere.
pub(crate) fn lead(app: &App, vm: &Vm) {
    if let Some(target) = target(vm) {
        let route = Route { vm_id: vm.id.clone(), generation: vm.generation, seq: vm.seq, target };
        app.routes.apply(vm.label.clone(), route);
    }
}

fn target(vm: &Vm) -> Option<Target> {
    let port = vm.spec.port?;
    // What a request finds that would have to start or wake it.
    let at_rest = match &vm.cached {
        Some(cached) if cached.auto_start => Target::Dormant,
        Some(_) | None => Target::Stopped,
    };
    Some(match (vm.state, vm.address) {
        (VmState::Created, _) => Target::Starting,
        (VmState::Started, _) if is_asleep(vm) => match (at_rest, vm.cached.as_ref().and_then(|cached| cached.sleep)) {
            (Target::Dormant, Some(Sleep::Spilled)) => Target::Spilled,
            _ => at_rest,
        },
        (VmState::Started, Some(address)) => Target::Ready(SocketAddr::from((address, port))),
        (VmState::Started, None) => Target::Starting,
        // A request that comes while a run ends begins the next.
        (VmState::Stopping | VmState::Stopped, _) => at_rest,
        (VmState::Destroying | VmState::Destroyed, _) => Target::Stopped,
    })
}

fn is_asleep(vm: &Vm) -> bool {
    vm.state == VmState::Started && !vm.is_awake()
}

/// Forgets hostnames whose VMs are over for long.
async fn sweep(app: &App, swept_ms: &mut u64) {
    let (from_ms, to_ms) = (swept_ms.saturating_sub(ENDED_SHOWN_MS), now_ms().saturating_sub(ENDED_SHOWN_MS));
    match app.store.ended_between(from_ms, to_ms).await {
        Ok(ended) => {
            ended.into_iter().for_each(|(label, seq)| app.routes.remove(&label, seq));
            *swept_ms = to_ms + ENDED_SHOWN_MS;
        }
        Err(error) => tracing::error!(error = ?error, "old routes could not be read"),
    }
}
