//! The route table: which VM a hostname label names, and whether it can be reached now.
//!
//! Whoever knows the VMs applies routes; requests look them up and watch them. A route only ever moves forward in
//! `(generation, seq)`, also over its removal, so that a late message never leads to an address that another VM has
//! since been given.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cakework_core::id::{Generation, HostLabel, VmId};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::flight::{Flight, Quiet};

/// Removed routes that are remembered, so that an older message does not bring one back.
const TOMBSTONES_MAX: usize = 4096;

/// Where a VM's port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// It will be there soon: requests wait.
    Starting,
    /// Its sandbox runs. The port accepts now or soon.
    Ready(SocketAddr),
    /// It stands still or sleeps: a request has it started or woken.
    Dormant,
    /// It sleeps without its sandbox: the same, and connections to it are cut at once, since nobody answers on them.
    Spilled,
    /// It is not running, and no request starts it.
    Stopped,
}

/// What a hostname label leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The VM.
    pub vm_id: VmId,
    /// Its placement.
    pub generation: Generation,
    /// Orders the routes of one placement.
    pub seq: u64,
    /// Where it is.
    pub target: Target,
}

impl Route {
    fn order(&self) -> (Generation, u64) {
        (self.generation, self.seq)
    }
}

/// A route, and since when it leads somewhere.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) route: Route,
    /// When this placement got to its target.
    pub(crate) since: Instant,
    /// Has room for the one request that tries whether the port accepts.
    pub(crate) knocking: Arc<Semaphore>,
}

impl Known {
    fn new(route: Route) -> Self {
        Self { route, since: Instant::now(), knocking: Arc::new(Semaphore::new(1)) }
    }

    /// True while `address` belongs to this VM in this generation.
    pub(crate) fn leads_to(&self, vm_id: &VmId, generation: Generation, address: SocketAddr) -> bool {
        self.route.vm_id == *vm_id && self.route.generation == generation && self.route.target == Target::Ready(address)
    }
}

/// The routes of this edge. Clones share one table.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    routes: Mutex<Routes>,
    flight: Flight,
}

#[derive(Debug, Default)]
struct Routes {
    live: HashMap<HostLabel, watch::Sender<Known>>,
    removed: HashMap<HostLabel, (Generation, u64)>,
    removed_order: VecDeque<HostLabel>,
}

impl RouteTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where `label` leads. A route that is older in `(generation, seq)` than the one known is ignored.
    pub fn apply(&self, label: HostLabel, route: Route) {
        let mut routes = self.routes();
        if routes.removed.get(&label).is_some_and(|removed| route.order() <= *removed) {
            return;
        }
        match routes.live.get(&label) {
            Some(known) => {
                known.send_if_modified(|known| {
                    if route.order() < known.route.order() || route == known.route {
                        return false;
                    }
                    let same_place = known.route.vm_id == route.vm_id
                        && known.route.generation == route.generation
                        && known.route.target == route.target;
                    if same_place {
                        known.route = route;
                    } else {
                        *known = Known::new(route);
                    }
                    // Who waits is woken by what leads elsewhere, not by a new number.
                    !same_place
                });
            }
            None => {
                routes.live.insert(label, watch::Sender::new(Known::new(route)));
            }
        }
    }

    /// Forgets `label`, unless its route is newer than `seq`. Requests that wait for it are answered with 404.
    pub fn remove(&self, label: &HostLabel, seq: u64) {
        let mut routes = self.routes();
        let Some(known) = routes.live.get(label).map(|known| known.borrow().route.clone()) else { return };
        let order = known.order();
        if order.1 > seq {
            return;
        }
        routes.live.remove(label);
        self.shared.flight.forget(&known.vm_id);
        if routes.removed.insert(label.clone(), (order.0, seq)).is_none() {
            routes.removed_order.push_back(label.clone());
        }
        while routes.removed_order.len() > TOMBSTONES_MAX {
            if let Some(oldest) = routes.removed_order.pop_front() {
                routes.removed.remove(&oldest);
            }
        }
    }

    /// How many labels lead somewhere.
    pub fn len(&self) -> usize {
        self.routes().live.len()
    }

    /// True while no label leads anywhere.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests and WebSockets of a VM that are open now, those that wait for it included.
    pub fn in_flight(&self, vm_id: &VmId) -> usize {
        self.shared.flight.open(vm_id)
    }

    /// Requests and WebSockets of all VMs that are open now.
    pub fn open(&self) -> usize {
        self.shared.flight.open_in_all()
    }

    /// Requests that wait for their VMs now.
    pub fn waiting(&self) -> usize {
        self.shared.flight.waiting()
    }

    /// How long the VM of `label` has been reachable with no request or WebSocket open; `None` while one is, or while it
    /// can't be reached.
    pub fn idle_for(&self, label: &HostLabel) -> Option<Duration> {
        let known = self.routes().live.get(label)?.borrow().clone();
        let Target::Ready(_) = known.route.target else { return None };
        let since = self.shared.flight.idle_since(&known.route.vm_id)?;
        Some(since.map_or(known.since, |since| since.max(known.since)).elapsed())
    }

    /// Makes new requests of a VM wait until the answer is dropped, so that it can be put to sleep under none. `None`
    /// while a request or WebSocket is open, or the VM is quiet already.
    pub fn quiet(&self, vm_id: &VmId) -> Option<Quiet> {
        self.shared.flight.quiet(vm_id)
    }

    /// The route of `label`, to look at and to wait on. It closes when the label is removed.
    pub(crate) fn find(&self, label: &HostLabel) -> Option<watch::Receiver<Known>> {
        self.routes().live.get(label).map(watch::Sender::subscribe)
    }

    pub(crate) fn flight(&self) -> &Flight {
        &self.shared.flight
    }

    /// The table stays whole if a holder of the lock panics: no change is left half done.
    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.shared.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "10.64.0.1:8080";

    fn label(digit: usize) -> HostLabel {
        format!("01{digit:024}").parse().expect("digits are a label")
    }

    fn route(generation: u64, seq: u64, target: Target) -> Route {
        let vm_id = "e784996f346483".parse().expect("a VM id");
        Route { vm_id, generation: Generation(generation), seq, target }
    }

    fn ready() -> Target {
        Target::Ready(ADDRESS.parse().expect("an address"))
    }

    fn target(table: &RouteTable) -> Option<Target> {
        table.find(&label(1)).map(|known| known.borrow().route.target)
    }

    #[test]
    fn an_older_route_is_ignored() {
        let table = RouteTable::new();
        table.apply(label(1), route(2, 5, ready()));
        for (generation, seq) in [(2, 4), (1, 6), (1, 99)] {
            table.apply(label(1), route(generation, seq, Target::Stopped));
            assert_eq!(target(&table), Some(ready()), "{generation} {seq}");
        }
        table.apply(label(1), route(2, 6, Target::Stopped));
        assert_eq!(target(&table), Some(Target::Stopped));
        table.apply(label(1), route(3, 1, Target::Starting));
        assert_eq!(target(&table), Some(Target::Starting));
    }

    #[test]
    fn a_removed_route_does_not_come_back_with_an_older_message() {
        let table = RouteTable::new();
        table.apply(label(1), route(1, 5, ready()));
        table.remove(&label(1), 4);
        assert_eq!(table.len(), 1, "the removal was older");
        table.remove(&label(1), 7);
        assert!(table.is_empty());
        table.apply(label(1), route(1, 7, ready()));
        assert_eq!(target(&table), None);
        table.apply(label(1), route(1, 8, ready()));
        assert_eq!(target(&table), Some(ready()));
    }

    #[test]
    fn removals_are_remembered_within_a_bound() {
        let table = RouteTable::new();
        for digit in 0..TOMBSTONES_MAX + 10 {
            table.apply(label(digit), route(1, 1, ready()));
            table.remove(&label(digit), 1);
        }
        let routes = table.routes();
        assert_eq!((routes.removed.len(), routes.removed_order.len()), (TOMBSTONES_MAX, TOMBSTONES_MAX));
    }

    #[test]
    fn idleness_counts_from_the_last_request_or_from_the_start() {
        let table = RouteTable::new();
        let begin = Instant::now();
        let idle = || table.idle_for(&label(1));
        // An idleness that began after this moment.
        let since = |moment: Instant| idle().is_some_and(|idle| Instant::now() - idle >= moment);
        table.apply(label(1), route(1, 1, Target::Starting));
        assert_eq!(idle(), None, "it does not run");
        table.apply(label(1), route(1, 2, ready()));
        assert!(since(begin));
        let vm_id = route(1, 2, ready()).vm_id;
        let open = table.flight().begin(&vm_id, 1).expect("none is open");
        assert_eq!(idle(), None, "a request is open");
        assert!(table.quiet(&vm_id).is_none());
        let ended = Instant::now();
        drop(open);
        assert!(since(ended));
        // It slept and woke: the time before does not count.
        table.apply(label(1), route(1, 3, Target::Dormant));
        let woken = Instant::now();
        assert_eq!(idle(), None, "it sleeps");
        table.apply(label(1), route(1, 4, ready()));
        assert!(since(woken));
        table.remove(&label(1), 5);
        assert!(table.flight().is_empty(), "what it counted goes with the route");
    }

    #[test]
    fn a_target_counts_from_the_first_route_that_says_so() {
        let table = RouteTable::new();
        table.apply(label(1), route(1, 1, ready()));
        let mut known = table.find(&label(1)).expect("it was applied");
        let since = known.borrow_and_update().since;
        table.apply(label(1), route(1, 2, ready()));
        assert_eq!((known.borrow().since, known.borrow().route.seq), (since, 2));
        assert!(!known.has_changed().expect("the label is known"), "nobody is woken by a number");
        table.apply(label(1), route(2, 1, ready()));
        assert!(known.has_changed().expect("the label is known"), "another generation is another place");
    }
}
