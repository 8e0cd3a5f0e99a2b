//! Finds what a source names in a tree, with all that is below it.
//!
//! The source itself is followed where links lead inside the tree, as BuildKit follows it, also where a wildcard matched
//! it; links below it are copied as links.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use cakework_dockerfile::Ignore;
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use xattr::FileExt as _;

use super::fault::{FilesError, shown};
use super::gathered::{Content, Entry, Gathered, Kind, Root, Xattrs};
use super::inside::{self, Folder, PATH_MAX_BYTES, check_name, join, kind, open_file, resolve, special, stat, walk_to};
use super::wanted::{Component, Wanted};

/// Names, link targets and attributes that are held at once, in bytes: what an entry costs beside its content.
const METADATA_MAX_BYTES: u64 = 64 << 20;
/// How deep directories may lie in each other: as deep as layers may have them.
const DEPTH_MAX: usize = 256;
pub(super) const CHUNK_BYTES: usize = 128 << 10;
const CAPABILITY_XATTR: &[u8] = b"security.capability";

/// What is left out of a copy. Paths are relative and have no trailing `/`; what is no UTF-8 in them is U+FFFD.
pub trait Filter {
    /// Whether a path is left out, by itself or by a directory above it.
    fn excludes(&self, path: &str) -> bool;
    /// Whether a directory may be passed over with all that is in it.
    fn prunes(&self, directory: &str) -> bool;
}

impl Filter for Ignore {
    fn excludes(&self, path: &str) -> bool {
        Self::excludes(self, path)
    }

    fn prunes(&self, directory: &str) -> bool {
        Self::prunes(self, directory)
    }
}

/// Leaves nothing out.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Filter for Nothing {
    fn excludes(&self, _path: &str) -> bool {
        false
    }

    fn prunes(&self, _directory: &str) -> bool {
        false
    }
}

/// How much may be copied: one for all sources of an instruction.
#[derive(Debug, Clone)]
pub struct Allowance {
    entries_max: u64,
    bytes_max: u64,
    entries: u64,
    bytes: u64,
    metadata_bytes: u64,
}

impl Allowance {
    /// So many files, directories and links, with so many bytes in all files.
    pub fn new(entries_max: u64, bytes_max: u64) -> Self {
        Self { entries_max, bytes_max, entries: 0, bytes: 0, metadata_bytes: 0 }
    }

    fn take_entry(&mut self, metadata_bytes: usize) -> Result<(), FilesError> {
        self.entries += 1;
        self.metadata_bytes += (metadata_bytes + size_of::<Entry>()) as u64;
        if self.entries > self.entries_max {
            return Err(self.too_many());
        }
        if self.metadata_bytes > METADATA_MAX_BYTES {
            return Err(too_much_metadata());
        }
        Ok(())
    }

    fn take_bytes(&mut self, bytes: u64) -> Result<(), FilesError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max {
            return Err(FilesError::TooLarge { max: self.bytes_max, unit: "bytes" });
        }
        Ok(())
    }

    fn too_many(&self) -> FilesError {
        FilesError::TooLarge { max: self.entries_max, unit: "files" }
    }
}

fn too_much_metadata() -> FilesError {
    FilesError::TooLarge { max: METADATA_MAX_BYTES, unit: "bytes of names and attributes" }
}

/// Finds what a source names. `ignored` is asked for paths from the tree's root (`.dockerignore`), `excluded` for paths
/// from what is copied, or for the name of a file that is a source itself (`--exclude`).
///
/// A pattern that matches nothing gives an empty answer: beside a source that is there it is no error.
///
/// # Errors
/// [`FilesError::NotFound`] for a path, and whatever is wrong with what is there.
pub fn gather(
    folder: &Folder,
    wanted: &Wanted,
    ignored: &dyn Filter,
    excluded: &dyn Filter,
    allowance: &mut Allowance,
) -> Result<Gathered, FilesError> {
    let root = folder.open()?;
    let mut gatherer = Gatherer { root, ignored, excluded, allowance };
    let mut roots = Vec::new();
    let open = wanted.open();
    if open.is_empty() {
        let path = wanted.fixed().into_bytes();
        roots.push(gatherer.root(&path)?.ok_or_else(|| FilesError::NotFound(shown(wanted.text().as_bytes())))?);
    } else {
        for path in gatherer.matches(&wanted.fixed(), open)? {
            roots.extend(gatherer.root(&path)?);
        }
    }
    Ok(Gathered { text: wanted.text().to_owned(), content: Content::Folder(folder.clone()), roots })
}

struct Gatherer<'a> {
    root: OwnedFd,
    ignored: &'a dyn Filter,
    excluded: &'a dyn Filter,
    allowance: &'a mut Allowance,
}

impl Gatherer<'_> {
    /// The paths that match, sorted.
    fn matches(&mut self, fixed: &str, open: &[Component]) -> Result<Vec<Vec<u8>>, FilesError> {
        let base = match resolve(&self.root, fixed.as_bytes(), OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            other => other.map_err(FilesError::at("find a directory", fixed.as_bytes()))?,
        };
        let mut found = vec![inside::real_path(&self.root, &base, fixed.as_bytes())?];
        for component in open {
            let (mut next, mut next_bytes) = (Vec::new(), 0);
            for path in found {
                let before = next.len();
                match component {
                    Component::Name(name) => next.push(join(&path, name.as_bytes())),
                    Component::Matching(matches) => {
                        // Only directories lead on; a link to one doesn't.
                        let Some(directory) = self.there(&path, OFlags::RDONLY | OFlags::DIRECTORY)? else {
                            continue;
                        };
                        let names = self.names(&directory, &path)?;
                        let meant = |name: &Vec<u8>| matches(&String::from_utf8_lossy(name));
                        next.extend(names.into_iter().filter(meant).map(|name| join(&path, &name)));
                    }
                }
                next_bytes += next[before..].iter().map(|path: &Vec<u8>| path.len() as u64).sum::<u64>();
                if next.len() as u64 > self.allowance.entries_max {
                    return Err(self.allowance.too_many());
                }
                if next_bytes > METADATA_MAX_BYTES {
                    return Err(too_much_metadata());
                }
            }
            found = next;
        }
        // A name after a wildcard need not be there.
        let mut there = Vec::new();
        for path in found {
            if self.there(&path, OFlags::PATH)?.is_some() {
                there.push(path);
            }
        }
        Ok(there)
    }

    /// Opens what a walk may have found; `None` where it is not there, or not what is asked for.
    fn there(&self, path: &[u8], flags: OFlags) -> Result<Option<OwnedFd>, FilesError> {
        match walk_to(&self.root, path, flags) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            other => other.map(Some).map_err(FilesError::at("find a file", path)),
        }
    }

    /// What lies at a path, wherever links lead from it; `None` where nothing of it is to be copied.
    fn root(&mut self, path: &[u8]) -> Result<Option<Root>, FilesError> {
        let node = match resolve(&self.root, path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(FilesError::NotFound(shown(path))),
            other => other.map_err(FilesError::at("find a file", path))?,
        };
        let at = inside::real_path(&self.root, &node, path)?;
        let found = stat(&node, path)?;
        let name = last(path).to_vec();
        let left_out = [path, &at[..]].into_iter().any(|path| asks(path, |path| self.ignored.excludes(path)));
        let mut root = Root { name, at, entries: Vec::new() };
        match kind(&found) {
            FileType::Directory => {
                self.take(&mut root, Vec::new(), node, &found)?;
                self.below(&mut root)?;
                Ok((!left_out || root.entries.len() > 1).then_some(root))
            }
            FileType::RegularFile | FileType::Fifo => {
                if left_out || asks(&root.name, |name| self.excluded.excludes(name)) {
                    return Ok(None);
                }
                check_name(&root.name, path)?;
                self.take(&mut root, Vec::new(), node, &found)?;
                Ok(Some(root))
            }
            other => Err(special(path, other)),
        }
    }

    /// Adds all that is in a directory, one directory open at a time.
    fn below(&mut self, root: &mut Root) -> Result<(), FilesError> {
        let mut pending = vec![Vec::new()];
        let mut left_out = HashSet::new();
        while let Some(path) = pending.pop() {
            let at = join_all(&root.at, &path);
            let directory = walk_to(&self.root, &at, OFlags::RDONLY | OFlags::DIRECTORY);
            let directory = directory.map_err(FilesError::at("open a directory of a tree", &at))?;
            for name in self.names(&directory, &at)? {
                let (path, at) = (join(&path, &name), join(&at, &name));
                let node = rustix::fs::openat(
                    &directory,
                    &name[..],
                    OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                );
                let node = node.map_err(FilesError::at("find a file", &at))?;
                let found = stat(&node, &at)?;
                let is_dir = kind(&found) == FileType::Directory;
                let prunes = |filter: &dyn Filter, path| asks(path, |path| filter.prunes(path));
                if is_dir && (prunes(self.ignored, &at) || prunes(self.excluded, &path)) {
                    continue;
                }
                let excludes = |filter: &dyn Filter, path| asks(path, |path| filter.excludes(path));
                let is_left_out = excludes(self.ignored, &at) || excludes(self.excluded, &path);
                if is_left_out && !is_dir || kind(&found) == FileType::Socket {
                    continue;
                }
                if is_left_out {
                    left_out.insert(path.clone());
                }
                if is_dir {
                    pending.push(path.clone());
                }
                self.take(root, path, node, &found)?;
            }
        }
        keep_needed(&mut root.entries, &left_out);
        // Not before: a name that is left out may be any.
        root.entries.iter().try_for_each(|entry| check_name(last(&entry.path), &entry.path))
    }

    /// Adds an entry, with the digest of its content.
    fn take(&mut self, root: &mut Root, path: Vec<u8>, node: OwnedFd, found: &Stat) -> Result<(), FilesError> {
        let at = join_all(&root.at, &path);
        let unusable = |problem| Err(FilesError::Unusable { path: shown(&at), problem });
        if at.len() > PATH_MAX_BYTES {
            return unusable("is too long a path");
        }
        if path.iter().filter(|byte| **byte == b'/').count() >= DEPTH_MAX {
            return unusable("lies too deep");
        }
        let (kind, xattrs) = match kind(found) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let directory = rustix::fs::openat(&node, ".", flags, Mode::empty());
                let directory = directory.map_err(FilesError::at("open a directory of a tree", &at))?;
                (Kind::Directory, xattrs(&File::from(directory), &at)?)
            }
            FileType::RegularFile => {
                let mut file = open_file(&node, &at)?;
                let size_bytes = u64::try_from(found.st_size).unwrap_or(u64::MAX);
                self.allowance.take_bytes(size_bytes)?;
                let (read_bytes, sha256) = digest(&mut file, size_bytes, &at)?;
                if read_bytes != size_bytes {
                    return Err(FilesError::Changed(shown(&at)));
                }
                (Kind::File { size_bytes, sha256 }, xattrs(&file, &at)?)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&node, "", Vec::new());
                let target = target.map_err(FilesError::at("read a link of a tree", &at))?;
                (Kind::Symlink(target.into_bytes()), Vec::new())
            }
            FileType::Fifo => (Kind::Fifo, Vec::new()),
            other => return Err(special(&at, other)),
        };
        let target_bytes = if let Kind::Symlink(target) = &kind { target.len() } else { 0 };
        let xattr_bytes: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let path_bytes = if path.is_empty() { root.at.len() + root.name.len() } else { path.len() };
        self.allowance.take_entry(path_bytes + target_bytes + xattr_bytes)?;
        root.entries.push(Entry {
            path,
            kind,
            mode: found.st_mode & 0o7777,
            uid: found.st_uid,
            gid: found.st_gid,
            mtime_secs: found.st_mtime,
            xattrs,
        });
        Ok(())
    }

    /// The names in a directory, sorted.
    fn names(&self, directory: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>, FilesError> {
        let failed = FilesError::at("read a directory of a tree", path);
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
            if names.len() as u64 > self.allowance.entries_max {
                return Err(self.allowance.too_many());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Drops directories that are left out, unless something in them is not.
fn keep_needed(entries: &mut Vec<Entry>, left_out: &HashSet<Vec<u8>>) {
    if left_out.is_empty() {
        return;
    }
    let mut needed = HashSet::new();
    for entry in entries.iter().filter(|entry| !left_out.contains(&entry.path)) {
        let slashes = entry.path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        needed.extend(slashes.map(|(at, _)| entry.path[..at].to_vec()));
    }
    entries.retain(|entry| !left_out.contains(&entry.path) || needed.contains(&entry.path));
}

/// Asks a filter, which knows nothing of a root itself.
fn asks(path: &[u8], filter: impl Fn(&str) -> bool) -> bool {
    !path.is_empty() && filter(&String::from_utf8_lossy(path))
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

pub(super) fn join_all(at: &[u8], path: &[u8]) -> Vec<u8> {
    if path.is_empty() { at.to_vec() } else { join(at, path) }
}

/// Reads a file to its end, or one byte past `size_bytes`: how many bytes, and their digest.
fn digest(file: &mut File, size_bytes: u64, path: &[u8]) -> Result<(u64, [u8; 32]), FilesError> {
    let mut bounded = file.take(size_bytes.saturating_add(1));
    let (mut hash, mut chunk, mut read_bytes) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
    loop {
        let read = bounded.read(&mut chunk).map_err(FilesError::at("read a file of a tree", path))?;
        if read == 0 {
            return Ok((read_bytes, hash.finalize().into()));
        }
        hash.update(&chunk[..read]);
        read_bytes += read as u64;
    }
}

/// The attributes that an image may carry; others would mean something to this host (overlay's own among them).
fn xattrs(file: &File, path: &[u8]) -> Result<Xattrs, FilesError> {
    let failed = FilesError::at("read the attributes of a file", path);
    let names = match file.list_xattr() {
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(Vec::new()),
        other => other.map_err(&failed)?,
    };
    let mut found = Vec::new();
    for name in names {
        let bytes = name.as_bytes();
        let is_user = bytes.starts_with(b"user.") && !bytes.starts_with(b"user.overlay.");
        if is_user || bytes == CAPABILITY_XATTR {
            let value = file.get_xattr(&name).map_err(&failed)?;
            found.push((bytes.to_vec(), value.unwrap_or_default()));
        }
    }
    found.sort_unstable();
    Ok(found)
}
