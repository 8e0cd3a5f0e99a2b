//! Where the parts of a VM lie in its directory.

use std::path::{Path, PathBuf};

use cakework_core::id::VmId;

use crate::monitor::plan;

/// A VM's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmDir {
    path: PathBuf,
}

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident = $path:expr;)*) => {
        impl VmDir {$(
            $(#[$doc])*
            pub fn $name(&self) -> PathBuf {
                self.path.join($path)
            }
        )*}
    };
}
parts! {
    /// The intent; the registry's.
    assignment = "assignment.json";
    /// The wish for its end; the registry's.
    asked = "asked.json";
    /// The highest placement that was refused for good; the registry's.
    tombstone = "tombstone.json";
    /// What is; the driver's.
    record = "record.json";
    /// The writable disk's file.
    disk_file = "disk.img";
    /// The mounted disk.
    disk = "disk";
    /// The mounted root.
    rootfs = "rootfs";
    /// The volume's file.
    volume_file = "volume.img";
    /// The volume's file before it is whole.
    volume_draft = "volume.draft";
    /// The same before it belongs to the VM's user.
    volume_new = "volume.new";
    /// The mounted volume.
    volume = "volume";
    /// What a cached VM's starts begin with.
    prepared = "prepared";
    /// Its disk.
    prepared_disk = "prepared/disk.img";
    /// The pages of its memory.
    prepared_pages = "prepared/memory/pages.img";
    /// Its sandbox's configuration.
    prepared_config = "prepared/config.json";
    /// The same before it is whole.
    prepared_draft = "prepared.draft";
    /// The memory of a cached VM that sleeps on the disk.
    spill = "spill";
    /// What the engine reads.
    bundle = "bundle";
    /// The sandbox's configuration in it.
    config = "bundle/config.json";
    /// What engine and monitor write.
    run = "run";
    /// The log.
    logs = plan::LOG_DIR;
    /// See [`plan::PLAN_FILE`].
    plan = plan::PLAN_FILE;
    /// See [`plan::BOOT_FILE`].
    boot = plan::BOOT_FILE;
    /// See [`plan::EXIT_FILE`].
    exit = plan::EXIT_FILE;
    /// The sandbox's process id, as the engine writes it.
    pid_file = "run/runsc.pid";
    /// What a monitor that failed had to say.
    monitor_stderr = "run/monitor.stderr";
}

impl VmDir {
    /// The directory of `vm` below the agent's `dir`.
    pub fn new(dir: &Path, vm: &VmId) -> Self {
        Self { path: Self::all(dir).join(vm.as_str()) }
    }

    /// A directory that is no VM's but laid out like one.
    pub const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the VMs' directories are below the agent's `dir`.
    pub fn all(dir: &Path) -> PathBuf {
        dir.join("vms")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the making of a sandbox left here.
    pub fn of_run(&self) -> [PathBuf; 6] {
        [self.rootfs(), self.disk(), self.volume(), self.disk_file(), self.bundle(), self.run()]
    }

    /// What a cached VM keeps between its runs.
    pub fn kept(&self) -> [PathBuf; 6] {
        let volume = [self.volume_file(), self.volume_draft(), self.volume_new()];
        let [file, draft, new] = volume;
        [file, draft, new, self.prepared(), self.prepared_draft(), self.spill()]
    }
}
