//! Whether a run does something, from its control group's CPU time. Pure.

/// CPU time under which a run is idle, in thousandths of a CPU. A sandbox whose app waits for requests uses up to 35, nearly
/// all of it the engine's own.
const FLOOR_MILLI: u64 = 60;
/// Readings that are closer together say nothing.
const SPAN_MIN_MS: u64 = 200;

/// What is known of a run's use of the CPU.
#[derive(Debug, Default)]
pub struct Activity {
    last: Option<(u64, u64)>,
    busy_at_ms: u64,
}

impl Activity {
    /// A run that goes on now.
    pub const fn since(now_ms: u64) -> Self {
        Self { last: None, busy_at_ms: now_ms }
    }

    /// Takes a reading of the CPU time used so far, in nanoseconds.
    pub fn sample(&mut self, now_ms: u64, cpu_ns: u64) {
        let Some((then_ms, then_ns)) = self.last else {
            self.last = Some((now_ms, cpu_ns));
            return;
        };
        let span_ms = now_ms.saturating_sub(then_ms);
        if span_ms < SPAN_MIN_MS {
            return;
        }
        // Nanoseconds per millisecond are millionths of a CPU.
        if cpu_ns.saturating_sub(then_ns) / span_ms > FLOOR_MILLI * 1000 {
            self.busy_at_ms = now_ms;
        }
        self.last = Some((now_ms, cpu_ns));
    }

    /// How long it has been idle.
    pub const fn idle_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.busy_at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_idle_since_it_last_used_the_cpu() {
        let mut run = Activity::since(1000);
        run.sample(1000, 0);
        run.sample(2000, 10_000_000);
        assert_eq!(run.idle_ms(2000), 1000, "10 ms of a second are nothing");
        run.sample(2100, 90_000_000);
        run.sample(3000, 90_000_000);
        assert_eq!(run.idle_ms(3000), 0, "80 ms are something, whenever they were");
        run.sample(4000, 90_000_000);
        assert_eq!(run.idle_ms(4500), 1500);
    }
}
