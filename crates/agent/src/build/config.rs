//! What an operator may set about builds.

use serde::{Deserialize, Serialize};

const GIB: u64 = 1 << 30;
const DAY_SECS: u64 = 24 * 3600;

/// How many builds run at a time, what each may use, and what is kept of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BuildConfig {
    /// Builds at once; their shares come from the same capacity as the VMs'.
    pub parallel: u16,
    /// Memory of a build's commands.
    pub memory_mib: u32,
    /// CPUs of a build's commands.
    pub cpu: u32,
    /// The disk that a build's files, its steps' changes and what it unpacks lie on.
    pub disk_mib: u32,
    /// A step's layer, as a tar stream.
    pub layer_max_bytes: u64,
    /// Entries of a context, and of an archive that ADD unpacks.
    pub archive_entries: u64,
    /// A file that ADD fetches.
    pub download_max_bytes: u64,
    /// Time for one of them, in seconds.
    pub download_timeout_secs: u64,
    /// A `--mount=type=tmpfs` that names no size, and the most that one may name.
    pub tmpfs_mib: u32,
    /// Layers that only cached steps keep, of all scopes.
    pub cache_bytes: u64,
    /// Steps that were not used for so long are forgotten.
    pub cache_age_secs: u64,
    /// What one scope's `--mount=type=cache` directories may hold together.
    pub cache_mount_mib: u32,
    /// What the cache directories of all scopes may hold; those unused longest go first.
    pub cache_mounts_bytes: u64,
    /// How long the log and the outcome of a build are kept.
    pub log_age_secs: u64,
    /// Bytes of all logs of builds that are over; the oldest go first.
    pub logs_bytes: u64,
}

impl Default for BuildConfig {
    fn default() -> Self {
        Self {
            parallel: 2,
            memory_mib: 2048,
            cpu: 2,
            disk_mib: 10 * 1024,
            layer_max_bytes: 10 * GIB,
            archive_entries: 200_000,
            download_max_bytes: GIB,
            download_timeout_secs: 600,
            tmpfs_mib: 512,
            cache_bytes: 20 * GIB,
            cache_age_secs: 14 * DAY_SECS,
            cache_mount_mib: 5 * 1024,
            cache_mounts_bytes: 20 * GIB,
            log_age_secs: 14 * DAY_SECS,
            logs_bytes: 4 * GIB,
        }
    }
}
