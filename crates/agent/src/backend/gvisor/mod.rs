//! gVisor's `runsc`: its flags, its commands, what it leaves behind and what its messages mean.
//!
//! Everything that is peculiar to a version of it stands here and in the modules below. Invariants: each call has a
//! deadline; a sandbox is ended by its cgroup, which needs no help of the engine's; one that was put to [`Gvisor::rest`]
//! has its CPU back before anything is asked of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cakework_core::id::VmId;
use nix::sys::signal::Signal;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::monitor::plan::Control;
use crate::sys::cgroup::Cgroups;
use crate::sys::mounts;
use crate::sys::process::{self, ProcessRef};

pub mod bundle;
mod complaint;
mod exec;
mod start;
pub mod urpc;

pub use complaint::explain;
pub use exec::{ExecProcess, Stdio as ExecStdio, first_of};
pub use start::told;
use urpc::{ControlSocket, UrpcError};

/// The platform that catches system calls without hardware virtualization.
pub const PLATFORM: &str = "systrap";

const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// A GiB of memory is about a second.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(60);
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a command's complaint that are kept for the operator's log.
const COMPLAINT_MAX_BYTES: u64 = 4096;

/// A command of the engine failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It could not be started.
    #[error("`runsc {verb}` could not be started")]
    Start {
        /// The command.
        verb: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It took too long and was killed.
    #[error("`runsc {verb}` did not end within {}s", timeout.as_secs())]
    Timeout {
        /// The command.
        verb: &'static str,
        /// Its time.
        timeout: Duration,
    },
    /// It ended with a failure.
    #[error("`runsc {verb}` failed: {complaint}")]
    Failed {
        /// The command.
        verb: &'static str,
        /// The end of what it said.
        complaint: String,
    },
    /// The sandbox's control socket failed.
    #[error("`runsc {verb}` could not be asked at the control socket")]
    Socket {
        /// The command that it stands for.
        verb: &'static str,
        /// Why.
        #[source]
        source: UrpcError,
    },
}

/// Who writes to what is mounted into a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAccess {
    /// Nobody but the sandbox: what it has looked up, it may remember.
    Exclusive,
    /// Others too, at the same time.
    Shared,
}

impl FileAccess {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
        }
    }
}

/// The engine, with the directory in which it keeps its own state.
#[derive(Debug, Clone)]
pub struct Gvisor {
    runsc: PathBuf,
    root: PathBuf,
    cgroups: Cgroups,
}

impl Gvisor {
    /// `runsc` is the program, `root` its state directory; a sandbox's control group has its id.
    pub const fn new(runsc: PathBuf, root: PathBuf, cgroups: Cgroups) -> Self {
        Self { runsc, root, cgroups }
    }

    /// The command that starts a sandbox from `bundle` and returns while it runs.
    pub fn run_command(&self, id: &str, bundle: &Path, pid_file: &Path, access: FileAccess) -> Vec<String> {
        let mut command = vec![self.runsc.display().to_string()];
        command.extend(self.flags());
        command.push(format!("--file-access-mounts={}", access.as_str()));
        command.extend(["run", "--detach", "--pid-file"].map(str::to_owned));
        command.extend([pid_file.display().to_string(), "--bundle".into(), bundle.display().to_string(), id.into()]);
        command
    }

    /// The command that makes a sandbox from `bundle`, with nothing running in it, and returns.
    pub fn create_command(&self, id: &str, bundle: &Path, pid_file: &Path) -> Vec<String> {
        let mut command = vec![self.runsc.display().to_string()];
        command.extend(self.flags());
        command.push(format!("--file-access-mounts={}", FileAccess::Exclusive.as_str()));
        command.extend(["create".into(), "--pid-file".into(), pid_file.display().to_string()]);
        command.extend(["--bundle".into(), bundle.display().to_string(), id.into()]);
        command
    }

    /// Writes the memory of a sandbox to the directory `image`, which must be empty. A paused one stays paused. It is not
    /// compressed: that makes a restore three to five times as long.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn checkpoint(&self, id: &str, image: &Path) -> Result<(), EngineError> {
        self.rouse("checkpoint", id).await?;
        let image = format!("--image-path={}", image.display());
        self.call("checkpoint", &["--leave-running", "--compression=none", &image, id], CHECKPOINT_TIMEOUT).await
    }

    /// Stops all processes of a sandbox where they are. Each pause needs its [`Self::resume`].
    ///
    /// # Errors
    /// [`EngineError`]; after one, whether it is paused is not known.
    pub async fn pause(&self, id: &str) -> Result<(), EngineError> {
        self.rouse("pause", id).await?;
        self.ask("pause", "containerManager.Pause", id).await
    }

    /// Lets a paused sandbox go on. Never one that is not: the engine dies of it.
    ///
    /// # Errors
    /// [`EngineError`]; after one, whether it goes on is not known.
    pub async fn resume(&self, id: &str) -> Result<(), EngineError> {
        self.rouse("resume", id).await?;
        self.ask("resume", "containerManager.Resume", id).await
    }

    /// Takes the CPU from a sandbox in which nothing is to run, because it is paused or nothing was started in it: its
    /// platform wakes thousands of times a second for nothing. Where that fails, it only costs what it did.
    pub async fn rest(&self, id: &str) {
        if let Err(error) = self.with_group(id, Cgroups::freeze).await {
            tracing::debug!(id, %error, "a sandbox that waits keeps its CPU");
        }
    }

    /// Gives the CPU back.
    async fn rouse(&self, verb: &'static str, id: &str) -> Result<(), EngineError> {
        self.with_group(id, Cgroups::thaw).await.map_err(|source| EngineError::Start { verb, source })
    }

    async fn with_group(&self, id: &str, change: fn(&Cgroups, &str) -> std::io::Result<()>) -> std::io::Result<()> {
        let (cgroups, id) = (self.cgroups.clone(), id.to_owned());
        let done = tokio::task::spawn_blocking(move || change(&cgroups, &id)).await;
        done.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    /// How many processes a sandbox has: none before it was started or restored.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn process_count(&self, id: &str) -> Result<usize, EngineError> {
        self.rouse("ps", id).await?;
        let socket = ControlSocket::new(self.control(id));
        let list: Option<Vec<IgnoredAny>> =
            socket.call("containerManager.Processes", &id, &[], ASK_TIMEOUT).await.map_err(failed("ps"))?;
        Ok(list.unwrap_or_default().len())
    }

    /// The engine's commands that work on a sandbox.
    ///
    /// # Errors
    /// Where `/proc` can't be read.
    pub fn commands(&self, id: &str) -> std::io::Result<Vec<ProcessRef>> {
        let own = self.own_processes()?.into_iter();
        let works = own.filter(|(_, words)| {
            // The empty word after the last NUL is none.
            words.iter().rev().find(|word| !word.is_empty()).is_some_and(|word| word == id)
                && words.iter().any(|word| ["start", "restore", "checkpoint"].contains(&word.as_str()))
        });
        Ok(works.map(|(process, _)| process).collect())
    }

    /// The running sandbox's control socket.
    pub fn control(&self, id: &str) -> Control {
        Control { socket: self.root.join(format!("runsc-{id}.sock")), container: id.into() }
    }

    /// Sends a signal, by name or number, to the VM's first process.
    ///
    /// # Errors
    /// [`EngineError`], also where it does not run any more.
    pub async fn signal(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        if let Some(number) = signal_number(signal) {
            // `PID` 0 is the first process; `Mode` 0 is delivery to one process.
            let arg = json!({"CID": id, "Signo": number, "PID": 0, "Mode": 0});
            let socket = ControlSocket::new(self.control(id));
            match socket.call::<_, IgnoredAny>("containerManager.Signal", &arg, &[], SIGNAL_TIMEOUT).await {
                Ok(_) => return Ok(()),
                // It may have been sent, and a second one may mean something else to the process.
                Err(UrpcError::Timeout { .. } | UrpcError::Broken { .. }) => return Ok(()),
                Err(error @ (UrpcError::Connect(_) | UrpcError::Refused { .. } | UrpcError::Odd { .. })) => {
                    tracing::debug!(id, error = &error as &dyn std::error::Error, "a signal goes by the command");
                }
            }
        }
        self.call("kill", &[id, signal], SIGNAL_TIMEOUT).await
    }

    /// Removes the state of a sandbox whose processes are gone; an unknown one is fine.
    ///
    /// # Errors
    /// What the disk said.
    pub fn forget(&self, id: &str) -> std::io::Result<()> {
        self.state_files(id).iter().try_for_each(|file| crate::sys::file::remove(file))
    }

    /// The VMs that the engine keeps state of.
    pub fn known(&self) -> BTreeSet<VmId> {
        let names = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        names.filter_map(|entry| id_in(entry.file_name().to_str()?)).collect()
    }

    /// The processes of this engine's sandboxes: those whose state directory is ours.
    ///
    /// # Errors
    /// Where `/proc` can't be read.
    pub fn processes(&self) -> std::io::Result<Vec<(ProcessRef, Option<VmId>)>> {
        let own = self.own_processes()?.into_iter();
        Ok(own.map(|(process, words)| (process, words.iter().rev().find_map(|word| word.parse().ok()))).collect())
    }

    fn own_processes(&self) -> std::io::Result<Vec<(ProcessRef, Vec<String>)>> {
        let own = [format!("--root={}", self.root.display()), self.root.display().to_string()];
        let mut found = process::all()?;
        found.retain(|(_, arguments)| {
            arguments.iter().any(|word| *word == own[0])
                || arguments.windows(2).any(|pair| pair[0] == "--root" && pair[1] == own[1])
        });
        Ok(found)
    }

    /// Asks a `runsc` for its version, such as `0.0~20240729.0` or `release-20240729.0`.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn version(runsc: &Path) -> Result<String, EngineError> {
        let verb = "--version";
        let mut command = tokio::process::Command::new(runsc);
        command.arg(verb).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(VERSION_TIMEOUT, command.output())
            .await
            .map_err(|_| EngineError::Timeout { verb, timeout: VERSION_TIMEOUT })?
            .map_err(|source| EngineError::Start { verb, source })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().find_map(|line| line.strip_prefix("runsc version "));
        version
            .map(|version| version.trim().chars().take(100).collect())
            .ok_or_else(|| EngineError::Failed { verb, complaint: tail(&output.stderr) })
    }

    /// The files of its state directory that belong to a sandbox: `<id>_sandbox:<id>.state`, `.lock`, `runsc-<id>.sock`.
    fn state_files(&self, id: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.contains(id)))
            .map(|e| e.path())
            .collect()
    }

    fn flags(&self) -> [String; 6] {
        [
            format!("--root={}", self.root.display()),
            format!("--platform={PLATFORM}"),
            "--network=sandbox".into(),
            // Writes go to the VM's own disk, whose size is its limit; a memory overlay would count as memory.
            "--overlay2=none".into(),
            // An open connection must not abort a checkpoint.
            "--net-disconnect-ok".into(),
            "--cpu-num-from-quota".into(),
        ]
    }

    /// Asks at the control socket; a build of the engine that does not know the method is asked by its command.
    async fn ask(&self, verb: &'static str, method: &'static str, id: &str) -> Result<(), EngineError> {
        let socket = ControlSocket::new(self.control(id));
        match socket.call::<_, IgnoredAny>(method, &(), &[], ASK_TIMEOUT).await {
            Ok(_) => Ok(()),
            Err(UrpcError::Refused { .. }) => self.call(verb, &[id], ASK_TIMEOUT).await,
            Err(error) => Err(failed(verb)(error)),
        }
    }

    async fn call(&self, verb: &'static str, arguments: &[&str], timeout: Duration) -> Result<(), EngineError> {
        let child = self.command(verb, arguments).spawn();
        ended(verb, child.map_err(|source| EngineError::Start { verb, source })?, timeout).await
    }

    /// Calls a command that makes a sandbox's network: gVisor of 2024 refuses to on Linux 6.11 and later where it can look
    /// into the host's `/proc/sys/net`.
    async fn call_privately(
        &self,
        verb: &'static str,
        arguments: &[&str],
        timeout: Duration,
    ) -> Result<(), EngineError> {
        let child = mounts::spawn_privately(self.command(verb, arguments)).await;
        ended(verb, child.map_err(|source| EngineError::Start { verb, source })?, timeout).await
    }

    fn command(&self, verb: &'static str, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.runsc);
        command
            .args(self.flags())
            .arg(verb)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

async fn ended(verb: &'static str, mut child: tokio::process::Child, timeout: Duration) -> Result<(), EngineError> {
    let mut complaint = Vec::new();
    let ended = tokio::time::timeout(timeout, async {
        if let Some(stderr) = child.stderr.take() {
            // What can't be read is only missing from the log.
            let _ = stderr.take(COMPLAINT_MAX_BYTES).read_to_end(&mut complaint).await;
        }
        child.wait().await
    });
    let status = ended.await.map_err(|_| EngineError::Timeout { verb, timeout })?;
    match status.map_err(|source| EngineError::Start { verb, source })?.success() {
        true => Ok(()),
        false => Err(EngineError::Failed { verb, complaint: tail(&complaint) }),
    }
}

fn failed(verb: &'static str) -> impl Fn(UrpcError) -> EngineError {
    move |source| EngineError::Socket { verb, source }
}

/// The number of a signal that has a name of its own; the engine's command knows others too.
pub fn signal_number(signal: &str) -> Option<i32> {
    if let Ok(number) = signal.parse() {
        return (1..=31).contains(&number).then_some(number);
    }
    let name = signal.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    Signal::iterator().find(|signal| signal.as_str().strip_prefix("SIG") == Some(name)).map(|signal| signal as i32)
}

/// The VM id in the name of a state file.
fn id_in(name: &str) -> Option<VmId> {
    name.split(|c: char| !c.is_ascii_alphanumeric()).find_map(|word| word.parse().ok())
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    text.chars().skip(text.chars().count().saturating_sub(1000)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_its_number_or_goes_by_its_name() {
        for (signal, number) in [("TERM", Some(15)), ("SIGQUIT", Some(3)), ("sigint", Some(2)), ("9", Some(9))] {
            assert_eq!(signal_number(signal), number, "{signal}");
        }
        for odd in ["RTMIN+3", "SIGNONE", "0", "64", "-1", ""] {
            assert_eq!(signal_number(odd), None, "{odd}");
        }
    }

    #[test]
    fn state_files_name_their_vm() {
        let id: VmId = "e784996f346483".parse().expect("an id");
        for name in ["e784996f346483_sandbox:e784996f346483.state", "runsc-e784996f346483.sock"] {
            assert_eq!(id_in(name), Some(id.clone()), "{name}");
        }
        assert_eq!(id_in("canary_sandbox:canary.lock"), None);
    }
}
