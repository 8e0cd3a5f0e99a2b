//! Webhooks, as far as they need no I/O: the kinds of events, when a delivery is tried again, and when an endpoint
//! that fails is given up.
//!
//! After the Standard Webhooks specification. Invariant: every delivery ends, after at most [`ATTEMPTS_MAX`] attempts.

use rand::Rng;
use serde::{Deserialize, Serialize};

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Time between one attempt and the next; the first is made at once.
const PAUSES_MS: [u64; 9] = [
    5 * SECOND_MS,
    5 * MINUTE_MS,
    30 * MINUTE_MS,
    2 * HOUR_MS,
    5 * HOUR_MS,
    10 * HOUR_MS,
    14 * HOUR_MS,
    20 * HOUR_MS,
    24 * HOUR_MS,
];
/// Attempts of one delivery.
pub const ATTEMPTS_MAX: u64 = PAUSES_MS.len() as u64 + 1;
/// A pause is longer by up to this part of it, so that what failed together does not come back together.
const JITTER_PART: u64 = 5;
/// Longest time that a receiver may ask to be left alone.
pub const RETRY_AFTER_MAX_MS: u64 = DAY_MS;
/// An endpoint that failed for so long, with no success between, is disabled.
pub const FAILING_MAX_MS: u64 = 5 * DAY_MS;
/// Two failures that are further apart are not one failing: nobody asked in between.
const FAILING_GAP_MS: u64 = PAUSES_MS[8] + PAUSES_MS[8] / JITTER_PART + HOUR_MS;

/// What an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// A build's image is there.
    #[serde(rename = "build.succeeded")]
    BuildSucceeded,
    /// A build has failed, and says why.
    #[serde(rename = "build.failed")]
    BuildFailed,
    /// A VM runs.
    #[serde(rename = "vm.started")]
    VmStarted,
    /// A VM that can be started again stands still.
    #[serde(rename = "vm.stopped")]
    VmStopped,
    /// A VM is over.
    #[serde(rename = "vm.destroyed")]
    VmDestroyed,
    /// Its owner tries an endpoint.
    #[serde(rename = "ping")]
    Ping,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::BuildSucceeded, Self::BuildFailed, Self::VmStarted, Self::VmStopped, Self::VmDestroyed, Self::Ping];

    /// The word in requests, bodies and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BuildSucceeded => "build.succeeded",
            Self::BuildFailed => "build.failed",
            Self::VmStarted => "vm.started",
            Self::VmStopped => "vm.stopped",
            Self::VmDestroyed => "vm.destroyed",
            Self::Ping => "ping",
        }
    }

    /// Whether an endpoint can ask for it; the others come to an endpoint whatever it asks for.
    pub const fn is_chosen(self) -> bool {
        match self {
            Self::BuildSucceeded | Self::BuildFailed | Self::VmStarted | Self::VmStopped | Self::VmDestroyed => true,
            Self::Ping => false,
        }
    }
}

impl std::str::FromStr for EventKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownKind)
    }
}

/// A word that names no kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such kind of event")]
pub struct UnknownKind;

/// What a receiver said to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status; `None` where there was no answer.
    pub status: Option<u16>,
    /// The time that it wants to be left alone.
    pub retry_after_ms: Option<u64>,
}

/// What comes after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is delivered: any 2xx.
    Delivered,
    /// It is tried again after this time.
    Retry {
        /// From now on.
        after_ms: u64,
    },
    /// It was the last attempt.
    Failed,
    /// The endpoint wants nothing any more (410).
    Gone,
}

/// Decides on the attempt with this number, from 1.
pub fn next(attempt: u64, answer: Answer, rng: &mut impl Rng) -> Next {
    // A redirect is a failure as any other: where it leads was not judged when the endpoint was made.
    match answer.status {
        Some(200..=299) => return Next::Delivered,
        Some(410) => return Next::Gone,
        _ => {}
    }
    let at = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(pause_ms) = PAUSES_MS.get(at) else { return Next::Failed };
    let pause_ms = pause_ms + rng.next_u64() % (pause_ms / JITTER_PART + 1);
    // A wish never makes it more often than the schedule.
    let wish_ms = match answer.status {
        Some(429 | 503) => answer.retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS),
        _ => 0,
    };
    Next::Retry { after_ms: pause_ms.max(wish_ms) }
}

/// An endpoint's failures since its last success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// The first of them.
    pub since_ms: u64,
    /// The last of them.
    pub last_ms: u64,
}

impl Failing {
    /// With one more failure.
    #[must_use]
    pub const fn again(before: Option<Self>, now_ms: u64) -> Self {
        match before {
            Some(before) if now_ms.saturating_sub(before.last_ms) <= FAILING_GAP_MS => {
                Self { since_ms: before.since_ms, last_ms: now_ms }
            }
            Some(_) | None => Self { since_ms: now_ms, last_ms: now_ms },
        }
    }

    /// Whether the endpoint is to be given up.
    pub const fn is_too_long(self) -> bool {
        self.last_ms.saturating_sub(self.since_ms) >= FAILING_MAX_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn said(status: u16) -> Answer {
        Answer { status: Some(status), retry_after_ms: None }
    }

    #[test]
    fn words_read_back() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).expect("a word"), kind.as_str());
        }
        assert_eq!("vm.created".parse::<EventKind>(), Err(UnknownKind));
    }

    #[test]
    fn pauses_grow_as_the_specification_has_them_and_end() {
        let mut rng = StdRng::seed_from_u64(1);
        for (at, pause_ms) in PAUSES_MS.iter().enumerate() {
            let Next::Retry { after_ms } = next(at as u64 + 1, said(500), &mut rng) else { panic!("attempt {at}") };
            assert!((*pause_ms..=pause_ms + pause_ms / JITTER_PART).contains(&after_ms), "{at}: {after_ms}");
        }
        for attempt in [ATTEMPTS_MAX, ATTEMPTS_MAX + 1, u64::MAX] {
            assert_eq!(next(attempt, said(500), &mut rng), Next::Failed);
        }
    }

    #[test]
    fn answers_mean_what_the_specification_says() {
        let mut rng = StdRng::seed_from_u64(1);
        for status in [200, 201, 204, 299] {
            assert_eq!(next(1, said(status), &mut rng), Next::Delivered, "{status}");
            assert_eq!(next(ATTEMPTS_MAX, said(status), &mut rng), Next::Delivered, "{status}");
        }
        assert_eq!(next(1, said(410), &mut rng), Next::Gone);
        for status in [100, 199, 300, 301, 307, 400, 404, 429, 500, 503] {
            assert!(matches!(next(1, said(status), &mut rng), Next::Retry { .. }), "{status}");
        }
        assert!(matches!(next(1, Answer { status: None, retry_after_ms: None }, &mut rng), Next::Retry { .. }));
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_within_bounds() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut after = |attempt, status, retry_after_ms| match next(
            attempt,
            Answer { status: Some(status), retry_after_ms: Some(retry_after_ms) },
            &mut rng,
        ) {
            Next::Retry { after_ms } => after_ms,
            other => panic!("{other:?}"),
        };
        assert_eq!(after(1, 429, 60_000), 60_000);
        assert_eq!(after(1, 503, 60_000), 60_000);
        assert!(after(1, 500, 60_000) <= 6_000, "only 429 and 503 ask");
        assert_eq!(after(1, 429, u64::MAX), RETRY_AFTER_MAX_MS);
        assert!(after(5, 503, 1) >= 5 * HOUR_MS, "never sooner than the schedule");
    }

    #[test]
    fn days_of_failure_are_too_long_but_not_two_failures_far_apart() {
        let first = Failing::again(None, 1_000);
        assert!(!first.is_too_long());
        let later = Failing::again(Some(first), 1_000 + FAILING_MAX_MS);
        assert!(!later.is_too_long(), "nobody asked in between");
        assert_eq!(later.since_ms, later.last_ms);
        let mut failing = first;
        let mut now_ms = 1_000;
        while now_ms < 1_000 + FAILING_MAX_MS {
            assert!(!failing.is_too_long());
            now_ms += 12 * HOUR_MS;
            failing = Failing::again(Some(failing), now_ms);
        }
        assert!(failing.is_too_long());
    }

    proptest! {
        #[test]
        fn every_answer_is_decided(attempt: u64, status: Option<u16>, retry_after_ms: Option<u64>, seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            if let Next::Retry { after_ms } = next(attempt, Answer { status, retry_after_ms }, &mut rng) {
                prop_assert!((5 * SECOND_MS..=FAILING_GAP_MS).contains(&after_ms));
                prop_assert!(attempt < ATTEMPTS_MAX);
            }
        }
    }
}
