//! The record's wishes of VMs, carried to their hosts; and the deadlines of transient states.

use std::sync::Arc;
use std::time::Duration;

use cakework_core::id::HostId;
use cakework_core::lifecycle::{Change, Exit, ExitReason, VmEvent, VmKind, VmState, transition};
use cakework_wire::host::{EndVm, ProblemCode, VmObservation};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::place::{Placed, place};
use super::{CLAIM_MS, TICK, backoff_ms};
use crate::app::{App, Shared};
use crate::clock::now_ms;
use crate::host::HostError;
use crate::store::vm_changes::Facts;
use crate::store::vms::Vm;

/// VMs that one look takes up.
const BATCH: u32 = 128;
const AT_ONCE: usize = 16;
/// Time after which a host that accepted an end is reminded of it.
const REMIND_MS: u64 = 5_000;
/// Time after which a host that did not take a VM that stands still is asked again.
const HOLD_AGAIN_MS: u64 = 60_000;

/// Runs until `shutdown`.
pub(crate) async fn run(app: Shared, shutdown: CancellationToken) {
    loop {
        let more = match pass(&app).await {
            Ok(more) => more,
            Err(error) => {
                tracing::error!(error = ?error, "the VMs' reconciler failed");
                false
            }
        };
        let pause = if more { Duration::ZERO } else { TICK };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.pokes.vms.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Looks at the VMs that are due; answers whether there may be more.
async fn pass(app: &Shared) -> anyhow::Result<bool> {
    let due = app.store.vms_due(now_ms(), BATCH).await?;
    let full = due.len() == BATCH as usize;
    futures_util::stream::iter(due)
        .for_each_concurrent(AT_ONCE, |vm| {
            let app = Arc::clone(app);
            async move {
                let id = vm.id.clone();
                if let Err(error) = act(&app, vm).await {
                    tracing::error!(vm = %id, error = ?error, "a VM was not reconciled");
                }
            }
        })
        .await;
    Ok(full)
}

async fn act(app: &App, vm: Vm) -> anyhow::Result<()> {
    let now_ms = now_ms();
    let is_late = vm.deadline_ms.is_some_and(|deadline| deadline <= now_ms);
    if is_late && transition(vm.kind(), vm.state, VmEvent::DeadlinePassed) != Change::Stay {
        let secs = app.config.start_timeout_secs;
        let exit = Exit::start_failed(format!("it did not start within {secs} s"));
        // Only an end that nobody asked for needs a reason.
        let facts = if vm.wish.is_none() { Facts::exit(exit) } else { Facts::default() };
        app.apply(&vm.id, vm.generation, VmEvent::DeadlinePassed, facts).await?;
        return Ok(());
    }
    if !app.store.claim(&vm, now_ms + CLAIM_MS).await? {
        return Ok(());
    }
    let next_ms = match vm.state {
        VmState::Created => start(app, &vm).await?,
        VmState::Stopped => hold(app, &vm).await?,
        VmState::Stopping if is_late => end(app, &vm, How::StopNow).await?,
        VmState::Stopping => end(app, &vm, How::Stop).await?,
        VmState::Destroying => end(app, &vm, How::Destroy).await?,
        VmState::Started | VmState::Destroyed => None,
    };
    if let Some(next_ms) = next_ms {
        let deadline_ms = vm.deadline_ms.filter(|_| !is_late).unwrap_or(u64::MAX);
        app.store.due_at(&vm.id, next_ms.min(deadline_ms).max(now_ms + 1)).await?;
    }
    Ok(())
}

/// Has a cached VM that stands still held by a host. Answers when to look again, `None` where that is on record.
async fn hold(app: &App, vm: &Vm) -> anyhow::Result<Option<u64>> {
    match place(app, &vm.id, Duration::ZERO).await? {
        Placed::Taken(_) | Placed::Elsewhere => Ok(None),
        Placed::Unsure(why) => {
            tracing::debug!(vm = %vm.id, why, "whether the VM is held is unsure");
            Ok(Some(now_ms() + backoff_ms(vm.attempts)))
        }
        // It can be started all the same, where there is room then.
        Placed::Refused(refusal) => {
            tracing::info!(vm = %vm.id, %refusal, "no host holds the VM");
            Ok(Some(now_ms() + HOLD_AGAIN_MS))
        }
    }
}

/// Places a VM. Answers when to look again, `None` where that is on record.
async fn start(app: &App, vm: &Vm) -> anyhow::Result<Option<u64>> {
    match place(app, &vm.id, Duration::ZERO).await? {
        Placed::Taken(_) => Ok(None),
        Placed::Elsewhere => Ok(vm.deadline_ms),
        Placed::Unsure(why) => {
            tracing::debug!(vm = %vm.id, why, "the VM's placement is unsure");
            Ok(Some(now_ms() + backoff_ms(vm.attempts)))
        }
        Placed::Refused(refusal) => {
            // The placement may have been counted up by the attempt.
            if let Some(vm) = app.store.any_vm(&vm.id).await? {
                let facts = Facts::exit(Exit::start_failed(refusal.to_string()));
                app.apply(&vm.id, vm.generation, VmEvent::Refused, facts).await?;
            }
            Ok(None)
        }
    }
}

/// How an end is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// With grace.
    Stop,
    /// A cached VM's run, without grace.
    StopNow,
    /// All of it.
    Destroy,
}

/// Asks a VM's host for its end. Answers when to look again.
async fn end(app: &App, vm: &Vm, how: How) -> anyhow::Result<Option<u64>> {
    let Some(host) = &vm.host else {
        app.apply(&vm.id, vm.generation, VmEvent::Refused, Facts::default()).await?;
        return Ok(None);
    };
    match ask(app, vm, host, how).await {
        Ok(true) => {
            let (event, facts) = match (vm.kind(), how) {
                (VmKind::Cached, How::Stop | How::StopNow) => {
                    (VmEvent::HostStopped, Facts { is_lost: true, ..ended_unseen(vm) })
                }
                (VmKind::Once, _) | (VmKind::Cached, How::Destroy) => (VmEvent::HostEnded, ended_unseen(vm)),
            };
            app.apply(&vm.id, vm.generation, event, facts).await?;
            Ok(None)
        }
        Ok(false) => Ok(Some(now_ms() + REMIND_MS)),
        Err(error) => {
            tracing::debug!(vm = %vm.id, error = %error, "the VM's end could not be asked for");
            Ok(Some(now_ms() + backoff_ms(vm.attempts)))
        }
    }
}

/// Asks for the end; `true`: the host has nothing to end. It does not have the VM and will never take this placement
/// again, or it is a cached one that stands still there.
async fn ask(app: &App, vm: &Vm, host: &HostId, how: How) -> Result<bool, HostError> {
    let (id, generation) = (&vm.id, vm.generation);
    let end = EndVm { generation, now: how == How::StopNow };
    let life = match how {
        How::Destroy => app.host.delete_vm(host, id, generation).await?.incarnation,
        How::Stop | How::StopNow => match (app.host.stop_vm(host, id, &end).await, vm.kind()) {
            (Ok(reply), _) => reply.incarnation,
            (Err(HostError::Problem(problem)), kind) if problem.code == ProblemCode::Unknown => {
                if kind == VmKind::Once {
                    app.host.delete_vm(host, id, generation).await?;
                }
                return Ok(true);
            }
            (Err(error), _) => return Err(error),
        },
    };
    if vm.attempts == 0 {
        return Ok(false);
    }
    // The host has the end on record. A list that it gives in the same life, later, and that lacks the VM or says that it
    // stands still, says that there is nothing left to report.
    let list = app.host.watch(0, Duration::ZERO).await?;
    let listed = list.body.vms.iter().find(|report| report.vm_id == *id);
    let is_done =
        listed.is_none_or(|report| how != How::Destroy && matches!(report.observation, VmObservation::Stopped { .. }));
    Ok(list.host_id == *host && list.incarnation == life && is_done)
}

/// How a VM ended that its host does not know: as it was asked to, or nobody can tell.
fn ended_unseen(vm: &Vm) -> Facts {
    if vm.wish.is_some() { Facts::default() } else { Facts::exit(Exit::only(ExitReason::Unknown)) }
}
