//! How fast a VM may log: a bucket of lines and one of bytes, each refilled at its rate up to its burst.
//!
//! Invariant: every line is admitted or counted, and the count is handed out before the next line is admitted.

use crate::logs::LogConfig;

/// Once lines are dropped, none is admitted before this much of a second's worth has come back: a flood is then told by
/// a few records a second, not by one per line.
const RECOVERY_PER_SECOND: u64 = 4;

/// Decides which lines are kept.
#[derive(Debug)]
pub struct Limiter {
    lines: Bucket,
    bytes: Bucket,
    refilled_ms: u64,
    dropped: u64,
}

/// Tokens in thousandths, so that every millisecond brings a whole number of them.
#[derive(Debug)]
struct Bucket {
    per_second: u64,
    burst: u64,
    milli: u64,
}

impl Limiter {
    /// A limiter with full buckets. Rates and bursts count as 1 at least.
    pub fn new(config: &LogConfig, now_ms: u64) -> Self {
        Self {
            lines: Bucket::full(config.lines_per_second, config.burst_lines),
            bytes: Bucket::full(config.bytes_per_second, config.burst_bytes),
            refilled_ms: now_ms,
            dropped: 0,
        }
    }

    /// Brings both buckets to `now_ms`, of a clock that never goes back.
    pub fn refill(&mut self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.refilled_ms);
        self.refilled_ms = now_ms;
        self.lines.refill(elapsed_ms);
        self.bytes.refill(elapsed_ms);
    }

    /// Whether the next line may be written; if not, it is counted.
    pub fn admit(&mut self, line_bytes: usize) -> bool {
        let bytes = line_bytes as u64;
        let admitted = self.dropped == 0 && self.lines.has(1) && self.bytes.has(bytes);
        if admitted {
            self.lines.take(1);
            self.bytes.take(bytes);
        } else {
            self.dropped += 1;
        }
        admitted
    }

    /// The count of dropped lines, once there are tokens again; the caller writes it down.
    pub fn recovered(&mut self) -> Option<u64> {
        (self.dropped > 0 && self.lines.has_recovered() && self.bytes.has_recovered())
            .then(|| std::mem::take(&mut self.dropped))
    }

    /// Whether lines were dropped that no record tells of yet.
    pub const fn is_dropping(&self) -> bool {
        self.dropped > 0
    }

    /// The count at the end, tokens or not.
    pub fn finish(&mut self) -> Option<u64> {
        (self.dropped > 0).then(|| std::mem::take(&mut self.dropped))
    }
}

impl Bucket {
    fn full(per_second: u64, burst: u64) -> Self {
        let (per_second, burst) = (per_second.max(1), burst.max(1));
        Self { per_second, burst, milli: burst.saturating_mul(1000) }
    }

    fn refill(&mut self, elapsed_ms: u64) {
        let gained = self.per_second.saturating_mul(elapsed_ms);
        self.milli = self.milli.saturating_add(gained).min(self.burst.saturating_mul(1000));
    }

    /// More than the burst is never there at once: such a line costs all of it.
    fn cost(&self, tokens: u64) -> u64 {
        tokens.min(self.burst).saturating_mul(1000)
    }

    fn has(&self, tokens: u64) -> bool {
        self.milli >= self.cost(tokens)
    }

    fn take(&mut self, tokens: u64) {
        self.milli -= self.cost(tokens);
    }

    fn has_recovered(&self) -> bool {
        self.has((self.per_second / RECOVERY_PER_SECOND).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(lines: u64, bytes: u64, burst_lines: u64, burst_bytes: u64) -> LogConfig {
        LogConfig { lines_per_second: lines, bytes_per_second: bytes, burst_lines, burst_bytes, ..LogConfig::default() }
    }

    #[test]
    fn a_burst_passes_and_the_rest_is_counted_until_tokens_return() {
        let mut limiter = Limiter::new(&config(8, 1 << 30, 10, 1 << 30), 5_000);
        assert_eq!((0..25).filter(|_| limiter.admit(1)).count(), 10);
        assert!(limiter.is_dropping());
        limiter.refill(5_249);
        assert_eq!(limiter.recovered(), None, "a quarter of a second's worth is needed");
        assert!(!limiter.admit(1), "one token alone does not end it");
        limiter.refill(5_250);
        assert_eq!(limiter.recovered(), Some(16));
        assert_eq!(limiter.recovered(), None);
        assert_eq!((0..9).filter(|_| limiter.admit(1)).count(), 2);
        assert_eq!(limiter.finish(), Some(7));
        assert_eq!(limiter.finish(), None);
    }

    #[test]
    fn bytes_count_too_and_a_line_larger_than_the_burst_gets_through() {
        let mut limiter = Limiter::new(&config(1000, 100, 1000, 400), 0);
        assert!(limiter.admit(1_000_000));
        assert!(!limiter.admit(1));
        limiter.refill(1_000);
        assert_eq!(limiter.recovered(), Some(1));
        assert!(limiter.admit(100));
        assert!(!limiter.admit(1));
    }

    proptest! {
        #[test]
        fn no_more_than_rate_and_burst_and_every_line_is_accounted_for(
            rate in 0u64..50, burst in 0u64..50,
            steps in proptest::collection::vec((0u64..700, 0usize..40), 1..60),
        ) {
            let mut limiter = Limiter::new(&config(rate, 1 << 40, burst, 1 << 40), 0);
            let (mut now, mut admitted, mut told, mut sent) = (0, 0u64, 0, 0u64);
            for (wait, lines) in steps {
                now += wait;
                limiter.refill(now);
                told += limiter.recovered().unwrap_or(0);
                admitted += (0..lines).filter(|_| limiter.admit(7)).count() as u64;
                sent += lines as u64;
            }
            told += limiter.finish().unwrap_or(0);
            prop_assert_eq!(admitted + told, sent);
            prop_assert!(admitted * 1000 <= burst.max(1) * 1000 + now * rate.max(1));
        }
    }
}
