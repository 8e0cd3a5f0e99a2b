//! Cached VMs: cache, start, stop, suspend, destroy. How one comes to run is in [`run`].

pub(crate) mod run;

use cakework_api::problem::ErrorCode;
use cakework_api::vm::{CacheVm, StartVm, Vm as ApiVm};
use cakework_core::id::VmId;
use cakework_core::lifecycle::{Exit, ExitReason, VmEvent, VmState};
use cakework_core::limit;
use cakework_wire::host::SleepAnswer;
use tokio::time::Instant;

use self::run::{By, NotRun, run};
use super::validate;
use super::vms::{self, Ahead, STOP_WAIT, describe, find, make, refused, view};
use crate::app::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::host::HostError;
use crate::reconcile::idle;
use crate::store::cached::CachedVm;
use crate::store::keyed::Claim;
use crate::store::vm_changes::Facts;
use crate::store::vms::{NewVm, Vm};

/// Caches a VM: it stands still, and its host makes it ready.
pub(crate) async fn cache(
    app: &App,
    caller: &Caller,
    request: CacheVm,
    claim: Option<&Claim>,
) -> Result<ApiVm, ApiError> {
    let end = Instant::now() + app.start_wait;
    let idle_max = limit::IDLE_TIMEOUT_MAX_SECS;
    let idle = request.idle_timeout_seconds;
    let idle = idle.map(|secs| validate::number::<u32>("idleTimeoutSeconds", secs, 1..=idle_max)).transpose()?;
    let cached = CachedVm {
        prewarm: request.prewarm.unwrap_or_default().into(),
        idle_timeout_ms: idle.map(|secs| u64::from(secs) * 1000),
        auto_start: request.auto_start.unwrap_or(true),
        sleep: None,
    };
    let new = NewVm { cached: Some(cached), ..describe(app, caller, one_run(request)?, Ahead::Unasked).await? };
    make(app, &new, end, claim).await?;
    view_of(app, &new.id).await
}

/// What one run of it is.
fn one_run(request: CacheVm) -> Result<StartVm, ApiError> {
    let size = |field, value: Option<i64>| {
        let range = limit::VOLUME_MIN_GB..=limit::VOLUME_MAX_GB;
        value.map(|value| validate::number::<u32>(field, value, range)).transpose()
    };
    let (volume, disk) = (size("volumeGB", request.volume_gb)?, size("diskSize", request.disk_size)?);
    if volume.is_some() && disk.is_some() && volume != disk {
        let detail = "`diskSize` is another name of `volumeGB`; they differ.";
        return Err(ApiError::field(ErrorCode::InvalidValue, "diskSize", detail));
    }
    Ok(StartVm {
        image_id: request.image_id,
        cpu: request.cpu,
        memory: request.memory,
        port: request.port,
        env_vars: request.env_vars,
        volume_gb: request.volume_gb.or(request.disk_size),
        command: request.command,
        metadata: request.metadata,
        timeout_seconds: request.timeout_seconds,
        tenant: request.tenant,
    })
}

/// Starts a cached VM, or wakes it. One that is `created` or asleep in the answer goes on.
pub(crate) async fn start(app: &App, caller: &Caller, id: &VmId) -> Result<ApiVm, ApiError> {
    let vm = find(app, caller, id).await?;
    match run(app, vm, By::Owner, app.start_wait).await {
        Ok(vm) => Ok(view(app, vm)),
        Err(NotRun::Late) => view_of(app, id).await,
        Err(NotRun::Refused(refusal)) => Err(refused(refusal)),
        Err(NotRun::NotCached) => Err(not_cached(id)),
        Err(NotRun::Over) => Err(over(id)),
        Err(NotRun::Stopping) => {
            Err(ApiError::new(ErrorCode::VmStopping, format!("The run of {id} is ending.")).retry_after(1))
        }
        Err(NotRun::Ended(exit)) => match exit {
            Some(Exit { reason: ExitReason::StartFailed, message, .. }) => {
                let why = message.unwrap_or_else(|| "it did not come up".to_owned());
                Err(ApiError::new(ErrorCode::StartFailed, format!("The VM could not be started: {why}.")))
            }
            Some(Exit { reason: ExitReason::HostLost, .. }) => {
                Err(ApiError::new(ErrorCode::HostUnavailable, "The host restarted.").retry_after(2))
            }
            // It ran, and its process is over.
            Some(_) | None => view_of(app, id).await,
        },
        Err(NotRun::NotByRequests) => Err(ApiError::internal(anyhow::anyhow!("an owner was taken for a request"))),
        Err(NotRun::Broken(error)) => Err(ApiError::internal(error)),
    }
}

/// Ends a cached VM's run and waits a while for it. One that stands still is left as it is.
pub(crate) async fn stop(app: &App, caller: &Caller, id: &VmId) -> Result<(), ApiError> {
    let vm = cached(app, caller, id).await?;
    if matches!(vm.state, VmState::Destroying | VmState::Destroyed) {
        return Err(over(id));
    }
    vms::stop(app, caller, id).await
}

/// Puts a running cached VM to sleep. One that sleeps is left as it is.
pub(crate) async fn suspend(app: &App, caller: &Caller, id: &VmId) -> Result<(), ApiError> {
    let vm = cached(app, caller, id).await?;
    match vm.state {
        VmState::Started if !vm.is_awake() => return Ok(()),
        VmState::Started => {}
        VmState::Created | VmState::Stopping | VmState::Stopped => return Err(not_running(id)),
        VmState::Destroying | VmState::Destroyed => return Err(over(id)),
    }
    let busy = |why: String| ApiError::new(ErrorCode::VmBusy, why).retry_after(1);
    let Some(_quiet) = app.routes.quiet(id) else {
        return Err(busy("A request or connection is open.".to_owned()));
    };
    match idle::sleep(app, &vm, None).await? {
        Ok(SleepAnswer::Asleep { .. }) => Ok(()),
        Ok(SleepAnswer::Busy { reason }) => Err(busy(format!("The VM is busy: {reason}."))),
        Ok(SleepAnswer::NotRunning) => Err(not_running(id)),
        Err(error @ (HostError::Problem(_) | HostError::Away(_))) => Err(error.into()),
    }
}

/// Ends a VM for good, from every state, and waits a while for that. One that is over is left as it is.
pub(crate) async fn destroy(app: &App, caller: &Caller, id: &VmId) -> Result<(), ApiError> {
    // The placement may move on between reading and writing; then the record is read again.
    const TRIES: u32 = 5;
    for _ in 0..TRIES {
        let vm = find(app, caller, id).await?;
        if matches!(vm.state, VmState::Destroying | VmState::Destroyed) {
            break;
        }
        let facts = Facts::exit(Exit::only(ExitReason::Stopped));
        if app.apply(id, vm.generation, VmEvent::DestroyAsked, facts).await?.is_some() {
            break;
        }
    }
    app.wait_vm(id, STOP_WAIT, |vm| vm.state == VmState::Destroyed).await?;
    Ok(())
}

/// A cached VM that exists for the caller.
async fn cached(app: &App, caller: &Caller, id: &VmId) -> Result<Vm, ApiError> {
    let vm = find(app, caller, id).await?;
    if vm.cached.is_some() { Ok(vm) } else { Err(not_cached(id)) }
}

async fn view_of(app: &App, id: &VmId) -> Result<ApiVm, ApiError> {
    let vm = app.store.any_vm(id).await?;
    vm.map(|vm| view(app, vm)).ok_or_else(|| vms::unknown(id))
}

fn not_cached(id: &VmId) -> ApiError {
    ApiError::new(ErrorCode::VmNotCached, format!("{id} is a one-time VM."))
}

fn not_running(id: &VmId) -> ApiError {
    ApiError::new(ErrorCode::VmNotRunning, format!("{id} does not run."))
}

fn over(id: &VmId) -> ApiError {
    ApiError::new(ErrorCode::VmOver, format!("{id} is destroyed."))
}
