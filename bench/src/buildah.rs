//! The other side of builds: buildah with a store of its own, on the same file system, with gVisor or runc as what
//! runs each RUN.
//!
//! gVisor is called through a script, as its user would have to on Linux 6.11 and later: see [`crate::sandbox`]. Its
//! `delete` waits for a process that buildah does not reap, and fails: the script removes the state instead, which only
//! makes this side quicker.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use cakework_testkit::images::Image;
use cakework_testkit::process::run;
use tempfile::TempDir;

/// What runs a RUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// gVisor, as ours does.
    Gvisor,
    /// runc: it shares the host's kernel.
    Runc,
}

/// The name of the base image in the store.
pub const BASE: &str = "localhost/bench/base:1";

/// A store with a base image in it.
pub struct Buildah {
    dir: TempDir,
}

impl Buildah {
    /// Puts the image into a new store.
    pub fn prepare(image: &Image) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("cakework-bench-").tempdir()?;
        let buildah = Self { dir };
        std::fs::write(buildah.wrapper(), buildah.script())?;
        std::fs::set_permissions(buildah.wrapper(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let container = buildah.say(&["from", "scratch"])?;
        let root = buildah.say(&["mount", &container])?;
        for layer in image.layers() {
            let packed = buildah.path("layer.tar.gz");
            std::fs::write(&packed, layer.read()?)?;
            run(Command::new("tar").arg("-xzf").arg(&packed).args(["--keep-directory-symlink", "-C", &root]))?;
        }
        buildah.say(&["umount", &container])?;
        buildah.say(&["config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", &container])?;
        buildah.say(&["commit", "--quiet", &container, BASE])?;
        buildah.say(&["rm", &container])?;
        Ok(buildah)
    }

    /// Builds a folder; answers what it took.
    pub fn build(&self, folder: &Path, runtime: Runtime, cached: bool) -> Result<Duration> {
        let wrapper = self.wrapper().display().to_string();
        let runtime = if runtime == Runtime::Gvisor { wrapper.as_str() } else { "runc" };
        let mut words = vec!["bud", "--isolation", "oci", "--network", "none", "--layers", "--quiet"];
        words.extend(["--runtime", runtime]);
        if !cached {
            words.push("--no-cache");
        }
        let folder = folder.display().to_string();
        words.push(&folder);
        let began = Instant::now();
        self.say(&words)?;
        Ok(began.elapsed())
    }

    fn say(&self, words: &[&str]) -> Result<String> {
        let store = ["--storage-driver", "overlay", "--root", &self.shown("store"), "--runroot", &self.shown("run")]
            .map(str::to_owned);
        let output = run(Command::new("buildah").args(store).args(words))?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn script(&self) -> String {
        let state = self.shown("runsc");
        format!(
            "#!/bin/sh\n\
             for word; do last=$word; [ \"$word\" = delete ] && gone=1; done\n\
             if [ -n \"$gone\" ]; then rm -f {state}/*\"$last\"*; exit 0; fi\n\
             exec unshare --mount --propagation private -- sh -c 'mount -t tmpfs -o ro none /proc/sys/net && \
             exec runsc --root {state} --platform=systrap --network=none --overlay2=none --ignore-cgroups \"$@\"' sh \"$@\"\n"
        )
    }

    fn wrapper(&self) -> PathBuf {
        self.path("runtime")
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // The store holds mounts until its images are gone.
        let _ = self.say(&["rm", "--all"]);
        let _ = self.say(&["rmi", "--all", "--force"]);
    }
}
