//! Processes beside a sandbox's first one: `containerManager.ExecuteAsync` and what belongs to it.
//!
//! Invariant: nothing that is passed names a file of the host; the sandbox finds the program, by its own files.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use cakework_image::rootfs::User;
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::urpc::{ControlSocket, UrpcError};
use super::{ASK_TIMEOUT, EngineError, Gvisor, SIGNAL_TIMEOUT, bundle, failed};

/// Longest time of a process that is waited for: beyond any that it may be given.
const WAIT_MAX: Duration = Duration::from_secs(2 * 24 * 3600);
/// How a signal is delivered: to one process, or to a terminal's foreground.
const TO_PROCESS: u8 = 0;
const TO_FOREGROUND: u8 = 2;
/// Rounds in which children are looked for and stopped.
const STOP_ROUNDS: usize = 16;
const SETTLE: Duration = Duration::from_millis(30);

/// A process that is to run in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecProcess {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// Who it runs as.
    pub user: User,
}

/// What goes in and out of it.
#[derive(Debug)]
pub enum Stdio<'a> {
    /// Standard input, output and error.
    Pipes([BorrowedFd<'a>; 3]),
    /// A terminal's end for all three.
    Terminal(BorrowedFd<'a>),
}

/// What the sandbox says of one process.
#[derive(Debug, Deserialize)]
struct Listed {
    pid: i32,
    ppid: i32,
}

/// What a process is that runs in a sandbox beside its first one: it gets that one's configuration.
///
/// # Errors
/// Where the bundle can't be read.
pub fn first_of(config: &Path) -> std::io::Result<ExecProcess> {
    #[derive(Deserialize)]
    struct Config {
        process: Process,
    }
    #[derive(Deserialize)]
    struct Process {
        env: Vec<String>,
        cwd: String,
        user: Ids,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Ids {
        uid: u32,
        gid: u32,
        additional_gids: Vec<u32>,
    }
    let Config { process } = serde_json::from_slice(&std::fs::read(config)?)?;
    let home = process.env.iter().find_map(|variable| variable.strip_prefix("HOME=")).unwrap_or("/").to_owned();
    let user = User { uid: process.user.uid, gid: process.user.gid, groups: process.user.additional_gids, home };
    Ok(ExecProcess { args: Vec::new(), env: process.env, cwd: process.cwd, user })
}

impl Gvisor {
    /// Starts a process in a sandbox that runs; its id there.
    ///
    /// # Errors
    /// [`EngineError`]: [`UrpcError::Refused`] where the sandbox can't start it, with its own words.
    pub async fn exec(&self, id: &str, process: &ExecProcess, stdio: &Stdio<'_>) -> Result<i32, EngineError> {
        self.exec_file(id, process, stdio, None).await
    }

    /// The same with a program that is not the sandbox's: an open file, linked statically.
    ///
    /// # Errors
    /// As [`Self::exec`].
    pub async fn exec_file(
        &self,
        id: &str,
        process: &ExecProcess,
        stdio: &Stdio<'_>,
        program: Option<BorrowedFd<'_>>,
    ) -> Result<i32, EngineError> {
        let (files, terminal) = match stdio {
            Stdio::Pipes(files) => (*files, false),
            Stdio::Terminal(file) => ([*file; 3], true),
        };
        // A file more than there are numbers for is the program.
        let files: Vec<BorrowedFd<'_>> = files.into_iter().chain(program).collect();
        let argument = argument(id, process, terminal, &[0, 1, 2]);
        let socket = ControlSocket::new(self.control(id));
        socket.call("containerManager.ExecuteAsync", &argument, &files, ASK_TIMEOUT).await.map_err(failed("exec"))
    }

    /// Waits until a process that [`Self::exec`] started is over; its wait status. What is not waited for stays known to
    /// the sandbox.
    ///
    /// # Errors
    /// [`EngineError`]: the sandbox is over.
    pub async fn wait_exec(&self, id: &str, pid: i32) -> Result<u32, EngineError> {
        let argument = json!({"CID": id, "PID": pid});
        let socket = ControlSocket::new(self.control(id));
        socket.call("containerManager.WaitPID", &argument, &[], WAIT_MAX).await.map_err(failed("wait"))
    }

    /// Signals a process that [`Self::exec`] started, or with `foreground` whoever is in front at its terminal.
    ///
    /// # Errors
    /// [`EngineError`], also where it does not run any more.
    pub async fn signal_exec(&self, id: &str, pid: i32, signal: i32, foreground: bool) -> Result<(), EngineError> {
        let mode = if foreground { TO_FOREGROUND } else { TO_PROCESS };
        let argument = json!({"CID": id, "Signo": signal, "PID": pid, "Mode": mode});
        let socket = ControlSocket::new(self.control(id));
        let sent = socket.call::<_, Value>("containerManager.Signal", &argument, &[], SIGNAL_TIMEOUT).await;
        sent.map(drop).map_err(failed("kill"))
    }

    /// Kills a process that [`Self::exec`] started, and its children that it has not left to others. They are stopped
    /// first: what has no parent left when it is looked for would not be found.
    pub async fn kill_exec(&self, id: &str, pid: i32) {
        let mut doomed = vec![pid];
        let (mut stopped, mut settled) = (0, false);
        for _ in 0..STOP_ROUNDS {
            for process in &doomed[stopped..] {
                // One that is gone meanwhile is no failure.
                let _ = self.signal_exec(id, *process, Signal::SIGSTOP as i32, false).await;
            }
            stopped = doomed.len();
            let Ok(listed) = self.listed(id).await else { break };
            for process in listed {
                if doomed.contains(&process.ppid) && !doomed.contains(&process.pid) {
                    doomed.push(process.pid);
                }
            }
            let grew = doomed.len() > stopped;
            if settled && !grew {
                break;
            }
            settled = !grew;
            if settled {
                // A fork that had begun before the stop has its time to end.
                tokio::time::sleep(SETTLE).await;
            }
        }
        for process in doomed {
            let _ = self.signal_exec(id, process, Signal::SIGKILL as i32, false).await;
        }
    }

    /// Kills what [`Self::exec`] started for an agent that is gone: whatever has no parent and is not the first process.
    /// Where the sandbox rests, no command was open.
    pub async fn kill_stray_execs(&self, id: &str) {
        if self.cgroups.is_frozen(id) {
            return;
        }
        let Ok(listed) = self.listed(id).await else { return };
        for process in listed.iter().filter(|process| process.ppid == 0 && process.pid != 1) {
            self.kill_exec(id, process.pid).await;
        }
    }

    async fn listed(&self, id: &str) -> Result<Vec<Listed>, UrpcError> {
        let socket = ControlSocket::new(self.control(id));
        let listed: Option<Vec<Listed>> = socket.call("containerManager.Processes", &id, &[], ASK_TIMEOUT).await?;
        Ok(listed.unwrap_or_default())
    }
}

/// gVisor's `control.ExecArgs`.
fn argument(id: &str, process: &ExecProcess, terminal: bool, guest_files: &[i32]) -> Value {
    let held = if process.user.uid == 0 { bundle::capability_bits() } else { 0 };
    json!({
        "argv": process.args,
        "envv": process.env,
        "wd": process.cwd,
        "KUID": process.user.uid,
        "KGID": process.user.gid,
        "ExtraKGIDs": process.user.groups,
        "Capabilities": {
            "PermittedCaps": held,
            "InheritableCaps": 0,
            "EffectiveCaps": held,
            "BoundingCaps": bundle::capability_bits(),
            "AmbientCaps": 0,
        },
        "StdioIsPty": terminal,
        "GuestFDs": guest_files,
        "ContainerID": id,
    })
}
