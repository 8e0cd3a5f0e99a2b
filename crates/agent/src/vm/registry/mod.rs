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
use cakework_wire::host::{SleepAnswer, SleepVm, VmReport, WAKE_WAIT_MAX_MS, WakeVm};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

mod admit;
mod drive;

use super::dir::VmDir;
use super::driver::{Driver, Parts};
use super::kept::{AnyRecord, Restored};
use super::live::{Live, Way};
use super::spares::Spares;
use crate::cached::{self, Command, Handle, Wish};
use crate::net::Slot;

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
    shares: BTreeMap<VmId, Promise>,
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

/// What is held by something beside VMs.
#[derive(Debug, Clone, Copy)]
struct Promise {
    demand: Amounts,
    slot: Slot,
    port: Option<u16>,
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

    /// The places on the host of all that holds something, each with the port that may be connected to.
    pub fn places(&self) -> Vec<(Slot, Option<u16>)> {
        let state = self.inner.state();
        let vms = state.vms.values().filter_map(|entry| entry.live.as_ref()).map(|live| (live.slot, live.port));
        vms.chain(state.shares.values().map(|promise| (promise.slot, promise.port))).collect()
    }

    /// Reserves a share of the host, by the same rule and from the same capacity as VMs. Blocks.
    ///
    /// # Errors
    /// What is missing, and what could still be promised.
    pub fn reserve(&self, sandbox: VmId, demand: Amounts, port: Option<u16>) -> Result<Share, (Shortage, Amounts)> {
        let _one = self.inner.admission.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.inner.state();
        let free = self.inner.capacity.minus(state.reserved());
        admit(self.inner.capacity, state.reserved(), demand).map_err(|shortage| (shortage, free))?;
        let slot = state.free_slot(self.inner.slots).ok_or((Shortage::Slots, free))?;
        state.last_slot = slot.0;
        state.shares.insert(sandbox.clone(), Promise { demand, slot, port });
        Ok(Share { inner: Arc::clone(&self.inner), sandbox, slot })
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
        self.inner.cached.turns.ended(vm);
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

    /// Waits until no driver runs; they end where the VMs are, once the agent shuts down.
    pub async fn shutdown(&self) {
        self.inner.drivers.close();
        self.inner.drivers.wait().await;
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
}

impl State {
    fn reserved(&self) -> Amounts {
        let live = self.vms.values().filter_map(|entry| entry.live.as_ref());
        let demands = live.map(Live::reserved).chain(self.shares.values().map(|promise| promise.demand));
        demands.fold(Amounts::default(), Amounts::plus)
    }

    /// A slot that is free, the longest unused first: what still speaks to an address of a VM that is gone should not
    /// meet another one there.
    fn free_slot(&self, slots: u16) -> Option<Slot> {
        let mut taken: BTreeSet<Slot> = self.vms.values().filter_map(|entry| Some(entry.live.as_ref()?.slot)).collect();
        taken.extend(self.shares.values().map(|promise| promise.slot));
        let next = (self.last_slot + 1..=slots).chain(1..=self.last_slot.min(slots));
        next.map(Slot).find(|slot| !taken.contains(slot))
    }
}
