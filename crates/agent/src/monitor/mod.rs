//! The role `monitor`: one small process per VM that boots the sandbox, pumps its output into log segments and notes how
//! it ended. It outlives the agent; it knows no network, no image and no host protocol.
//!
//! ```text
//! sandbox stdout, stderr → FIFOs → split → rate → segments (logs/NNNNNN.seg)
//! ```
//! Invariant: every line of the sandbox's output is in the segments once, or a record says that some are missing. A
//! monitor may be killed at any line: the FIFOs stay open in the sandbox, and the next monitor attaches. `run/boot.json`
//! is there before the agent hears of the sandbox, `run/exit.json` is the last thing written. No more than one monitor
//! of a VM works at a time. What it holds in memory is bounded by the constants of its parts, well below 1 MiB.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use serde::Serialize;
use serde::de::DeserializeOwned;

mod boot;
mod control;
pub mod plan;
mod pump;
mod rate;
mod sandbox;
pub(crate) mod segments;
pub(crate) mod split;
#[cfg(test)]
mod tests;

use plan::{Answer, BOOT_FILE, Booted, EXIT_FILE, LOG_DIR, PLAN_FILE, Plan};
use pump::Pump;
use sandbox::Sandbox;
use segments::Writer;

const STDOUT_FIFO: &str = "run/stdout.fifo";
const STDERR_FIFO: &str = "run/stderr.fifo";
const LOCK_FILE: &str = "run/monitor.lock";
/// The kernel frees the lock of a killed monitor when it has taken the process apart.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(5);
const JSON_MAX_BYTES: u64 = 4 << 20;

/// How the monitor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Run the plan's command, which starts the sandbox.
    Boot,
    /// Go on with a sandbox that another monitor booted.
    Attach,
}

/// Runs the monitor of the VM whose directory is `vm_dir`, until its sandbox is gone. Call it in a process of one thread.
///
/// It prints one [`Answer`] on standard output and exits with 1 if that is `failed`.
pub fn main(vm_dir: &Path, mode: Mode) -> ExitCode {
    match run(vm_dir, mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            answer(&Answer::Failed { message: format!("{error:#}") });
            ExitCode::FAILURE
        }
    }
}

fn run(vm_dir: &Path, mode: Mode) -> Result<()> {
    // Coming back from the command's mount namespace changes the working directory.
    let vm_dir = &std::path::absolute(vm_dir).context("finding the VM's directory")?;
    detach()?;
    let plan: Plan = read_json(&vm_dir.join(PLAN_FILE)).context("reading the plan")?;
    let _lock = lock(&vm_dir.join(LOCK_FILE))?;
    let outputs = [vm_dir.join(STDOUT_FIFO), vm_dir.join(STDERR_FIFO)];
    let fifos = [boot::open_fifo(&outputs[0])?, boot::open_fifo(&outputs[1])?];
    let (booted, control) = match mode {
        Mode::Boot => {
            remove_if_there(&vm_dir.join(EXIT_FILE))?;
            remove_if_there(&vm_dir.join(BOOT_FILE))?;
            let booted = boot::boot(&plan, [&outputs[0], &outputs[1]], &fifos)?;
            write_json(&vm_dir.join(BOOT_FILE), &booted).context("noting the sandbox")?;
            (booted, None)
        }
        Mode::Attach => {
            let booted: Booted = read_json(&vm_dir.join(BOOT_FILE)).context("reading which sandbox was booted")?;
            (booted, plan.control.as_ref())
        }
    };
    let mut sandbox = Sandbox::watch(&booted, control)?;
    answer(&Answer::Started(booted));
    if mode == Mode::Attach && vm_dir.join(EXIT_FILE).exists() {
        return Ok(());
    }
    let writer = Writer::open(&vm_dir.join(LOG_DIR), plan.generation, &plan.logs, mode == Mode::Attach);
    Pump::new(fifos, writer, &plan.logs).run(&mut sandbox);
    write_json(&vm_dir.join(EXIT_FILE), &sandbox.exited()).context("noting the sandbox's end")
}

/// Makes this process nobody's but its own: the service's stop, a terminal and a closed pipe do not reach it, and what the
/// sandbox leaves behind comes to it.
fn detach() -> Result<()> {
    // Fails in a process that leads a group already, which is as good.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("becoming the subreaper")?;
    // Blocked, not ignored: the sandbox's command would inherit that they are ignored, while std unblocks them for it.
    // SIGPIPE is ignored in every Rust program, and restored for its children.
    let mut signals = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().for_each(|signal| signals.add(signal));
    signals.thread_block().context("blocking signals")
}

fn lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path).context("opening the lock")?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => bail!("another monitor of this VM is at work"),
            Err(TryLockError::Error(error)) => return Err(error).context("taking the lock"),
        }
    }
}

/// Says the one line, and closes the pipes to the agent.
fn answer(answer: &Answer) {
    let mut line = serde_json::to_vec(answer).expect("plain data");
    line.push(b'\n');
    // An agent that is gone reads `run/boot.json` when it is back.
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(File::open(path)?, JSON_MAX_BYTES), &mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Writes a whole file or none. It is not synced: after a crash of the host nothing of it counts.
fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, serde_json::to_vec(value)?)?;
    Ok(std::fs::rename(&draft, path)?)
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("removing what an earlier boot left")
        }
        _ => Ok(()),
    }
}
