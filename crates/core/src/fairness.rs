//! Whose turn it is: the order in which waiting work of many accounts, and of the tenants within them, is begun.
//!
//! The account that has the fewest running goes first, among equals the one whose last turn is the longest ago; the same
//! among its tenants; within a tenant the longest waiting. So an account that asks for much waits for itself, not
//! others for it, and whoever waits is reached.

use std::collections::HashMap;

/// Work that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// Whose it is.
    pub account: &'a str,
    /// Of which end user.
    pub tenant: Option<&'a str>,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
}

/// What an account's tenant had of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served<'a> {
    /// The account.
    pub account: &'a str,
    /// The end user.
    pub tenant: Option<&'a str>,
    /// How much of its work runs now.
    pub running: u64,
    /// When work of it was last begun, in Unix milliseconds.
    pub last_ms: u64,
}

/// How much somebody has, and since when nothing more: the least of these is next.
type Turn = (u64, u64);

/// The index of what is begun next; `None` where nothing waits.
pub fn pick(waiting: &[Waiting<'_>], served: &[Served<'_>]) -> Option<usize> {
    let mut accounts: HashMap<&str, Turn> = HashMap::new();
    let mut tenants: HashMap<(&str, Option<&str>), Turn> = HashMap::new();
    let add = |turn: &mut Turn, by: &Served<'_>| *turn = (turn.0 + by.running, turn.1.max(by.last_ms));
    for by in served {
        add(accounts.entry(by.account).or_default(), by);
        add(tenants.entry((by.account, by.tenant)).or_default(), by);
    }
    let turn = |work: &Waiting<'_>| {
        let account = accounts.get(work.account).copied().unwrap_or_default();
        let tenant = tenants.get(&(work.account, work.tenant)).copied().unwrap_or_default();
        (account, tenant, work.since_ms)
    };
    (0..waiting.len()).min_by_key(|index| turn(&waiting[*index]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiting<'a>(account: &'a str, tenant: Option<&'a str>, since_ms: u64) -> Waiting<'a> {
        Waiting { account, tenant, since_ms }
    }

    #[test]
    fn the_fewest_running_go_first_then_the_longest_unserved_then_the_longest_waiting() {
        let queue = [waiting("a", None, 1), waiting("b", None, 2), waiting("b", Some("t"), 3), waiting("b", None, 1)];
        let served = |account, tenant, running, last_ms| Served { account, tenant, running, last_ms };
        assert_eq!(pick(&[], &[]), None);
        assert_eq!(pick(&queue, &[]), Some(0));
        assert_eq!(pick(&queue, &[served("a", None, 1, 5)]), Some(3));
        assert_eq!(pick(&queue, &[served("a", None, 0, 5), served("b", None, 0, 6)]), Some(0));
        assert_eq!(pick(&queue, &[served("a", None, 2, 5), served("b", None, 1, 6)]), Some(2));
        assert_eq!(pick(&queue, &[served("a", Some("x"), 1, 5), served("a", None, 1, 5)]), Some(3));
    }

    /// A queue that is always refilled: each turn begins one piece of work and ends the oldest of those that run.
    struct Line {
        owners: Vec<(String, Option<String>)>,
        /// Index of the owner, since when.
        queue: Vec<(usize, u64)>,
        running: Vec<usize>,
        last_ms: Vec<u64>,
        now_ms: u64,
    }

    impl Line {
        /// Begins one; answers whose.
        fn step(&mut self, at_once: usize) -> usize {
            self.now_ms += 1;
            if self.running.len() >= at_once {
                self.running.remove(0);
            }
            let owner = |index: usize| (self.owners[index].0.as_str(), self.owners[index].1.as_deref());
            let queue: Vec<_> =
                self.queue.iter().map(|(index, since)| waiting(owner(*index).0, owner(*index).1, *since)).collect();
            let served: Vec<_> = (0..self.owners.len())
                .map(|index| Served {
                    account: owner(index).0,
                    tenant: owner(index).1,
                    running: self.running.iter().filter(|other| **other == index).count() as u64,
                    last_ms: self.last_ms[index],
                })
                .collect();
            let (index, _) = self.queue.remove(pick(&queue, &served).expect("something waits"));
            self.running.push(index);
            self.last_ms[index] = self.now_ms;
            index
        }
    }

    proptest! {
        /// However many pieces the others ask for, and however often: one piece of somebody is begun within a number
        /// of turns that depends on how many there are, not on how much they ask for.
        #[test]
        fn nobody_starves(
            accounts in 1..5usize, tenants in 1..4usize, at_once in 1..4usize, flood in 1..20usize, quiet in 0..20usize,
        ) {
            let owners: Vec<_> = (0..accounts)
                .flat_map(|account| (0..tenants).map(move |t| (format!("a{account}"), Some(format!("t{t}")))))
                .collect();
            let quiet = quiet % owners.len();
            let mut line = Line {
                queue: Vec::new(), running: Vec::new(), last_ms: vec![0; owners.len()], now_ms: 1, owners,
            };
            let others: Vec<_> = (0..line.owners.len()).filter(|index| *index != quiet).collect();
            for index in &others {
                line.queue.extend((0..flood).map(|_| (*index, 0)));
            }
            line.queue.push((quiet, 1));
            // Every account has a turn in a round of all, every tenant in a round of its account's turns; what runs
            // when a round begins can put it off once.
            let most = (accounts * tenants + at_once) * (at_once + 1);
            for turn in 0.. {
                prop_assert!(turn <= most, "not begun in {most} turns");
                let index = line.step(at_once);
                if index == quiet {
                    break;
                }
                line.queue.push((index, line.now_ms));
            }
        }
    }
}
