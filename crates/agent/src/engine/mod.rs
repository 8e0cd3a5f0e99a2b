//! Finds the sandbox engine and proves it: a version that is new enough is no proof, a sandbox that really ran is.
//!
//! Invariant: a host whose canary did not run says why and how to repair it, and starts no VM.

use std::path::PathBuf;

use cakework_core::id::InstanceId;
use serde::Serialize;

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
    let _ = config;
    Err(Gap { reason: "The engine was not probed.".into(), fix: "Start again.".into() })
}
