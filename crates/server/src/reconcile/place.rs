//! Placing a VM: the host is recorded before it is asked, and only the host itself admits.
//!
//! The call is made again as often as it takes: on one (VM, generation) it is idempotent. Only an answer that nothing
//! was taken lets the next host be asked. A cached VM is placed once to be held, and again for each of its runs, then on
//! the host that holds it.

use std::time::Duration;

use cakework_core::admission::{Amounts, Shortage, admit};
use cakework_core::cached::CachedSpec;
use cakework_core::id::{HostId, VmId};
use cakework_core::lifecycle::VmState;
use cakework_core::placement::{HostView, candidates};
use cakework_wire::host::{AgentProblem, HostStatus, ProblemCode, PutCached, PutVm, PutVmAnswer, Reply, VmObservation};

use super::observe::said;
use super::{START_MARGIN_MS, env_place};
use crate::app::App;
use crate::clock::now_ms;
use crate::host::HostError;
use crate::store::vm_changes::Taken;
use crate::store::vms::Vm;

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Placed {
    /// A host has it; the record as it is now.
    Taken(Box<Vm>),
    /// A host may have it or not: to be tried again.
    Unsure(String),
    /// No host has it, and none takes it now.
    Refused(Refusal),
    /// The record moved on meanwhile.
    Elsewhere,
}

/// Why no host takes a VM.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// There is too little of something.
    Full { shortage: Shortage, free: Amounts },
    /// Hosts take no new VMs.
    Draining,
    /// Hosts can't give what the VM needs.
    Unsupported { reason: String },
    /// The host failed to take it.
    Problem(AgentProblem),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full { shortage, .. } => write!(f, "the host has not enough {shortage}"),
            Self::Draining => f.write_str("the host takes no new VMs"),
            Self::Unsupported { reason } => f.write_str(reason),
            Self::Problem(problem) => f.write_str(&problem.message),
        }
    }
}

/// Places a VM that is wanted and that no host has confirmed. The host's answer may wait for it to run, for as long as
/// `wait`.
pub(crate) async fn place(app: &App, id: &VmId, wait: Duration) -> anyhow::Result<Placed> {
    match app.store.any_vm(id).await? {
        Some(vm) => place_vm(app, vm, wait).await,
        None => Ok(Placed::Elsewhere),
    }
}

/// The same for a VM whose record was just read.
pub(crate) async fn place_vm(app: &App, mut vm: Vm, wait: Duration) -> anyhow::Result<Placed> {
    let is_wanted = vm.state == VmState::Created || (vm.state == VmState::Stopped && vm.cached.is_some());
    if !is_wanted || vm.incarnation.is_some() {
        return Ok(Placed::Elsewhere);
    }
    if image_is_on_its_way(app, &vm).await {
        return Ok(Placed::Unsure("the host was not asked for the image yet".to_owned()));
    }
    // A host that was asked before may have it: nobody else is asked until that host has answered.
    let (hosts, isolation) = match (&vm.host, vm.isolation) {
        (Some(host), Some(isolation)) => (vec![host.clone()], Some(isolation)),
        (host, _) => {
            let status = match app.host.status().await {
                Ok(status) => status,
                Err(error) => return Ok(Placed::Unsure(error.to_string())),
            };
            if app.store.incarnation(&status.host_id).await?.is_none() {
                app.store.insert_host(&status.host_id, &status.incarnation, now_ms()).await?;
            }
            let hosts = match host {
                Some(host) => vec![host.clone()],
                None => match choose(&vm, &status) {
                    Ok(hosts) => hosts,
                    Err(refusal) => return Ok(Placed::Refused(refusal)),
                },
            };
            (hosts, status.body.isolation)
        }
    };
    let mut last = Refusal::Draining;
    for host in hosts {
        if vm.host.as_ref() != Some(&host) {
            if !app.store.place(&vm, &host).await? {
                return Ok(Placed::Elsewhere);
            }
            vm.generation = vm.generation.next();
            vm.host = Some(host.clone());
        }
        let reply = match app.host.put_vm(&host, &vm.id, &wish(app, &vm, wait)?).await {
            Ok(reply) => reply,
            Err(HostError::Problem(problem)) => {
                last = Refusal::Problem(problem);
                continue;
            }
            Err(HostError::Away(why)) => return Ok(Placed::Unsure(why)),
        };
        last = match reply.body {
            PutVmAnswer::Admitted { now } | PutVmAnswer::Already { now } => {
                let (id, generation, incarnation) = (&vm.id, vm.generation, &reply.incarnation);
                let taken = Taken { id, generation, host: &host, incarnation, isolation };
                return confirm(app, &taken, now).await;
            }
            PutVmAnswer::StaleGeneration { highest } => {
                let message = format!("the host knows the VM's placement {highest} already");
                Refusal::Problem(AgentProblem { code: ProblemCode::Internal, message })
            }
            PutVmAnswer::NoCapacity { shortage, free } => Refusal::Full { shortage, free },
            PutVmAnswer::Draining => Refusal::Draining,
            PutVmAnswer::Unsupported { reason } => Refusal::Unsupported { reason },
        };
    }
    Ok(Placed::Refused(last))
}

/// Whether the host does not know the VM's image because the record's wish for it has not reached the host.
async fn image_is_on_its_way(app: &App, vm: &Vm) -> bool {
    if !vm.image_arrives {
        return false;
    }
    let unknown = match app.host.image(&vm.spec.image_digest).await {
        Ok(_) => false,
        Err(HostError::Problem(problem)) => problem.code == ProblemCode::Unknown,
        Err(HostError::Away(_)) => true,
    };
    if unknown {
        app.pokes.images.notify_one();
    }
    unknown
}

/// Records that the host has the VM, and where it is if the host said so. A life of the host that the watch has not seen
/// yet can't be recorded: the VM is asked for again when it has.
async fn confirm(app: &App, taken: &Taken<'_>, now: Option<VmObservation>) -> anyhow::Result<Placed> {
    if let Some(vm) = app.confirm(taken, now.as_ref().and_then(said)).await? {
        return Ok(Placed::Taken(Box::new(vm)));
    }
    let now = app.store.any_vm(taken.id).await?;
    let waits = now.is_some_and(|now| {
        matches!(now.state, VmState::Created | VmState::Stopped)
            && now.generation == taken.generation
            && now.incarnation.is_none()
    });
    Ok(if waits { Placed::Unsure("the host has just restarted".to_owned()) } else { Placed::Elsewhere })
}

/// The hosts to ask, or why none of them would take the VM.
fn choose(vm: &Vm, status: &Reply<HostStatus>) -> Result<Vec<HostId>, Refusal> {
    let HostStatus { isolation, refusal, capacity, reserved, draining, .. } = status.body.clone();
    let view = HostView { host_id: status.host_id.clone(), isolation, capacity, reserved, draining };
    let demand = vm.spec.demand();
    let hosts = candidates(demand, &[view], &mut rand::rng());
    if !hosts.is_empty() {
        return Ok(hosts);
    }
    if isolation.is_none() {
        let reason = refusal.unwrap_or_else(|| "the host does not say why it refuses VMs".to_owned());
        return Err(Refusal::Unsupported { reason });
    }
    if draining {
        return Err(Refusal::Draining);
    }
    let shortage = admit(capacity, reserved, demand).err().unwrap_or(Shortage::Slots);
    Err(Refusal::Full { shortage, free: capacity.minus(reserved) })
}

/// What the host is told.
fn wish(app: &App, vm: &Vm, wait: Duration) -> anyhow::Result<PutVm> {
    let mut spec = vm.spec.clone();
    if let Some(sealed) = &vm.env {
        spec.env = serde_json::from_slice(&app.sealer.open_sealed(&env_place(&vm.id), sealed)?)?;
    }
    let start_remaining_ms = match vm.deadline_ms {
        Some(deadline_ms) => deadline_ms.saturating_sub(START_MARGIN_MS).saturating_sub(now_ms()),
        None => app.config.start_timeout_secs * 1000,
    };
    let cached = vm
        .cached
        .as_ref()
        .map(|cached| PutCached { spec: CachedSpec { prewarm: cached.prewarm }, run: vm.state == VmState::Created });
    let wait_ms = wait.as_millis() as u64;
    let scope = vm.account.to_string();
    Ok(PutVm { generation: vm.generation, scope, spec, timeout_ms: vm.timeout_ms, start_remaining_ms, wait_ms, cached })
}
