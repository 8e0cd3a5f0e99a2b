//! Where the parts of a build lie in its directory.
//!
//! What a monitor and the cleaning look for stands where it stands in a VM's directory: see [`VmDir`].

use std::path::{Path, PathBuf};

use cakework_core::id::BuildId;

use crate::vm::VmDir;

/// A build's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildDir {
    vm: VmDir,
}

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident = $path:expr;)*) => {
        impl BuildDir {$(
            $(#[$doc])*
            pub fn $name(&self) -> PathBuf {
                self.path().join($path)
            }
        )*}
    };
}
parts! {
    /// The placement; there until everything that the build took is given back.
    assignment = "assignment.json";
    /// How it ended.
    outcome = "outcome.json";
    /// The highest placement that was refused for good.
    tombstone = "tombstone.json";
    /// Its files.
    context = "disk/context";
    /// Changes of each step.
    steps = "disk/steps";
    /// Other trees, mounted for reading.
    views = "disk/views";
    /// What commands find mounted.
    mounts = "disk/mounts";
    /// What commands find below their image: see [`super::scenery`].
    scenery = "disk/scenery";
    /// What is fetched and unpacked.
    work = "disk/work";
    /// An empty directory.
    empty = "disk/empty";
}

impl BuildDir {
    /// The directory of `build` below the agent's `dir`.
    pub fn new(dir: &Path, build: &BuildId) -> Self {
        Self { vm: VmDir::at(Self::all(dir).join(build.as_str())) }
    }

    /// Where the builds' directories are below the agent's `dir`.
    pub fn all(dir: &Path) -> PathBuf {
        dir.join("builds")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        self.vm.path()
    }

    /// The directory as monitors and the cleaning know it.
    pub const fn vm(&self) -> &VmDir {
        &self.vm
    }

    /// A context that was put; `hex` are the digits of its digest.
    pub fn context_tar(&self, hex: &str) -> PathBuf {
        self.path().join(format!("context-{hex}.tar"))
    }
}
