//! How many requests each VM has open, and how many of them wait. A count lives as long as its guard.
//!
//! A VM can be made quiet while none is open: requests that come then wait, so that it can be put to sleep under none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cakework_core::id::VmId;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Counts of open and of waiting requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flight {
    counts: Arc<Mutex<Counts>>,
    /// A VM is quiet no more.
    loud: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Those that had a request since their route is known.
    vms: HashMap<VmId, VmCounts>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct VmCounts {
    open: usize,
    waiting: usize,
    is_quiet: bool,
    /// Its route was removed: the last guard takes the counts away.
    is_forgotten: bool,
    /// When the last request ended.
    ended: Option<Instant>,
}

impl Flight {
    pub(crate) fn open(&self, vm_id: &VmId) -> usize {
        self.lock().vms.get(vm_id).map_or(0, |counts| counts.open)
    }

    /// Open requests of all VMs.
    pub(crate) fn open_in_all(&self) -> usize {
        self.lock().vms.values().map(|counts| counts.open).sum()
    }

    /// Requests that wait, of all VMs.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// When the VM's last request ended, `Some(None)` where it had none; `None` while one is open.
    pub(crate) fn idle_since(&self, vm_id: &VmId) -> Option<Option<Instant>> {
        match self.lock().vms.get(vm_id) {
            Some(counts) if counts.open > 0 => None,
            Some(counts) => Some(counts.ended),
            None => Some(None),
        }
    }

    /// Counts a request until the guard is dropped; `None` where the VM has `max` already.
    pub(crate) fn begin(&self, vm_id: &VmId, max: usize) -> Option<Open> {
        let mut counts = self.lock();
        if counts.vms.get(vm_id).map_or(0, |vm| vm.open) >= max {
            return None;
        }
        let vm = counts.vms.entry(vm_id.clone()).or_default();
        vm.open += 1;
        vm.is_forgotten = false;
        Some(Open { flight: self.clone(), vm_id: vm_id.clone() })
    }

    /// Makes a VM quiet until the guard is dropped; `None` where a request is open or the VM is quiet already.
    pub(crate) fn quiet(&self, vm_id: &VmId) -> Option<Quiet> {
        let mut counts = self.lock();
        let vm = counts.vms.entry(vm_id.clone()).or_default();
        if vm.open > 0 || vm.is_quiet {
            return None;
        }
        vm.is_quiet = true;
        Some(Quiet { flight: self.clone(), vm_id: vm_id.clone() })
    }

    /// Takes a VM's counts away as soon as nobody counts.
    pub(crate) fn forget(&self, vm_id: &VmId) {
        let mut counts = self.lock();
        if let Some(vm) = counts.vms.get_mut(vm_id) {
            vm.is_forgotten = true;
            counts.drop_forgotten(vm_id);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().vms.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn drop_forgotten(&mut self, vm_id: &VmId) {
        if self.vms.get(vm_id).is_some_and(|vm| vm.is_forgotten && vm.open == 0 && !vm.is_quiet) {
            self.vms.remove(vm_id);
        }
    }
}

/// While it lives, new requests of a VM wait.
#[derive(Debug)]
pub struct Quiet {
    flight: Flight,
    vm_id: VmId,
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let mut counts = self.flight.lock();
        if let Some(vm) = counts.vms.get_mut(&self.vm_id) {
            vm.is_quiet = false;
            counts.drop_forgotten(&self.vm_id);
        }
        drop(counts);
        self.flight.loud.notify_waiters();
    }
}

/// An open request.
#[derive(Debug)]
pub(crate) struct Open {
    flight: Flight,
    vm_id: VmId,
}

impl Open {
    /// Counts this request as waiting until the guard is dropped; `None` where too many wait already.
    pub(crate) fn wait(&self, max_per_vm: usize, max: usize) -> Option<Waiting<'_>> {
        let mut counts = self.flight.lock();
        let waiting = counts.waiting;
        let vm = counts.vms.entry(self.vm_id.clone()).or_default();
        if vm.waiting >= max_per_vm || waiting >= max {
            return None;
        }
        vm.waiting += 1;
        counts.waiting += 1;
        Some(Waiting { open: self })
    }

    /// Whether the VM is quiet now.
    pub(crate) fn is_quiet(&self) -> bool {
        self.flight.lock().vms.get(&self.vm_id).is_some_and(|vm| vm.is_quiet)
    }

    /// Waits until the VM is not quiet.
    pub(crate) async fn loud(&self) {
        loop {
            let mut notified = std::pin::pin!(self.flight.loud.notified());
            notified.as_mut().enable();
            if !self.is_quiet() {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut counts = self.flight.lock();
        if let Some(vm) = counts.vms.get_mut(&self.vm_id) {
            vm.open -= 1;
            vm.ended = Some(Instant::now());
            counts.drop_forgotten(&self.vm_id);
        }
    }
}

/// A request that waits for its VM.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    open: &'a Open,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut counts = self.open.flight.lock();
        counts.waiting -= 1;
        if let Some(vm) = counts.vms.get_mut(&self.open.vm_id) {
            vm.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(digit: u8) -> VmId {
        format!("e784996f34648{digit}").parse().expect("a VM id")
    }

    #[test]
    fn counts_follow_their_guards() {
        let flight = Flight::default();
        let first = flight.begin(&vm(1), 2).expect("none is open");
        let second = flight.begin(&vm(1), 2).expect("one is open");
        assert!(flight.begin(&vm(1), 2).is_none());
        let other = flight.begin(&vm(2), 2).expect("another VM");
        assert_eq!((flight.open(&vm(1)), flight.open(&vm(2)), flight.open_in_all()), (2, 1, 3));

        let waiting = first.wait(1, 2).expect("none waits");
        assert!(second.wait(1, 2).is_none(), "the VM's queue is full");
        assert!(second.wait(2, 1).is_none(), "the whole queue is full");
        let beside = other.wait(1, 2).expect("another VM");
        assert_eq!(flight.waiting(), 2);
        drop((waiting, beside));
        drop(second.wait(1, 1).expect("the queue is empty again"));

        flight.forget(&vm(1));
        assert_eq!(flight.open(&vm(1)), 2, "what is open is counted to its end");
        drop((first, second, other));
        flight.forget(&vm(2));
        assert!(flight.is_empty());
        assert_eq!(flight.waiting(), 0);
    }

    #[tokio::test]
    async fn a_vm_is_quiet_under_no_request_and_holds_those_that_come() {
        let flight = Flight::default();
        let first = flight.begin(&vm(1), 9).expect("none is open");
        assert!(flight.quiet(&vm(1)).is_none(), "a request is open");
        drop(first);
        let quiet = flight.quiet(&vm(1)).expect("none is open");
        assert!(flight.quiet(&vm(1)).is_none(), "only one is told so");
        let held = flight.begin(&vm(1), 9).expect("it is counted all the same");
        let other = flight.begin(&vm(2), 9).expect("another VM");
        other.loud().await;
        assert!(held.is_quiet());
        let ((), ()) = tokio::join!(held.loud(), async { drop(quiet) });
        assert!(!held.is_quiet());
    }
}
