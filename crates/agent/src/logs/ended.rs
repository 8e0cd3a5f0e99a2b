//! Which logs of what is over are to go: the old ones, then the oldest until the rest is small enough.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::files;

/// How long logs of what is over are kept, and how large all of them together may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retention {
    /// Seconds since the end.
    pub age_secs: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age_secs: 30 * 24 * 60 * 60, bytes: 16 << 30 }
    }
}

/// A log whose owner is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended<I> {
    /// Since when.
    pub since: SystemTime,
    /// Bytes of its segments.
    pub bytes: u64,
    /// The owner.
    pub id: I,
}

impl Retention {
    /// The owners whose logs are to go, the oldest first.
    pub fn to_go<I: Ord>(self, mut ended: Vec<Ended<I>>, now: SystemTime) -> Vec<I> {
        ended.sort();
        let mut total: u64 = ended.iter().map(|one| one.bytes).sum();
        let max_age = Duration::from_secs(self.age_secs);
        let mut gone = Vec::new();
        for one in ended {
            if total > self.bytes || now.duration_since(one.since).is_ok_and(|age| age > max_age) {
                total -= one.bytes;
                gone.push(one.id);
            }
        }
        gone
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

    #[test]
    fn the_oldest_go_first_and_no_more_than_needed() {
        let now = SystemTime::now();
        let one = |id, age_secs, bytes| Ended { since: now - Duration::from_secs(age_secs), bytes, id };
        let ended = vec![one('a', 10, 40), one('b', 200, 40), one('c', 30, 40), one('d', 20, 1)];
        assert_eq!(Retention { age_secs: 100, bytes: 50 }.to_go(ended.clone(), now), ['b', 'c']);
        assert!(Retention { age_secs: 1000, bytes: 1000 }.to_go(ended, now).is_empty());
    }
}
