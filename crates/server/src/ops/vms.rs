//! VMs: start, look, list, wait, stop. What only cached ones have is in [`super::cached`].

use std::collections::BTreeMap;
use std::time::Duration;

use cakework_api::problem::ErrorCode;
use cakework_api::time::rfc3339;
use cakework_api::vm::{StartVm, Vm as ApiVm, VmList, VmState as ApiState};
use cakework_core::id::{HostLabel, ImageId, VmId};
use cakework_core::lifecycle::{Exit, ExitReason, VmEvent, VmKind, VmState};
use cakework_core::limit;
use cakework_core::spec::VmSpec;
use cakework_wire::host::ClaimSpare;

use tokio::time::Instant;

use super::validate;
use crate::app::App;
use crate::caller::Caller;
use crate::clock::now_ms;
use crate::error::ApiError;
use crate::reconcile::follow::lead;
use crate::reconcile::place::{Placed, Refusal, place, place_vm};
use crate::reconcile::{START_MARGIN_MS, env_place};
use crate::store::images::{Image, ImageState};
use crate::store::keyed::Claim;
use crate::store::vm_changes::Facts;
use crate::store::vms::{NewVm, Vm, VmFilter};

/// Time that the reconciler leaves a VM that is to be placed to the request that asked for it.
pub(super) const START_LEASE_MS: u64 = 10_000;
/// Time between two attempts of a start to place its VM.
pub(super) const PLACE_PAUSE: Duration = Duration::from_millis(50);
/// Longest time that a host's answer to a placement waits for the VM to run.
const PLACE_WAIT: Duration = Duration::from_secs(5);
/// Longest time that a stop waits for the end.
pub(super) const STOP_WAIT: Duration = Duration::from_secs(15);
/// Longest `timeout` of a wait: the published client gives up after 60 s.
pub(crate) const WAIT_MAX_SECS: u64 = 55;

/// Starts a VM.
pub(crate) async fn start(
    app: &App,
    caller: &Caller,
    request: StartVm,
    claim: Option<&Claim>,
) -> Result<ApiVm, ApiError> {
    let end = Instant::now() + app.start_wait;
    let new = describe(app, caller, request, Ahead::Asked).await?;
    let made = make(app, &new, end, claim).await?.filter(|vm| vm.state != VmState::Created);
    let vm = match made {
        Some(vm) => Some(vm),
        None => {
            let left = end.saturating_duration_since(Instant::now());
            app.wait_vm(&new.id, left, |vm| vm.state != VmState::Created).await?
        }
    };
    vm.map(|vm| view(app, vm)).ok_or_else(|| unknown(&new.id))
}

/// Puts a new VM on record and on a host, which is tried until `end`. Answers the record as the host's answer left it. A
/// refusal leaves nothing behind; where the host does not answer, the reconciler goes on.
pub(super) async fn make(app: &App, new: &NewVm, end: Instant, claim: Option<&Claim>) -> Result<Option<Vm>, ApiError> {
    if let Err(detail) = app.store.insert_vm(new, &app.config.limits, claim).await? {
        return Err(ApiError::new(ErrorCode::QuotaExceeded, format!("Over a limit: {detail}.")));
    }
    app.pokes.follow.notify_one();
    let Some(vm) = app.store.any_vm(&new.id).await? else { return Ok(None) };
    match place_by(app, vm, end).await {
        Ok(Placed::Taken(vm)) => {
            lead(app, &vm);
            return Ok(Some(*vm));
        }
        Ok(Placed::Refused(refusal)) => {
            app.store.forget(&new.id).await?;
            app.forget_route(&new.id, &new.label);
            return Err(refused(refusal));
        }
        Ok(Placed::Elsewhere) => {}
        Ok(Placed::Unsure(why)) => {
            tracing::warn!(vm = %new.id, why, "the VM's placement is unsure");
            app.store.due_at(&new.id, now_ms()).await?;
            app.pokes.vms.notify_one();
        }
        // The record stands: the reconciler places it.
        Err(error) => tracing::error!(vm = %new.id, error = ?error, "the VM was not placed"),
    }
    Ok(None)
}

/// Tries to place a VM whose record was just read until a host has said yes or no, or `end` comes: only a caller who still
/// waits can be told no.
pub(super) async fn place_by(app: &App, vm: Vm, end: Instant) -> anyhow::Result<Placed> {
    let wait = || end.saturating_duration_since(Instant::now()).min(PLACE_WAIT);
    let id = vm.id.clone();
    let mut placed = place_vm(app, vm, wait()).await?;
    while let Placed::Unsure(why) = &placed
        && Instant::now() + PLACE_PAUSE < end
    {
        tracing::debug!(vm = %id, why, "the VM's placement is tried again");
        tokio::time::sleep(PLACE_PAUSE).await;
        placed = place(app, &id, wait()).await?;
    }
    Ok(placed)
}

/// One VM.
pub(crate) async fn get(app: &App, caller: &Caller, id: &VmId) -> Result<ApiVm, ApiError> {
    Ok(view(app, find(app, caller, id).await?))
}

/// One VM, by the text of its id.
pub(crate) async fn get_made(app: &App, caller: &Caller, id: &str) -> Result<ApiVm, ApiError> {
    get(app, caller, &id.parse().map_err(|_| unknown(id))?).await
}

/// A page of VMs.
pub(crate) async fn list(app: &App, caller: &Caller, filter: VmFilter, limit: usize) -> Result<VmList, ApiError> {
    let filter = VmFilter { tenant: caller.tenant_of(filter.tenant)?, ..filter };
    let page = app.store.vms(&caller.account, &filter, limit).await?;
    let vms = page.items.into_iter().map(|vm| view(app, vm)).collect();
    Ok(VmList { vms, pagination: page.next.map(|next| next.write()) })
}

/// Waits until a VM is in `state`, or beyond it; answers it as it is then, or when the time is up.
pub(crate) async fn wait(
    app: &App,
    caller: &Caller,
    id: &VmId,
    state: ApiState,
    longest: Duration,
) -> Result<ApiVm, ApiError> {
    find(app, caller, id).await?;
    let is_there = |vm: &Vm| match vm.kind() {
        VmKind::Once => ApiState::from(vm.state) >= state,
        // It goes round: only its end is beyond every state, and an end that goes on is none.
        VmKind::Cached => {
            let is_at_rest = !matches!(vm.state, VmState::Stopping | VmState::Destroying);
            vm.state == VmState::Destroyed || (is_at_rest && ApiState::from(vm.state) == state)
        }
    };
    let vm = app.wait_vm(id, longest, is_there).await?;
    vm.map(|vm| view(app, vm)).ok_or_else(|| unknown(id))
}

/// Asks for the end of a VM, or of a cached one's run, and waits a while for it. One that is over is left as it is.
pub(crate) async fn stop(app: &App, caller: &Caller, id: &VmId) -> Result<(), ApiError> {
    // The placement may move on between reading and writing; then the record is read again.
    const TRIES: u32 = 5;
    for _ in 0..TRIES {
        let vm = find(app, caller, id).await?;
        if !matches!(vm.state, VmState::Created | VmState::Started) {
            break;
        }
        let facts = Facts::exit(Exit::only(ExitReason::Stopped));
        if app.apply(id, vm.generation, VmEvent::StopAsked, facts).await?.is_some() {
            break;
        }
    }
    app.wait_vm(id, STOP_WAIT, |vm| matches!(vm.state, VmState::Stopped | VmState::Destroyed)).await?;
    Ok(())
}

/// A VM that exists for the caller.
pub(crate) async fn find(app: &App, caller: &Caller, id: &VmId) -> Result<Vm, ApiError> {
    let vm = app.store.vm(&caller.account, id).await?.filter(|vm| caller.sees(vm.tenant.as_deref()));
    vm.ok_or_else(|| unknown(id))
}

/// That there is no such VM.
pub(crate) fn unknown(id: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::UnknownVm, format!("There is no VM {id}."))
}

async fn image_of(app: &App, caller: &Caller, id: &str) -> Result<Image, ApiError> {
    let unknown = || ApiError::field(ErrorCode::UnknownImage, "imageId", "There is no image with this id.");
    let id: ImageId = id.parse().map_err(|_| unknown())?;
    let image = app.store.image(&caller.account, &id).await?;
    image.filter(|image| caller.sees(image.tenant.as_deref())).ok_or_else(unknown)
}

/// Whether a sandbox that was made ahead is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// The host is asked for one.
    Asked,
    /// The VM has its sandbox made in its own time.
    Unasked,
}

/// The record of a VM that a request describes, checked.
pub(super) async fn describe(app: &App, caller: &Caller, request: StartVm, ahead: Ahead) -> Result<NewVm, ApiError> {
    let image_id = request.image_id.clone();
    let (new, env) = check(app, caller, request)?;
    let image = image_of(app, caller, &image_id).await?;
    if image.state == ImageState::Failed {
        let why = image.error.map(|error| error.message).unwrap_or_default();
        return Err(ApiError::new(ErrorCode::ImageFailed, format!("The image {image_id} failed: {why}")));
    }
    let spec = VmSpec { image_digest: image.digest, ..new.spec };
    let spare = match ahead {
        Ahead::Asked => {
            let claim =
                ClaimSpare { scope: caller.account.to_string(), spec: VmSpec { env: env.clone(), ..spec.clone() } };
            // A host that can't be asked says so when the VM is placed.
            app.host.claim_spare(&claim).await.unwrap_or_default()
        }
        Ahead::Unasked => None,
    };
    let id = spare.unwrap_or(new.id);
    let sealed = serde_json::to_vec(&env).expect("a map of strings is plain data");
    Ok(NewVm { image: image.id, spec, env: app.sealer.seal(&env_place(&id), &sealed), id, ..new })
}

/// The same with the image still to be found, and its environment to be sealed.
fn check(app: &App, caller: &Caller, request: StartVm) -> Result<(NewVm, BTreeMap<String, String>), ApiError> {
    let within = validate::number::<u32>;
    let whole = |field, value: Option<i64>, range| value.map(|value| within(field, value, range)).transpose();
    let cpu = whole("cpu", request.cpu, limit::CPU_MIN..=limit::CPU_MAX)?;
    let memory = whole("memory", request.memory, limit::MEMORY_MIN_MIB..=limit::MEMORY_MAX_MIB)?;
    let volume_gb = whole("volumeGB", request.volume_gb, limit::VOLUME_MIN_GB..=limit::VOLUME_MAX_GB)?;
    let port = request.port.map(|port| validate::number("port", port, 1..=u16::MAX)).transpose()?;
    let timeout_max = u32::try_from(limit::TIMEOUT_MAX_SECS).unwrap_or(u32::MAX);
    let timeout_secs = whole("timeoutSeconds", request.timeout_seconds, 1..=timeout_max)?;
    let env = validate::env(request.env_vars.unwrap_or_default())?;
    let command = request.command.map(validate::command).transpose()?;
    let metadata = validate::metadata(request.metadata.unwrap_or_default())?;
    let tenant = caller.tenant_of(request.tenant.map(validate::tenant).transpose()?)?;

    let now_ms = now_ms();
    let mut rng = rand::rng();
    let new = NewVm {
        id: VmId::mint(&mut rng),
        account: caller.account.clone(),
        tenant,
        image: ImageId::mint(0, &mut rng),
        label: HostLabel::mint(now_ms, &mut rng),
        spec: VmSpec {
            image_digest: String::new(),
            cpu: cpu.unwrap_or(limit::CPU_MIN),
            memory_mib: memory.unwrap_or(limit::MEMORY_MIN_MIB),
            disk_mib: app.config.vm_disk_mib,
            volume_gb,
            port,
            env: BTreeMap::new(),
            command,
            stop_grace_ms: limit::STOP_GRACE_DEFAULT_MS,
        },
        env: Vec::new(),
        metadata,
        timeout_ms: timeout_secs.map(|secs| u64::from(secs) * 1000),
        deadline_ms: now_ms + app.config.start_timeout_secs * 1000 + START_MARGIN_MS,
        due_ms: now_ms + START_LEASE_MS,
        now_ms,
        cached: None,
    };
    Ok((new, env))
}

pub(super) fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Full { shortage, free } => {
            let (memory, cpu, disk) = (free.memory_mib, free.cpu_milli / 1000, free.disk_mib);
            let detail =
                format!("Not enough {shortage}: {memory} MB of memory, {cpu} CPUs, {disk} MB of disk are free.");
            ApiError::new(ErrorCode::HostFull, detail).retry_after(10)
        }
        Refusal::Draining => ApiError::new(ErrorCode::HostDraining, "The host is draining.").retry_after(30),
        Refusal::Problem(problem) => problem.into(),
        Refusal::Unsupported { reason } => ApiError::new(ErrorCode::IsolationUnavailable, reason).retry_after(60),
    }
}

/// The API's words for a VM.
pub(super) fn view(app: &App, vm: Vm) -> ApiVm {
    let hostname = format!("{}.{}", vm.label, app.config.base_domain);
    let url = vm.spec.port.map(|_| app.config.url_of(&hostname));
    let cached = vm.cached.as_ref();
    ApiVm {
        start: vm.start.clone().map(Into::into),
        sleep: cached.and_then(|cached| cached.sleep).map(Into::into),
        idle_timeout_seconds: cached.and_then(|cached| cached.idle_timeout_ms).map(|ms| ms / 1000),
        auto_start: cached.map(|cached| cached.auto_start),
        prewarm: cached.map(|cached| cached.prewarm.into()),
        id: vm.id.to_string(),
        cpu: vm.spec.cpu,
        memory: vm.spec.memory_mib,
        image_id: vm.image.to_string(),
        state: vm.state.into(),
        port: vm.spec.port,
        volume_gb: vm.spec.volume_gb,
        isolation: vm.isolation,
        url,
        hostname,
        exit: vm.exit.map(Into::into),
        metadata: vm.metadata,
        tenant: vm.tenant,
        timeout_seconds: vm.timeout_ms.map(|ms| ms / 1000),
        created_at: rfc3339(vm.created_ms),
        updated_at: rfc3339(vm.updated_ms),
    }
}
