//! The limits of each VM's log, as the configuration gives them to every monitor.

use serde::{Deserialize, Serialize};

/// How large a log may grow, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LogConfig {
    /// A segment is closed once it has this many bytes.
    pub segment_bytes: u64,
    /// The oldest closed segments go once all segments together have more bytes than this.
    pub total_bytes: u64,
    /// Lines per second that a VM may write for long.
    pub lines_per_second: u64,
    /// Bytes per second that a VM may write for long.
    pub bytes_per_second: u64,
    /// Lines that it may write at once.
    pub burst_lines: u64,
    /// Bytes that it may write at once.
    pub burst_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
            total_bytes: 128 << 20,
            lines_per_second: 5_000,
            bytes_per_second: 2 << 20,
            burst_lines: 50_000,
            burst_bytes: 16 << 20,
        }
    }
}
