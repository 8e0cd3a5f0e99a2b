//! The one way by which a cached VM comes to run: for its owner, for requests to its hostname, for what is to run in it.
//!
//! Whoever comes while a start goes on joins it: the record decides who begins it, the host wakes once.

use std::sync::Arc;
use std::time::Duration;

use cakework_core::id::VmId;
use cakework_core::lifecycle::{Exit, ExitReason, VmEvent, VmState};
use cakework_edge::{WakeFailure, Waker, Waking};
use cakework_wire::host::{ProblemCode, VmObservation};
use tokio::time::Instant;

use crate::app::{App, Shared};
use crate::clock::now_ms;
use crate::host::HostError;
use crate::ops::vms::{PLACE_PAUSE, START_LEASE_MS, place_by};
use crate::reconcile::START_MARGIN_MS;
use crate::reconcile::follow::lead;
use crate::reconcile::observe::observe;
use crate::reconcile::place::{Placed, Refusal};
use crate::store::StoreError;
use crate::store::vm_changes::{Begin, Facts};
use crate::store::vms::Vm;

/// Longest time of a wake for requests: the edge holds none for longer.
const WAKE_LONGEST: Duration = Duration::from_secs(30);

/// Who wants it to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Its owner, by the API.
    Owner,
    /// A request to its hostname.
    Request,
}

/// Why it does not run.
#[derive(Debug)]
pub(crate) enum NotRun {
    /// It runs once.
    NotCached,
    /// Its owner does not want requests to start it.
    NotByRequests,
    /// Its run is ending.
    Stopping,
    /// It is over, or about to be.
    Over,
    /// No host takes it.
    Refused(Refusal),
    /// Its run is over already.
    Ended(Option<Exit>),
    /// It goes on starting.
    Late,
    /// The store failed, or something else did that nobody waits for.
    Broken(anyhow::Error),
}

impl From<StoreError> for NotRun {
    fn from(error: StoreError) -> Self {
        Self::Broken(error.into())
    }
}

/// Makes a cached VM run, within `longest`; answers it as it runs. Its record was just read.
pub(crate) async fn run(app: &App, mut vm: Vm, by: By, longest: Duration) -> Result<Vm, NotRun> {
    let end = Instant::now() + longest;
    let id = vm.id.clone();
    let mut begun = false;
    loop {
        let cached = vm.cached.as_ref().ok_or(NotRun::NotCached)?;
        if by == By::Request && !cached.auto_start {
            return Err(NotRun::NotByRequests);
        }
        let state = vm.state;
        match state {
            VmState::Started if vm.is_awake() => {
                lead(app, &vm);
                return Ok(vm);
            }
            VmState::Started => wake_up(app, &id).await?,
            VmState::Stopped if begun => return Err(NotRun::Ended(vm.exit)),
            VmState::Stopped => {
                let seen_ms = vm.updated_ms;
                match start(app, &vm, end).await? {
                    Began::Placed(placed) => (vm, begun) = (*placed, true),
                    Began::Recorded => (vm, begun) = (read(app, &id).await?, true),
                    Began::Not => {
                        vm = read(app, &id).await?;
                        // One that was only held anew meanwhile stands still as before, under another generation; any
                        // other change is a run that somebody else began, and this joins it.
                        begun = vm.updated_ms != seen_ms;
                    }
                }
                if begun || Instant::now() < end {
                    continue;
                }
            }
            VmState::Created => begun = true,
            VmState::Stopping if by == By::Owner => return Err(NotRun::Stopping),
            VmState::Stopping => {}
            VmState::Destroying | VmState::Destroyed => return Err(NotRun::Over),
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NotRun::Late);
        }
        if matches!(state, VmState::Created | VmState::Stopping) {
            app.wait_vm(&id, left, |vm| vm.state != state).await?;
        }
        vm = read(app, &id).await?;
    }
}

async fn read(app: &App, id: &VmId) -> Result<Vm, NotRun> {
    app.store.any_vm(id).await?.ok_or(NotRun::Over)
}

/// What became of the attempt to begin a run.
enum Began {
    /// The host has it: the record as its answer left it.
    Placed(Box<Vm>),
    /// It is on record, and goes on from there.
    Recorded,
    /// The record has changed since it was read.
    Not,
}

/// Begins a run: one transaction before the host is asked, and one after, by its answer.
async fn start(app: &App, vm: &Vm, end: Instant) -> Result<Began, NotRun> {
    let now_ms = now_ms();
    let deadline_ms = now_ms + app.config.start_timeout_secs * 1000 + START_MARGIN_MS;
    let begin = Some(Begin { deadline_ms, due_ms: now_ms + START_LEASE_MS });
    let facts = Facts { begin, ..Facts::default() };
    let Some(vm) = app.apply(&vm.id, vm.generation, VmEvent::StartAsked, facts).await? else { return Ok(Began::Not) };
    let id = vm.id.clone();
    match place_by(app, vm, end).await {
        Ok(Placed::Taken(vm)) => Ok(Began::Placed(vm)),
        Ok(Placed::Elsewhere) => Ok(Began::Recorded),
        Ok(Placed::Unsure(why)) => {
            tracing::warn!(vm = %id, why, "the VM's placement is unsure");
            app.store.due_at(&id, crate::clock::now_ms()).await?;
            app.pokes.vms.notify_one();
            Ok(Began::Recorded)
        }
        Ok(Placed::Refused(refusal)) => {
            // The placement may have been counted up by the attempt.
            if let Some(vm) = app.store.any_vm(&id).await? {
                let facts = Facts::exit(Exit::start_failed(refusal.to_string()));
                app.apply(&vm.id, vm.generation, VmEvent::Refused, facts).await?;
            }
            Err(NotRun::Refused(refusal))
        }
        // The record stands: the reconciler places it.
        Err(error) => Err(NotRun::Broken(error)),
    }
}

/// Asks a sleeping VM's host to let it go on; whoever comes meanwhile finds it awake.
async fn wake_up(app: &App, id: &VmId) -> Result<(), NotRun> {
    let turn = app.waking.of(id);
    let _turn = turn.lock().await;
    let is_asleep = |vm: &Vm| vm.state == VmState::Started && !vm.is_awake();
    let Some(vm) = app.store.any_vm(id).await?.filter(is_asleep) else { return Ok(()) };
    let Some(host) = &vm.host else {
        return Err(NotRun::Broken(anyhow::anyhow!("the started VM {} has no host", vm.id)));
    };
    let slept = vm.cached.as_ref().and_then(|cached| cached.sleep);
    let begin = Instant::now();
    match app.host.wake_vm(host, &vm.id, vm.generation).await {
        Ok(reply) if reply.body.generation == vm.generation && vm.incarnation.as_ref() == Some(&reply.incarnation) => {
            observe(app, &vm, &reply.body).await?;
            if let (Some(from), VmObservation::Running { .. }) = (slept, &reply.body.observation) {
                app.metrics.woke(from, begin.elapsed());
            }
        }
        Ok(_) => tracing::warn!(vm = %vm.id, "the host has woken another life of the VM"),
        Err(HostError::Problem(problem)) if problem.code == ProblemCode::Unknown => {
            tracing::error!(vm = %vm.id, "the host does not know a VM that sleeps there");
            let facts = Facts { is_lost: true, ..Facts::exit(Exit::only(ExitReason::Unknown)) };
            app.apply(&vm.id, vm.generation, VmEvent::HostStopped, facts).await?;
        }
        Err(error) => tracing::warn!(vm = %vm.id, error = %error, "the VM could not be woken"),
    }
    if app.store.any_vm(id).await?.is_some_and(|now| is_asleep(&now)) {
        tokio::time::sleep(PLACE_PAUSE).await;
    }
    Ok(())
}

/// Wakes a VM that a request is open to, whoever put it to sleep.
pub(crate) async fn wake(app: Shared, id: VmId) {
    if let Err(why) = for_request(&app, &id).await {
        tracing::debug!(vm = %id, ?why, "the VM was not woken");
    }
}

async fn for_request(app: &App, id: &VmId) -> Result<Vm, NotRun> {
    run(app, read(app, id).await?, By::Request, WAKE_LONGEST).await
}

/// Wakes VMs for the edge.
pub(crate) struct Wakes(pub(crate) Shared);

impl Waker for Wakes {
    fn wake(&self, vm_id: &VmId) -> Waking {
        let (app, id) = (Arc::clone(&self.0), vm_id.clone());
        Box::pin(async move {
            let woken = match for_request(&app, &id).await {
                Ok(_) => Ok(()),
                Err(NotRun::NotCached | NotRun::NotByRequests | NotRun::Stopping | NotRun::Over) => {
                    Err(WakeFailure::Stopped)
                }
                Err(NotRun::Refused(Refusal::Full { .. } | Refusal::Draining)) => Err(WakeFailure::NoRoom),
                Err(NotRun::Refused(_) | NotRun::Ended(_) | NotRun::Late) => Err(WakeFailure::Failed),
                Err(NotRun::Broken(error)) => {
                    tracing::error!(vm = %id, error = ?error, "a VM was not woken");
                    Err(WakeFailure::Failed)
                }
            };
            app.metrics.woken_for_requests(woken);
            woken
        })
    }
}
