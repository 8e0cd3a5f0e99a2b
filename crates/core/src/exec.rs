//! Commands that run in a VM beside its own process: what is asked for, what goes to and fro, how they end.
//!
//! An open command speaks in messages. Binary ones carry bytes: the first byte says which stream, the rest is data. Text
//! ones to it are the JSON of [`ExecInput`]; the one text message of the command is its last, and says how it ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// First byte of a binary message to the command's standard input, or its terminal.
pub const STDIN: u8 = 0;
/// First byte of a binary message of its standard output, or its terminal.
pub const STDOUT: u8 = 1;
/// First byte of a binary message of its standard error.
pub const STDERR: u8 = 2;

/// What is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecSpec {
    /// Program and arguments. A program without `/` is looked for in `PATH`.
    pub command: Vec<String>,
    /// Working directory; absent, that of the VM's own process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Variables over those of the VM's own process.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// `name`, `uid`, `name:group` or `uid:gid`; absent, the user of the VM's own process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// It gets a terminal of this size, and no standard error beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<WindowSize>,
    /// Time until it is killed.
    pub timeout_ms: u64,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub cols: u16,
}

/// A text message to an open command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type", deny_unknown_fields)]
pub enum ExecInput {
    /// Its terminal has another size.
    Resize(WindowSize),
    /// A signal, such as `TERM` or `SIGINT` or `15`; with a terminal to whoever is in its foreground.
    Signal {
        /// Name or number.
        signal: String,
    },
    /// There is no more standard input.
    Eof,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecExit {
    /// Its exit code, where it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it is over.
    pub reason: ExecEnd,
}

/// Why a command is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecEnd {
    /// By itself, or by a signal that it was sent.
    Exited,
    /// Its time passed, and it was killed.
    Timeout,
    /// The VM ended.
    VmEnded,
}

impl ExecExit {
    /// What a wait status says (wait(2)).
    pub const fn of_status(status: u32, reason: ExecEnd) -> Self {
        let signal = (status & 0x7f) as i32;
        match signal {
            0 => Self { code: Some((status >> 8 & 0xff) as i32), signal: None, reason },
            _ => Self { code: None, signal: Some(signal), reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_these_forms() {
        let resize = ExecInput::Resize(WindowSize { rows: 24, cols: 80 });
        for (message, json) in [
            (resize, r#"{"type":"resize","rows":24,"cols":80}"#),
            (ExecInput::Signal { signal: "INT".into() }, r#"{"type":"signal","signal":"INT"}"#),
            (ExecInput::Eof, r#"{"type":"eof"}"#),
        ] {
            assert_eq!(serde_json::to_string(&message).expect("plain data"), json);
            assert_eq!(serde_json::from_str::<ExecInput>(json).expect("its own form"), message);
        }
        let exit = ExecExit::of_status(3 << 8, ExecEnd::Exited);
        assert_eq!(serde_json::to_string(&exit).expect("plain data"), r#"{"code":3,"reason":"exited"}"#);
        assert_eq!(ExecExit::of_status(9, ExecEnd::Timeout).signal, Some(9));
    }
}
