//! What the host reports: the last state of each VM, image and build, each with the sequence number of its last change.
//!
//! Invariant: whoever asks for what changed after a number that this board gave out misses nothing, and sees each thing
//! in its latest state. Numbers begin at the nanoseconds since boot, so that they grow over restarts of the agent; an
//! older or an unknown number gets everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cakework_core::id::{BuildId, VmId};
use cakework_wire::build::BuildReport;
use cakework_wire::host::{ImageReport, VmReport, WatchPage};
use tokio::sync::watch;

use crate::sys::clock;

/// The reports of one host. Clones share them.
#[derive(Debug, Clone)]
pub struct Board {
    state: Arc<Mutex<State>>,
    seq: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    first: u64,
    seq: u64,
    vms: BTreeMap<VmId, (u64, VmReport)>,
    images: BTreeMap<String, (u64, ImageReport)>,
    builds: BTreeMap<BuildId, (u64, BuildReport)>,
}

impl Board {
    /// An empty board whose numbers begin at `first`.
    pub fn new(first: u64) -> Self {
        let state = State { first, seq: first, vms: BTreeMap::new(), images: BTreeMap::new(), builds: BTreeMap::new() };
        Self { state: Arc::new(Mutex::new(state)), seq: watch::Sender::new(first) }
    }

    /// An empty board for an agent that starts now.
    pub fn starting_now() -> Self {
        Self::new(clock::boottime_ns())
    }

    /// Puts up a VM's report; one of an earlier placement, or the same again, changes nothing.
    pub fn vm(&self, report: VmReport) {
        self.change(|state, seq| {
            let old = state.vms.get(&report.vm_id);
            let is_news = old.is_none_or(|(_, old)| {
                (old.generation, &old.observation) != (report.generation, &report.observation)
                    && old.generation <= report.generation
            });
            if is_news {
                state.vms.insert(report.vm_id.clone(), (seq, VmReport { seq, ..report }));
            }
            is_news
        });
    }

    /// A VM's report.
    pub fn vm_report(&self, vm: &VmId) -> Option<VmReport> {
        self.state().vms.get(vm).map(|(_, report)| report.clone())
    }

    /// Waits for a VM's report of which `is_it` holds; `None` where there was none in time.
    pub async fn until(&self, vm: &VmId, wait: Duration, is_it: impl Fn(&VmReport) -> bool) -> Option<VmReport> {
        let mut seq = self.seq.subscribe();
        let found = async {
            loop {
                // Before the look: what comes after it is a change.
                seq.borrow_and_update();
                if let Some(report) = self.vm_report(vm).filter(|report| is_it(report)) {
                    return report;
                }
                // The sender lives as long as this board.
                let _ = seq.changed().await;
            }
        };
        tokio::time::timeout(wait, found).await.ok()
    }

    /// Puts up the images' reports: those that changed get a new number.
    pub fn images(&self, reports: Vec<ImageReport>) {
        for report in reports {
            self.change(|state, seq| {
                if state.images.get(&report.digest).is_some_and(|(_, old)| *old == report) {
                    return false;
                }
                state.images.insert(report.digest.clone(), (seq, report));
                true
            });
        }
    }

    /// Puts up a build's report; one of an earlier placement, or the same again, changes nothing.
    pub fn build(&self, report: BuildReport) {
        self.change(|state, seq| {
            let old = state.builds.get(&report.build_id);
            if old.is_some_and(|(_, old)| old.generation > report.generation || *old == report) {
                return false;
            }
            state.builds.insert(report.build_id.clone(), (seq, report));
            true
        });
    }

    /// Takes down the report of a build that nobody asks for any more.
    pub fn forget_build(&self, build: &BuildId) {
        self.state().builds.remove(build);
    }

    /// What changed after `after`; everything where that is not a number of this board.
    pub fn page(&self, after: u64) -> WatchPage {
        let state = self.state();
        let resync = after < state.first || after > state.seq;
        let newer = |seq: u64| resync || seq > after;
        WatchPage {
            seq: state.seq,
            resync,
            vms: state.vms.values().filter(|(seq, _)| newer(*seq)).map(|(_, report)| report.clone()).collect(),
            images: state.images.values().filter(|(seq, _)| newer(*seq)).map(|(_, report)| report.clone()).collect(),
            builds: state.builds.values().filter(|(seq, _)| newer(*seq)).map(|(_, report)| report.clone()).collect(),
        }
    }

    /// Waits until there is something after `after`.
    pub async fn newer_than(&self, after: u64) {
        let mut seq = self.seq.subscribe();
        // The sender lives as long as this board.
        let _ = seq.wait_for(|seq| *seq != after).await;
    }

    fn change(&self, apply: impl FnOnce(&mut State, u64) -> bool) {
        let mut state = self.state();
        let next = state.seq + 1;
        if apply(&mut state, next) {
            state.seq = next;
            drop(state);
            self.seq.send_modify(|seq| *seq = (*seq).max(next));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cakework_core::id::Generation;
    use cakework_wire::host::VmObservation;

    fn report(generation: u64, observation: VmObservation) -> VmReport {
        VmReport {
            vm_id: "e784996f346483".parse().expect("an id"),
            generation: Generation(generation),
            observation,
            seq: 0,
        }
    }

    #[test]
    fn changes_are_seen_once_and_a_stranger_sees_all() {
        let board = Board::new(100);
        assert_eq!(board.page(0), WatchPage { seq: 100, resync: true, vms: vec![], images: vec![], builds: vec![] });
        board.vm(report(2, VmObservation::Starting));
        let page = board.page(100);
        assert_eq!((page.seq, page.resync, page.vms.len()), (101, false, 1));
        board.vm(report(2, VmObservation::Starting));
        board.vm(report(1, VmObservation::Ending));
        assert!(board.page(101).vms.is_empty(), "neither the same again nor an earlier placement is news");
        for stranger in [0, 99, 102, u64::MAX] {
            let page = board.page(stranger);
            assert!(page.resync && page.vms.len() == 1, "{stranger}");
        }
    }

    #[tokio::test]
    async fn a_report_is_waited_for() {
        let board = Board::new(5);
        let vm: VmId = "e784996f346483".parse().expect("an id");
        let waiter = tokio::spawn({
            let (board, vm) = (board.clone(), vm.clone());
            async move { board.until(&vm, Duration::from_secs(10), |report| report.generation.0 == 2).await }
        });
        board.vm(report(1, VmObservation::Starting));
        board.vm(report(2, VmObservation::Starting));
        assert_eq!(waiter.await.expect("no panic"), board.vm_report(&vm));
        assert_eq!(board.until(&vm, Duration::from_millis(1), |_| false).await, None);
    }

    #[tokio::test]
    async fn a_waiter_wakes_on_a_change() {
        let board = Board::new(5);
        let waiter = tokio::spawn({
            let board = board.clone();
            async move { board.newer_than(5).await }
        });
        board.vm(report(1, VmObservation::Starting));
        tokio::time::timeout(std::time::Duration::from_secs(10), waiter).await.expect("it woke").expect("no panic");
    }
}
