//! Sleep: a cached VM that nobody has asked anything of for its `idleTimeoutSeconds` is put to sleep.
//!
//! Invariant: nothing is put to sleep under a request. The VM's route is made quiet first, which only succeeds where no
//! request or WebSocket is open here; requests that come then wait, and wake it or go on. What runs in it is the host's
//! to know, and so is its work: the host may say that it is busy.

use std::collections::HashMap;
use std::time::Duration;

use cakework_core::cached::Sleep;
use cakework_core::id::VmId;
use cakework_core::lifecycle::VmState;
use cakework_wire::host::{SleepAnswer, SleepVm};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::follow::lead;
use crate::app::{App, Shared};
use crate::clock::now_ms;
use crate::host::HostError;
use crate::store::StoreError;
use crate::store::vms::Vm;

/// Time between two looks for idle VMs.
const TICK: Duration = Duration::from_millis(500);
/// Time until a host is asked again that said no: a part of the time that the VM has to be idle, within bounds.
const AGAIN_PART: u32 = 4;
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Runs until `shutdown`.
pub(crate) async fn run(app: Shared, shutdown: CancellationToken) {
    // When hosts that said no are asked again: a hint, which a restart may lose.
    let mut again = HashMap::new();
    loop {
        if let Err(error) = pass(&app, &mut again).await {
            tracing::error!(error = ?error, "idle VMs could not be looked for");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn pass(app: &App, again: &mut HashMap<VmId, Instant>) -> anyhow::Result<()> {
    let now = Instant::now();
    again.retain(|_, at| *at > now);
    for vm in app.store.vms_that_idle().await? {
        let Some(timeout_ms) = vm.cached.as_ref().and_then(|cached| cached.idle_timeout_ms) else { continue };
        let timeout = Duration::from_millis(timeout_ms);
        if again.contains_key(&vm.id) || idle_for(app, &vm).is_none_or(|idle| idle < timeout) {
            continue;
        }
        let Some(_quiet) = app.routes.quiet(&vm.id) else { continue };
        let slept = sleep(app, &vm, Some(timeout_ms)).await?;
        if !matches!(slept, Ok(SleepAnswer::Asleep { .. })) {
            tracing::debug!(vm = %vm.id, ?slept, "an idle VM was not put to sleep");
            again.insert(vm.id, Instant::now() + (timeout / AGAIN_PART).clamp(AGAIN_MIN, AGAIN_MAX));
        }
    }
    Ok(())
}

/// How long nothing was asked of it. Of one without a port, the host alone knows.
fn idle_for(app: &App, vm: &Vm) -> Option<Duration> {
    match vm.spec.port {
        Some(_) => app.routes.idle_for(&vm.label),
        None => Some(Duration::from_millis(now_ms().saturating_sub(vm.updated_ms))),
    }
}

/// Asks a running VM's host to put it to sleep, with `idle_ms` only where it was idle for so long there too, and records
/// that it sleeps. Its route is to be quiet.
pub(crate) async fn sleep(
    app: &App,
    vm: &Vm,
    idle_ms: Option<u64>,
) -> Result<Result<SleepAnswer, HostError>, StoreError> {
    let Some(host) = &vm.host else { return Ok(Ok(SleepAnswer::NotRunning)) };
    let wish = SleepVm { generation: vm.generation, idle_ms, spill: false };
    let reply = match app.host.sleep_vm(host, &vm.id, &wish).await {
        Ok(reply) => reply,
        Err(error) => return Ok(Err(error)),
    };
    if let SleepAnswer::Asleep { seq } = reply.body {
        app.store.sleeps(&vm.id, vm.generation, Some(Sleep::Paused), None, seq).await?;
        // The edge knows before a request goes on.
        if let Some(vm) = app.store.any_vm(&vm.id).await?.filter(|vm| vm.state == VmState::Started) {
            lead(app, &vm);
        }
        app.pokes.follow.notify_one();
        tracing::info!(vm = %vm.id, "the VM sleeps");
    }
    Ok(Ok(reply.body))
}
