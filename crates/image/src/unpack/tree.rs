//! Makes a layer's entries below one directory.
//!
//! A parent directory is resolved by `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`, so that a symbolic link on the
//! way (`/bin -> usr/bin`) leads where the image means and never out; the last component is then made, linked or
//! removed by calls that follow no link. Modification times of directories are set at the end, when nothing is made in
//! them any more.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::Purpose;
use super::fault::{Fault, shown};
use super::name::{Meaning, NAME_MAX_BYTES, Name};
use super::tar::{Entry, Kind};

/// Bytes of directory names that are remembered for their times.
pub const REMEMBERED_MAX_BYTES: usize = 64 << 20;
/// How deep directories may lie in each other. Names alone don't bound it: a symbolic link shortens them. Who removes a
/// tree holds one or two open files per level.
pub const DEPTH_MAX: u32 = 256;
/// How overlayfs marks a directory that shows nothing of those below.
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// The directory that a layer is unpacked into.
pub struct Tree {
    root: OwnedFd,
    purpose: Purpose,
    /// The last parent that was resolved: entries of one directory follow each other.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// How deep each directory lies, by inode.
    depths: HashMap<u64, u32>,
    times: Vec<(Name, Timestamps)>,
    remembered_bytes: usize,
}

impl Tree {
    /// Unpacks below `root`.
    pub fn new(root: OwnedFd, purpose: Purpose) -> Self {
        Self { root, purpose, parent: None, depths: HashMap::new(), times: Vec::new(), remembered_bytes: 0 }
    }

    /// Makes an entry. For a file the answer is where its bytes go; [`Self::seal`] then ends it.
    ///
    /// # Errors
    /// A fault of the layer or of the disk.
    pub fn place(&mut self, entry: &Entry) -> Result<Option<OwnedFd>, Fault> {
        let name = Name::parse(&entry.name)?;
        if name.is_root() {
            return self.place_root(entry).map(|()| None);
        }
        if entry.kind == Kind::Device {
            return if name.is_under_dev() && self.purpose == Purpose::Layer {
                Ok(None)
            } else {
                Err(Fault::invalid(format!("A layer has a device node {}.", shown(name.as_bytes()))))
            };
        }
        let meaning = match self.purpose {
            Purpose::Layer => name.meaning()?,
            Purpose::Archive if name.is_reserved() => {
                let shown = shown(name.as_bytes());
                return Err(Fault::invalid(format!(
                    "A layer's entry {shown} begins with .wh., as only whiteouts may."
                )));
            }
            Purpose::Archive => Meaning::Plain,
        };
        let (parent_name, last) = name.split();
        if meaning == Meaning::Ignored {
            return Ok(None);
        }
        let failed = |error| Fault::writing(name.as_bytes(), error);
        if entry.kind == Kind::HardLink && meaning == Meaning::Plain {
            self.hard_link(&name, entry)?;
            return Ok(None);
        }
        let parent = self.parent(&name)?;
        match meaning {
            Meaning::Whiteout(target) => {
                whiteout(&parent, &target).map_err(failed)?;
                self.parent = Some((parent_name.to_vec(), parent));
                return Ok(None);
            }
            Meaning::Opaque => {
                let directory = open_directory(&parent).map_err(failed)?;
                make_opaque(&directory).map_err(failed)?;
                self.parent = Some((parent_name.to_vec(), parent));
                return Ok(None);
            }
            Meaning::Plain | Meaning::Ignored => {}
        }
        let mut file = None;
        let keeps_parent;
        match entry.kind {
            Kind::File => {
                let make = || {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    rustix::fs::openat(&parent, last, flags, Mode::from_raw_mode(0o600))
                };
                let (made, replaced) = make_new(&parent, last, make).map_err(failed)?;
                keeps_parent = !replaced;
                file = Some(made);
            }
            Kind::Directory => {
                let (directory, replaced) = self.make_directory(&parent, last, name.as_bytes())?;
                keeps_parent = !replaced;
                set_owner_and_mode(&directory, entry).map_err(failed)?;
                set_xattrs(&directory, entry).map_err(failed)?;
                self.remember(name.clone(), times(entry))?;
            }
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.len() >= NAME_MAX_BYTES || entry.link.contains(&0) {
                    return Err(Fault::invalid(format!("A layer's link {} leads nowhere.", shown(name.as_bytes()))));
                }
                let make = || rustix::fs::symlinkat(&entry.link[..], &parent, last);
                keeps_parent = !make_new(&parent, last, make).map_err(failed)?.1;
                set_node(&parent, last, entry).map_err(failed)?;
            }
            Kind::Fifo => {
                let mode = Mode::from_raw_mode(entry.mode);
                let make = || rustix::fs::mknodat(&parent, last, FileType::Fifo, Mode::from_raw_mode(0o600), 0);
                keeps_parent = !make_new(&parent, last, make).map_err(failed)?.1;
                set_node(&parent, last, entry).map_err(failed)?;
                rustix::fs::chmodat(&parent, last, mode, AtFlags::empty()).map_err(failed)?;
            }
            Kind::HardLink | Kind::Device => unreachable!("both have returned above"),
        }
        self.parent = keeps_parent.then(|| (parent_name.to_vec(), parent));
        Ok(file)
    }

    /// Gives a file its owner, mode, attributes and time, in the order in which the kernel does not take any back: a
    /// change of owner clears setuid and capabilities.
    ///
    /// # Errors
    /// A fault of the disk.
    pub fn seal(&self, file: &OwnedFd, entry: &Entry) -> Result<(), Fault> {
        set_owner_and_mode(file, entry)
            .and_then(|()| set_xattrs(file, entry))
            .and_then(|()| rustix::fs::futimens(file, &times(entry)))
            .map_err(|error| Fault::writing(&entry.name, error))
    }

    /// Sets the times of the directories and writes everything to the disk.
    ///
    /// # Errors
    /// A fault of the disk.
    pub fn finish(self) -> Result<(), Fault> {
        for (name, times) in self.times.iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match resolve(&self.root, name.as_bytes(), flags) {
                Ok(directory) => rustix::fs::futimens(&directory, times),
                // Replaced by a later entry.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(error) => Err(error),
            }
            .map_err(|error| Fault::writing(name.as_bytes(), error))?;
        }
        rustix::fs::syncfs(&self.root).map_err(|error| Fault::writing(b".", error))
    }

    fn place_root(&mut self, entry: &Entry) -> Result<(), Fault> {
        if entry.kind != Kind::Directory {
            return Err(Fault::invalid("A layer's root is not a directory."));
        }
        set_owner_and_mode(&self.root, entry)
            .and_then(|()| set_xattrs(&self.root, entry))
            .map_err(|error| Fault::writing(b".", error))?;
        self.remember(Name::parse(b"")?, times(entry))
    }

    fn hard_link(&mut self, name: &Name, entry: &Entry) -> Result<(), Fault> {
        let failed = |error| Fault::writing(name.as_bytes(), error);
        let target = Name::parse(&entry.link)?;
        let (target_parent, target_last) = target.split();
        if target.is_root() {
            return Err(Fault::invalid(format!("A layer's link {} leads nowhere.", shown(name.as_bytes()))));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let from = resolve(&self.root, target_parent, flags).map_err(failed)?;
        let found = rustix::fs::statat(&from, target_last, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let kind = FileType::from_raw_mode(found.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Symlink | FileType::Fifo) {
            return Err(Fault::invalid(format!("A layer's link {} is not to a file.", shown(name.as_bytes()))));
        }
        let (_, last) = name.split();
        let parent = self.parent(name)?;
        let here = rustix::fs::statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW);
        if here.is_ok_and(|here| (here.st_dev, here.st_ino) == (found.st_dev, found.st_ino)) {
            return Ok(());
        }
        let make = || rustix::fs::linkat(&from, target_last, &parent, last, AtFlags::empty());
        make_new(&parent, last, make).map_err(failed)?;
        Ok(())
    }

    /// The directory that `entry` lies in, made with what is missing on the way to it. The cached one is taken out: who
    /// still trusts it puts it back.
    fn parent(&mut self, entry: &Name) -> Result<OwnedFd, Fault> {
        let (name, _) = entry.split();
        let failed = |error| Fault::writing(entry.as_bytes(), error);
        if let Some((known, directory)) = self.parent.take()
            && known == name
        {
            return Ok(directory);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match resolve(&self.root, name, flags) {
            Ok(directory) => return Ok(directory),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(failed(error)),
        }
        let mut made = 0;
        let mut directory = resolve(&self.root, b"", flags).map_err(failed)?;
        for component in name.split(|byte| *byte == b'/') {
            let end = made + component.len();
            directory = match resolve(&self.root, &name[..end], flags) {
                Ok(directory) => directory,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    if !is_absent(&directory, component).map_err(failed)? {
                        return Err(failed(Errno::NOTDIR));
                    }
                    let (child, _) = self.make_directory(&directory, component, entry.as_bytes())?;
                    rustix::fs::fchmod(&child, Mode::from_raw_mode(0o755)).map_err(failed)?;
                    child
                }
                Err(error) => return Err(failed(error)),
            };
            made = end + 1;
        }
        Ok(directory)
    }

    /// Makes a directory or takes the one that is there; answers whether something else had to go for it.
    fn make_directory(&mut self, parent: &OwnedFd, last: &[u8], name: &[u8]) -> Result<(OwnedFd, bool), Fault> {
        let failed = |error| Fault::writing(name, error);
        let replaced = make_directory(parent, last).map_err(failed)?;
        let directory = open_child(parent, last).map_err(failed)?;
        let inode = |directory: &OwnedFd| rustix::fs::fstat(directory).map(|found| found.st_ino).map_err(failed);
        // Only the root is not among them.
        let depth = self.depths.get(&inode(parent)?).map_or(1, |depth| depth + 1);
        if depth > DEPTH_MAX {
            return Err(Fault::TooLarge(format!("A layer has directories more than {DEPTH_MAX} deep.")));
        }
        self.depths.insert(inode(&directory)?, depth);
        Ok((directory, replaced))
    }

    fn remember(&mut self, name: Name, times: Timestamps) -> Result<(), Fault> {
        self.remembered_bytes += name.as_bytes().len() + size_of::<(Name, Timestamps)>();
        if self.remembered_bytes > REMEMBERED_MAX_BYTES {
            return Err(Fault::TooLarge("A layer has more directories than this host takes.".into()));
        }
        self.times.push((name, times));
        Ok(())
    }
}

/// Opens a name below the root, wherever symbolic links lead inside it.
fn resolve(root: &OwnedFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let name = if name.is_empty() { b"." } else { name };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // The kernel asks for another try when something was renamed meanwhile; nothing is here, so one is enough.
    match rustix::fs::openat2(root, name, flags, Mode::empty(), resolve) {
        Err(Errno::AGAIN) => rustix::fs::openat2(root, name, flags, Mode::empty(), resolve),
        other => other,
    }
}

fn open_child(parent: &OwnedFd, last: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, last, flags, Mode::empty())
}

/// A parent may be open as a path only; attributes need more.
fn open_directory(path: &OwnedFd) -> Result<OwnedFd, Errno> {
    open_child(path, b".")
}

fn make_opaque(directory: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fsetxattr(directory, OPAQUE_XATTR, b"y", XattrFlags::empty())
}

/// Nothing is there, or only a whiteout of ours.
fn is_absent(parent: &OwnedFd, last: &[u8]) -> Result<bool, Errno> {
    match rustix::fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(is_whiteout(&found)),
        Err(Errno::NOENT) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Only whiteouts are device nodes here.
fn is_whiteout(found: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
}

/// Hides a name of the layers below. What this layer itself has there hides it already; its directory also has to hide
/// what the one below holds.
fn whiteout(parent: &OwnedFd, target: &[u8]) -> Result<(), Errno> {
    match rustix::fs::mknodat(parent, target, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::EXIST) => {
            let found = rustix::fs::statat(parent, target, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                make_opaque(&open_child(parent, target)?)?;
            }
            Ok(())
        }
        other => other,
    }
}

/// Makes a directory or takes the one that is there; answers whether something else had to go for it.
fn make_directory(parent: &OwnedFd, last: &[u8]) -> Result<bool, Errno> {
    let make = || rustix::fs::mkdirat(parent, last, Mode::from_raw_mode(0o700));
    match make() {
        Err(Errno::EXIST) => {}
        other => return other.map(|()| false),
    }
    let found = rustix::fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        return Ok(false);
    }
    rustix::fs::unlinkat(parent, last, AtFlags::empty())?;
    make()?;
    if is_whiteout(&found) {
        make_opaque(&open_child(parent, last)?)?;
    }
    Ok(true)
}

/// Makes something where nothing may be: what an earlier entry put there goes. Answers whether there was something.
fn make_new<T>(parent: &OwnedFd, last: &[u8], make: impl Fn() -> Result<T, Errno>) -> Result<(T, bool), Errno> {
    match make() {
        Err(Errno::EXIST) => {
            remove(parent, last)?;
            Ok((make()?, true))
        }
        other => other.map(|made| (made, false)),
    }
}

fn remove(parent: &OwnedFd, last: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, last, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let directory = open_child(parent, last)?;
    for child in rustix::fs::Dir::read_from(&directory)? {
        let child = child?;
        let name = child.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove(&directory, name)?;
        }
    }
    rustix::fs::unlinkat(parent, last, AtFlags::REMOVEDIR)
}

fn set_owner_and_mode(file: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
    rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))
}

/// Owner and time of what can't be opened without side effects.
fn set_node(parent: &OwnedFd, last: &[u8], entry: &Entry) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::chownat(parent, last, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::utimensat(parent, last, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
}

/// An extended attribute is kept: `security.capability` and `user.*`. Others would mean something to this host, overlay's
/// own among them.
pub fn is_kept(name: &[u8]) -> bool {
    let is_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    (is_user || name == b"security.capability") && !name.contains(&0)
}

/// Sets the attributes that are kept. A file system without user attributes goes without.
fn set_xattrs(file: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
        let is_user = name.starts_with(b"user.");
        match rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) if is_user => {}
            other => other?,
        }
    }
    Ok(())
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}
