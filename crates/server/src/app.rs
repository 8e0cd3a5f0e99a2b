//! What every request and reconciler shares. It holds no truth: all of that is in the store.

use std::sync::Arc;
use std::time::Duration;

use cakework_core::build::{BuildEvent, BuildState};
use cakework_core::id::{BuildId, Generation, HostLabel, VmId};
use cakework_core::lifecycle::{VmEvent, VmState};
use cakework_edge::{Route, RouteTable, Target};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::now_ms;
use crate::config::ServerConfig;
use crate::contexts::Contexts;
use crate::host::HostClient;
use crate::metrics::Metrics;
use crate::ops::builds::plan::{Planner, needs_of};
use crate::places::Places;
use crate::rates::Rates;
use crate::reconcile::webhooks_send::Courier;
use crate::routes::upload::Uploads;
use crate::seal::Sealer;
use crate::store::build_changes::BuildFacts;
use crate::store::vm_changes::{Facts, Taken};
use crate::store::vms::Vm;
use crate::store::{Store, StoreError};
use crate::turns::Turns;

/// Requests that are served at once.
pub(crate) const REQUESTS_MAX: usize = 1024;
/// Who follows a log at once, in all and of one account.
const FOLLOWERS_MAX: usize = 256;
const FOLLOWERS_OF_ACCOUNT_MAX: usize = 32;
/// Commands in VMs at once, in all and of one account.
const EXECS_MAX: usize = 1024;
const EXECS_OF_ACCOUNT_MAX: usize = 256;

/// Shared by all.
pub(crate) type Shared = Arc<App>;

/// The parts of the api role.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) store: Store,
    pub(crate) sealer: Sealer,
    pub(crate) host: HostClient,
    /// The way to the builders' webhook endpoints.
    pub(crate) courier: Courier,
    /// Time that a start call waits for its VM to run before it answers `created`.
    pub(crate) start_wait: Duration,
    pub(crate) requests: Semaphore,
    pub(crate) rates: Rates,
    pub(crate) uploads: Uploads,
    pub(crate) contexts: Contexts,
    /// Reads which images a Dockerfile needs.
    pub(crate) planner: Planner,
    pub(crate) followers: Places,
    pub(crate) execs: Places,
    /// Who asks a host to wake a VM.
    pub(crate) waking: Turns,
    /// What goes on without anybody who waits for it.
    pub(crate) tasks: TaskTracker,
    /// The process ends: whoever follows something is let go.
    pub(crate) closing: CancellationToken,
    /// What the edge knows: filled from the store, and only from there.
    pub(crate) routes: RouteTable,
    pub(crate) pokes: Pokes,
    pub(crate) metrics: Metrics,
    /// Grows when VMs changed: a hint to read again.
    pub(crate) changes: watch::Sender<u64>,
}

/// Hints that there is work; each reconciler also looks by itself.
#[derive(Default)]
pub(crate) struct Pokes {
    pub(crate) vms: Notify,
    pub(crate) images: Notify,
    pub(crate) builds: Notify,
    pub(crate) follow: Notify,
    pub(crate) webhooks: Notify,
}

impl App {
    pub(crate) fn new(
        config: ServerConfig,
        store: Store,
        sealer: Sealer,
        start_wait: Duration,
    ) -> anyhow::Result<Shared> {
        let host = HostClient::new(&config.agent_socket)?;
        let contexts = Contexts::open(&config.dir)?;
        let courier = Courier::new(&config.webhook_allow, config.webhook_ca_file.as_deref())?;
        Ok(Arc::new(Self {
            rates: Rates::new(config.rates),
            config,
            store,
            sealer,
            host,
            courier,
            start_wait,
            routes: RouteTable::new(),
            requests: Semaphore::new(REQUESTS_MAX),
            uploads: Uploads::default(),
            contexts,
            planner: needs_of,
            followers: Places::new(FOLLOWERS_MAX, FOLLOWERS_OF_ACCOUNT_MAX),
            execs: Places::new(EXECS_MAX, EXECS_OF_ACCOUNT_MAX),
            waking: Turns::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            pokes: Pokes::default(),
            metrics: Metrics::new(),
            changes: watch::Sender::new(0),
        }))
    }

    /// Applies an event to a VM and wakes who waits for the change. See [`Store::apply`].
    pub(crate) async fn apply(
        &self,
        id: &VmId,
        generation: Generation,
        event: VmEvent,
        facts: Facts,
    ) -> Result<Option<Vm>, StoreError> {
        let changed = self.store.apply(id, generation, event, &facts, now_ms()).await?;
        if let Some(vm) = &changed {
            self.tell(vm);
        }
        Ok(changed)
    }

    /// Records that a host has a VM and what it said of it, and wakes who waits for the change. See [`Store::confirm`].
    pub(crate) async fn confirm(
        &self,
        taken: &Taken<'_>,
        said: Option<(VmEvent, Facts)>,
    ) -> Result<Option<Vm>, StoreError> {
        let Some((vm, changed)) = self.store.confirm(taken, said, now_ms()).await? else { return Ok(None) };
        if changed {
            self.tell(&vm);
        }
        Ok(Some(vm))
    }

    /// Wakes who works on a VM's new state, and counts how a cached one came to run.
    fn tell(&self, vm: &Vm) {
        if let (VmState::Started, Some(start)) = (vm.state, &vm.start) {
            self.metrics.started(start);
        }
        tracing::info!(vm = %vm.id, state = vm.state.as_str(), "vm");
        self.pokes.follow.notify_one();
        self.pokes.webhooks.notify_one();
        // What stands still may have to be held anew.
        if matches!(vm.state, VmState::Stopping | VmState::Stopped | VmState::Destroying) {
            self.pokes.vms.notify_one();
        }
    }

    /// Applies an event to a build. See [`Store::apply_build`].
    pub(crate) async fn apply_build(
        &self,
        id: &BuildId,
        generation: Generation,
        event: BuildEvent,
        facts: BuildFacts,
    ) -> Result<Option<BuildState>, StoreError> {
        let next = self.store.apply_build(id, generation, event, &facts, now_ms()).await?;
        if let Some(state) = next {
            let code = facts.problem.map(|problem| problem.code.as_str());
            tracing::info!(build = %id, state = state.as_str(), code, "build");
            if state.is_over() {
                self.metrics.build_ended(state);
                self.contexts.remove(id).await;
                // The next one may have its turn, and the host may have to be told.
                self.pokes.builds.notify_one();
                self.pokes.webhooks.notify_one();
            }
        }
        Ok(next)
    }

    /// Forgets a hostname that nobody was told, also where the follower is about to apply its route.
    pub(crate) fn forget_route(&self, id: &VmId, label: &HostLabel) {
        let (generation, seq) = (Generation(u64::MAX), u64::MAX);
        self.routes.apply(label.clone(), Route { vm_id: id.clone(), generation, seq, target: Target::Stopped });
        self.routes.remove(label, seq);
    }

    /// Reads a VM until `done` says so, its record is gone, or the time is up; answers the last reading.
    pub(crate) async fn wait_vm(
        &self,
        id: &VmId,
        longest: Duration,
        done: impl Fn(&Vm) -> bool,
    ) -> Result<Option<Vm>, StoreError> {
        let end = Instant::now() + longest;
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let vm = self.store.any_vm(id).await?;
            if vm.as_ref().is_none_or(&done) || timeout_at(end, changes.changed()).await.is_err() {
                return Ok(vm);
            }
        }
    }
}
