//! What the disk says about a VM, of either kind, and how it is written there when the VM is admitted.

use cakework_core::id::VmId;
use cakework_core::phase::Phase;
use cakework_wire::host::VmReport;

use super::dir::VmDir;
use super::record::{Ask, Assignment, Record, Tombstone};
use crate::cached;
use crate::sys::file::{self, Survives};

/// A record of either kind.
#[derive(Debug)]
pub enum AnyRecord {
    /// Of a VM that runs once.
    Once(Record),
    /// Of one that starts again.
    Cached(cached::Record),
}

impl AnyRecord {
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Once(record) => record.phase == Phase::Ended,
            Self::Cached(record) => record.stage == cached::Stage::Ended,
        }
    }

    pub(super) fn report(&self, vm: &VmId) -> VmReport {
        match self {
            Self::Once(record) => record.report(vm),
            Self::Cached(record) => record.report(vm),
        }
    }
}

/// What the disk says about a VM.
#[derive(Debug)]
pub struct Restored {
    /// The placement that it holds or held.
    pub held: Option<(Assignment, AnyRecord)>,
    /// A later one that is refused.
    pub tombstone: Option<Tombstone>,
    /// What was asked for.
    pub ask: Ask,
}

pub(super) fn write_down(dir: &VmDir, assignment: &Assignment, record: &AnyRecord) -> std::io::Result<()> {
    std::fs::create_dir_all(dir.path())?;
    write_assignment(dir, assignment, Survives::PowerLoss)?;
    if let Some(all) = dir.path().parent() {
        file::sync_dir(all)?;
    }
    match record {
        AnyRecord::Once(record) => file::write_json(&dir.record(), record, Survives::Process),
        AnyRecord::Cached(record) => file::write_json(&dir.record(), record, Survives::Process),
    }
}

pub(super) fn write_assignment(dir: &VmDir, assignment: &Assignment, survives: Survives) -> std::io::Result<()> {
    // What an earlier placement was asked for is none of this one's.
    file::remove(&dir.asked())?;
    // The assignment is what counts: a record of another placement than its own is nothing.
    file::write_json(&dir.assignment(), assignment, survives)
}
