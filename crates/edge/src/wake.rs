//! Waking: a request to a VM that does not run is held while somebody who can start it is asked, once for all requests
//! that wait for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cakework_core::id::VmId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The future of [`Waker::wake`].
pub type Waking = Pin<Box<dyn Future<Output = Result<(), WakeFailure>> + Send>>;

/// Makes a VM run that a request is for.
pub trait Waker: Send + Sync + 'static {
    /// Starts the VM, or wakes it. Answers in bounded time, and with `Ok` only once the route table leads to it.
    ///
    /// # Errors
    /// Why it does not run.
    fn wake(&self, vm_id: &VmId) -> Waking;
}

/// Why a VM was not woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeFailure {
    /// It is over, or its owner does not want requests to start it.
    Stopped,
    /// No host has room for it now.
    NoRoom,
    /// It did not come up.
    Failed,
}

/// What all who wait for one wake look at: its outcome, once there is one.
pub(crate) type Outcome = watch::Receiver<Option<Result<(), WakeFailure>>>;

/// The wakes that go on: one for each VM.
pub(crate) struct Wakes {
    waker: Arc<dyn Waker>,
    running: Arc<Mutex<HashMap<VmId, Outcome>>>,
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl Wakes {
    pub(crate) fn new(waker: Arc<dyn Waker>, tasks: TaskTracker, cut: CancellationToken) -> Self {
        Self { waker, running: Arc::default(), tasks, cut }
    }

    /// Joins the wake of this VM that goes on, or begins one. It goes on without those who wait for it.
    pub(crate) fn wake(&self, vm_id: &VmId) -> Outcome {
        let mut running = lock(&self.running);
        let entry = match running.entry(vm_id.clone()) {
            Entry::Occupied(entry) => return entry.get().clone(),
            Entry::Vacant(entry) => entry,
        };
        let (tell, outcome) = watch::channel(None);
        entry.insert(outcome.clone());
        let (waking, cut) = (self.waker.wake(vm_id), self.cut.clone());
        let done = Done { running: Arc::clone(&self.running), vm_id: vm_id.clone() };
        self.tasks.spawn(async move {
            let woken = tokio::select! {
                woken = waking => woken,
                () = cut.cancelled() => Err(WakeFailure::Failed),
            };
            // Whoever asks from now on wants another wake.
            drop(done);
            tell.send_replace(Some(woken));
        });
        outcome
    }
}

/// Takes a wake off the list, also where its task panics.
struct Done {
    running: Arc<Mutex<HashMap<VmId, Outcome>>>,
    vm_id: VmId,
}

impl Drop for Done {
    fn drop(&mut self) {
        lock(&self.running).remove(&self.vm_id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
