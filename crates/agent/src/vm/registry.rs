//! All VMs of the host: who may come, who is here, and what was promised.
//!
//! Invariants: of each VM the highest placement ever seen is on disk, and no lower one is taken; what was promised never
//! exceeds the capacity; an answer is given only once what it says is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cakework_core::admission::{Amounts, Shortage, admit};
use cakework_core::id::{Generation, VmId};
use cakework_core::limit;
use cakework_core::phase::Phase;
use cakework_core::spec::VmSpec;
use cakework_wire::host::{AgentProblem, ProblemCode, PutVm, PutVmAnswer};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::dir::VmDir;
use super::driver::{Driver, Parts};
use super::record::{Ask, Assignment, Record, Tombstone};
use crate::net::Slot;
use crate::sys::file::{self, Survives};

/// How long a new placement waits for the end of the one before.
const REPLACE_WAIT: Duration = Duration::from_secs(20);
/// Largest writable disk, in MiB: a TiB.
const DISK_MAX_MIB: u32 = 1 << 20;

/// The VMs of this host. Clones share them.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parts: Arc<Parts>,
    dir: PathBuf,
    capacity: Amounts,
    slots: u16,
    /// Why no VM is started, where that is so.
    refusal: Option<String>,
    /// One admission at a time, held while it is written to disk; only taken on blocking threads.
    admission: Mutex<()>,
    state: Mutex<State>,
    drivers: TaskTracker,
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

#[derive(Debug, Clone)]
struct Live {
    demand: Amounts,
    slot: Slot,
    asks: watch::Sender<Ask>,
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
    Occupied(watch::Sender<Ask>),
}

impl Registry {
    /// A registry without VMs.
    pub fn new(parts: Arc<Parts>, dir: PathBuf, capacity: Amounts, refusal: Option<String>, draining: bool) -> Self {
        let slots = u16::try_from(capacity.slots).unwrap_or(u16::MAX - 1).min(u16::MAX - 1);
        Self {
            inner: Arc::new(Inner {
                parts,
                dir,
                capacity,
                slots,
                refusal,
                admission: Mutex::default(),
                state: Mutex::new(State { draining, ..State::default() }),
                drivers: TaskTracker::new(),
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
        let live = assignment.filter(|_| record.as_ref().is_some_and(|record| record.phase != Phase::Ended));
        let entry = Entry {
            highest,
            buried: buried == Some(highest) && generation != buried,
            live: live.as_ref().map(|assignment| Live::new(assignment, ask)),
        };
        match (&record, tombstone) {
            (_, Some(tombstone)) if entry.buried && live.is_none() => self.inner.parts.board.vm(tombstone.report(&vm)),
            (Some(record), _) => self.inner.parts.board.vm(record.report(&vm)),
            (None, _) => {}
        }
        self.inner.state().vms.insert(vm.clone(), entry);
        if let Some((assignment, record)) = live.zip(record) {
            self.drive(vm, dir, assignment, record, true);
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
                    Admission::Occupied(asks) => asks.closed().await,
                }
            }
        };
        tokio::time::timeout(REPLACE_WAIT, answer)
            .await
            .unwrap_or_else(|_| Err(problem("an earlier placement of this VM is still being ended; ask again")))
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
        let (slot, before) = {
            let state = self.inner.state();
            if let Some(answer) = self.inner.answer(&state, &vm, &put) {
                return Ok(answer);
            }
            let Some(slot) = state.free_slot(self.inner.slots) else {
                return Ok(Admission::Answer(self.inner.no_capacity(&state, Shortage::Slots)));
            };
            (slot, state.vms.get(&vm).cloned())
        };
        // No other admission runs: the share stays free until it is entered below.
        let assignment = Assignment::new(put, slot, self.inner.parts.boot_id.clone());
        let record = Record::admitted(&assignment);
        let dir = self.inner.vm_dir(&vm);
        self.inner.reserve(&vm, &assignment, before.as_ref());
        if let Err(error) = write_down(&dir, &assignment, &record) {
            tracing::error!(%vm, %error, "an admission could not be written down");
            self.inner.unreserve(&vm, before);
            return Err(disk_problem(&error));
        }
        self.inner.parts.board.vm(record.report(&vm));
        self.drive(vm, dir, assignment, record, false);
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
            let wanted = ask.max(*live.asks.borrow());
            file::write_json(&dir.asked(), &wanted, Survives::Process).map_err(|error| disk_problem(&error))?;
            live.asks.send_if_modified(|asked| std::mem::replace(asked, wanted) != wanted);
        }
        if entry.as_ref().is_none_or(|entry| generation > entry.highest) {
            let tombstone = Tombstone { generation };
            std::fs::create_dir_all(dir.path())
                .and_then(|()| file::write_json(&dir.tombstone(), &tombstone, Survives::PowerLoss))
                .and_then(|()| file::sync_dir(&VmDir::all(&self.inner.dir)))
                .map_err(|error| disk_problem(&error))?;
            let mut state = self.inner.state();
            let live = state.vms.get(vm).and_then(|entry| entry.live.clone());
            state.vms.insert(vm.clone(), Entry { highest: generation, buried: true, live });
            if state.vms.get(vm).is_some_and(|entry| entry.live.is_none()) {
                self.inner.parts.board.vm(tombstone.report(vm));
            }
        }
        Ok(())
    }

    fn drive(&self, vm: VmId, dir: VmDir, assignment: Assignment, record: Record, resumed: bool) {
        let asks = {
            let state = self.inner.state();
            let live = state.vms.get(&vm).and_then(|entry| entry.live.as_ref());
            live.map(|live| live.asks.subscribe()).expect("whoever is driven was entered as alive")
        };
        let driver = Driver::new(Arc::clone(&self.inner.parts), vm.clone(), dir, assignment, record, asks, resumed);
        let inner = Arc::clone(&self.inner);
        self.inner.drivers.spawn(async move {
            if let Some(record) = driver.run().await {
                inner.over(&vm, &record);
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
        if let Some(live) = state.vms.get(vm).and_then(|entry| entry.live.as_ref()) {
            live.asks.send_if_modified(|ask| std::mem::replace(ask, Ask::Kill) != Ask::Kill);
            return Some(Admission::Occupied(live.asks.clone()));
        }
        let fits = admit(self.capacity, state.reserved(), put.spec.demand());
        fits.err().map(|shortage| Admission::Answer(self.no_capacity(state, shortage)))
    }

    fn no_capacity(&self, state: &State, shortage: Shortage) -> PutVmAnswer {
        PutVmAnswer::NoCapacity { shortage, free: self.capacity.minus(state.reserved()) }
    }

    fn reserve(&self, vm: &VmId, assignment: &Assignment, before: Option<&Entry>) {
        let live = Some(Live::new(assignment, Ask::Nothing));
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
    fn over(&self, vm: &VmId, record: &Record) {
        let buried = {
            let mut state = self.state();
            let Some(entry) = state.vms.get_mut(vm) else { return };
            entry.live = None;
            entry.buried.then_some(entry.highest)
        };
        let report = record.report(vm);
        self.parts.board.vm(match buried {
            Some(generation) => cakework_wire::host::VmReport { generation, ..report },
            None => report,
        });
    }
}

impl State {
    fn reserved(&self) -> Amounts {
        let live = self.vms.values().filter_map(|entry| entry.live.as_ref());
        let demands = live.map(|live| live.demand).chain(self.shares.values().map(|(demand, _)| *demand));
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

impl Live {
    fn new(assignment: &Assignment, ask: Ask) -> Self {
        Self { demand: assignment.spec.demand(), slot: assignment.slot, asks: watch::Sender::new(ask) }
    }
}

/// What the disk says about a VM.
#[derive(Debug)]
pub struct Restored {
    /// The placement that it holds or held.
    pub held: Option<(Assignment, Record)>,
    /// A later one that is refused.
    pub tombstone: Option<Tombstone>,
    /// What was asked for.
    pub ask: Ask,
}

fn write_down(dir: &VmDir, assignment: &Assignment, record: &Record) -> std::io::Result<()> {
    std::fs::create_dir_all(dir.path())?;
    // What an earlier placement was asked for is none of this one's.
    file::remove(&dir.asked())?;
    // The assignment is what counts: a record of another placement than its own is nothing.
    file::write_json(&dir.assignment(), assignment, Survives::PowerLoss)?;
    if let Some(all) = dir.path().parent() {
        file::sync_dir(all)?;
    }
    file::write_json(&dir.record(), record, Survives::Process)
}

/// Why this host can't give what the specification asks for. The api has checked it; the agent relies on nobody.
fn unsupported(spec: &VmSpec) -> Option<String> {
    let hex = spec.image_digest.strip_prefix("sha256:");
    let is_digest = hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let volume = spec.volume_gb.unwrap_or(limit::VOLUME_MIN_GB);
    let command = spec.command.as_deref().unwrap_or_default();
    let wrong = if !is_digest {
        "the image's digest"
    } else if !(limit::CPU_MIN..=limit::CPU_MAX).contains(&spec.cpu) {
        "`cpu`"
    } else if !(limit::MEMORY_MIN_MIB..=limit::MEMORY_MAX_MIB).contains(&spec.memory_mib) {
        "`memory`"
    } else if spec.disk_mib < 16 || spec.disk_mib > DISK_MAX_MIB {
        "the disk's size"
    } else if !(limit::VOLUME_MIN_GB..=limit::VOLUME_MAX_GB).contains(&volume) {
        "the volume's size"
    } else if spec.env.len() > limit::ENV_VARS_MAX
        || spec.env.iter().any(|(name, value)| {
            name.is_empty() || name.contains(['=', '\0']) || value.len() > limit::ENV_VALUE_MAX_BYTES
        })
    {
        "`envVars`"
    } else if command.len() > limit::COMMAND_WORDS_MAX
        || command.iter().map(String::len).sum::<usize>() > limit::COMMAND_TOTAL_MAX_BYTES
    {
        "`command`"
    } else {
        return None;
    };
    Some(format!("{wrong} is not one that a host can start a VM with"))
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
