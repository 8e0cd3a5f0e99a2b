//! Places for what is bounded in all and for each account, so that no account takes all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cakework_core::id::AccountId;

/// Places of one kind in this process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    taken: Arc<Mutex<HashMap<AccountId, usize>>>,
    all_max: usize,
    of_account_max: usize,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    account: AccountId,
}

impl Places {
    /// So many places, and so many of one account.
    pub(crate) fn new(all_max: usize, of_account_max: usize) -> Self {
        Self { taken: Arc::default(), all_max, of_account_max }
    }

    /// A place for one more; `None` where there are enough.
    pub(crate) fn enter(&self, account: &AccountId) -> Option<Place> {
        let mut counts = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (counts.values().sum::<usize>(), counts.get(account).copied().unwrap_or(0));
        if all >= self.all_max || own >= self.of_account_max {
            return None;
        }
        counts.insert(account.clone(), own + 1);
        Some(Place { places: self.clone(), account: account.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let places = Places::new(10, 4);
        let account = |n| AccountId::mint(n, &mut rand::rng());
        let (one, other, third) = (account(1), account(2), account(3));
        let mut taken: Vec<_> = (0..4).map(|_| places.enter(&one).unwrap()).collect();
        assert!(places.enter(&one).is_none());
        taken.pop();
        taken.push(places.clone().enter(&one).unwrap());
        taken.extend((0..4).map(|_| places.enter(&other).unwrap()));
        taken.extend((0..2).map(|_| places.enter(&third).unwrap()));
        assert!(places.enter(&third).is_none(), "of all there are enough");
        drop(taken);
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
