//! The role `monitor`: one small process per VM that boots the sandbox, pumps its output into log segments and
//! notes how it ended. It outlives the agent; it knows no network, no image and no host protocol.
//!
//! Invariant: every line of the sandbox's output is in the segments once, or a record says that some are missing.

use std::path::Path;
use std::process::ExitCode;

pub mod plan;

/// How the monitor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Run the plan's command, which starts the sandbox.
    Boot,
    /// Go on with a sandbox that another monitor booted.
    Attach,
}

/// Runs the monitor of the VM whose directory is `vm_dir`, until its sandbox is gone.
pub fn main(_vm_dir: &Path, _mode: Mode) -> ExitCode {
    ExitCode::FAILURE
}
