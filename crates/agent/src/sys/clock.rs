//! The clock that deadlines count on, and the name of this boot.
//!
//! `CLOCK_BOOTTIME` goes on over a suspend and starts anew with each boot: a stored reading means something only
//! together with the boot's id.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Longest single sleep: a timer of tokio's does not count a suspend, so a long wait is cut in pieces.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Nanoseconds since the host's boot.
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Neither part of a boot time is ever negative.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Milliseconds since the host's boot.
pub fn boottime_ms() -> u64 {
    boottime_ns() / 1_000_000
}

/// Unix time in milliseconds, for minting ids.
pub fn unix_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The id of this boot.
///
/// # Errors
/// Where `/proc` can't be read.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Waits until [`boottime_ms`] is at least `deadline_ms`; for ever where there is none.
pub async fn sleep_until(deadline_ms: Option<u64>) {
    let Some(deadline_ms) = deadline_ms else { return std::future::pending().await };
    loop {
        let left_ms = deadline_ms.saturating_sub(boottime_ms());
        if left_ms == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(left_ms).min(SLEEP_MAX)).await;
    }
}
