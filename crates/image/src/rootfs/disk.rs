//! A VM's writable disks: sparse files with an ext4 file system, mounted through loop devices.
//!
//! A disk lives no longer than the boot of its host: after a crash of the host its VM is over. So it has no journal
//! and is not synced when made. A volume that is kept outlives both: it has a journal, and is on the host's disk before
//! it has its name. Invariant: an unmounted disk holds no loop device.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, MemfdFlags, Mode, OFlags, SeekFrom, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::{RootfsError, sys};

/// Large groups of blocks make both the file system and its mount cheap at any size. Nothing is reserved for root, who is
/// the one that writes; the inode tables stay holes, and [`MOUNT_OPTIONS`] keeps the kernel from filling them.
const MKFS_OPTIONS: [&str; 9] =
    ["-q", "-F", "-b", "4096", "-m", "0", "-G", "256", "-Enodiscard,lazy_itable_init=1,lazy_journal_init=1"];
const WITHOUT_JOURNAL: [&str; 1] = ["-O^has_journal,^resize_inode"];
const WITH_JOURNAL: [&str; 2] = ["-Ohas_journal,^resize_inode", "-Jsize=16"];
const MOUNT_OPTIONS: &str = "noinit_itable";
const COPY_CHUNK_BYTES: usize = 128 * 1024;
/// How long something may still hold a file system that is to be unmounted.
const UNMOUNT_WAIT: Duration = Duration::from_secs(2);
const UNMOUNT_POLL: Duration = Duration::from_millis(5);
/// Mounts that may lie on top of each other at one place before something is clearly wrong.
const STACKED_MAX: usize = 16;

/// Makes a writable disk: a sparse file of `size_mib` MiB with an ext4 file system. An existing file is replaced.
///
/// # Errors
/// [`RootfsError::NoSpace`], or [`RootfsError::Host`] with what `mkfs.ext4` said.
pub fn make_disk(file: &Path, size_mib: u64) -> Result<(), RootfsError> {
    make(file, size_mib, &WITHOUT_JOURNAL).map(drop)
}

/// Makes a disk like [`make_disk`] that survives a crash of the host, and is on the host's disk when this answers: all of
/// it, or none.
///
/// # Errors
/// As [`make_disk`].
pub fn make_durable_disk(file: &Path, size_mib: u64) -> Result<(), RootfsError> {
    let draft = file.with_extension("draft");
    let made = make(&draft, size_mib, &WITH_JOURNAL)?;
    let parent = file.parent().unwrap_or(Path::new("/"));
    made.sync_all()
        .and_then(|()| std::fs::rename(&draft, file))
        .and_then(|()| File::open(parent)?.sync_all())
        .map_err(host("keep the disk"))
}

/// Copies a disk that is not mounted, without its holes. An existing file is replaced.
///
/// # Errors
/// [`RootfsError::NoSpace`], [`RootfsError::Host`].
pub fn copy_disk(from: &Path, to: &Path) -> Result<(), RootfsError> {
    let from = File::open(from).map_err(host("open the disk that is copied"))?;
    let size_bytes = from.metadata().map_err(host("open the disk that is copied"))?.len();
    let to = create(to)?;
    // A file system that shares blocks does it at once.
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    to.set_len(size_bytes).and_then(|()| copy_extents(&from, &to)).map_err(host("copy the disk"))
}

fn make(file: &Path, size_mib: u64, journal: &[&str]) -> Result<File, RootfsError> {
    let size_bytes = size_mib << 20;
    // mkfs syncs what it writes, which costs more than all the rest where the host's disk is busy: it writes to memory,
    // and the few blocks that it wrote are copied.
    let draft = rustix::fs::memfd_create("disk", MemfdFlags::CLOEXEC).map(File::from).map_err(host("draft a disk"))?;
    draft.set_len(size_bytes).map_err(host("draft a disk"))?;
    format(&draft, journal)?;
    let disk = create(file)?;
    disk.set_len(size_bytes).and_then(|()| copy_extents(&draft, &disk)).map_err(host("write the disk"))?;
    Ok(disk)
}

fn create(file: &Path) -> Result<File, RootfsError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::options().read(true).write(true).create_new(true).open(file),
    }
    .map_err(host("make the disk's file"))
}

fn format(draft: &File, journal: &[&str]) -> Result<(), RootfsError> {
    let path = format!("/proc/{}/fd/{}", std::process::id(), draft.as_raw_fd());
    let output = Command::new("mkfs.ext4")
        .args(MKFS_OPTIONS)
        .args(journal)
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .map_err(host("run mkfs.ext4 (package e2fsprogs)"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr[..output.stderr.len().min(500)]).trim().to_owned();
    Err(RootfsError::Host { doing: "make a file system with mkfs.ext4".to_owned(), source: io::Error::other(said) })
}

fn copy_extents(from: &File, to: &File) -> io::Result<()> {
    let mut buffer = vec![0; COPY_CHUNK_BYTES];
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let count = usize::try_from(end - at).map_or(COPY_CHUNK_BYTES, |left| left.min(COPY_CHUNK_BYTES));
            from.read_exact_at(&mut buffer[..count], at)?;
            to.write_all_at(&buffer[..count], at)?;
            at += count as u64;
        }
    }
}

/// Mounts a disk on `target`, which is made if absent. Unmounting frees the loop device. Mounted already is fine.
///
/// # Errors
/// [`RootfsError::Host`].
pub fn mount_disk(file: &Path, target: &Path) -> Result<(), RootfsError> {
    std::fs::create_dir_all(target).map_err(host("make the disk's mount point"))?;
    if is_mounted(target).map_err(host("look at the disk's mount point"))? {
        return Ok(());
    }
    let backing = File::options().read(true).write(true).open(file).map_err(host("open the disk"))?;
    let (_device, path) = sys::attach_loop(&backing).map_err(host("attach a loop device"))?;
    let options = std::ffi::CString::new(MOUNT_OPTIONS).expect("no NUL in it");
    rustix::mount::mount(&path, target, "ext4", mount_flags(), Some(options.as_c_str())).map_err(host("mount the disk"))
}

/// What a stranger's files need from the host: nothing. Devices and set-uid bits work inside the sandbox, which reads
/// them itself; outside of it they are dead.
pub(super) fn mount_flags() -> MountFlags {
    MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME
}

/// Whether something is mounted on `target`. No such directory: no.
pub(super) fn is_mounted(target: &Path) -> io::Result<bool> {
    match rustix::fs::statx(CWD, target, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Unmounts everything on `target`. Nothing mounted, or no such directory, is fine.
///
/// What is still in use after two seconds is detached: it goes with its last user, and `target` is free at once.
///
/// # Errors
/// [`RootfsError::Host`].
pub fn unmount(target: &Path) -> Result<(), RootfsError> {
    let deadline = Instant::now() + UNMOUNT_WAIT;
    for _ in 0..STACKED_MAX {
        if !is_mounted(target).map_err(host("look at a mount point"))? {
            return Ok(());
        }
        unmount_one(target, deadline).map_err(host("unmount"))?;
    }
    Err(RootfsError::Host { doing: "unmount".to_owned(), source: Errno::BUSY.into() })
}

/// Writes everything of the disk on `target` to its file and unmounts it, so that the file holds exactly what was in it.
/// Nothing mounted is fine. Nobody may write to it meanwhile.
///
/// # Errors
/// [`RootfsError::Host`], also where it is still in use: it is not detached.
pub fn unmount_whole(target: &Path) -> Result<(), RootfsError> {
    if !is_mounted(target).map_err(host("look at a mount point"))? {
        return Ok(());
    }
    // A copy of the mount in somebody's namespace would keep its file system, and what that has not written, alive.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(target, flags, Mode::empty()).map_err(host("open a disk"))?;
    rustix::fs::syncfs(&root).map_err(host("write a disk"))?;
    drop(root);
    let deadline = Instant::now() + UNMOUNT_WAIT;
    unmount_patiently(target, deadline).map_err(host("unmount"))
}

fn unmount_one(target: &Path, deadline: Instant) -> rustix::io::Result<()> {
    match unmount_patiently(target, deadline) {
        Err(Errno::BUSY) => rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
        other => other,
    }
}

fn unmount_patiently(target: &Path, deadline: Instant) -> rustix::io::Result<()> {
    loop {
        match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
            // Not a mount point any more: somebody else was faster.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(UNMOUNT_POLL),
            other => return other,
        }
    }
}

/// Turns what the host said into an error that says what was tried.
pub(super) fn host<E: Into<io::Error>>(doing: &'static str) -> impl Fn(E) -> RootfsError {
    move |error| {
        let source = error.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RootfsError::NoSpace(doing),
            _ => RootfsError::Host { doing: doing.to_owned(), source },
        }
    }
}
