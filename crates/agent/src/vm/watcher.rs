//! The agent's end of a VM's monitor: starting it, finding it again, hearing its answer.
//!
//! A monitor belongs to nobody: it makes itself a session, it is in a control group of its own, it is not killed when the
//! agent is dropped, and the one pipe between the two may break.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::ChildStdout;

use super::dir::VmDir;
use crate::monitor::plan::{Answer, Booted, Exited};
use crate::sys::cgroup::{Cgroups, MONITORS};
use crate::sys::file;
use crate::sys::process::{self, Process, ProcessRef};

/// By what a monitor is found among all processes.
const DIR_FLAG: &str = "--vm-dir";
/// Bytes of a monitor's answer.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;
/// Bytes of a failed monitor's last words for the operator's log.
const STDERR_MAX_BYTES: u64 = 4096;

/// How a monitor is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// By booting the sandbox.
    Boot,
    /// With a sandbox that runs.
    Attach,
}

/// A monitor that this agent started.
#[derive(Debug)]
pub struct Started {
    /// Its process.
    pub process: Process,
    /// Where it answers.
    pub stdout: ChildStdout,
}

/// Starts a monitor. Blocks for the time of a `fork`; needs a tokio runtime.
///
/// # Errors
/// Where it can't be started or watched.
pub fn start(program: &Path, cgroups: &Cgroups, dir: &VmDir, begin: Begin) -> std::io::Result<Started> {
    let stderr = File::create(dir.monitor_stderr())?;
    let mut child = std::process::Command::new(program)
        .arg("monitor")
        .arg(DIR_FLAG)
        .arg(dir.path())
        .arg(match begin {
            Begin::Boot => "boot",
            Begin::Attach => "attach",
        })
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()?;
    let pid = i32::try_from(child.id()).expect("Linux's process ids fit");
    let gone = || std::io::Error::other("the monitor ended at once");
    let watched = ProcessRef::of(pid).and_then(Process::open);
    let Some(process) = watched else {
        // Nothing but this child has the id until it is waited for.
        let _ = child.wait();
        return Err(gone());
    };
    cgroups.join(MONITORS, pid)?;
    let stdout = ChildStdout::from_std(child.stdout.take().ok_or_else(gone)?)?;
    Ok(Started { process, stdout })
}

/// Reads the answer of a monitor that boots; `None` where it ended without one.
pub async fn answer(stdout: ChildStdout) -> Option<Answer> {
    let mut line = String::new();
    BufReader::new(stdout.take(ANSWER_MAX_BYTES)).read_line(&mut line).await.ok()?;
    serde_json::from_str(&line).ok()
}

/// The monitors that run, each with the directory of its VM, whether they are on record or not.
///
/// # Errors
/// Where `/proc` can't be read.
pub fn all() -> std::io::Result<Vec<(ProcessRef, PathBuf)>> {
    let dir_of = |words: &[String]| {
        let at = words.iter().position(|word| word == DIR_FLAG)?;
        words.get(at + 1).map(PathBuf::from)
    };
    Ok(process::all()?.into_iter().filter_map(|(process, words)| Some((process, dir_of(&words)?))).collect())
}

/// The monitor of a VM, where one runs that is not on record. It may not have joined its control group yet.
pub fn find(dir: &VmDir) -> Option<ProcessRef> {
    let all = all().unwrap_or_default();
    all.into_iter().find(|(_, of)| of == dir.path()).map(|(process, _)| process)
}

/// The sandbox that a monitor noted.
pub fn booted(dir: &VmDir) -> Option<Booted> {
    file::read_json(&dir.boot()).ok().flatten()
}

/// The end that a monitor noted.
pub fn exited(dir: &VmDir) -> Option<Exited> {
    file::read_json(&dir.exit()).ok().flatten()
}

/// What a monitor said on its standard error.
pub fn last_words(dir: &VmDir) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    // Nothing to read is nothing said.
    let _ = File::open(dir.monitor_stderr()).and_then(|file| file.take(STDERR_MAX_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).trim().to_owned()
}
