//! Commands that run in VMs beside their own process: who may open one, and one from its start to its end.
//!
//! Invariant: while a command is open its VM does not sleep, and none is opened in a VM that sleeps or is about to.

pub mod files;
mod process;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cakework_core::id::VmId;
use cakework_core::limit;

pub use session::run;

use crate::sys::clock;

/// The open commands of the host's VMs. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Execs {
    vms: Arc<Mutex<HashMap<VmId, OfVm>>>,
}

#[derive(Debug, Default)]
struct OfVm {
    open: u32,
    still: bool,
    over_at_ms: u64,
    lingers: bool,
    /// The run is over: nothing is kept of it once its last command is.
    gone: bool,
}

/// Why none may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The VM sleeps.
    Asleep,
    /// As many are open as may be.
    Full,
}

/// An open command; it is over when this is dropped.
#[derive(Debug)]
pub struct Open {
    execs: Execs,
    vm: VmId,
}

impl Execs {
    /// Opens a command in a VM.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn open(&self, vm: &VmId) -> Result<Open, Closed> {
        let mut vms = self.vms();
        let of = vms.entry(vm.clone()).or_default();
        if of.still {
            return Err(Closed::Asleep);
        }
        if of.open >= limit::EXECS_MAX {
            return Err(Closed::Full);
        }
        of.open += 1;
        of.gone = false;
        Ok(Open { execs: self.clone(), vm: vm.clone() })
    }

    /// From now on none is opened, since the VM goes to sleep; false, and nothing changes, where one is open.
    pub fn still(&self, vm: &VmId) -> bool {
        let mut vms = self.vms();
        let of = vms.entry(vm.clone()).or_default();
        of.still = of.open == 0;
        of.still
    }

    /// The VM is awake.
    pub fn awake(&self, vm: &VmId) {
        if let Some(of) = self.vms().get_mut(vm) {
            of.still = false;
        }
    }

    /// How long none was open: for ever where none ever was; `None` while one is.
    pub fn idle_ms(&self, vm: &VmId) -> Option<u64> {
        match self.vms().get(vm) {
            Some(of) if of.open > 0 => None,
            Some(of) => Some(clock::boottime_ms().saturating_sub(of.over_at_ms)),
            None => Some(u64::MAX),
        }
    }

    /// Whether something that a command started still holds one of its pipes: a memory image would not have their other
    /// ends.
    pub fn lingers(&self, vm: &VmId) -> bool {
        self.vms().get(vm).is_some_and(|of| of.lingers)
    }

    /// The VM's run is over: nothing is kept of it once its last command is, too.
    pub fn forget(&self, vm: &VmId) {
        let mut vms = self.vms();
        if let Some(of) = vms.get_mut(vm) {
            (of.gone, of.lingers, of.still) = (true, false, false);
            if of.open == 0 {
                vms.remove(vm);
            }
        }
    }

    fn vms(&self) -> MutexGuard<'_, HashMap<VmId, OfVm>> {
        self.vms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Something that it started holds one of its pipes.
    pub fn lingers(&self) {
        if let Some(of) = self.execs.vms().get_mut(&self.vm) {
            of.lingers = true;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut vms = self.execs.vms();
        if let Some(of) = vms.get_mut(&self.vm) {
            of.open -= 1;
            of.over_at_ms = clock::boottime_ms();
            if of.gone && of.open == 0 {
                vms.remove(&self.vm);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_sleeps_only_without_commands_and_takes_none_while_it_sleeps() {
        let (execs, vm) = (Execs::default(), VmId::mint(&mut rand::rng()));
        assert_eq!(execs.idle_ms(&vm), Some(u64::MAX));
        let open = execs.open(&vm).expect("it is awake");
        assert!(!execs.still(&vm));
        assert_eq!(execs.idle_ms(&vm), None);
        open.lingers();
        drop(open);
        assert!(execs.idle_ms(&vm).is_some_and(|idle_ms| idle_ms < 60_000));
        assert!(execs.still(&vm) && execs.lingers(&vm));
        assert_eq!(execs.open(&vm).err(), Some(Closed::Asleep));
        execs.awake(&vm);
        let all: Vec<Open> = (0..limit::EXECS_MAX).map(|_| execs.open(&vm).expect("one more")).collect();
        assert_eq!(execs.open(&vm).err(), Some(Closed::Full));
        drop(all);
        execs.forget(&vm);
        assert!(!execs.lingers(&vm) && execs.open(&vm).is_ok());
    }

    #[test]
    fn nothing_is_kept_of_a_run_that_is_over() {
        let (execs, vm) = (Execs::default(), VmId::mint(&mut rand::rng()));
        let open = execs.open(&vm).expect("it is awake");
        execs.forget(&vm);
        assert_eq!(execs.vms().len(), 1, "a command is still open");
        drop(open);
        assert!(execs.vms().is_empty());
        drop(execs.open(&vm).expect("it is awake"));
        execs.forget(&vm);
        assert!(execs.vms().is_empty());
    }
}
