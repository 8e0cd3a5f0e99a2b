//! Puts files into a root as COPY does.
//!
//! A directory gives its content, a file itself; several sources, or a directory, make the destination a directory. Only
//! the way to the destination follows links. Times of directories that were there stay as they were, so that the same
//! input gives the same layer.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::fault::{FilesError, shown};
use super::gather::{CHUNK_BYTES, join_all};
use super::gathered::{Content, Entry, Gathered, Kind, Root};
use super::inside::{check_name, components, join, open_file, open_root, resolve, walk_to};

const MADE_MODE: u32 = 0o755;
/// Links to nowhere that the way to a destination may lead through; where they point is made.
const DANGLING_MAX: u32 = 40;

/// Whose the files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whose they were; root's, where a directory has to be made.
    Kept,
    /// This user's.
    Set {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Where files go, and how.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// A path in the root; what is missing of it is made with mode 0755.
    pub destination: &'a str,
    /// The destination is a directory, whatever is there: it was written with a `/` at its end, or for several sources.
    pub is_dir: bool,
    /// Of all that is placed, and of directories that are made.
    pub owner: Owner,
    /// Of all that is placed but links, where it is not the source's.
    pub mode: Option<u32>,
    /// Of all that is placed; where absent, each file has its source's, and what is made has 0.
    pub mtime_secs: Option<i64>,
}

/// What was placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placed {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Puts what the sources of one instruction named into a root.
///
/// # Errors
/// [`FilesError::NothingMatches`] where all of them are empty; something in the way; [`FilesError::NoSpace`],
/// [`FilesError::Changed`], [`FilesError::Host`]. Part of it may have been placed then.
pub fn place(root: &Path, sources: &[Gathered], placement: &Placement<'_>) -> Result<Placed, FilesError> {
    let count: usize = sources.iter().map(|source| source.roots.len()).sum();
    if count == 0 {
        let texts: Vec<&str> = sources.iter().map(|source| &source.text[..]).collect();
        return Err(FilesError::NothingMatches(shown(texts.join(" ").as_bytes())));
    }
    let root = open_root(root)?;
    let has_dir = sources.iter().flat_map(|source| &source.roots).any(Root::is_dir);
    let destination = placement.destination.as_bytes();
    let there = resolve(&root, destination, OFlags::PATH | OFlags::DIRECTORY).is_ok();
    let is_dir = placement.is_dir || count > 1 || has_dir || there;
    let mut names: Vec<Vec<u8>> = components(placement.destination).map(|name| name.as_bytes().to_vec()).collect();
    let file_name = if is_dir { None } else { names.pop() };
    let mode = if has_dir { placement.mode.unwrap_or(MADE_MODE) } else { MADE_MODE };
    let directory = make_dirs(&root, names, mode, placement, destination)?;
    let base = match file_name {
        Some(_) => destination.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |at| &destination[..at]),
        None => placement.destination.trim_end_matches('/').as_bytes(),
    };
    let mut placer = Placer { placement, base, directory, parent: None, placed: Placed::default() };
    for source in sources {
        let tree = match &source.content {
            Content::Folder(folder) => Some(folder.open()?),
            Content::Inline(_) => None,
        };
        for root in &source.roots {
            let content = match (&source.content, &tree) {
                (Content::Inline(bytes), _) => Bytes::Inline(bytes),
                (Content::Folder(_), Some(tree)) => Bytes::Tree(tree, &root.at),
                (Content::Folder(_), None) => unreachable!("a folder was opened above"),
            };
            placer.root(root, file_name.as_deref().unwrap_or(&root.name), &content)?;
        }
    }
    placer.leave()?;
    Ok(placer.placed)
}

/// Makes what is missing of a directory's path, with mode 0755, this owner and this time.
///
/// # Errors
/// Something in the way that is no directory; [`FilesError::NoSpace`], [`FilesError::Host`].
pub fn make_workdir(root: &Path, path: &str, uid: u32, gid: u32, mtime_secs: i64) -> Result<(), FilesError> {
    let owner = Owner::Set { uid, gid };
    let placement = Placement { destination: path, is_dir: true, owner, mode: None, mtime_secs: Some(mtime_secs) };
    let names = components(path).map(|name| name.as_bytes().to_vec()).collect();
    make_dirs(&open_root(root)?, names, MADE_MODE, &placement, path.as_bytes()).map(drop)
}

enum Bytes<'a> {
    Inline(&'a [u8]),
    /// A tree, and where in it the source lies.
    Tree(&'a OwnedFd, &'a [u8]),
}

struct Placer<'a> {
    placement: &'a Placement<'a>,
    /// The path of `directory`, for sentences.
    base: &'a [u8],
    directory: OwnedFd,
    /// The directory that something was placed in last: entries of one directory follow each other.
    parent: Option<Parent>,
    placed: Placed,
}

/// A directory in which names are made, and the time that it has again after that.
struct Parent {
    path: Vec<u8>,
    directory: OwnedFd,
    times: Timestamps,
}

impl Placer<'_> {
    fn root(&mut self, root: &Root, name: &[u8], content: &Bytes<'_>) -> Result<(), FilesError> {
        if !root.is_dir() {
            if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
                return Err(FilesError::Unusable { path: shown(name), problem: "is not a file's name" });
            }
            return self.entry(&root.entries[0], name, content);
        }
        root.entries[1..].iter().try_for_each(|entry| self.entry(entry, &entry.path, content))
    }

    /// Places an entry at a path from the destination.
    fn entry(&mut self, entry: &Entry, path: &[u8], content: &Bytes<'_>) -> Result<(), FilesError> {
        let (parent_path, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        let shown_path = [self.base, path].join(&b'/');
        check_name(name, &shown_path)?;
        self.enter(parent_path, &shown_path)?;
        let parent = &self.parent.as_ref().expect("it was entered").directory;
        match &entry.kind {
            Kind::Directory => self.make_directory(parent, name, entry, &shown_path)?,
            Kind::File { size_bytes, sha256 } => {
                clear(parent, name, &shown_path)?;
                let mut file = make_file(parent, name, &shown_path)?;
                let written = match content {
                    Bytes::Inline(bytes) => copy(*bytes, &mut file, *size_bytes, &shown_path)?,
                    Bytes::Tree(tree, at) => {
                        let at = join_all(at, &entry.path);
                        let node = walk_to(tree, &at, OFlags::PATH).map_err(FilesError::at("find a file", &at))?;
                        copy(open_file(&node, &at)?, &mut file, *size_bytes, &shown_path)?
                    }
                };
                if written != *sha256 {
                    return Err(FilesError::Changed(shown(&shown_path)));
                }
                self.seal(&file.into(), entry, &shown_path)?;
                self.placed.bytes += size_bytes;
            }
            Kind::Symlink(target) => {
                clear(parent, name, &shown_path)?;
                rustix::fs::symlinkat(&target[..], parent, name).map_err(FilesError::at("make a link", &shown_path))?;
                self.set_node(parent, name, entry, &shown_path)?;
            }
            Kind::Fifo => {
                clear(parent, name, &shown_path)?;
                let failed = FilesError::at("make a FIFO", &shown_path);
                let mode = Mode::from_raw_mode(self.placement.mode.unwrap_or(entry.mode));
                rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR, 0).map_err(&failed)?;
                self.set_node(parent, name, entry, &shown_path)?;
                // Made just now, and nobody else is in the tree: it is no link.
                rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).map_err(&failed)?;
            }
        }
        self.placed.entries += 1;
        Ok(())
    }

    /// Takes the directory that names are made in from now on.
    fn enter(&mut self, path: &[u8], shown_path: &[u8]) -> Result<(), FilesError> {
        if self.parent.as_ref().is_some_and(|parent| parent.path == path) {
            return Ok(());
        }
        self.leave()?;
        let failed = FilesError::at("open a directory in the root", shown_path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = walk_to(&self.directory, path, flags).map_err(&failed)?;
        let times = times_of(&directory).map_err(&failed)?;
        self.parent = Some(Parent { path: path.to_vec(), directory, times });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), FilesError> {
        let Some(Parent { path, directory, times }) = self.parent.take() else { return Ok(()) };
        rustix::fs::futimens(&directory, &times).map_err(FilesError::at("set a directory's time", &path))
    }

    fn make_directory(&self, parent: &OwnedFd, name: &[u8], entry: &Entry, path: &[u8]) -> Result<(), FilesError> {
        let failed = FilesError::at("make a directory in the root", path);
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            other => other.map_err(&failed)?,
        }
        match walk_to(parent, name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOTDIR | Errno::LOOP) => Err(FilesError::NotADirectory(shown(path))),
            other => self.seal(&other.map_err(&failed)?, entry, path),
        }
    }

    /// Gives a file or directory what it has beside its content, in the order in which the kernel takes nothing back: a
    /// change of owner clears setuid and capabilities.
    fn seal(&self, file: &OwnedFd, entry: &Entry, path: &[u8]) -> Result<(), FilesError> {
        let failed = FilesError::at("set a file's attributes", path);
        let (uid, gid) = self.owner(entry);
        rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(&failed)?;
        let mode = self.placement.mode.unwrap_or(entry.mode);
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode)).map_err(&failed)?;
        for (name, value) in &entry.xattrs {
            match rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty()) {
                // A file system without user attributes goes without.
                Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") => {}
                other => other.map_err(&failed)?,
            }
        }
        rustix::fs::futimens(file, &self.times(entry)).map_err(&failed)
    }

    /// Owner and time of what can't be opened without side effects.
    fn set_node(&self, parent: &OwnedFd, name: &[u8], entry: &Entry, path: &[u8]) -> Result<(), FilesError> {
        let failed = FilesError::at("set a file's attributes", path);
        let (uid, gid) = self.owner(entry);
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(&failed)?;
        rustix::fs::utimensat(parent, name, &self.times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(&failed)
    }

    fn owner(&self, entry: &Entry) -> (Uid, Gid) {
        match self.placement.owner {
            Owner::Kept => (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)),
            Owner::Set { uid, gid } => (Uid::from_raw(uid), Gid::from_raw(gid)),
        }
    }

    fn times(&self, entry: &Entry) -> Timestamps {
        times(self.placement.mtime_secs.unwrap_or(entry.mtime_secs))
    }
}

/// Opens the directory of these names for reading, making those that are missing; the last one with `mode`.
fn make_dirs(
    root: &OwnedFd,
    mut names: Vec<Vec<u8>>,
    mode: u32,
    placement: &Placement<'_>,
    path: &[u8],
) -> Result<OwnedFd, FilesError> {
    let failed = FilesError::at("make a directory in the root", path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut here = resolve(root, b"", flags).map_err(&failed)?;
    let (mut so_far, mut dangling) = (Vec::new(), 0);
    names.reverse();
    while let Some(name) = names.pop() {
        // From the root again each time: only so does the kernel hold `..` and links inside it.
        let next = join(&so_far, &name);
        here = match resolve(root, &next, flags) {
            Ok(directory) => {
                so_far = next;
                directory
            }
            Err(Errno::NOENT) => {
                let mode = if names.is_empty() { mode } else { MADE_MODE };
                match make_one(&here, &name, mode, placement, path)? {
                    Some(made) => {
                        so_far = next;
                        made
                    }
                    // A link to nowhere: where it points is made.
                    None if dangling < DANGLING_MAX => {
                        dangling += 1;
                        let target =
                            rustix::fs::readlinkat(&here, &name[..], Vec::new()).map_err(&failed)?.into_bytes();
                        if target.starts_with(b"/") {
                            so_far.clear();
                            here = resolve(root, b"", flags).map_err(&failed)?;
                        }
                        let parts = target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
                        names.extend(parts.rev().map(<[u8]>::to_vec));
                        here
                    }
                    None => return Err(failed(Errno::LOOP)),
                }
            }
            Err(Errno::NOTDIR) => return Err(FilesError::NotADirectory(shown(path))),
            Err(errno) => return Err(failed(errno)),
        };
    }
    Ok(here)
}

/// Makes a directory; `None` where the name is taken. Its parent keeps its time.
fn make_one(
    parent: &OwnedFd,
    name: &[u8],
    mode: u32,
    placement: &Placement<'_>,
    path: &[u8],
) -> Result<Option<OwnedFd>, FilesError> {
    check_name(name, path)?;
    let failed = FilesError::at("make a directory in the root", path);
    let before = times_of(parent).map_err(&failed)?;
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::EXIST) => return Ok(None),
        other => other.map_err(&failed)?,
    }
    let made = walk_to(parent, name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(&failed)?;
    let (uid, gid) = match placement.owner {
        Owner::Kept => (0, 0),
        Owner::Set { uid, gid } => (uid, gid),
    };
    rustix::fs::fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(&failed)?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(mode)).map_err(&failed)?;
    rustix::fs::futimens(&made, &times(placement.mtime_secs.unwrap_or(0))).map_err(&failed)?;
    rustix::fs::futimens(parent, &before).map_err(&failed)?;
    Ok(Some(made))
}

/// Makes room for a name: a link goes itself, and not what it points to.
fn clear(parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), FilesError> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Err(FilesError::IsADirectory(shown(path))),
        Err(errno) => Err(FilesError::at("replace a file in the root", path)(errno)),
    }
}

fn make_file(parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<File, FilesError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
    made.map(File::from).map_err(FilesError::at("make a file in the root", path))
}

/// Copies a file's bytes and answers their digest; not more of them than there were when it was found.
fn copy(from: impl std::io::Read, to: &mut File, size_bytes: u64, path: &[u8]) -> Result<[u8; 32], FilesError> {
    let mut from = from.take(size_bytes.saturating_add(1));
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        let read = from.read(&mut chunk).map_err(FilesError::at("read a file of a tree", path))?;
        if read == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&chunk[..read]);
        to.write_all(&chunk[..read]).map_err(FilesError::at("write a file in the root", path))?;
    }
}

fn times(secs: i64) -> Timestamps {
    let time = Timespec { tv_sec: secs, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// What sets a directory's time back to what it is.
fn times_of(directory: &OwnedFd) -> rustix::io::Result<Timestamps> {
    let found = rustix::fs::fstat(directory)?;
    let nanos = i64::try_from(found.st_mtime_nsec).unwrap_or(0);
    Ok(Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: found.st_mtime, tv_nsec: nanos },
    })
}
