//! Who follows a log: a bound on how many do at once, in all and of one account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cakework_core::id::AccountId;

const FOLLOWERS_MAX: usize = 256;
const OF_ACCOUNT_MAX: usize = 32;

/// The followers of this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Followers(Arc<Mutex<HashMap<AccountId, usize>>>);

/// A follower's place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    followers: Followers,
    account: AccountId,
}

impl Followers {
    /// A place for one more; `None` where there are enough.
    pub(crate) fn enter(&self, account: &AccountId) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (counts.values().sum::<usize>(), counts.get(account).copied().unwrap_or(0));
        if all >= FOLLOWERS_MAX || own >= OF_ACCOUNT_MAX {
            return None;
        }
        counts.insert(account.clone(), own + 1);
        Some(Place { followers: self.clone(), account: account.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.followers.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let followers = Followers::default();
        let account = |n| AccountId::mint(n, &mut rand::rng());
        let one = account(1);
        let mut places: Vec<_> = (0..OF_ACCOUNT_MAX).map(|_| followers.enter(&one).unwrap()).collect();
        assert!(followers.enter(&one).is_none());
        places.pop();
        places.push(followers.enter(&one).unwrap());
        for n in 2.. {
            let other = account(n);
            let more: Vec<_> = (0..OF_ACCOUNT_MAX).map_while(|_| followers.enter(&other)).collect();
            let full = more.len() < OF_ACCOUNT_MAX;
            places.extend(more);
            if full {
                break;
            }
        }
        assert_eq!(places.len(), FOLLOWERS_MAX);
        drop(places);
        assert!(followers.0.lock().unwrap().is_empty());
    }
}
