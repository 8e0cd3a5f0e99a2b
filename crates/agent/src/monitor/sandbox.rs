//! The sandbox's process as its monitor sees it: who it is, when it is gone, and how it ended.
//!
//! Invariant: a process id means the sandbox only together with its start time and the host's boot; an end that nobody
//! told is unknown, never invented.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus, pidfd_open, waitpid};

use super::control::Question;
use super::plan::{Booted, Control, Exited};

/// A shell's way to say that a signal ended a process: this plus the signal's number. gVisor's own exit code says it so too.
const SIGNALLED_CODE: i32 = 128;
/// Children that one call reaps at most.
const REAPED_MAX: usize = 64;

/// A sandbox that is watched.
#[derive(Debug)]
pub struct Sandbox {
    pid: Pid,
    /// `None`: it was gone before it could be watched.
    pidfd: Option<OwnedFd>,
    /// How it ended, where this process is its parent and has reaped it.
    reaped: Option<WaitStatus>,
    question: Option<Question>,
}

impl Sandbox {
    /// Names the process with this id, which must be this process's child or just have been started.
    pub fn name(pid: i32) -> Result<Booted> {
        let start_time = start_time(pid).context("the sandbox is gone already")?;
        Ok(Booted { sandbox_pid: pid, start_time, boot_id: boot_id()? })
    }

    /// Watches the sandbox. With `control` its end is asked for at the control socket: a parent needs no answer.
    pub fn watch(booted: &Booted, control: Option<&Control>) -> Result<Self> {
        let pid = Pid::from_raw(booted.sandbox_pid).context("the sandbox's process id is no process id")?;
        // The descriptor first: whom it names is who has the id now, and that is compared.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
        let same = boot_id()? == booted.boot_id && start_time(booted.sandbox_pid) == Some(booted.start_time);
        let pidfd = pidfd.filter(|_| same);
        let question = pidfd.as_ref().and(control).and_then(Question::ask);
        Ok(Self { pid, pidfd, reaped: None, question })
    }

    /// Readable when the sandbox is gone. `None`: it was gone from the start.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Readable when the control socket has something to say.
    pub fn answer(&self) -> Option<BorrowedFd<'_>> {
        self.question.as_ref()?.pollable()
    }

    /// Reads what the control socket said.
    pub fn read_answer(&mut self) {
        if let Some(question) = &mut self.question {
            question.read();
        }
    }

    /// Reaps children that have ended: the sandbox's own helpers come to this process when their parents end.
    pub fn reap(&mut self) {
        for _ in 0..REAPED_MAX {
            match waitpid(None, WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => self.reaped = Some(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// How it ended. Call it when it is gone.
    pub fn exited(&mut self) -> Exited {
        self.read_answer();
        if self.pidfd.is_some() && self.reaped.is_none() {
            self.reaped = waitpid(Some(self.pid), WaitOptions::NOHANG).ok().flatten().map(|(_, status)| status);
        }
        if let Some(status) = self.reaped {
            return Exited { code: status.exit_status(), signal: status.terminating_signal() };
        }
        match self.question.as_ref().and_then(Question::status) {
            Some(status) => {
                let (code, signal) = ((status >> 8 & 0xff) as i32, (status & 0x7f) as i32);
                Exited { code: Some(if signal == 0 { code } else { SIGNALLED_CODE + signal }), signal: None }
            }
            None => Exited::default(),
        }
    }
}

/// When the process with this id started, a zombie's too: field 22 of proc_pid_stat(5).
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name before the fields is in parentheses and may hold any byte.
    let after_name = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = std::str::from_utf8(&stat[after_name + 1..]).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn boot_id() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the host's boot id")?;
    Ok(text.trim_end().to_owned())
}
