//! Which logs of what is over are to go: the old ones, then the oldest of each scope that has too much, then the oldest
//! of all until the rest is small enough. So nobody's noise drives out what others want to read.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::files;

/// How long logs of what is over are kept, and how large those of one scope and all of them together may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retention {
    /// Seconds since the end.
    pub age_secs: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Bytes of one scope's.
    pub scope_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age_secs: 30 * 24 * 60 * 60, bytes: 16 << 30, scope_bytes: 4 << 30 }
    }
}

/// A log whose owner is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended<I> {
    /// Since when.
    pub since: SystemTime,
    /// Bytes of its segments.
    pub bytes: u64,
    /// Whose it is.
    pub scope: String,
    /// The owner.
    pub id: I,
}

impl Retention {
    /// The owners whose logs are to go, the oldest first.
    pub fn to_go<I: Ord>(self, mut ended: Vec<Ended<I>>, now: SystemTime) -> Vec<I> {
        ended.sort();
        let mut scopes: HashMap<String, u64> = HashMap::new();
        for one in &ended {
            *scopes.entry(one.scope.clone()).or_default() += one.bytes;
        }
        let max_age = Duration::from_secs(self.age_secs);
        let is_old = |since: SystemTime| now.duration_since(since).is_ok_and(|age| age > max_age);
        let goes_for_its_scope = |one: &Ended<I>, of_scope: &mut u64| {
            let goes = *of_scope > self.scope_bytes || is_old(one.since);
            *of_scope -= if goes { one.bytes } else { 0 };
            goes
        };
        let (mut gone, rest): (Vec<_>, Vec<_>) = ended
            .into_iter()
            .partition(|one| scopes.get_mut(&one.scope).is_some_and(|of_scope| goes_for_its_scope(one, of_scope)));
        let mut total: u64 = rest.iter().map(|one| one.bytes).sum();
        for one in rest {
            if total <= self.bytes {
                break;
            }
            total -= one.bytes;
            gone.push(one);
        }
        gone.sort();
        gone.into_iter().map(|one| one.id).collect()
    }
}

/// Bytes of a log's segments.
pub fn size(dir: &Path) -> u64 {
    let numbers = files::list(dir).unwrap_or_default();
    numbers.iter().filter_map(|number| files::path_of(dir, *number).metadata().ok()).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> (SystemTime, Vec<Ended<char>>) {
        let now = SystemTime::now();
        let one = |id, scope: &str, age_secs, bytes| Ended {
            since: now - Duration::from_secs(age_secs),
            bytes,
            scope: scope.to_owned(),
            id,
        };
        let ended = vec![one('a', "x", 10, 40), one('b', "x", 200, 40), one('c', "x", 30, 40), one('d', "y", 70, 5)];
        (now, ended)
    }

    #[test]
    fn the_oldest_go_first_and_no_more_than_needed() {
        let (now, ended) = ended();
        let keep = Retention { age_secs: 1000, bytes: 1000, scope_bytes: 1000 };
        assert!(keep.to_go(ended.clone(), now).is_empty());
        assert_eq!(Retention { age_secs: 100, ..keep }.to_go(ended.clone(), now), ['b']);
        assert_eq!(Retention { bytes: 80, ..keep }.to_go(ended.clone(), now), ['b', 'd']);
        assert_eq!(Retention { age_secs: 100, bytes: 50, ..keep }.to_go(ended, now), ['b', 'd', 'c']);
    }

    #[test]
    fn a_scope_with_too_much_loses_its_own_alone() {
        let (now, ended) = ended();
        let keep = Retention { age_secs: 1000, bytes: 1000, scope_bytes: 50 };
        assert_eq!(keep.to_go(ended.clone(), now), ['b', 'c']);
        assert_eq!(
            Retention { bytes: 44, ..keep }.to_go(ended, now),
            ['b', 'd', 'c'],
            "then the oldest of what is left"
        );
    }
}
