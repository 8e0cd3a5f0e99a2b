//! Commands in a VM, over the host protocol: a WebSocket for each, at `/v1/vms/{vm}/exec`.
//!
//! The first message is the client's [`StartExec`] as text. Then bytes go both ways as `cakework_core::exec` says, and the
//! client's text messages are its `ExecInput`; the host's are [`ExecNews`]. A client that goes ends the command.

use cakework_core::exec::{ExecExit, ExecSpec};
use cakework_core::id::{Generation, HostId};
use serde::{Deserialize, Serialize};

use crate::host::AgentProblem;

/// Wants a command to run in a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartExec {
    /// The host that is meant.
    pub host_id: HostId,
    /// The placement that is to run it: one that runs, and is awake.
    pub generation: Generation,
    /// What is to run.
    pub spec: ExecSpec,
}

/// A text message of the host: the first one, and the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum ExecNews {
    /// The command runs: its bytes follow.
    Started,
    /// The command was not started, and why.
    Refused(AgentProblem),
    /// It is over.
    Exit(ExecExit),
}
