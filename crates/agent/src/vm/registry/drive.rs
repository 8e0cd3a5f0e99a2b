//! The tasks that own the VMs: begun here, and what is given back at their end.

use std::sync::Arc;

use cakework_core::id::VmId;
use cakework_wire::host::VmReport;
use tokio::sync::{mpsc, watch};

use super::{Inner, Registry};
use crate::cached;
use crate::vm::VmDir;
use crate::vm::driver::Driver;
use crate::vm::live::Way;
use crate::vm::record::{Ask, Assignment, Record};

/// Commands that wait for one cached VM's driver.
const COMMANDS_MAX: usize = 256;

impl Registry {
    /// Drives a new VM; one whose sandbox was made ahead by the driver that made it.
    pub(super) fn drive(&self, vm: VmId, dir: VmDir, assignment: Assignment, record: Record, ahead: Option<Driver>) {
        let (parts, asks) = (Arc::clone(&self.inner.parts), self.asks_of(&vm));
        let driver = match ahead {
            Some(driver) => driver.ask_for(assignment, asks),
            None => Driver::new(parts, vm.clone(), dir, assignment, record, asks, false),
        };
        self.run(vm, driver);
    }

    pub(super) fn asks_of(&self, vm: &VmId) -> watch::Receiver<Ask> {
        let state = self.inner.state();
        let live = state.vms.get(vm).and_then(|entry| entry.live.as_ref());
        let asks = live.and_then(|live| match &live.driver {
            Way::Once(asks) => Some(asks.subscribe()),
            Way::Cached(_) => None,
        });
        asks.expect("whoever is driven was entered as alive")
    }

    pub(super) fn run(&self, vm: VmId, driver: Driver) {
        let inner = Arc::clone(&self.inner);
        self.inner.drivers.spawn(async move {
            if let Some(record) = driver.run().await {
                inner.over(&vm, record.report(&vm));
            }
        });
    }

    pub(super) fn drive_cached(&self, vm: VmId, dir: VmDir, record: cached::Record, resumed: bool) {
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
}

impl Inner {
    /// Gives back what was promised, then says that the VM is over: whoever hears it finds the room.
    fn over(&self, vm: &VmId, report: VmReport) {
        self.parts.execs.forget(vm);
        self.cached.turns.ended(vm);
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
