//! Kept connections to VMs, by VM and generation, and by nothing else: addresses come back with other VMs behind
//! them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cakework_core::id::{Generation, VmId};
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::body::RequestBody;

/// Sends requests on one connection to a VM.
pub(crate) type Sender = SendRequest<RequestBody>;

/// Connections without a request.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<(VmId, Generation), Vec<Idle>>>,
    max_per_vm: usize,
    max_age: Duration,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(max_per_vm: usize, max_age: Duration) -> Self {
        Self { idle: Mutex::default(), max_per_vm, max_age }
    }

    /// The most recently used connection of this VM in this generation, if it is open and idle for at most `max_age`.
    pub(crate) fn take(&self, vm_id: &VmId, generation: Generation, max_age: Duration) -> Option<Sender> {
        let key = (vm_id.clone(), generation);
        let mut pool = self.lock();
        let connections = pool.get_mut(&key)?;
        let mut found = None;
        while let Some(idle) = connections.pop() {
            if !idle.sender.is_ready() {
                continue;
            }
            if idle.since.elapsed() > max_age.min(self.max_age) {
                connections.push(idle);
                break;
            }
            found = Some(idle.sender);
            break;
        }
        if connections.is_empty() {
            pool.remove(&key);
        }
        found
    }

    /// Keeps a connection for this VM in this generation, unless enough are kept.
    pub(crate) fn put(&self, vm_id: VmId, generation: Generation, sender: Sender) {
        let mut pool = self.lock();
        let connections = pool.entry((vm_id, generation)).or_default();
        if connections.len() < self.max_per_vm {
            connections.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Closes what is kept for this VM in this generation.
    pub(crate) fn forget(&self, vm_id: &VmId, generation: Generation) {
        self.lock().remove(&(vm_id.clone(), generation));
    }

    /// Closes connections that are too old, and forgets those that the VM closed.
    pub(crate) fn sweep(&self) {
        self.lock().retain(|_, connections| {
            connections.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() <= self.max_age);
            !connections.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(VmId, Generation), Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
