//! The overlay that is a VM's root: its image's layers below, its own disk on top.
//!
//! Invariant: layers are only ever lower directories, so that no VM changes what others share.

use std::collections::HashSet;
use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

use super::disk::{host, is_mounted, mount_flags};
use super::{LAYERS_MAX, RootfsError};

/// Directories that a guest renames are copied, files that it changes are copied whole: the upper directory stays a plain
/// tree that can be read as a layer, and nothing in it points at another place below.
const OPTIONS: &str = "redirect_dir=off,metacopy=off,index=off";

/// Mounts on `target` the overlay of `layers` (lowest first; none is an empty root) with the writable layer on the
/// mounted `disk`, in `disk/upper` and `disk/work`. Mounted already is fine.
///
/// # Errors
/// [`RootfsError::TooManyLayers`], [`RootfsError::NoSpace`], [`RootfsError::Host`].
pub fn mount_overlay(layers: &[PathBuf], disk: &Path, target: &Path) -> Result<(), RootfsError> {
    if layers.len() > LAYERS_MAX {
        return Err(RootfsError::TooManyLayers { count: layers.len() });
    }
    std::fs::create_dir_all(target).map_err(host("make the root's mount point"))?;
    if is_mounted(target).map_err(host("look at the root's mount point"))? {
        return Ok(());
    }
    let own = |name: &str| {
        let path = disk.join(name);
        std::fs::create_dir_all(&path).map_err(host("make the root's writable layer"))?;
        open(&path)
    };
    let (upper, work) = (own("upper")?, own("work")?);
    let mut lower = highest_of_each(layers).map(|layer| open(layer)).collect::<Result<Vec<_>, _>>()?;
    if lower.is_empty() {
        lower.push(own("empty")?);
    }
    let options = format!("{OPTIONS},upperdir={},workdir={},", name(&upper), name(&work));
    mount(options, &lower, target, mount_flags())
}

/// Mounts `layers` (lowest first; none is an empty root) on the empty directory `target` for reading only. Mounted
/// already is fine.
///
/// # Errors
/// As [`mount_overlay`].
pub fn mount_layers(layers: &[PathBuf], target: &Path) -> Result<(), RootfsError> {
    if layers.len() > LAYERS_MAX {
        return Err(RootfsError::TooManyLayers { count: layers.len() });
    }
    std::fs::create_dir_all(target).map_err(host("make the root's mount point"))?;
    if is_mounted(target).map_err(host("look at the root's mount point"))? {
        return Ok(());
    }
    let mut lower = highest_of_each(layers).map(|layer| open(layer)).collect::<Result<Vec<_>, _>>()?;
    // Without a writable layer the kernel wants two others at least. The mount point itself has nothing in it and serves.
    match lower.len() {
        0 => return mount_empty(target),
        1 => lower.push(open(target)?),
        _ => {}
    }
    mount(format!("{OPTIONS},"), &lower, target, mount_flags() | MountFlags::RDONLY)
}

fn mount_empty(target: &Path) -> Result<(), RootfsError> {
    rustix::mount::mount_bind(target, target).map_err(host("mount an empty root"))?;
    let flags = mount_flags() | MountFlags::RDONLY | MountFlags::BIND;
    rustix::mount::mount_remount(target, flags, c"").map_err(host("mount an empty root"))
}

fn mount(mut options: String, lower: &[OwnedFd], target: &Path, flags: MountFlags) -> Result<(), RootfsError> {
    // The kernel takes one page of options, where the paths of many layers have no room, and gives `:` and `,` in them a
    // meaning. The descriptors' names are short and plain.
    options.push_str("lowerdir=");
    for (index, layer) in lower.iter().enumerate() {
        let separator = if index == 0 { "" } else { ":" };
        write!(options, "{separator}{}", name(layer)).expect("a string takes all");
    }
    let options = CString::new(options).expect("no NUL in it");
    rustix::mount::mount("overlay", target, "overlay", flags, Some(options.as_c_str())).map_err(host("mount the root"))
}

/// The layers from the top, each once: a lower copy of a layer changes nothing, since the upper one hides all of it,
/// and the kernel refuses a directory that comes twice.
fn highest_of_each(layers: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    let mut seen = HashSet::new();
    layers.iter().rev().filter(move |layer| seen.insert(*layer))
}

fn open(path: &Path) -> Result<OwnedFd, RootfsError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| RootfsError::Host {
        doing: format!("open the layer {}", path.file_name().unwrap_or_default().to_string_lossy()),
        source: errno.into(),
    })
}

fn name(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
