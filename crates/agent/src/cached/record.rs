//! What is written down about a cached VM: the counterpart of [`crate::vm`]'s record, in the same file.

use std::net::Ipv4Addr;

use cakework_core::cached::Start;
use cakework_core::id::{Generation, VmId};
use cakework_core::lifecycle::{Exit, ExitReason};
use cakework_wire::host::{VmObservation, VmReport};
use serde::{Deserialize, Serialize};

use super::stage::Stage;
use crate::sys::process::ProcessRef;
use crate::vm::{Assignment, Cause};

/// Where a cached VM is. Its driver alone writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The placement that the stage belongs to.
    pub generation: Generation,
    /// The boot to which processes and clock readings belong.
    pub boot_id: String,
    /// The stage.
    pub stage: Stage,
    /// The sandbox's monitor.
    pub monitor: Option<ProcessRef>,
    /// The sandbox.
    pub sandbox: Option<ProcessRef>,
    /// The run, or the last one.
    pub run: Run,
    /// Preparations that failed, one after the other.
    pub unprepared: u32,
}

/// One run of a cached VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The address that it is reached by.
    pub address: Option<Ipv4Addr>,
    /// How it started.
    pub start: Option<Start>,
    /// When its time is over, in milliseconds since boot.
    pub end_by_ms: Option<u64>,
    /// When the grace after the stop signal is over, in milliseconds since boot.
    pub kill_by_ms: Option<u64>,
    /// Why the agent ended it.
    pub cause: Option<Cause>,
    /// Why it could not be started: a sentence for its owner.
    pub failure: Option<String>,
    /// How it ended.
    pub exit: Option<Exit>,
}

impl Record {
    /// The record of a VM that was just admitted.
    pub fn admitted(assignment: &Assignment) -> Self {
        // A run begins later than it was admitted.
        let before = assignment.generation.0.saturating_sub(u64::from(assignment.runs()));
        Self {
            generation: Generation(before),
            boot_id: assignment.boot_id.clone(),
            stage: Stage::Held,
            monitor: None,
            sandbox: None,
            run: Run::default(),
            unprepared: 0,
        }
    }

    /// What the host says about it.
    pub fn report(&self, vm: &VmId) -> VmReport {
        let observation = match (self.stage, self.run.address) {
            (Stage::Held, _) => VmObservation::Stopped { exit: self.run.exit.clone() },
            (Stage::Starting, _) => VmObservation::Starting,
            // A moment later it is paused: until then it may still be reached.
            (Stage::Running | Stage::Pausing, Some(address)) => {
                VmObservation::Running { address, start: self.run.start.clone() }
            }
            (Stage::Running | Stage::Pausing, None) => VmObservation::Starting,
            (Stage::Asleep | Stage::Spilling | Stage::Resuming, _) => VmObservation::Asleep { spilled: false },
            (Stage::Spilled | Stage::Restoring, _) => VmObservation::Asleep { spilled: true },
            (Stage::Stopping | Stage::Ending | Stage::Destroying, _) => VmObservation::Ending,
            (Stage::Ended, _) => {
                VmObservation::Ended { exit: self.run.exit.clone().unwrap_or(Exit::only(ExitReason::Unknown)) }
            }
        };
        VmReport { vm_id: vm.clone(), generation: self.generation, observation, seq: 0 }
    }
}
