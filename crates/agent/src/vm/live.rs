//! What a VM that is not over holds of its host: its share, and the way to its driver.

use cakework_core::admission::Amounts;
use cakework_core::spec::VmSpec;
use tokio::sync::{mpsc, watch};

use super::record::{Ask, Assignment};
use crate::cached::{Handle, Wish};
use crate::net::Slot;

/// What a VM that is not over holds of its host, and the way to whoever owns it.
#[derive(Debug, Clone)]
pub(super) struct Live {
    /// What it takes while it runs.
    pub(super) demand: Amounts,
    /// A cached one has no run: it holds its disks and its slot alone.
    pub(super) rests: bool,
    pub(super) slot: Slot,
    /// What connects to it comes to this port.
    pub(super) port: Option<u16>,
    pub(super) driver: Way,
}

/// The way to a driver.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Once(watch::Sender<Ask>),
    Cached(Handle),
}

impl Live {
    pub(super) fn once(assignment: &Assignment, ask: Ask) -> Self {
        let driver = Way::Once(watch::Sender::new(ask));
        Self::new(assignment, driver)
    }

    pub(super) fn cached(assignment: &Assignment, wish: Wish) -> Self {
        // The driver brings the other end of its commands.
        let handle = Handle { wishes: watch::Sender::new(wish), commands: mpsc::channel(1).0 };
        Self::new(assignment, Way::Cached(handle))
    }

    pub(super) fn new(assignment: &Assignment, driver: Way) -> Self {
        let (slot, port) = (assignment.slot, assignment.spec.port);
        Self { demand: demand(assignment), rests: false, slot, port, driver }
    }

    pub(super) const fn is_once(&self) -> bool {
        matches!(self.driver, Way::Once(_))
    }

    pub(super) const fn reserved(&self) -> Amounts {
        if self.rests { resting(self.demand) } else { self.demand }
    }
}

impl Way {
    pub(super) fn ask(&self) -> Ask {
        match self {
            Self::Once(asks) => *asks.borrow(),
            Self::Cached(handle) => handle.wishes.borrow().ask,
        }
    }

    pub(super) fn send_ask(&self, wanted: Ask) {
        let _news = match self {
            Self::Once(asks) => asks.send_if_modified(|ask| std::mem::replace(ask, wanted) != wanted),
            Self::Cached(handle) => {
                handle.wishes.send_if_modified(|wish| std::mem::replace(&mut wish.ask, wanted) != wanted)
            }
        };
    }
}

/// What a VM takes from its host while it runs. A cached one keeps a second root disk and its memory twice, prepared and
/// asleep.
fn demand(assignment: &Assignment) -> Amounts {
    demand_of(&assignment.spec, assignment.cached.is_some())
}

pub(super) fn demand_of(spec: &VmSpec, cached: bool) -> Amounts {
    let demand = spec.demand();
    let kept_mib = u64::from(spec.disk_mib) + 2 * u64::from(spec.memory_mib);
    Amounts { disk_mib: demand.disk_mib + if cached { kept_mib } else { 0 }, ..demand }
}

/// The same while it does not.
pub(super) const fn resting(demand: Amounts) -> Amounts {
    Amounts { memory_mib: 0, cpu_milli: 0, ..demand }
}
