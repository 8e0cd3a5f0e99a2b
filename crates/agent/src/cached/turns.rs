//! Turns of background work: one at a time, and none while starts that somebody waits for may need all CPUs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cakework_core::id::VmId;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Preparations and restores in the background at the same time: on few CPUs each takes from the starts that are waited
/// for.
const BACKGROUND_MAX: usize = 1;
/// Time that a start has to itself: about what an app takes until it answers.
const ALONE: Duration = Duration::from_millis(500);
/// Background work that has its turn waits no longer for starts to cease.
const HELD_MAX: Duration = Duration::from_secs(1);
/// CPUs that a start may keep busy: the app, and the kernel of its sandbox.
const CPUS_OF_START: usize = 2;

/// Hands out the turns.
#[derive(Debug)]
pub struct Turns {
    cpus: usize,
    background: Semaphore,
    starts: Mutex<Starts>,
    /// A start is over.
    over: Notify,
}

/// What began lately.
#[derive(Debug, Default)]
struct Starts {
    of: HashMap<VmId, Instant>,
    /// A start is about to come, of a VM that has no name yet.
    announced: Option<Instant>,
}

impl Starts {
    /// Until when there are so many that nothing is left for others.
    fn busy_until(&mut self, cpus: usize, now: Instant) -> Option<Instant> {
        self.of.retain(|_, began| now < *began + ALONE);
        self.announced.take_if(|began| now >= *began + ALONE);
        let mut ends: Vec<Instant> =
            self.of.values().copied().chain(self.announced).map(|began| began + ALONE).collect();
        ends.sort_unstable();
        // The latest ones leave last: with so many of them still there, all CPUs may be busy.
        let enough = cpus.div_ceil(CPUS_OF_START).max(1);
        ends.len().checked_sub(enough).map(|at| ends[at])
    }
}

impl Turns {
    /// Those of a host with so many CPUs.
    pub fn new(cpus: usize) -> Self {
        Self { cpus, background: Semaphore::new(BACKGROUND_MAX), starts: Mutex::default(), over: Notify::new() }
    }

    /// A VM is to start, and somebody waits for it.
    pub fn began(&self, vm: &VmId) {
        let mut starts = self.starts();
        starts.announced = None;
        starts.of.insert(vm.clone(), Instant::now());
    }

    /// One is about to.
    pub fn announced(&self) {
        self.starts().announced = Some(Instant::now());
    }

    /// Nobody waits for this VM any more.
    pub fn ended(&self, vm: &VmId) {
        if self.starts().of.remove(vm).is_some() {
            self.over.notify_waiters();
        }
    }

    /// Waits for a turn, which lasts until it is dropped.
    pub async fn take(&self) -> SemaphorePermit<'_> {
        let turn = self.background.acquire().await.expect("it is never closed");
        let held = Instant::now() + HELD_MAX;
        loop {
            let over = self.over.notified();
            let now = Instant::now();
            let Some(until) = self.starts().busy_until(self.cpus, now).filter(|_| now < held) else { return turn };
            tokio::select! {
                () = tokio::time::sleep_until(until.min(held)) => {}
                () = over => {}
            }
        }
    }

    fn starts(&self) -> MutexGuard<'_, Starts> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(number: u64) -> VmId {
        format!("{number:014x}").parse().expect("an id")
    }

    /// What began so many milliseconds after the first moment.
    fn starts(first: Instant, after_ms: &[u64]) -> Starts {
        let began = |(number, after): (u64, &u64)| (vm(number), first + Duration::from_millis(*after));
        Starts { of: (0..).zip(after_ms).map(began).collect(), announced: None }
    }

    #[test]
    fn a_start_has_two_cpus_to_itself_for_a_while() {
        let first = Instant::now();
        assert_eq!(Starts::default().busy_until(2, first), None);
        let mut starts = starts(first, &[0, 100]);
        assert_eq!(
            starts.busy_until(2, first + Duration::from_millis(100)),
            Some(first + ALONE + Duration::from_millis(100))
        );
        assert_eq!(starts.busy_until(2, first + ALONE + Duration::from_millis(100)), None);
        assert!(starts.of.is_empty(), "what is over is forgotten");
        starts.announced = Some(first);
        assert_eq!(starts.busy_until(1, first), Some(first + ALONE), "whoever comes has no name yet");
        assert_eq!(starts.busy_until(1, first + ALONE), None);
    }

    #[test]
    fn many_cpus_are_kept_by_many_starts_alone() {
        let first = Instant::now();
        let now = first + Duration::from_millis(30);
        assert_eq!(starts(first, &[0, 10, 20]).busy_until(8, now), None);
        assert_eq!(starts(first, &[0, 10, 20, 30]).busy_until(8, now), Some(first + ALONE));
        let fifth_leaves = first + Duration::from_millis(10) + ALONE;
        assert_eq!(starts(first, &[0, 10, 20, 30, 30]).busy_until(8, now), Some(fifth_leaves));
    }

    #[tokio::test]
    async fn turns_come_one_at_a_time_whatever_begins_and_ends() {
        let turns = Turns::new(2);
        let turn = turns.take().await;
        turns.began(&vm(1));
        turns.announced();
        assert!(turns.background.try_acquire().is_err());
        drop(turn);
        let (next, ()) = tokio::join!(turns.take(), async { turns.ended(&vm(1)) });
        assert!(turns.background.try_acquire().is_err());
        drop(next);
        assert!(turns.background.try_acquire().is_ok());
    }
}
