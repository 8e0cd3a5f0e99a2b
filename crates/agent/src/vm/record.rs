//! What is written down about a VM: the intent as it was put, and where its driver is.

use std::net::Ipv4Addr;

use cakework_core::cached::{CachedSpec, Start};
use cakework_core::id::{Generation, VmId};
use cakework_core::lifecycle::{Exit, ExitReason};
use cakework_core::phase::Phase;
use cakework_core::spec::VmSpec;
use cakework_wire::host::{PutVm, VmObservation, VmReport};
use serde::{Deserialize, Serialize};

use crate::net::Slot;
use crate::sys::clock;
use crate::sys::process::ProcessRef;

/// The intent; never changed once it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The placement.
    pub generation: Generation,
    /// Whose it is.
    #[serde(default)]
    pub scope: String,
    /// What the VM is to be.
    pub spec: VmSpec,
    /// Its life once it runs, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Its place on the host.
    pub slot: Slot,
    /// The boot in which it was admitted: without it, the reading below says nothing.
    pub boot_id: String,
    /// When it has to run, in milliseconds since boot.
    pub start_by_ms: u64,
    /// What a cached one is to be; absent, it runs once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<CachedAssignment>,
}

/// What is wanted of a cached VM by its last placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachedAssignment {
    /// What it is to be.
    pub spec: CachedSpec,
    /// The placement is a run.
    pub run: bool,
}

impl Assignment {
    /// The intent of `put`, admitted now.
    pub fn new(put: PutVm, slot: Slot, boot_id: String) -> Self {
        Self {
            generation: put.generation,
            scope: put.scope,
            spec: put.spec,
            timeout_ms: put.timeout_ms,
            slot,
            boot_id,
            start_by_ms: clock::boottime_ms().saturating_add(put.start_remaining_ms),
            cached: put.cached.map(|cached| CachedAssignment { spec: cached.spec, run: cached.run }),
        }
    }

    /// Whether a cached VM is to run.
    pub fn runs(&self) -> bool {
        self.cached.as_ref().is_none_or(|cached| cached.run)
    }
}

/// A wish for a VM's end; a later one only ever wants more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// It may live.
    #[default]
    Nothing,
    /// Its run is to end, with grace. A VM that runs once has no other.
    Stop,
    /// Its run is to end now.
    Kill,
    /// All of it is to end now.
    Destroy,
}

/// Why the agent ended a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its owner asked.
    Asked,
    /// Its life was over.
    Timeout,
}

/// Where a VM is. The driver alone writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The placement.
    pub generation: Generation,
    /// The boot to which processes and clock readings belong.
    pub boot_id: String,
    /// The phase.
    pub phase: Phase,
    /// The address that it is reached by.
    pub address: Option<Ipv4Addr>,
    /// Its monitor.
    pub monitor: Option<ProcessRef>,
    /// Its sandbox, once it was made.
    pub sandbox: Option<ProcessRef>,
    /// How it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// When its life is over, in milliseconds since boot.
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
        Self {
            generation: assignment.generation,
            boot_id: assignment.boot_id.clone(),
            phase: Phase::Admitted,
            address: None,
            monitor: None,
            sandbox: None,
            start: None,
            end_by_ms: None,
            kill_by_ms: None,
            cause: None,
            failure: None,
            exit: None,
        }
    }

    /// What the host says about it.
    pub fn report(&self, vm: &VmId) -> VmReport {
        let observation = match (self.phase, self.address) {
            (Phase::Admitted | Phase::Preparing, _) | (Phase::Running, None) => VmObservation::Starting,
            (Phase::Running, Some(address)) => VmObservation::Running { address, start: self.start.clone() },
            (Phase::Stopping | Phase::Cleaning, _) => VmObservation::Ending,
            (Phase::Ended, _) => {
                VmObservation::Ended { exit: self.exit.clone().unwrap_or(Exit::only(ExitReason::Unknown)) }
            }
        };
        VmReport { vm_id: vm.clone(), generation: self.generation, observation, seq: 0 }
    }
}

/// A placement that was refused for good before it came, or was outlived by a later wish for the VM's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tombstone {
    /// The highest placement that is refused.
    pub generation: Generation,
}

impl Tombstone {
    /// What the host says about it.
    pub fn report(self, vm: &VmId) -> VmReport {
        let exit = Exit::only(ExitReason::Stopped);
        VmReport { vm_id: vm.clone(), generation: self.generation, observation: VmObservation::Ended { exit }, seq: 0 }
    }
}
