//! Named network namespaces, as `ip netns` makes them: a file under `/run/netns` that a namespace is mounted on.
//!
//! Invariant: only threads made here ever enter a namespace, and each ends there; no thread of a pool does.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::LinkNameSpaceType;

use super::name::NETNS_DIR;

/// The type of the file system that namespaces are files of (`NSFS_MAGIC` in linux/magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// Most namespaces that a listing reads.
const LIST_MAX: usize = 1 << 17;

/// Makes `/run/netns` a shared mount, as `ip netns` does: a namespace that is mounted or unmounted there is so in
/// every mount namespace. The lock is the one of `ip netns`.
pub fn prepare() -> io::Result<()> {
    std::fs::create_dir_all(NETNS_DIR)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(NETNS_DIR, flags, Mode::empty())?;
    rustix::fs::flock(&dir, FlockOperation::LockExclusive)?;
    let share = || rustix::mount::mount_change(NETNS_DIR, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    match share() {
        Err(rustix::io::Errno::INVAL) => {
            rustix::mount::mount_bind_recursive(NETNS_DIR, NETNS_DIR)?;
            share()?;
        }
        other => other?,
    }
    Ok(())
}

/// Runs `work` inside the namespace of this name, which is made when it is not there; `work` is told whether it was.
/// It runs on a thread and an event loop of its own.
pub async fn within<T, F>(path: PathBuf, work: impl FnOnce(bool) -> F + Send + 'static) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
        let result = enter(&path).and_then(|made| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(work(made)))
        });
        // Nobody listens any more when the caller gave up.
        let _ = answer.send(result);
    })?;
    answered.await.map_err(|_| io::Error::other("the thread in the network namespace panicked"))?
}

/// Moves this thread into the namespace; answers whether it had to be made.
fn enter(path: &Path) -> io::Result<bool> {
    if is_namespace(path)? {
        let file = File::open(path)?;
        rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        return Ok(false);
    }
    // A file without a namespace is what a kill between these lines leaves.
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    drop(rustix::fs::open(path, flags, Mode::empty())?);
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    rustix::mount::mount_bind("/proc/thread-self/ns/net", path)?;
    Ok(true)
}

fn is_namespace(path: &Path) -> io::Result<bool> {
    match rustix::fs::statfs(path) {
        Ok(stat) => Ok(stat.f_type == NSFS_MAGIC),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes the name away, and with it the namespace once nothing runs in it; not there is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    while is_namespace(path)? {
        rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names there are.
pub fn names() -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(NETNS_DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    entries.take(LIST_MAX).map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
