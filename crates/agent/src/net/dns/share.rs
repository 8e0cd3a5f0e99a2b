//! Shares of a bounded thing: so many for all guests together, so many for one of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Hands out shares.
#[derive(Debug)]
pub struct Shares {
    all: usize,
    each: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_guest: HashMap<IpAddr, usize>,
}

/// A share; given back when dropped.
#[derive(Debug)]
pub struct Share {
    guest: IpAddr,
    taken: Arc<Mutex<Taken>>,
}

impl Shares {
    /// `all` shares, of which one guest gets at most `each`.
    pub fn new(all: usize, each: usize) -> Self {
        Self { all, each, taken: Arc::default() }
    }

    /// A share for this guest; `None` where none is free.
    pub fn take(&self, guest: IpAddr) -> Option<Share> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_guest = taken.by_guest.get(&guest).copied().unwrap_or(0);
        if taken.all >= self.all || of_guest >= self.each {
            return None;
        }
        taken.all += 1;
        taken.by_guest.insert(guest, of_guest + 1);
        Some(Share { guest, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(of_guest) = taken.by_guest.get_mut(&self.guest) {
            *of_guest -= 1;
            if *of_guest == 0 {
                taken.by_guest.remove(&self.guest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_guest_leaves_room_for_others_and_dropped_shares_come_back() {
        let shares = Shares::new(3, 2);
        let [one, two]: [IpAddr; 2] = ["10.77.0.1", "10.77.0.2"].map(|text| text.parse().expect("an address"));
        let held = [shares.take(one), shares.take(one)];
        assert!(held.iter().all(Option::is_some));
        assert!(shares.take(one).is_none());
        let other = shares.take(two);
        assert!(other.is_some());
        assert!(shares.take(two).is_none(), "all are taken");
        drop(held);
        assert!(shares.take(two).is_some());
        drop(other);
        assert!(shares.taken.lock().expect("not poisoned").by_guest.is_empty());
    }
}
