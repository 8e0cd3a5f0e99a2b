//! The files and messages between the agent and a VM's monitor, all JSON: what the agent plans, what the monitor
//! answers and leaves behind.
//!
//! | path in the VM's directory | writer | content |
//! |---|---|---|
//! | `run/plan.json` | agent | [`Plan`] |
//! | `run/boot.json` | monitor, before it answers | [`Booted`] |
//! | `run/exit.json` | monitor, last of all | [`Exited`] |
//! | monitor's stdout, one line | monitor | [`Answer`] |

use std::path::PathBuf;

use cakework_core::id::Generation;
use serde::{Deserialize, Serialize};

use crate::logs::LogConfig;

/// Where the plan stands in the VM's directory.
pub const PLAN_FILE: &str = "run/plan.json";
/// Where the booted sandbox is noted.
pub const BOOT_FILE: &str = "run/boot.json";
/// Where its end is noted.
pub const EXIT_FILE: &str = "run/exit.json";
/// Where the segments are.
pub const LOG_DIR: &str = "logs";

/// What a monitor is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The placement whose log it writes.
    pub generation: Generation,
    /// The command that starts the sandbox and returns: `runsc … run --detach --pid-file FILE …`.
    pub command: Vec<String>,
    /// The file that the command writes the sandbox's process id to: what `--pid-file` names.
    pub pid_file: PathBuf,
    /// The sandbox's control socket, which can tell the exit status to a monitor that is not the sandbox's parent.
    pub control: Option<Control>,
    /// Longest time for the command, in milliseconds.
    pub boot_timeout_ms: u64,
    /// The log's limits.
    pub logs: LogConfig,
}

/// A sandbox's control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    /// The socket, `<root>/runsc-<id>.sock`.
    pub socket: PathBuf,
    /// The container's id.
    pub container: String,
}

/// A sandbox that runs: `pid` names it only together with `start_time` and `boot_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Booted {
    /// The sandbox's process.
    pub sandbox_pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
    /// The host's boot: `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// How a sandbox ended; both absent where nobody could tell. A guest's process that a signal ended has the code 128 plus
/// the signal's number, as the engine itself says it; `signal` is the one that ended the sandbox's own process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exited {
    /// The exit code of the VM's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// The line that a monitor answers on its standard output once it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// The sandbox runs, and `run/boot.json` says so.
    Started(Booted),
    /// It does not, and the monitor ends.
    Failed {
        /// Why, with the end of what the command said.
        message: String,
    },
}
