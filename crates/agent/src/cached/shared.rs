//! What all cached VMs of a host share: the memory that may wait, the turns of background work, and counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cakework_core::id::VmId;

use super::key::HostKey;
use super::pool::{Caps, Pool, Waits};
use super::turns::Turns;

/// Shared by the drivers.
#[derive(Debug)]
pub struct Shared {
    /// What prepared states of this host belong to.
    pub key: HostKey,
    /// Whom the firewall lets connect to VMs.
    pub edge_uid: u32,
    /// Turns of background work.
    pub turns: Turns,
    pool: Mutex<Pool>,
    restores_failed: AtomicU64,
}

impl Shared {
    /// Nothing waits yet.
    pub fn new(key: HostKey, edge_uid: u32, caps: Caps, cpus: usize) -> Self {
        Self {
            key,
            edge_uid,
            turns: Turns::new(cpus),
            pool: Mutex::new(Pool::new(caps)),
            restores_failed: AtomicU64::new(0),
        }
    }

    /// See [`Pool::could_take`].
    pub fn could_take(&self, mib: u64) -> bool {
        self.pool().could_take(mib)
    }

    /// See [`Pool::has_room`].
    pub fn has_room(&self, scope: &str, mib: u64) -> bool {
        self.pool().has_room(scope, mib)
    }

    /// See [`Pool::enter`].
    pub fn enter(&self, vm: VmId, scope: String, mib: u64, waits: Waits) -> Vec<VmId> {
        self.pool().enter(vm, scope, mib, waits)
    }

    /// See [`Pool::leave`].
    pub fn leave(&self, vm: &VmId) {
        self.pool().leave(vm);
    }

    /// See [`Pool::shrink_to`].
    pub fn shrink_to(&self, mib: u64) -> Vec<VmId> {
        self.pool().shrink_to(mib)
    }

    /// What may wait.
    pub fn caps(&self) -> Caps {
        self.pool().caps()
    }

    /// See [`Pool::waiting`].
    pub fn waiting(&self, waits: Waits) -> (u64, u64) {
        self.pool().waiting(waits)
    }

    /// A restore failed, and a slower start took its place.
    pub fn restore_failed(&self) {
        self.restores_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many did since the agent started.
    pub fn restores_failed(&self) -> u64 {
        self.restores_failed.load(Ordering::Relaxed)
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
