//! Which mounts there are, and namespaces of mounts for the engine's commands.
//!
//! Invariant: only the monitor's one thread and threads made here ever leave the host's mount namespace.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::mount::{MountFlags, MountPropagationFlags};
use tokio::process::{Child, Command};

/// Moves this thread into a copy of its mount namespace in which `/proc/sys/net` is empty.
///
/// # Errors
/// What the kernel said; the thread may then be in the copy.
pub fn leave_without_sysctls() -> std::io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    // A slave sees the host's unmounts for as long as it lives, and shows the host none of its own mounts.
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(rustix::mount::mount("tmpfs", "/proc/sys/net", "tmpfs", flags, Some(c"size=0,mode=555"))?)
}

/// Starts a command in such a namespace, which ends with it. Needs a tokio runtime.
///
/// # Errors
/// Where the namespace can't be made or the command can't be started.
pub async fn spawn_privately(mut command: Command) -> std::io::Result<Child> {
    let runtime = tokio::runtime::Handle::current();
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("mounts".to_owned()).spawn(move || {
        let _runtime = runtime.enter();
        // Where nobody listens any more, the child is dropped, and so killed.
        let _ = answer.send(leave_without_sysctls().and_then(|()| command.spawn()));
    })?;
    answered.await.map_err(|_| std::io::Error::other("the thread in the mount namespace panicked"))?
}

/// Mount points at or below `dir`, in this process's mount namespace, innermost first.
///
/// # Errors
/// Where `/proc` can't be read.
pub fn below(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mut points: Vec<PathBuf> = points(&table).filter(|point| point.starts_with(dir)).collect();
    // The table is in the order of mounting, so that what was mounted last comes off first.
    points.reverse();
    Ok(points)
}

/// Mount points and super options of the file systems of a type.
///
/// # Errors
/// Where `/proc` can't be read.
pub fn of_type(wanted: &str) -> std::io::Result<Vec<(PathBuf, String)>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let lines = table.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = file_system.split(' ');
        (fields.next()? == wanted).then_some(())?;
        Some((points(mount.as_bytes()).next()?, fields.nth(1)?.to_owned()))
    });
    Ok(lines.collect())
}

/// Field 5 of each line (proc_pid_mountinfo(5)).
fn points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
}

/// Blank, tab, newline and backslash stand as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_a_blank_reads_back() {
        let table = b"27 1 254:0 / / rw - ext4 /dev/vda rw\n31 27 7:0 / /data/a\\040b\\134 rw - ext4 /dev/loop0 rw\n";
        let found: Vec<_> = points(table).collect();
        assert_eq!(found, [PathBuf::from("/"), PathBuf::from("/data/a b\\")]);
    }

    #[test]
    fn proc_is_mounted() {
        assert!(below(Path::new("/proc")).expect("mountinfo").contains(&PathBuf::from("/proc")));
    }
}
