//! All VMs of the host: who may come, who is here, and what was promised.
//!
//! Invariants: of each VM the highest placement ever seen is on disk, and no lower one is taken; what was promised never
//! exceeds the capacity; an answer is given only once what it says is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cakework_core::admission::{Amounts, Shortage, admit};
use cakework_core::id::{Generation, VmId};
use cakework_wire::host::{
    AgentProblem, ProblemCode, PutVm, PutVmAnswer, SleepAnswer, SleepVm, VmObservation, VmReport, WAKE_WAIT_MAX_MS,
    WakeVm,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::dir::VmDir;
use super::driver::{Driver, Parts};
use super::kept::{AnyRecord, Restored, write_assignment, write_down};
use super::live::{Live, Way, demand, demand_of, resting};
use super::record::{Ask, Assignment, Record, Tombstone};
use super::spares::Spares;
use super::unsupported::unsupported;
use crate::cached::{self, Command, Handle, Wish};
use crate::net::Slot;
use crate::sys::file::{self, Survives};

/// How long a new placement waits for the end of the one before.
const REPLACE_WAIT: Duration = Duration::from_secs(20);
/// Commands that wait for one cached VM's driver.
const COMMANDS_MAX: usize = 256;
/// Longest time that a placement's answer waits for a cached VM's run, in milliseconds.
const RUN_WAIT_MAX_MS: u64 = 10_000;

/// The VMs of this host. Clones share them.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parts: Arc<Parts>,
    cached: Arc<cached::Shared>,
    dir: PathBuf,
    capacity: Amounts,
    slots: u16,
    /// Why no VM is started, where that is so.
    refusal: Option<String>,
    /// One admission at a time, held while it is written to disk; only taken on blocking threads.
    admission: Mutex<()>,
    state: Mutex<State>,
    drivers: TaskTracker,
    spares: Spares,
}

#[derive(Debug, Default)]
struct State {
    vms: BTreeMap<VmId, Entry>,
    /// What is held by something beside VMs, by the name of its sandbox.
    shares: BTreeMap<VmId, (Amounts, Slot)>,
    last_slot: u16,
    draining: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    highest: Generation,
    /// The highest placement is refused, not held.
    buried: bool,
    live: Option<Live>,
}

/// A share of the host for a sandbox that is no VM's; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    inner: Arc<Inner>,
    sandbox: VmId,
    slot: Slot,
}

impl Share {
    /// The sandbox's place on the host.
    pub const fn slot(&self) -> Slot {
        self.slot
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.inner.state().shares.remove(&self.sandbox);
    }
}

enum Admission {
    Answer(PutVmAnswer),
    /// An earlier placement has to end first.
    Occupied(Live),
}

impl Registry {
    /// A registry without VMs.
    pub fn new(
        parts: Arc<Parts>,
        cached: Arc<cached::Shared>,
        dir: PathBuf,
        capacity: Amounts,
        refusal: Option<String>,
        draining: bool,
    ) -> Self {
        let slots = u16::try_from(capacity.slots).unwrap_or(u16::MAX - 1).min(u16::MAX - 1);
        Self {
            inner: Arc::new(Inner {
                parts,
                cached,
                dir,
                capacity,
                slots,
                refusal,
                admission: Mutex::default(),
                state: Mutex::new(State { draining, ..State::default() }),
                drivers: TaskTracker::new(),
                spares: Spares::default(),
            }),
        }
    }

    /// What the host has, and what of it is promised.
    pub fn amounts(&self) -> (Amounts, Amounts) {
        (self.inner.capacity, self.inner.state().reserved())
    }

    /// Why no VM is started, where that is so.
    pub fn refusal(&self) -> Option<String> {
        self.inner.refusal.clone()
    }

    /// Whether new VMs are refused.
    pub fn draining(&self) -> bool {
        self.inner.state().draining
    }

    /// Starts or ends draining; the caller has written it down.
    pub fn set_draining(&self, draining: bool) {
        self.inner.state().draining = draining;
        self.look_at_spares();
    }

    /// What all VMs share.
    pub fn parts(&self) -> &Arc<Parts> {
        &self.inner.parts
    }

    /// What its cached VMs, and all that waits, share.
    pub(super) fn cached(&self) -> &cached::Shared {
        &self.inner.cached
    }

    /// The sandboxes that were made ahead.
    pub(super) fn spares(&self) -> &Spares {
        &self.inner.spares
    }

    /// Lets something run that the agent's end waits for.
    pub(super) fn track(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.inner.drivers.spawn(work);
    }

    /// Where a VM's files are.
    pub fn dir_of(&self, vm: &VmId) -> VmDir {
        self.inner.vm_dir(vm)
    }

    /// Where a VM's log is; `None` where the host never had the VM.
    pub fn logs(&self, vm: &VmId) -> Option<PathBuf> {
        self.inner.state().vms.contains_key(vm).then(|| self.inner.vm_dir(vm).logs())
    }

    /// Takes up a VM that is on disk, and goes on with it where it is not over.
    pub fn restore(&self, vm: VmId, files: Restored) {
        let dir = self.inner.vm_dir(&vm);
        let Restored { held, tombstone, ask } = files;
        let buried = tombstone.map(|tombstone| tombstone.generation);
        let generation = held.as_ref().map(|(assignment, _)| assignment.generation);
        let Some(highest) = generation.max(buried) else { return };
        let (assignment, record) = held.unzip();
        let live = assignment.filter(|_| record.as_ref().is_some_and(|record| !record.is_over()));
        let entry = Entry {
            highest,
            buried: buried == Some(highest) && generation != buried,
            live: live.as_ref().zip(record.as_ref()).map(|(assignment, record)| match record {
                AnyRecord::Once(_) => Live::once(assignment, ask),
                AnyRecord::Cached(record) => {
                    let wish = Wish { assignment: assignment.clone(), highest, ask, heard: Instant::now() };
                    let rests = record.stage.rests() && record.generation >= assignment.generation;
                    Live { rests, ..Live::cached(assignment, wish) }
                }
            }),
        };
        match (&record, tombstone) {
            (_, Some(tombstone)) if entry.buried && live.is_none() => self.inner.parts.board.vm(tombstone.report(&vm)),
            (Some(record), _) => self.inner.parts.board.vm(record.report(&vm)),
            (None, _) => {}
        }
        self.inner.state().vms.insert(vm.clone(), entry);
        match live.zip(record) {
            Some((assignment, AnyRecord::Once(record))) => {
                let asks = self.asks_of(&vm);
                let parts = Arc::clone(&self.inner.parts);
                self.run(vm.clone(), Driver::new(parts, vm, dir, assignment, record, asks, true));
            }
            Some((_, AnyRecord::Cached(record))) => self.drive_cached(vm, dir, record, true),
            None => {}
        }
    }

    /// The VMs, and the sandboxes beside them, that hold something of this host.
    pub fn live(&self) -> BTreeSet<VmId> {
        let state = self.inner.state();
        let vms = state.vms.iter().filter(|(_, entry)| entry.live.is_some()).map(|(vm, _)| vm);
        vms.chain(state.shares.keys()).cloned().collect()
    }

    /// Reserves a share of the host, by the same rule and from the same capacity as VMs. Blocks.
    ///
    /// # Errors
    /// What is missing, and what could still be promised.
    pub fn reserve(&self, sandbox: VmId, demand: Amounts) -> Result<Share, (Shortage, Amounts)> {
        let _one = self.inner.admission.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.inner.state();
        let free = self.inner.capacity.minus(state.reserved());
        admit(self.inner.capacity, state.reserved(), demand).map_err(|shortage| (shortage, free))?;
        let slot = state.free_slot(self.inner.slots).ok_or((Shortage::Slots, free))?;
        state.last_slot = slot.0;
        state.shares.insert(sandbox.clone(), (demand, slot));
        Ok(Share { inner: Arc::clone(&self.inner), sandbox, slot })
    }

    /// Wants a VM to be.
    ///
    /// # Errors
    /// Where it can't be written down, or an earlier placement does not end.
    pub async fn put(&self, vm: VmId, put: PutVm) -> Result<PutVmAnswer, AgentProblem> {
        let answer = async {
            loop {
                match self
                    .blocking({
                        let (vm, put) = (vm.clone(), put.clone());
                        move |this| this.admit(vm, put)
                    })
                    .await?
                {
                    Admission::Answer(answer) => return Ok(answer),
                    // The driver drops its end of the channel with the VM's last file.
                    Admission::Occupied(Live { driver: Way::Once(asks), .. }) => asks.closed().await,
                    Admission::Occupied(Live { driver: Way::Cached(handle), .. }) => handle.wishes.closed().await,
                }
            }
        };
        let answer = tokio::time::timeout(REPLACE_WAIT, answer)
            .await
            .unwrap_or_else(|_| Err(problem("an earlier placement of this VM is still being ended; ask again")))?;
        let wait = Duration::from_millis(put.wait_ms.min(RUN_WAIT_MAX_MS));
        Ok(match answer {
            answer if wait.is_zero() => answer,
            PutVmAnswer::Admitted { .. } => {
                PutVmAnswer::Admitted { now: self.settled(&vm, put.generation, wait).await }
            }
            PutVmAnswer::Already { .. } => PutVmAnswer::Already { now: self.settled(&vm, put.generation, wait).await },
            other => other,
        })
    }

    /// Where a placement is once it does not start any more; `None` where that takes longer.
    async fn settled(&self, vm: &VmId, generation: Generation, wait: Duration) -> Option<VmObservation> {
        let settled = |report: &VmReport| {
            let moves = matches!(report.observation, VmObservation::Starting | VmObservation::Ending);
            report.generation >= generation && !moves
        };
        Some(self.inner.parts.board.until(vm, wait, settled).await?.observation)
    }

    /// Wants a cached VM to sleep.
    pub async fn sleep(&self, vm: &VmId, ask: SleepVm) -> SleepAnswer {
        let (answer, answered) = oneshot::channel();
        if let Some(handle) = self.inner.handle(vm)
            && handle.commands.send(Command::Sleep { ask, answer }).await.is_ok()
        {
            return answered.await.unwrap_or(SleepAnswer::NotRunning);
        }
        SleepAnswer::NotRunning
    }

    /// Wants a cached VM to be awake; `None` where the host does not know it.
    pub async fn wake(&self, vm: &VmId, ask: WakeVm) -> Option<VmReport> {
        let (answer, answered) = oneshot::channel();
        let woken = async {
            if let Some(handle) = self.inner.handle(vm)
                && handle.commands.send(Command::Wake { generation: ask.generation, answer }).await.is_ok()
            {
                // Where nothing is to be woken, the report says so.
                let _ = answered.await;
            }
        };
        // Out of time, the report says where it is.
        let _ = tokio::time::timeout(Duration::from_millis(WAKE_WAIT_MAX_MS), woken).await;
        self.inner.parts.board.vm_report(vm)
    }

    /// A cached VM's run is over, or sleeps: it takes no memory and no CPU that others could be promised. What was promised
    /// to a later run stays promised.
    pub fn rest(&self, vm: &VmId, generation: Generation) {
        let mut state = self.inner.state();
        let entry = state.vms.get_mut(vm).filter(|entry| entry.buried || entry.highest <= generation);
        if let Some(live) = entry.and_then(|entry| entry.live.as_mut()) {
            live.rests = true;
        }
    }

    /// A cached VM that sleeps takes all that it was promised; false where others have it.
    pub fn claim(&self, vm: &VmId) -> bool {
        let claimed = {
            let mut state = self.inner.state();
            let reserved = state.reserved();
            let Some(live) = state.vms.get_mut(vm).and_then(|entry| entry.live.as_mut()) else { return false };
            let held = live.reserved();
            live.rests = admit(self.inner.capacity, reserved.minus(held), live.demand).is_err();
            !live.rests
        };
        self.make_room();
        claimed
    }

    /// Lets what waits go where its memory was promised to others.
    pub fn make_room(&self) {
        let (capacity, reserved) = self.amounts();
        self.evict(self.inner.cached.shrink_to(capacity.minus(reserved).memory_mib));
    }

    /// Tells drivers that the memory of what waits is needed.
    pub fn evict(&self, vms: Vec<VmId>) {
        for vm in vms {
            if self.evict_spare(&vm) {
                continue;
            }
            // A driver with so many commands to hear is about to change what waits anyhow.
            let told = self.inner.handle(&vm).map(|handle| handle.commands.try_send(Command::Evict));
            tracing::debug!(%vm, ?told, "what waits is evicted");
        }
    }

    /// Wants a VM to end, with grace or now. A placement that is not known is refused from then on.
    ///
    /// # Errors
    /// Where the wish can't be written down.
    pub async fn end(&self, vm: VmId, generation: Generation, ask: Ask) -> Result<(), AgentProblem> {
        self.blocking(move |this| this.ask(&vm, generation, ask)).await
    }

    /// Waits until no driver runs; they end where the VMs are, once the agent shuts down.
    pub async fn shutdown(&self) {
        self.inner.drivers.close();
        self.inner.drivers.wait().await;
    }

    fn admit(&self, vm: VmId, put: PutVm) -> Result<Admission, AgentProblem> {
        let _one = self.inner.admission.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spare = self.inner.spares.take(&vm);
        let admission = self.admit_with(vm, put, &mut spare);
        if let Some((driver, share)) = spare {
            self.give_back_spare(driver, share);
        }
        admission
    }

    /// The same with a sandbox that was made ahead for this VM, which is taken where it is admitted.
    fn admit_with(&self, vm: VmId, put: PutVm, spare: &mut Option<(Driver, Share)>) -> Result<Admission, AgentProblem> {
        let heard = Instant::now();
        let (slot, before) = {
            let state = self.inner.state();
            if let Some(answer) = self.inner.answer(&state, &vm, &put) {
                return Ok(answer);
            }
            let before = state.vms.get(&vm).cloned();
            let held = before.as_ref().and_then(|entry| entry.live.as_ref()).map(|live| live.slot);
            let held = held.or(spare.as_ref().map(|(_, share)| share.slot()));
            let Some(slot) = held.or_else(|| state.free_slot(self.inner.slots)) else {
                return Ok(Admission::Answer(self.inner.no_capacity(&state, Shortage::Slots)));
            };
            (slot, before)
        };
        // No other admission runs: the share stays free until it is entered below.
        let assignment = Assignment::new(put, slot, self.inner.parts.boot_id.clone());
        let wish = Wish { assignment: assignment.clone(), highest: assignment.generation, ask: Ask::Nothing, heard };
        let dir = self.inner.vm_dir(&vm);
        if assignment.cached.is_some()
            && let Some(Entry { live: Some(Live { driver: Way::Cached(handle), .. }), .. }) = &before
        {
            self.inner.reserve(&vm, &assignment, before.as_ref(), Way::Cached(handle.clone()));
            // The loss of power ends every run, and whoever asked for this one hears of that before it asks for another.
            if let Err(error) = write_assignment(&dir, &assignment, Survives::Process) {
                tracing::error!(%vm, %error, "a placement could not be written down");
                self.inner.unreserve(&vm, before);
                return Err(disk_problem(&error));
            }
            self.make_room();
            handle.wishes.send_replace(wish);
            return Ok(Admission::Answer(PutVmAnswer::Admitted { now: None }));
        }
        let (record, driver) = if assignment.cached.is_some() {
            (AnyRecord::Cached(cached::Record::admitted(&assignment)), Live::cached(&assignment, wish).driver)
        } else {
            (AnyRecord::Once(Record::admitted(&assignment)), Live::once(&assignment, Ask::Nothing).driver)
        };
        self.inner.reserve(&vm, &assignment, before.as_ref(), driver);
        if let Err(error) = write_down(&dir, &assignment, &record) {
            tracing::error!(%vm, %error, "an admission could not be written down");
            self.inner.unreserve(&vm, before);
            return Err(disk_problem(&error));
        }
        self.make_room();
        match record {
            AnyRecord::Once(record) => {
                self.inner.parts.board.vm(record.report(&vm));
                let driver = spare.take().map(|(driver, _share)| driver);
                self.drive(vm, dir, assignment, record, driver);
            }
            AnyRecord::Cached(record) => {
                let observation = match assignment.runs() {
                    true => VmObservation::Starting,
                    false => VmObservation::Stopped { exit: None },
                };
                self.inner.parts.board.vm(VmReport {
                    vm_id: vm.clone(),
                    generation: assignment.generation,
                    observation,
                    seq: 0,
                });
                self.drive_cached(vm, dir, record, false);
            }
        }
        Ok(Admission::Answer(PutVmAnswer::Admitted { now: None }))
    }

    fn ask(&self, vm: &VmId, generation: Generation, ask: Ask) -> Result<(), AgentProblem> {
        let _one = self.inner.admission.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = self.inner.vm_dir(vm);
        let entry = self.inner.state().vms.get(vm).cloned();
        if entry.as_ref().is_some_and(|entry| generation < entry.highest) {
            return Ok(());
        }
        if let Some(live) = entry.as_ref().and_then(|entry| entry.live.as_ref()) {
            let wanted = ask.max(live.driver.ask());
            file::write_json(&dir.asked(), &wanted, Survives::Process).map_err(|error| disk_problem(&error))?;
            live.driver.send_ask(wanted);
        }
        if entry.as_ref().is_none_or(|entry| generation > entry.highest) {
            let tombstone = Tombstone { generation };
            std::fs::create_dir_all(dir.path())
                .and_then(|()| file::write_json(&dir.tombstone(), &tombstone, Survives::PowerLoss))
                .and_then(|()| file::sync_dir(&VmDir::all(&self.inner.dir)))
                .map_err(|error| disk_problem(&error))?;
            let mut state = self.inner.state();
            let live = state.vms.get(vm).and_then(|entry| entry.live.clone());
            if let Some(Live { driver: Way::Cached(handle), .. }) = &live {
                handle.wishes.send_modify(|wish| wish.highest = generation);
            }
            state.vms.insert(vm.clone(), Entry { highest: generation, buried: true, live });
            if state.vms.get(vm).is_some_and(|entry| entry.live.is_none()) {
                self.inner.parts.board.vm(tombstone.report(vm));
            }
        }
        Ok(())
    }

    /// Drives a new VM; one whose sandbox was made ahead by the driver that made it.
    fn drive(&self, vm: VmId, dir: VmDir, assignment: Assignment, record: Record, ahead: Option<Driver>) {
        let (parts, asks) = (Arc::clone(&self.inner.parts), self.asks_of(&vm));
        let driver = match ahead {
            Some(driver) => driver.ask_for(assignment, asks),
            None => Driver::new(parts, vm.clone(), dir, assignment, record, asks, false),
        };
        self.run(vm, driver);
    }

    fn asks_of(&self, vm: &VmId) -> watch::Receiver<Ask> {
        let state = self.inner.state();
        let live = state.vms.get(vm).and_then(|entry| entry.live.as_ref());
        let asks = live.and_then(|live| match &live.driver {
            Way::Once(asks) => Some(asks.subscribe()),
            Way::Cached(_) => None,
        });
        asks.expect("whoever is driven was entered as alive")
    }

    fn run(&self, vm: VmId, driver: Driver) {
        let inner = Arc::clone(&self.inner);
        self.inner.drivers.spawn(async move {
            if let Some(record) = driver.run().await {
                inner.over(&vm, record.report(&vm));
            }
        });
    }

    fn drive_cached(&self, vm: VmId, dir: VmDir, record: cached::Record, resumed: bool) {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let wishes = {
            let mut state = self.inner.state();
            let live = state.vms.get_mut(&vm).and_then(|entry| entry.live.as_mut());
            let wishes = live.and_then(|live| match &mut live.driver {
                Way::Cached(handle) => {
                    handle.commands = commands;
                    Some(handle.wishes.subscribe())
                }
                Way::Once(_) => None,
            });
            wishes.expect("whoever is driven was entered as alive")
        };
        let inner = Arc::clone(&self.inner);
        let driver = cached::Driver::new(
            Arc::clone(&inner.parts),
            Arc::clone(&inner.cached),
            self.clone(),
            vm.clone(),
            dir,
            record,
            wishes,
            received,
            resumed,
        );
        self.inner.drivers.spawn(async move {
            if let Some(record) = driver.run().await {
                inner.over(&vm, record.report(&vm));
            }
        });
    }

    /// Runs what writes to the disk on a thread where that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, AgentProblem> + Send + 'static,
    ) -> Result<T, AgentProblem> {
        let this = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let done = tokio::task::spawn_blocking(move || {
            let _runtime = runtime.enter();
            work(&this)
        });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request panicked");
            Err(problem("the agent failed"))
        })
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, vm: &VmId) -> Option<Handle> {
        match &self.state().vms.get(vm)?.live.as_ref()?.driver {
            Way::Cached(handle) => Some(handle.clone()),
            Way::Once(_) => None,
        }
    }

    fn vm_dir(&self, vm: &VmId) -> VmDir {
        VmDir::new(&self.dir, vm)
    }

    /// The answer to `put`, unless it is to be admitted.
    fn answer(&self, state: &State, vm: &VmId, put: &PutVm) -> Option<Admission> {
        if let Some(entry) = state.vms.get(vm) {
            if put.generation < entry.highest || (put.generation == entry.highest && entry.buried) {
                return Some(Admission::Answer(PutVmAnswer::StaleGeneration { highest: entry.highest }));
            }
            if put.generation == entry.highest {
                return Some(Admission::Answer(PutVmAnswer::Already { now: None }));
            }
        }
        if let Some(reason) = self.refusal.clone().or_else(|| unsupported(&put.spec)) {
            return Some(Admission::Answer(PutVmAnswer::Unsupported { reason }));
        }
        if state.draining {
            return Some(Admission::Answer(PutVmAnswer::Draining));
        }
        let live = state.vms.get(vm).and_then(|entry| entry.live.as_ref());
        if let Some(live) = live.filter(|live| live.is_once() || put.cached.is_none()) {
            live.driver.send_ask(Ask::Destroy);
            return Some(Admission::Occupied(live.clone()));
        }
        let demand = demand_of(&put.spec, put.cached.is_some());
        let runs = put.cached.as_ref().is_none_or(|cached| cached.run);
        let wanted = if runs { demand } else { resting(demand) };
        // What was made ahead for it is its own.
        let ahead = state.shares.get(vm).map(|(demand, _)| *demand).unwrap_or_default();
        let reserved = state.reserved().minus(ahead);
        let others = live.map_or(reserved, |live| reserved.minus(live.reserved()));
        let fits = admit(self.capacity, others, wanted);
        fits.err().map(|shortage| Admission::Answer(self.no_capacity(state, shortage)))
    }

    fn no_capacity(&self, state: &State, shortage: Shortage) -> PutVmAnswer {
        PutVmAnswer::NoCapacity { shortage, free: self.capacity.minus(state.reserved()) }
    }

    fn reserve(&self, vm: &VmId, assignment: &Assignment, before: Option<&Entry>, driver: Way) {
        let demand = demand(assignment);
        let live = Some(Live { demand, rests: !assignment.runs(), slot: assignment.slot, driver });
        let highest = before.map_or(assignment.generation, |entry| entry.highest.max(assignment.generation));
        let mut state = self.state();
        state.last_slot = assignment.slot.0;
        state.vms.insert(vm.clone(), Entry { highest, buried: false, live });
    }

    fn unreserve(&self, vm: &VmId, before: Option<Entry>) {
        let mut state = self.state();
        match before {
            Some(before) => state.vms.insert(vm.clone(), before),
            None => state.vms.remove(vm),
        };
    }

    /// Gives back what was promised, then says that the VM is over: whoever hears it finds the room.
    fn over(&self, vm: &VmId, report: VmReport) {
        self.parts.execs.forget(vm);
        let buried = {
            let mut state = self.state();
            let Some(entry) = state.vms.get_mut(vm) else { return };
            entry.live = None;
            entry.buried.then_some(entry.highest)
        };
        self.parts.board.vm(match buried {
            Some(generation) => VmReport { generation, ..report },
            None => report,
        });
    }
}

impl State {
    fn reserved(&self) -> Amounts {
        let live = self.vms.values().filter_map(|entry| entry.live.as_ref());
        let demands = live.map(Live::reserved).chain(self.shares.values().map(|(demand, _)| *demand));
        demands.fold(Amounts::default(), Amounts::plus)
    }

    /// A slot that is free, the longest unused first: what still speaks to an address of a VM that is gone should not
    /// meet another one there.
    fn free_slot(&self, slots: u16) -> Option<Slot> {
        let mut taken: BTreeSet<Slot> = self.vms.values().filter_map(|entry| Some(entry.live.as_ref()?.slot)).collect();
        taken.extend(self.shares.values().map(|(_, slot)| *slot));
        let next = (self.last_slot + 1..=slots).chain(1..=self.last_slot.min(slots));
        next.map(Slot).find(|slot| !taken.contains(slot))
    }
}

fn disk_problem(error: &std::io::Error) -> AgentProblem {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            AgentProblem { code: ProblemCode::DiskFull, message: "the host has no room on its disk".into() }
        }
        _ => problem("the host could not write the request down"),
    }
}

fn problem(message: &str) -> AgentProblem {
    AgentProblem { code: ProblemCode::Internal, message: message.into() }
}
