//! What is written down about a build.
//!
//! | file | there | says |
//! |---|---|---|
//! | `assignment.json` | from the admission until all is given back | what the build holds of this host |
//! | `outcome.json` | from the end on | the last report |
//! | `tombstone.json` | where a placement was cancelled before it came | the highest one that is refused |
//!
//! No secret is in any of them.

use cakework_core::build::BuildErrorCode;
use cakework_core::id::{BuildId, Generation, VmId};
use cakework_wire::build::{BuildObservation, BuildProblem, BuildReport};
use serde::{Deserialize, Serialize};

use crate::net::Slot;

/// What a build holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The placement.
    pub generation: Generation,
    /// Whose cache it uses.
    pub scope: String,
    /// The name of its sandbox on this host.
    pub sandbox: VmId,
    /// Its place on the host.
    pub slot: Slot,
    /// The boot in which it was admitted: without it, the reading below says nothing.
    pub boot_id: String,
    /// When it has to be over, in milliseconds since boot.
    pub deadline_ms: u64,
}

/// A placement that was cancelled before it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tombstone {
    /// The highest placement that is refused.
    pub generation: Generation,
}

impl Tombstone {
    /// What the host says about it.
    pub fn report(self, build: &BuildId) -> BuildReport {
        failed(build, self.generation, cancelled())
    }
}

/// The report of a build that failed.
pub fn failed(build: &BuildId, generation: Generation, problem: BuildProblem) -> BuildReport {
    BuildReport { build_id: build.clone(), generation, observation: BuildObservation::Failed { problem } }
}

/// Its owner wanted it to end.
pub fn cancelled() -> BuildProblem {
    BuildProblem::new(BuildErrorCode::Cancelled, "The build was cancelled.")
}

/// The agent ended under it.
pub fn host_lost() -> BuildProblem {
    BuildProblem::new(BuildErrorCode::HostLost, "The host was restarted while it built. Start the build again.")
}
