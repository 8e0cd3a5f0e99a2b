//! How many requests a key, and all keys of an account together, may send in a time.
//!
//! Each has a store of [`STORE_SECS`] seconds' requests that fills evenly (GCRA): what was saved up may come at once. Both
//! are of this process; what waits inside is bounded by the keys on record, since only known keys are counted.

use std::hash::Hash;
use std::num::NonZeroU32;

use cakework_api::problem::ErrorCode;
use cakework_core::id::{AccountId, KeyId};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::RequestRates;
use crate::error::ApiError;

/// Seconds whose requests may come at once.
const STORE_SECS: u32 = 2;

/// The rates of a process.
pub(crate) struct Rates {
    of_keys: DefaultKeyedRateLimiter<KeyId>,
    of_accounts: DefaultKeyedRateLimiter<AccountId>,
    rates: RequestRates,
}

impl Rates {
    /// Rates at which nobody has sent anything yet.
    pub(crate) fn new(rates: RequestRates) -> Self {
        let quota = |per_second: NonZeroU32| {
            Quota::per_second(per_second)
                .allow_burst(per_second.saturating_mul(NonZeroU32::MIN.saturating_add(STORE_SECS - 1)))
        };
        Self {
            of_keys: RateLimiter::keyed(quota(rates.of_key)),
            of_accounts: RateLimiter::keyed(quota(rates.of_account)),
            rates,
        }
    }

    /// Counts a request by this key of this account.
    pub(crate) fn count(&self, key: &KeyId, account: &AccountId) -> Result<(), ApiError> {
        wait(&self.of_keys, key).map_err(|secs| over("key", self.rates.of_key, secs))?;
        self.count_account(account)
    }

    /// Counts a request that no key came with.
    pub(crate) fn count_account(&self, account: &AccountId) -> Result<(), ApiError> {
        wait(&self.of_accounts, account).map_err(|secs| over("account", self.rates.of_account, secs))
    }
}

/// Seconds after which the next request may come, where it is not now.
fn wait<K: Hash + Eq + Clone>(rates: &DefaultKeyedRateLimiter<K>, of: &K) -> Result<(), u32> {
    rates.check_key(of).map_err(|not_until| {
        let wait = not_until.wait_time_from(DefaultClock::default().now());
        u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
    })
}

fn over(whose: &str, rate: NonZeroU32, secs: u32) -> ApiError {
    let detail = format!("The {whose} may send {rate} requests in a second.");
    ApiError::new(ErrorCode::RateLimited, detail).retry_after(secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_an_account_have_their_own_rates() {
        let rate = |per_second| NonZeroU32::new(per_second).unwrap();
        let rates = Rates::new(RequestRates { of_key: rate(2), of_account: rate(3) });
        let mut rng = rand::rng();
        let account = AccountId::mint(0, &mut rng);
        let [first, second, third] = [0; 3].map(|_| KeyId::mint(0, &mut rand::rng()));
        let sent = |key: &KeyId, count: u32| (0..count).filter(|_| rates.count(key, &account).is_ok()).count();
        assert_eq!(sent(&first, 100), 4, "two seconds' worth");
        let refused = rates.count(&first, &account).unwrap_err();
        assert_eq!((refused.code, refused.retry_after_secs), (ErrorCode::RateLimited, Some(1)));
        assert!(refused.detail.contains("key"), "{}", refused.detail);
        // The account's six, less the four of before: what a key may not send does not count.
        assert_eq!(sent(&second, 100), 2);
        let refused = rates.count(&third, &account).unwrap_err();
        assert!(refused.detail.contains("account"), "{}", refused.detail);
        assert!(rates.count(&third, &AccountId::mint(1, &mut rng)).is_ok(), "another account has its own");
    }
}
