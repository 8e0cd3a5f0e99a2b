//! Processes that may be nobody's children: found by id and start time, watched and killed by pidfd.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

/// A process of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessRef {
    /// Its id.
    pub pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
}

impl ProcessRef {
    /// The process that has this id now; `None` where there is none, or only a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_time) = read_stat(&stat)?;
        (!matches!(state, b'Z' | b'X')).then_some(Self { pid, start_time })
    }
}

/// State and start time. The name before them is in parentheses and may hold any byte.
fn read_stat(stat: &[u8]) -> Option<(u8, u64)> {
    let after = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = stat[after..].split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    let start_time = std::str::from_utf8(fields.nth(18)?).ok()?.parse().ok()?;
    Some((state, start_time))
}

/// A process that lived when this was opened, held so that its id can't come to mean another.
#[derive(Debug)]
pub struct Process {
    name: ProcessRef,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Opens the process; `None` where it has ended. Needs a tokio runtime.
    pub fn open(name: ProcessRef) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(name.pid)?, PidfdFlags::NONBLOCK).ok()?;
        // Whoever has the id at this moment is who the descriptor names: compare now, not before.
        (ProcessRef::of(name.pid) == Some(name)).then_some(())?;
        // SAFETY: the descriptor is owned by what is registered: it is neither closed nor replaced before it is dropped.
        let pidfd = unsafe { AsyncFd::register(pidfd) }.ok()?;
        Some(Self { name, pidfd })
    }

    /// Which process it is.
    pub const fn name(&self) -> ProcessRef {
        self.name
    }

    /// Waits until it has ended, and reaps it if it is this process's child.
    pub async fn ended(&self) {
        while let Ok(mut ready) = self.pidfd.readable().await {
            // Readiness may be a false alarm: only the process itself tells.
            if self.has_ended() {
                break;
            }
            ready.clear_ready();
        }
        self.reap();
    }

    /// Whether it has ended, also where nobody was told yet.
    pub fn has_ended(&self) -> bool {
        ProcessRef::of(self.name.pid) != Some(self.name)
    }

    /// Kills it.
    pub fn kill(&self) {
        // It may have ended by itself: then there is nothing to do.
        let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
    }

    fn reap(&self) {
        let reaped =
            || waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        // Any other error says that it is another's child.
        while matches!(reaped(), Err(Errno::INTR)) {}
    }
}

/// Kills the process of this id, if it is still that process.
pub fn kill(name: ProcessRef) {
    let Some(pid) = Pid::from_raw(name.pid) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if ProcessRef::of(name.pid) == Some(name) {
        // It may have ended by itself: then there is nothing to do.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

/// All processes and their arguments, as far as they can be read.
///
/// # Errors
/// Where `/proc` can't be read.
pub fn all() -> std::io::Result<Vec<(ProcessRef, Vec<String>)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if let (Some(process), Some(arguments)) = (ProcessRef::of(pid), arguments(pid)) {
            found.push((process, arguments));
        }
    }
    Ok(found)
}

/// The arguments of a process; `None` where it is gone.
pub fn arguments(pid: i32) -> Option<Vec<String>> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_nothing() {
        let stat = b"42 (a) Z 1) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1000 2 3\n";
        assert_eq!(read_stat(stat), Some((b'S', 777)));
        assert_eq!(read_stat(b"42 (a"), None);
    }

    #[tokio::test]
    async fn a_process_is_watched_to_its_end_and_never_mistaken() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let name = ProcessRef::of(i32::try_from(child.id()).expect("a pid")).expect("it runs");
        assert!(Process::open(ProcessRef { start_time: name.start_time + 1, ..name }).is_none());
        kill(ProcessRef { start_time: name.start_time + 1, ..name });
        let process = Process::open(name).expect("it still runs: the kill named another");
        assert!(!process.has_ended());
        process.kill();
        // Nobody has to be told for that.
        while !process.has_ended() {
            std::thread::yield_now();
        }
        tokio::time::timeout(std::time::Duration::from_secs(10), process.ended()).await.expect("it was killed");
        assert!(ProcessRef::of(name.pid) != Some(name));
        let _ = child.wait();
    }
}
