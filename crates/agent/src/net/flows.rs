//! The connections that the kernel still knows of addresses whose VM is gone.
//!
//! To find them the kernel walks through its whole table, for milliseconds in which that CPU does nothing else. So it is
//! asked once for all addresses that were left since the last time, and at once only for one that a VM is about to have.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{NetError, blocking, conntrack};

/// The addresses that were left. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Flows {
    left: Arc<Mutex<BTreeSet<Ipv4Addr>>>,
    /// One walk at a time.
    walk: Arc<tokio::sync::Mutex<()>>,
}

impl Flows {
    /// The VM of this address is gone.
    pub fn leave(&self, address: Ipv4Addr) {
        self.left().insert(address);
    }

    /// A VM is about to have this address: nothing of another one is known under it when this answers.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn free(&self, address: Ipv4Addr) -> Result<(), NetError> {
        let was_left = self.left().contains(&address);
        if was_left { self.forget().await } else { Ok(()) }
    }

    /// Forgets the connections of all addresses that were left.
    ///
    /// # Errors
    /// Where the kernel refuses; it is asked again the next time.
    pub async fn forget(&self) -> Result<(), NetError> {
        let _one = self.walk.lock().await;
        let left = self.left().clone();
        if left.is_empty() {
            return Ok(());
        }
        // An address that is being walked for is not left anew meanwhile: whoever wants it waits for this walk.
        let these = left.clone();
        blocking("forget connections", move || conntrack::forget(|address| these.contains(&address))).await?;
        self.left().retain(|address| !left.contains(address));
        Ok(())
    }

    fn left(&self) -> MutexGuard<'_, BTreeSet<Ipv4Addr>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
