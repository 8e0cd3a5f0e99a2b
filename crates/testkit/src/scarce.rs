//! Things of which there is too little: a file system without room, a control group without memory.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A file system of its own, in memory, unmounted when it is dropped.
pub struct Disk {
    path: PathBuf,
}

/// What takes all that is left; dropped it gives it back.
pub struct Ballast {
    path: PathBuf,
}

impl Disk {
    /// Of some MiB, with as many inodes as the kernel gives it, or with so many. Makes the directory.
    pub fn mount(at: &Path, mib: u32, inodes: Option<u32>) -> Result<Self> {
        fs::create_dir(at)?;
        let inodes = inodes.map(|count| format!(",nr_inodes={count}")).unwrap_or_default();
        let options = std::ffi::CString::new(format!("size={mib}m,mode=711{inodes}"))?;
        rustix::mount::mount("tmpfs", at, "tmpfs", rustix::mount::MountFlags::empty(), Some(options.as_c_str()))?;
        Ok(Self { path: at.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves no byte.
    pub fn fill(&self) -> Result<Ballast> {
        let path = self.path.join("ballast");
        let mut file = fs::File::create(&path)?;
        while file.write_all(&[0; 4096]).is_ok() {}
        Ok(Ballast { path })
    }

    /// Leaves no inode.
    pub fn fill_inodes(&self) -> Result<Ballast> {
        let path = self.path.join("ballast");
        fs::create_dir(&path)?;
        let mut count = 0u32;
        while fs::File::create(path.join(count.to_string())).is_ok() {
            count += 1;
        }
        Ok(Ballast { path })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = if self.path.is_dir() { fs::remove_dir_all(&self.path) } else { fs::remove_file(&self.path) };
    }
}

/// A control group with next to no memory, in either hierarchy (cgroup v1 or v2).
pub struct Famine {
    path: PathBuf,
}

impl Famine {
    /// From now on what process `pid`, and what it starts, may add to what they have: `bytes`.
    pub fn of(pid: u32, bytes: u64) -> Result<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (parent, limit) =
            if v1.is_dir() { (v1, "memory.limit_in_bytes") } else { (Path::new("/sys/fs/cgroup"), "memory.max") };
        let famine = Self { path: parent.join(format!("scarce-{pid}")) };
        fs::create_dir(&famine.path)?;
        let wrote = |name: &str, value: u64| {
            let path = famine.path.join(name);
            fs::write(&path, value.to_string()).with_context(|| path.display().to_string())
        };
        wrote(limit, bytes)?;
        wrote("cgroup.procs", pid.into())?;
        Ok(famine)
    }
}

impl Drop for Famine {
    fn drop(&mut self) {
        // What the process started may still be in it: it goes on where it would have been.
        let procs = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines() {
            let _ = self.path.parent().map(|parent| fs::write(parent.join("cgroup.procs"), pid));
        }
        let _ = fs::remove_dir(&self.path);
    }
}
