//! Makes all that a sandbox needs: its root on a disk of its own, its volume, its network, its control group and its
//! bundle; what does not depend on each other at the same time.
//!
//! Nothing here is undone on failure: [`super::clean`] takes it all away by name, however far it came.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cakework_core::id::VmId;
use cakework_core::spec::VmSpec;
use cakework_image::Image;
use cakework_image::rootfs::{self, RootfsError, User};

use super::dir::VmDir;
use super::driver::Parts;
use super::record::Assignment;
use crate::backend::gvisor::bundle::{self, FirstProcess, Mount, Unstartable};
use crate::monitor::plan::Plan;
use crate::net::{GUEST, NetError};
use crate::sys::cgroup::Limits;
use crate::sys::clock;
use crate::sys::file::{self, Survives};
use crate::sys::packet::PacketSocket;

/// Threads and processes of the host in one VM's control group: below about 2000 the sandbox dies where the guest's
/// `fork` should fail.
pub const PIDS_MAX: u64 = 8192;

/// Why a VM could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The image and the request make no process.
    #[error(transparent)]
    Unstartable(#[from] Unstartable),
    /// Its root, disk or volume.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// Its network.
    #[error("the network could not be made")]
    Net(#[from] NetError),
    /// Something else of the host's.
    #[error("could not {doing}")]
    Host {
        /// What was tried.
        doing: &'static str,
        /// What the host said.
        #[source]
        source: std::io::Error,
    },
}

impl PrepareError {
    /// A sentence for the VM's owner.
    pub fn for_owner(&self) -> String {
        match self {
            Self::Unstartable(error) => error.to_string(),
            Self::Rootfs(
                error @ (RootfsError::TooManyLayers { .. }
                | RootfsError::NoSuchUser { .. }
                | RootfsError::Unusable { .. }
                | RootfsError::NoSpace(_)),
            ) => error.to_string(),
            Self::Rootfs(RootfsError::Host { .. }) | Self::Net(_) | Self::Host { .. } => {
                "the host could not prepare the VM; its operator finds the cause in the agent's log".into()
            }
        }
    }
}

/// A VM that only has to be booted, while the host's half of its network is made.
#[derive(Debug)]
pub struct Prepared {
    /// Its address, visible from the host.
    pub address: Ipv4Addr,
    /// The program that its first process runs.
    pub program: String,
    /// Its network namespace is new.
    pub fresh_network: bool,
    /// What the engine is handed of its network.
    pub packets: Option<PacketSocket>,
}

/// Prepares a VM; what a call before it left is taken up or replaced.
///
/// # Errors
/// [`PrepareError`].
pub async fn prepare(
    parts: &Arc<Parts>,
    vm: &VmId,
    dir: &VmDir,
    assignment: &Assignment,
    image: Arc<Image>,
) -> Result<Prepared, PrepareError> {
    let network = parts.network.attach_guest(vm, assignment.slot, parts.told);
    let disks = blocking({
        let (vm, dir, assignment) = (vm.clone(), dir.clone(), assignment.clone());
        move || lay_out(&vm, &dir, &assignment, &image)
    });
    let group = blocking({
        let (parts, vm, spec) = (Arc::clone(parts), vm.clone(), assignment.spec.clone());
        move || parts.cgroups.make(vm.as_str(), Some(&limits(&spec))).map_err(host("make the control group"))
    });
    // All of them end, also if one fails: nothing may still be taking something while it is taken away.
    let (network, disks, group) = tokio::join!(timed("network", network), timed("disks", disks), timed("group", group));
    let ((attachment, packets), (process, user)) = (network?, disks?);
    group?;
    let program = process.args.first().cloned().unwrap_or_default();
    let (parts, vm, dir, assignment) = (Arc::clone(parts), vm.clone(), dir.clone(), assignment.clone());
    let (netns, fresh_network) = (attachment.netns, attachment.fresh);
    blocking(move || {
        write_bundle(&parts, &vm, &dir, &assignment.spec, &process, &user, &netns)?;
        let command = parts.gvisor.create_command(vm.as_str(), &dir.bundle(), &dir.pid_file());
        let boot_timeout_ms = assignment.start_by_ms.saturating_sub(clock::boottime_ms()).max(1);
        write_plan(&parts, &vm, &dir, &assignment, command, boot_timeout_ms)
    })
    .await?;
    Ok(Prepared { address: attachment.address, program, fresh_network, packets })
}

/// What a VM of this specification may use of its host.
pub fn limits(spec: &VmSpec) -> Limits {
    Limits { memory_bytes: u64::from(spec.memory_mib) << 20, cpu_milli: u64::from(spec.cpu) * 1000, pids: PIDS_MAX }
}

/// Makes disk, root and volume: a new root disk; of a cached VM the volume that is there, or a durable one. Blocks.
///
/// # Errors
/// [`PrepareError`].
pub fn lay_out(
    vm: &VmId,
    dir: &VmDir,
    assignment: &Assignment,
    image: &Image,
) -> Result<(FirstProcess, User), PrepareError> {
    let spec = &assignment.spec;
    for dir in [dir.bundle(), dir.run()] {
        std::fs::create_dir_all(&dir).map_err(host("make the VM's directories"))?;
    }
    rootfs::make_disk(&dir.disk_file(), u64::from(spec.disk_mib))?;
    rootfs::mount_disk(&dir.disk_file(), &dir.disk())?;
    rootfs::mount_overlay(&image.layers, &dir.disk(), &dir.rootfs())?;
    let root = dir.rootfs();
    let hostname = vm.as_str();
    let config = image.config.config().as_ref();
    let user = rootfs::find_user(&root, config.and_then(|config| config.user().as_deref()).unwrap_or(""))?;
    let process = bundle::first_process(&image.config, spec, &user, hostname)?;
    rootfs::make_dir(&root, "/tmp", 0o1777)?;
    for (path, content, mode) in bundle::files(hostname, GUEST.address, GUEST.resolver) {
        rootfs::write_file(&root, path, content.as_bytes(), mode)?;
    }
    rootfs::make_dir(&root, &process.cwd, 0o755)?;
    if let Some(volume_gb) = spec.volume_gb {
        rootfs::make_dir(&root, bundle::VOLUME_PATH, 0o755)?;
        let volume_mib = u64::from(volume_gb) * 1024;
        match assignment.cached {
            Some(_) => keep_volume(dir, volume_mib, &user)?,
            None => make_volume(dir, volume_mib, &user)?,
        }
    }
    Ok((process, user))
}

fn make_volume(dir: &VmDir, size_mib: u64, user: &User) -> Result<(), PrepareError> {
    rootfs::make_disk(&dir.volume_file(), size_mib)?;
    rootfs::mount_disk(&dir.volume_file(), &dir.volume())?;
    own_volume(dir, user).map_err(host("give the volume to the VM's user"))
}

/// A volume that outlives runs and crashes: it has its name once all of it is on the host's disk.
fn keep_volume(dir: &VmDir, size_mib: u64, user: &User) -> Result<(), PrepareError> {
    if !dir.volume_file().exists() {
        rootfs::make_durable_disk(&dir.volume_new(), size_mib)?;
        rootfs::mount_disk(&dir.volume_new(), &dir.volume())?;
        own_volume(dir, user).map_err(host("give the volume to the VM's user"))?;
        rootfs::unmount_whole(&dir.volume())?;
        let named = std::fs::rename(dir.volume_new(), dir.volume_file()).and_then(|()| file::sync_dir(dir.path()));
        named.map_err(host("keep the volume"))?;
    }
    Ok(rootfs::mount_disk(&dir.volume_file(), &dir.volume())?)
}

/// A new volume is empty and belongs to whom the first process runs as.
fn own_volume(dir: &VmDir, user: &User) -> std::io::Result<()> {
    file::remove(&dir.volume().join("lost+found"))?;
    std::os::unix::fs::chown(dir.volume(), Some(user.uid), Some(user.gid))
}

/// Writes what the engine reads. Blocks.
///
/// # Errors
/// [`PrepareError`].
pub fn write_bundle(
    parts: &Parts,
    vm: &VmId,
    dir: &VmDir,
    spec: &VmSpec,
    process: &FirstProcess,
    user: &User,
    netns: &Path,
) -> Result<(), PrepareError> {
    let root = dir.rootfs();
    let cgroup = parts.cgroups.path_of(vm.as_str());
    let volume = || Mount::Bind { source: dir.volume(), target: bundle::VOLUME_PATH.into(), read_only: false };
    let mounts: Vec<Mount> = spec.volume_gb.map(|_| volume()).into_iter().collect();
    let places = bundle::Parts {
        root: &root,
        mounts: &mounts,
        netns: Some(netns),
        cgroup: &cgroup,
        memory_mib: spec.memory_mib,
        open_files: parts.open_files,
    };
    let config = bundle::config(process, user, vm.as_str(), places);
    file::write_json(&dir.config(), &config, Survives::Process).map_err(host("write the bundle"))
}

/// Writes what the monitor is to do. Blocks.
///
/// # Errors
/// [`PrepareError`].
pub fn write_plan(
    parts: &Parts,
    vm: &VmId,
    dir: &VmDir,
    assignment: &Assignment,
    command: Vec<String>,
    boot_timeout_ms: u64,
) -> Result<(), PrepareError> {
    let plan = Plan {
        generation: assignment.generation,
        command,
        pid_file: dir.pid_file(),
        control: Some(parts.gvisor.control(vm.as_str())),
        boot_timeout_ms,
        logs: parts.logs,
    };
    file::write_json(&dir.plan(), &plan, Survives::Process).map_err(host("write the monitor's plan"))
}

/// Turns what the host said into an error that says what was tried.
pub fn host(doing: &'static str) -> impl Fn(std::io::Error) -> PrepareError {
    move |source| PrepareError::Host { doing, source }
}

/// For whoever looks for what a start waits on.
async fn timed<T>(step: &'static str, work: impl Future<Output = T>) -> T {
    let begin = Instant::now();
    let done = work.await;
    tracing::debug!(step, took = ?begin.elapsed(), "a step of a preparation ended");
    done
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(host("go on: a step of the preparation panicked")(std::io::Error::other(error))),
    }
}
