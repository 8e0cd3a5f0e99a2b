//! Commands in VMs.

use std::collections::BTreeMap;

use cakework_core::exec;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Runs a command in a VM that runs, beside its own process.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"command": ["python3", "--version"], "cwd": "/app", "timeoutSeconds": 10}))]
pub struct Exec {
    /// The words of the command, or one line for `/bin/sh -c`.
    pub command: Command,
    /// Working directory, absolute; that of the VM's own process by default.
    #[serde(default)]
    #[schema(example = "/app")]
    pub cwd: Option<String>,
    /// Environment variables, set over those of the VM's own process.
    #[serde(default)]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// `name`, `uid`, `name:group` or `uid:gid`; the user of the VM's own process by default.
    #[serde(default)]
    #[schema(example = "root")]
    pub user: Option<String>,
    /// All that it can read; nothing by default. Over a WebSocket it comes as messages instead.
    #[serde(default)]
    pub stdin: Option<String>,
    /// How `stdin`, `stdout` and `stderr` are written.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// Time after which it is killed.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86400, default = 60)]
    pub timeout_seconds: Option<i64>,
    /// A terminal: all output is `stdout` then. `true` is one of 24 lines and 80 columns.
    #[serde(default)]
    pub tty: Option<Tty>,
}

/// What is to run.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Command {
    /// For `/bin/sh -c`.
    Line(String),
    /// Program and arguments.
    Words(Vec<String>),
}

/// A terminal.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Tty {
    /// Whether there is one.
    Whether(bool),
    /// One of a size.
    Size(WindowSize),
}

/// The size of a terminal.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub cols: u16,
}

/// How bytes are written in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As text; what is no UTF-8 becomes U+FFFD.
    #[default]
    Utf8,
    /// RFC 4648, with padding.
    Base64,
}

/// What opens commands in one VM for a short while, in place of a key: for those who must not have one.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"ticket": "goes into openExec once", "expiresAt": "2026-01-05T14:01:00Z"}))]
pub struct ExecTicket {
    /// To be passed as the parameter `ticket` of `openExec`.
    pub ticket: String,
    /// Until when it opens a command; one that is open goes on.
    #[schema(format = DateTime)]
    pub expires_at: String,
}

/// A server-sent event of a command.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"event": "stdout", "data": "{\"data\":\"Python 3.12.4\\n\"}"}))]
pub struct ExecEvent {
    /// `stdout` or `stderr` for what it wrote; last `exit`, or `error` where its host went away.
    #[schema(example = "stdout")]
    pub event: String,
    /// JSON: `{"data"}`, an `ExecExit`, or a problem.
    pub data: String,
}

/// A command that is over.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"exit": {"reason": "exited", "code": 0}, "stdout": "Python 3.12.4\n", "stderr": ""}))]
pub struct ExecResult {
    /// How it ended.
    pub exit: ExecExit,
    /// What it wrote to its standard output, or its terminal: the first MiB.
    pub stdout: String,
    /// What it wrote to its standard error: the first MiB.
    pub stderr: String,
    /// Bytes of the standard output that are missing in `stdout`, where some are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_missing: Option<u64>,
    /// Bytes of the standard error that are missing in `stderr`, where some are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_missing: Option<u64>,
}

/// How a command ended.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecExit {
    /// Its exit code, where it exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it is over.
    pub reason: ExecEnd,
}

/// Why a command is over.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecEnd {
    /// By itself, or by a signal that it was sent.
    Exited,
    /// Its `timeoutSeconds` passed, and it was killed.
    Timeout,
    /// The VM ended.
    VmEnded,
}

impl From<exec::ExecExit> for ExecExit {
    fn from(exit: exec::ExecExit) -> Self {
        let reason = match exit.reason {
            exec::ExecEnd::Exited => ExecEnd::Exited,
            exec::ExecEnd::Timeout => ExecEnd::Timeout,
            exec::ExecEnd::VmEnded => ExecEnd::VmEnded,
        };
        Self { code: exit.code, signal: exit.signal, reason }
    }
}
