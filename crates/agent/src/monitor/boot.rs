//! Starts the sandbox: its FIFOs, the private mount namespace that its command needs, and the command itself.
//!
//! The command's namespace has an empty `/proc/sys/net`: gVisor of 2024 refuses to start on Linux 6.11 and later when it
//! can look into the real one. Only the command is in it. The monitor goes back to the host's namespace: a copy of the
//! mount table held for a VM's life would keep every other VM's disk mounted. The sandbox and its gofer leave it
//! themselves, by pivot_root.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::plan::{Booted, Plan};
use super::sandbox::Sandbox;
use crate::sys::mounts;

/// What a guest may write while no monitor reads; then it blocks.
const FIFO_BYTES: usize = 256 * 1024;
/// What of a failed command's output is told.
const SAID_MAX_BYTES: usize = 2000;
const PID_FILE_MAX_BYTES: usize = 32;

/// Opens a FIFO for reading, making it if absent. Nothing else is opened in its place.
///
/// It is opened for writing too: so it never ends, whoever else comes and goes, and the sandbox's end, opened by
/// [`boot`], outlives every monitor.
pub fn open_fifo(path: &Path) -> Result<File> {
    match rustix::fs::mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(errno) => return Err(errno).context("making a FIFO"),
    }
    let fifo = open(path, OFlags::NONBLOCK)?;
    // More than the default is a favour that the kernel may refuse.
    let _ = rustix::pipe::fcntl_setpipe_size(&fifo, FIFO_BYTES);
    Ok(fifo)
}

fn open(path: &Path, flags: OFlags) -> Result<File> {
    let flags = (flags | OFlags::NOFOLLOW).bits();
    let flags = i32::try_from(flags).expect("the flags of open(2) fit an int");
    let file = File::options().read(true).write(true).custom_flags(flags).open(path).context("opening a FIFO")?;
    ensure!(file.metadata()?.file_type().is_fifo(), "what should be a FIFO is none");
    Ok(file)
}

/// Runs the plan's command with the FIFOs at `outputs` as its standard output and error; answers the sandbox it started.
///
/// # Errors
/// With the end of what the command wrote, which is then taken out of the FIFOs' reading ends `fifos`.
pub fn boot(plan: &Plan, outputs: [&Path; 2], fifos: &[File; 2]) -> Result<Booted> {
    let pid_file = &plan.pid_file;
    let _ = std::fs::remove_file(pid_file);
    let mut child = spawn(plan, outputs)?;
    let ended = wait(&mut child, Duration::from_millis(plan.boot_timeout_ms))?;
    match ended {
        None => bail!("the sandbox's command took longer than {} ms: {}", plan.boot_timeout_ms, said(fifos)),
        Some(status) if !status.success() => bail!("the sandbox's command failed ({status}): {}", said(fifos)),
        Some(_) => {}
    }
    let text = std::fs::read(pid_file).context("the sandbox's command wrote no pid file")?;
    let text = std::str::from_utf8(&text[..text.len().min(PID_FILE_MAX_BYTES)]).unwrap_or_default();
    let pid = text.trim().parse().context("the sandbox's pid file holds no process id")?;
    Sandbox::name(pid)
}

fn spawn(plan: &Plan, outputs: [&Path; 2]) -> Result<Child> {
    let (program, arguments) = plan.command.split_first().context("the plan has no command")?;
    let host = File::open("/proc/self/ns/mnt").context("opening the mount namespace")?;
    let left = mounts::leave_without_sysctls().context("making the mounts private");
    let spawned = left.and_then(|()| {
        let [stdout, stderr] = outputs.map(|path| open(path, OFlags::empty()));
        Command::new(program)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(stdout?)
            .stderr(stderr?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {program}"))
    });
    nix::sched::setns(&host, CloneFlags::CLONE_NEWNS).context("going back to the host's mount namespace")?;
    spawned
}

/// Waits for the command. `None`: it took too long and was killed with its process group.
fn wait(child: &mut Child, timeout: Duration) -> Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("watching the sandbox's command")?;
    let timeout = timeout.try_into().context("the plan's boot timeout is too long")?;
    // No signal is caught here, so none interrupts.
    let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).context("waiting for the command")?;
    if ready == 0 {
        kill_process_group(pid, Signal::KILL).context("killing the sandbox's command")?;
    }
    let status = child.wait().context("waiting for the command")?;
    Ok((ready > 0).then_some(status))
}

/// The end of what the command wrote.
fn said(fifos: &[File; 2]) -> String {
    let mut all = Vec::new();
    let mut buffer = vec![0; FIFO_BYTES];
    for fifo in fifos {
        while let Ok(count @ 1..) = rustix::io::read(fifo, &mut buffer)
            && all.len() < 2 * FIFO_BYTES
        {
            all.extend_from_slice(&buffer[..count]);
        }
    }
    let end = &all[all.len().saturating_sub(SAID_MAX_BYTES)..];
    if end.is_empty() { "it said nothing".to_owned() } else { String::from_utf8_lossy(end).trim().to_owned() }
}
