//! Finds the sandbox engine and proves it: a version that is new enough is no proof, a sandbox that really ran is.
//!
//! Invariant: a host whose canary did not run says why and how to repair it, and starts no VM until one did.

use std::path::PathBuf;
use std::time::Instant;

use cakework_core::id::InstanceId;
use serde::Serialize;

use crate::backend::gvisor::{self, EngineError, Gvisor};
use crate::net::Told;

mod canary;
mod elf;

pub(crate) use canary::sweep;

/// The first build whose systrap platform and restore are usable.
const OLDEST_DATE: u32 = 20_240_101;

/// What the probe needs to know.
#[derive(Debug, Clone)]
pub struct ProbeConfig {
    /// gVisor's `runsc`.
    pub runsc: PathBuf,
    /// The `cakework` program, for the canary's monitor.
    pub program: PathBuf,
    /// A directory of root's, in which the canary is made and removed again.
    pub dir: PathBuf,
    /// The instance whose names the canary bears.
    pub instance: InstanceId,
    /// See [`crate::AgentConfig::cgroup_parent`].
    pub cgroup_parent: Option<String>,
}

/// An engine that works here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// `gvisor`.
    pub engine: String,
    /// Its own version.
    pub version: String,
    /// How it catches system calls: `systrap`.
    pub platform: String,
    /// How long the canary took from its start to its end.
    pub canary_ms: u64,
}

impl Engine {
    /// How it learns of a VM's network.
    pub fn told(&self) -> Told {
        build_date(&self.version).map_or(Told::ByNamespace, gvisor::told)
    }
}

/// Why there is no engine that works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{reason}")]
pub struct Gap {
    /// A sentence.
    pub reason: String,
    /// What the operator can do about it.
    pub fix: String,
}

/// An engine that works, or the gap.
pub type EngineReport = Result<Engine, Gap>;

/// Finds gVisor and runs a canary in it, with the flags that VMs get.
///
/// # Errors
/// The gap, with its fix.
pub async fn probe(config: &ProbeConfig) -> EngineReport {
    let version = Gvisor::version(&config.runsc).await.map_err(|error| match error {
        EngineError::Start { .. } => Gap {
            reason: format!("gVisor's `runsc` was not found at {}.", config.runsc.display()),
            fix: INSTALL.into(),
        },
        EngineError::Timeout { .. } | EngineError::Failed { .. } | EngineError::Socket { .. } => Gap {
            reason: format!("{} does not tell its version: {error}.", config.runsc.display()),
            fix: INSTALL.into(),
        },
    })?;
    if build_date(&version).is_none_or(|date| date < OLDEST_DATE) {
        return Err(Gap {
            reason: format!("gVisor {version} is too old: builds before 2024 lack a usable systrap platform."),
            fix: INSTALL.into(),
        });
    }
    let begin = Instant::now();
    canary::run(config).await.map_err(|error| Gap {
        reason: format!("gVisor {version} could not run a program in a sandbox here: {error:#}."),
        fix: if is_full(&error) {
            "Make room on the data directory's disk; the host looks again by itself.".into()
        } else {
            "Run as root with a writable cgroup hierarchy; `cakework doctor` names what else is missing.".into()
        },
    })?;
    Ok(Engine {
        engine: "gvisor".into(),
        version,
        platform: gvisor::PLATFORM.into(),
        canary_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Whether a disk had no room.
fn is_full(error: &anyhow::Error) -> bool {
    let of_disk = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    of_disk
        .map(std::io::Error::kind)
        .any(|kind| matches!(kind, std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
}

const INSTALL: &str = "Install gVisor of 2024 or later: `apt install -t bookworm-backports runsc` on Debian 12, \
                       `apt install runsc` on Debian 13; or name another `runsc` in the configuration.";

/// The date in `0.0~20240729.0` or `release-20240729.0`.
fn build_date(version: &str) -> Option<u32> {
    let words = version.split(|c: char| !c.is_ascii_digit());
    words.filter(|word| word.len() == 8 && word.starts_with("20")).find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_as_old_as_its_date() {
        assert_eq!(build_date("0.0~20240729.0"), Some(20_240_729));
        assert_eq!(build_date("release-20250512.0-12-gabcdef"), Some(20_250_512));
        assert_eq!(build_date("0.0~20221219.0"), Some(20_221_219));
        assert_eq!(build_date("VERSION_MISSING"), None);
    }
}
