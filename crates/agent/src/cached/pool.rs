//! Which sandboxes may wait: those that are paused cost memory that nobody was promised. Pure.
//!
//! Invariant: what waits never takes more than its cap, for the host and for each scope; who was used longest ago goes
//! first.

use std::collections::BTreeMap;

use cakework_core::id::VmId;

/// How much memory may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// On the whole host, in MiB.
    pub host_mib: u64,
    /// Of one scope, in MiB.
    pub scope_mib: u64,
}

/// Why a sandbox waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// For a start, with the prepared memory.
    Paused,
    /// For the prepared memory to be restored into it.
    Blank,
    /// For its process to be started.
    Created,
    /// To be woken.
    Asleep,
}

/// What may wait for a VM's next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// An instance with its memory.
    Memory,
    /// A sandbox with nothing in it.
    Sandbox,
    /// Nothing.
    None,
}

#[derive(Debug, Clone)]
struct Entry {
    scope: String,
    mib: u64,
    waits: Waits,
    /// The count of the last use: higher is later.
    used: u64,
}

/// What waits.
#[derive(Debug)]
pub struct Pool {
    caps: Caps,
    entries: BTreeMap<VmId, Entry>,
    uses: u64,
}

impl Pool {
    /// An empty pool.
    pub const fn new(caps: Caps) -> Self {
        Self { caps, entries: BTreeMap::new(), uses: 0 }
    }

    /// What may wait.
    pub const fn caps(&self) -> Caps {
        self.caps
    }

    /// Whether a sandbox of this size could wait if others went.
    pub const fn could_take(&self, mib: u64) -> bool {
        mib <= self.caps.host_mib && mib <= self.caps.scope_mib
    }

    /// Whether a sandbox of this size could wait and nobody had to go.
    pub fn has_room(&self, scope: &str, mib: u64) -> bool {
        self.mib_of(None) + mib <= self.caps.host_mib && self.mib_of(Some(scope)) + mib <= self.caps.scope_mib
    }

    /// A sandbox waits from now on; gives who has to go for it, perhaps itself. What took the place of more goes before
    /// all others.
    pub fn enter(&mut self, vm: VmId, scope: String, mib: u64, waits: Waits) -> Vec<VmId> {
        self.uses += 1;
        let used = if waits == Waits::Blank { 0 } else { self.uses };
        self.entries.insert(vm, Entry { scope: scope.clone(), mib, waits, used });
        let mut gone = Vec::new();
        while self.mib_of(Some(&scope)) > self.caps.scope_mib {
            gone.extend(self.take_oldest(Some(&scope)));
        }
        gone.extend(self.shrink_to(self.caps.host_mib));
        gone
    }

    /// A sandbox does not wait any more; fine where it did not.
    pub fn leave(&mut self, vm: &VmId) {
        self.entries.remove(vm);
    }

    /// Who has to go so that no more than this waits on the host.
    pub fn shrink_to(&mut self, host_mib: u64) -> Vec<VmId> {
        let mut gone = Vec::new();
        while self.mib_of(None) > host_mib {
            gone.extend(self.take_oldest(None));
        }
        gone
    }

    /// How many wait so, and the memory of all of them in MiB.
    pub fn waiting(&self, waits: Waits) -> (u64, u64) {
        let these = self.entries.values().filter(|entry| entry.waits == waits);
        these.fold((0, 0), |(count, mib), entry| (count + 1, mib + entry.mib))
    }

    fn mib_of(&self, scope: Option<&str>) -> u64 {
        self.entries
            .values()
            .filter(|entry| scope.is_none_or(|scope| entry.scope == scope))
            .map(|entry| entry.mib)
            .sum()
    }

    fn take_oldest(&mut self, scope: Option<&str>) -> Option<VmId> {
        let these = self.entries.iter().filter(|(_, entry)| scope.is_none_or(|scope| entry.scope == scope));
        let oldest = these.min_by_key(|(_, entry)| entry.used).map(|(vm, _)| vm.clone())?;
        self.entries.remove(&oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vm(number: u8) -> VmId {
        format!("{number:014x}").parse().expect("an id")
    }

    #[test]
    fn the_longest_unused_goes_first_within_its_scope() {
        let mut pool = Pool::new(Caps { host_mib: 100, scope_mib: 50 });
        assert_eq!(pool.enter(vm(1), "a".into(), 30, Waits::Paused), []);
        assert_eq!(pool.enter(vm(2), "b".into(), 30, Waits::Paused), []);
        assert_eq!(pool.enter(vm(3), "a".into(), 30, Waits::Asleep), [vm(1)], "its own scope is over its cap");
        assert_eq!(pool.enter(vm(4), "c".into(), 45, Waits::Created), [vm(2)], "the host is");
        assert_eq!(pool.waiting(Waits::Paused), (0, 0));
        assert_eq!(pool.waiting(Waits::Asleep), (1, 30));
        assert_eq!(pool.enter(vm(5), "d".into(), 51, Waits::Paused), [vm(5)], "what is too large has no place");
        assert!(!pool.could_take(51) && pool.could_take(50));
        pool.leave(&vm(3));
        assert_eq!(pool.shrink_to(10), [vm(4)]);
    }

    #[test]
    fn what_waits_in_place_of_more_takes_nobodys_place() {
        let mut pool = Pool::new(Caps { host_mib: 100, scope_mib: 100 });
        assert_eq!(pool.enter(vm(1), "a".into(), 60, Waits::Paused), []);
        assert!(pool.has_room("a", 40) && !pool.has_room("b", 41));
        assert_eq!(pool.enter(vm(2), "b".into(), 41, Waits::Blank), [vm(2)]);
        assert_eq!(pool.enter(vm(2), "b".into(), 40, Waits::Blank), []);
        assert_eq!(pool.enter(vm(3), "c".into(), 10, Waits::Created), [vm(2)]);
    }

    proptest! {
        #[test]
        fn the_caps_hold(caps in (0..200u64, 0..200u64), enters in proptest::collection::vec((0..9u8, 0..3u8, 0..80u64), 0..40)) {
            let mut pool = Pool::new(Caps { host_mib: caps.0, scope_mib: caps.1 });
            let mut here = std::collections::BTreeSet::new();
            for (number, scope, mib) in enters {
                here.insert(vm(number));
                for gone in pool.enter(vm(number), scope.to_string(), mib, Waits::Paused) {
                    prop_assert!(here.remove(&gone));
                }
                prop_assert!(pool.mib_of(None) <= caps.0);
                for scope in 0..3u8 {
                    prop_assert!(pool.mib_of(Some(&scope.to_string())) <= caps.1);
                }
                prop_assert_eq!(pool.entries.len(), here.len());
            }
        }
    }
}
