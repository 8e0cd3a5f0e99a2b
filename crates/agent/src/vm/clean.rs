//! Ends a sandbox and gives back all that its VM took.
//!
//! Invariant: every step may be repeated, and finds what it removes by the VM's name or on its record, so that it does
//! not matter how far the making came or which earlier cleaning was cut off.

use std::sync::Arc;
use std::time::Duration;

use cakework_core::id::VmId;
use cakework_image::rootfs::{self, RootfsError};
use tokio::time::{sleep, timeout};

use super::dir::VmDir;
use super::driver::{Driver, Parts, save};
use super::exit::Known;
use super::{exit, watcher};
use crate::net::{NetError, Slot};
use crate::sys::file::{self, Survives};
use crate::sys::mounts;
use crate::sys::process::{self, Process};

/// How long the processes of a sandbox may take to go after they were killed.
const KILL_WAIT: Duration = Duration::from_secs(5);
const KILL_POLL: Duration = Duration::from_millis(5);
/// How long a monitor may take to write down the rest of the output and the end.
const MONITOR_WAIT: Duration = Duration::from_secs(5);
/// Time before a cleaning that failed is tried again, doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How often something that nobody drives is tried to be destroyed, [`RETRY_MIN`] apart.
const DESTROY_ATTEMPTS: u32 = 20;

/// Something could not be given back; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// A process does not go.
    #[error("processes of the sandbox are still there")]
    Alive,
    /// A mount.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A file or control group.
    #[error("could not remove {what}")]
    Io {
        /// What.
        what: &'static str,
        /// What the host said.
        #[source]
        source: std::io::Error,
    },
}

/// Cleans until nothing is left; `None` where the agent ends first.
pub async fn clean(driver: &mut Driver) -> Option<()> {
    let mut wait = RETRY_MIN;
    loop {
        let Err(error) = attempt(driver).await else { return Some(()) };
        tracing::warn!(vm = %driver.vm, error = &error as &dyn std::error::Error, "a VM's cleaning is tried again");
        tokio::select! {
            () = sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
            () = driver.parts.shutdown.cancelled() => return None,
        }
    }
}

async fn attempt(driver: &mut Driver) -> Result<(), CleanError> {
    end_driven(driver).await?;
    if driver.record.exit.is_none() {
        let (parts, vm, dir, record) =
            (Arc::clone(&driver.parts), driver.vm.clone(), driver.dir.clone(), driver.record.clone());
        let exit = blocking("read how it ended", move || {
            let known = Known {
                ran: record.sandbox.is_some(),
                cause: record.cause,
                failure: record.failure.as_deref(),
                same_boot: record.boot_id == parts.boot_id,
            };
            Ok(exit::classify(known, parts.cgroups.oom_kills(vm.as_str()), watcher::exited(&dir)))
        });
        driver.record.exit = Some(exit.await?);
        // Its sources are about to be removed.
        save(&driver.dir, &driver.record, Survives::Process).await;
    }
    give_back(&driver.parts, &driver.vm, &driver.dir, driver.assignment.slot, Files::All).await?;
    let asked = driver.dir.asked();
    blocking("remove the wish", move || file::remove(&asked).map_err(io("the wish"))).await
}

/// Takes back a preparation that nobody goes on with; the VM may be prepared anew. A process that was killed counts until
/// it is reaped, as in [`destroy`].
///
/// # Errors
/// [`CleanError`] of the last attempt.
pub async fn undo(driver: &mut Driver) -> Result<(), CleanError> {
    let mut attempt = 1;
    loop {
        let done = try_undo(driver).await;
        if done.is_ok() || attempt == DESTROY_ATTEMPTS {
            return done;
        }
        attempt += 1;
        sleep(RETRY_MIN).await;
    }
}

async fn try_undo(driver: &mut Driver) -> Result<(), CleanError> {
    end_driven(driver).await?;
    driver.record.monitor = None;
    give_back(&driver.parts, &driver.vm, &driver.dir, driver.assignment.slot, Files::All).await
}

async fn end_driven(driver: &mut Driver) -> Result<(), CleanError> {
    let same_boot = driver.record.boot_id == driver.parts.boot_id;
    let recorded = driver.record.monitor.filter(|_| same_boot);
    let monitor = driver.monitor.take().or_else(|| recorded.and_then(Process::open));
    let monitor = if same_boot { monitor } else { None };
    end(&driver.parts, &driver.vm, &driver.dir, monitor, driver.record.sandbox.is_none()).await
}

/// Ends the sandbox and, once it has noted all, the monitor, which is looked for where it is not given. `never_ran`:
/// there is nothing to note, and the monitor could still be about to make a sandbox.
///
/// # Errors
/// [`CleanError::Alive`] where something does not go.
pub async fn end(
    parts: &Arc<Parts>,
    vm: &VmId,
    dir: &VmDir,
    monitor: Option<Process>,
    never_ran: bool,
) -> Result<(), CleanError> {
    let monitor = monitor.or_else(|| watcher::find(dir).and_then(Process::open));
    if let Some(monitor) = monitor.as_ref().filter(|_| never_ran) {
        end_monitor(monitor).await?;
    }
    end_sandbox(parts, vm, never_ran).await?;
    match monitor {
        Some(monitor) => {
            // What it has not noted by then is lost.
            let _ = timeout(MONITOR_WAIT, monitor.ended()).await;
            end_monitor(&monitor).await
        }
        None => Ok(()),
    }
}

async fn end_monitor(monitor: &Process) -> Result<(), CleanError> {
    monitor.kill();
    timeout(KILL_WAIT, monitor.ended()).await.map_err(|_| CleanError::Alive)
}

/// Ends the sandbox of a VM by its control group: all its processes at once, and without waiting for whoever reaps
/// them, as the engine's own command would. `strays` looks also for processes of the engine that have not joined the
/// group yet.
///
/// # Errors
/// [`CleanError::Alive`] where something does not go.
pub async fn end_sandbox(parts: &Arc<Parts>, vm: &VmId, strays: bool) -> Result<(), CleanError> {
    let gone = async {
        loop {
            let (parts, vm) = (Arc::clone(parts), vm.clone());
            let none = blocking("list processes", move || {
                let none = parts.cgroups.kill(vm.as_str());
                Ok(none && (!strays || kill_strays(&parts, &vm)?))
            });
            if none.await? {
                return Ok(());
            }
            sleep(KILL_POLL).await;
        }
    };
    timeout(KILL_WAIT, gone).await.unwrap_or(Err(CleanError::Alive))
}

/// True where there was none any more.
fn kill_strays(parts: &Parts, vm: &VmId) -> Result<bool, CleanError> {
    let mut none = true;
    for (process, of) in parts.gvisor.processes().map_err(io("processes"))? {
        if of.as_ref() == Some(vm) {
            none = false;
            process::kill(process);
        }
    }
    Ok(none)
}

/// Gives back network, mounts, control group, engine state and files, once no process of the VM is left.
///
/// # Errors
/// [`CleanError`]; the rest was given back.
pub async fn give_back(parts: &Arc<Parts>, vm: &VmId, dir: &VmDir, slot: Slot, what: Files) -> Result<(), CleanError> {
    let local = blocking("give back a VM's files", {
        let (parts, vm, dir) = (Arc::clone(parts), vm.clone(), dir.clone());
        move || {
            let files = remove_files(&dir, what);
            parts.gvisor.forget(vm.as_str()).map_err(io("the engine's state"))?;
            parts.cgroups.remove(vm.as_str()).map_err(io("the control group"))?;
            files
        }
    });
    let (network, local) = tokio::join!(parts.network.detach(vm, slot), local);
    network?;
    local
}

/// Ends and gives back what nobody drives any more, however far its making came. A process that was killed counts until
/// whoever inherited it has reaped it, which takes a moment: so it is tried some times.
///
/// # Errors
/// [`CleanError`] of the last attempt.
pub async fn destroy(parts: &Arc<Parts>, vm: &VmId, dir: &VmDir, slot: Slot) -> Result<(), CleanError> {
    let mut attempt = 1;
    loop {
        let mut done = end_sandbox(parts, vm, true).await;
        if done.is_ok() {
            done = give_back(parts, vm, dir, slot, Files::All).await;
        }
        if done.is_ok() || attempt == DESTROY_ATTEMPTS {
            return done;
        }
        attempt += 1;
        sleep(RETRY_MIN).await;
    }
}

/// Which files of a VM are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Those of its sandbox: a cached VM keeps its volume, its prepared state and its log.
    Run,
    /// None: a cached VM's memory and disks are kept, and only unmounted.
    None,
    /// All but its record and its log.
    All,
}

/// Unmounts what a preparation mounted in a VM's directory and removes files of it. Blocks.
///
/// # Errors
/// [`CleanError`].
pub fn remove_files(dir: &VmDir, what: Files) -> Result<(), CleanError> {
    for point in mounts::below(dir.path()).map_err(io("mounts"))? {
        rootfs::unmount(&point)?;
    }
    let (of_run, kept) = (dir.of_run(), dir.kept());
    let removed: &[&[_]] = match what {
        Files::None => &[],
        Files::Run => &[&of_run],
        Files::All => &[&of_run, &kept],
    };
    removed.iter().copied().flatten().try_for_each(|path| file::remove(path)).map_err(io("the VM's files"))
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> CleanError {
    move |source| CleanError::Io { what, source }
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, CleanError> + Send + 'static,
) -> Result<T, CleanError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(io(what)(std::io::Error::other(error))),
    }
}
