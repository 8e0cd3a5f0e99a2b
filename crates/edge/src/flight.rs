//! How many requests each VM has open, and how many of them wait. A count lives as long as its guard.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cakework_core::id::VmId;

/// Counts of open and of waiting requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flight {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    vms: HashMap<VmId, VmCounts>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct VmCounts {
    open: usize,
    waiting: usize,
}

impl Flight {
    pub(crate) fn open(&self, vm_id: &VmId) -> usize {
        self.lock().vms.get(vm_id).map_or(0, |counts| counts.open)
    }

    /// Counts a request until the guard is dropped; `None` where the VM has `max` already.
    pub(crate) fn begin(&self, vm_id: &VmId, max: usize) -> Option<Open> {
        let mut counts = self.lock();
        if counts.vms.get(vm_id).map_or(0, |vm| vm.open) >= max {
            return None;
        }
        counts.vms.entry(vm_id.clone()).or_default().open += 1;
        Some(Open { flight: self.clone(), vm_id: vm_id.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut counts = self.flight.lock();
        if let Some(vm) = counts.vms.get_mut(&self.vm_id) {
            vm.open -= 1;
            if vm.open == 0 {
                counts.vms.remove(&self.vm_id);
            }
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
        assert_eq!((flight.open(&vm(1)), flight.open(&vm(2))), (2, 1));

        let waiting = first.wait(1, 2).expect("none waits");
        assert!(second.wait(1, 2).is_none(), "the VM's queue is full");
        assert!(second.wait(2, 1).is_none(), "the whole queue is full");
        let beside = other.wait(1, 2).expect("another VM");
        drop((waiting, beside));
        drop(second.wait(1, 1).expect("the queue is empty again"));

        drop((first, second, other));
        assert!(flight.lock().vms.is_empty());
        assert_eq!(flight.lock().waiting, 0);
    }
}
