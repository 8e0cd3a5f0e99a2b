//! Who may come: placements that are taken or refused, and wishes for an end, each written down before it is answered.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use cakework_core::admission::{Shortage, admit};
use cakework_core::id::{Generation, VmId};
use cakework_wire::host::{AgentProblem, ProblemCode, PutVm, PutVmAnswer, VmObservation, VmReport};

use super::{Entry, Inner, Registry, Share, State};
use crate::cached::{self, Wish};
use crate::sys::file::{self, Survives};
use crate::vm::VmDir;
use crate::vm::driver::Driver;
use crate::vm::kept::{AnyRecord, write_assignment, write_down};
use crate::vm::live::{Live, Way, demand_of, resting};
use crate::vm::record::{Ask, Assignment, Record, Tombstone};
use crate::vm::unsupported::unsupported;

/// How long a new placement waits for the end of the one before.
const REPLACE_WAIT: Duration = Duration::from_secs(20);
/// Longest time that a placement's answer waits for a cached VM's run, in milliseconds.
const RUN_WAIT_MAX_MS: u64 = 10_000;

enum Admission {
    Answer(PutVmAnswer),
    /// An earlier placement has to end first.
    Occupied(Live),
}

impl Registry {
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

    /// Wants a VM to end, with grace or now. A placement that is not known is refused from then on.
    ///
    /// # Errors
    /// Where the wish can't be written down.
    pub async fn end(&self, vm: VmId, generation: Generation, ask: Ask) -> Result<(), AgentProblem> {
        self.blocking(move |this| this.ask(&vm, generation, ask)).await
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
        self.inner.cached.turns.ended(vm);
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
        let ahead = state.shares.get(vm).map(|promise| promise.demand).unwrap_or_default();
        let reserved = state.reserved().minus(ahead);
        let others = live.map_or(reserved, |live| reserved.minus(live.reserved()));
        let fits = admit(self.capacity, others, wanted);
        fits.err().map(|shortage| Admission::Answer(self.no_capacity(state, shortage)))
    }

    fn no_capacity(&self, state: &State, shortage: Shortage) -> PutVmAnswer {
        PutVmAnswer::NoCapacity { shortage, free: self.capacity.minus(state.reserved()) }
    }

    fn reserve(&self, vm: &VmId, assignment: &Assignment, before: Option<&Entry>, driver: Way) {
        let live = Some(Live { rests: !assignment.runs(), ..Live::new(assignment, driver) });
        let highest = before.map_or(assignment.generation, |entry| entry.highest.max(assignment.generation));
        if assignment.runs() {
            self.cached.turns.began(vm);
        }
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
