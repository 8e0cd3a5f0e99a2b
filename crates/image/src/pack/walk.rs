//! The way through an overlay's writable directory, in the order of the names.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use tar::EntryType;

use super::header::{self, Entry};
use super::node::Node;
use crate::unpack::fault::{Fault, shown};
use crate::unpack::name::{NAME_MAX_BYTES, OPAQUE, WHITEOUT};
use crate::unpack::tree::{DEPTH_MAX, OPAQUE_XATTR, REMEMBERED_MAX_BYTES, is_kept};

/// Read at a time; more than the kernel's own bound of an attribute's value and of the list of their names, 64 KiB.
const CHUNK_BYTES: usize = 256 << 10;
/// What a directory is that nobody changed after it was made.
const FRESH_MODE: u32 = 0o755;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// A walk in progress.
pub struct Walk<'a, W> {
    root: OwnedFd,
    out: &'a mut W,
    entries: u64,
    /// The first name of each file that has several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Bytes of the names that are held.
    held_bytes: usize,
    chunk: Vec<u8>,
}

impl<'a, W: Write> Walk<'a, W> {
    /// Will walk through `root`.
    pub fn new(root: OwnedFd, out: &'a mut W) -> Self {
        Self { root, out, entries: 0, links: HashMap::new(), held_bytes: 0, chunk: vec![0; CHUNK_BYTES] }
    }

    /// Walks.
    ///
    /// # Errors
    /// What can't be in a layer, or a failure of the stream or the disk.
    pub fn run(&mut self) -> Result<(), Fault> {
        let failed = |error| reading(b".", error);
        let root = rustix::fs::openat(&self.root, c".", DIRECTORY, Mode::empty()).map_err(failed)?;
        let found = rustix::fs::fstat(&root).map_err(failed)?;
        let xattrs = attributes(&root, b".", &mut self.chunk)?;
        let is_fresh = (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (FRESH_MODE, 0, 0) && xattrs.is_empty();
        if !is_fresh {
            self.header(&Entry { xattrs: &xattrs, ..entry(b"./", EntryType::Directory, &found) })?;
        }
        self.mark_opaque(&root, &mut Vec::new())?;
        self.children(root, &mut Vec::new(), 0)
    }

    /// Ends the stream; answers how many entries it has.
    ///
    /// # Errors
    /// A failure of the stream.
    pub fn finish(self) -> Result<u64, Fault> {
        if self.entries > 0 {
            header::end(self.out).map_err(writing)?;
            self.out.flush().map_err(writing)?;
        }
        Ok(self.entries)
    }

    /// Everything in `directory`, whose name is `path`, empty for the root. `path` is the same afterwards.
    fn children(&mut self, directory: OwnedFd, path: &mut Vec<u8>, depth: u32) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::TooLarge(format!("A layer has directories more than {DEPTH_MAX} deep.")));
        }
        let before_bytes = self.held_bytes;
        let names = self.names(&directory, path)?;
        // Not held open: hostile trees are deep, and the process has others to serve.
        drop(directory);
        let length = path.len();
        for name in &names {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            if path.len() >= NAME_MAX_BYTES {
                return Err(Fault::TooLarge(format!("A layer has a name of more than {NAME_MAX_BYTES} bytes.")));
            }
            self.child(path, depth)?;
            path.truncate(length);
        }
        self.held_bytes = before_bytes;
        Ok(())
    }

    fn names(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let failed = |error| reading(path, error);
        let mut names = Vec::new();
        for child in Dir::read_from(directory).map_err(failed)? {
            let child = child.map_err(failed)?;
            let name = child.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                self.hold(name)?;
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn hold(&mut self, name: &[u8]) -> Result<(), Fault> {
        self.held_bytes += name.len() + size_of::<Vec<u8>>();
        if self.held_bytes > REMEMBERED_MAX_BYTES {
            return Err(Fault::TooLarge("A layer has more names in a directory than this host takes.".into()));
        }
        Ok(())
    }

    fn child(&mut self, path: &mut Vec<u8>, depth: u32) -> Result<(), Fault> {
        let failed = |error| reading(path, error);
        let named = self.open(path, OFlags::PATH | OFlags::NOFOLLOW).map_err(failed)?;
        let found = rustix::fs::fstat(&named).map_err(failed)?;
        let node = Node::from(&found);
        let last = path.rsplit(|byte| *byte == b'/').next().expect("a split has a first part");
        if last.starts_with(WHITEOUT) {
            let shown = shown(path);
            return Err(Fault::invalid(format!(
                "A layer can't hold {shown}: names that begin with .wh. mark what is deleted. Give it another name."
            )));
        }
        match node {
            Node::Socket => return Ok(()),
            Node::Device => {
                return Err(Fault::invalid(format!("A layer can't hold {}: it is a device.", shown(path))));
            }
            // The kernel makes all whiteouts links of one file; they are none of the stranger's.
            Node::Whiteout => return self.whiteout(path),
            Node::Directory | Node::File | Node::Symlink | Node::Fifo => {}
        }
        if node != Node::Directory && found.st_nlink > 1 {
            let key = (found.st_dev, found.st_ino);
            if let Some(first) = self.links.get(&key) {
                let first = first.clone();
                return self.header(&Entry { link: &first, size_bytes: 0, ..entry(path, EntryType::Link, &found) });
            }
            self.hold(path)?;
            self.links.insert(key, path.clone());
        }
        match node {
            Node::Directory => self.directory(path, &found, depth),
            Node::File => self.file(path, &found),
            Node::Symlink => {
                let target = rustix::fs::readlinkat(&named, c"", Vec::new()).map_err(failed)?;
                self.header(&Entry { link: target.to_bytes(), ..entry(path, EntryType::Symlink, &found) })
            }
            Node::Fifo => self.header(&entry(path, EntryType::Fifo, &found)),
            Node::Whiteout | Node::Socket | Node::Device => unreachable!("all have returned above"),
        }
    }

    fn directory(&mut self, path: &mut Vec<u8>, found: &Stat, depth: u32) -> Result<(), Fault> {
        let directory = self.open(path, DIRECTORY).map_err(|error| reading(path, error))?;
        let xattrs = attributes(&directory, path, &mut self.chunk)?;
        path.push(b'/');
        self.header(&Entry { xattrs: &xattrs, ..entry(path, EntryType::Directory, found) })?;
        self.mark_opaque(&directory, path)?;
        path.pop();
        self.children(directory, path, depth + 1)
    }

    /// `path` is empty or ends with a slash.
    fn mark_opaque(&mut self, directory: &OwnedFd, path: &mut Vec<u8>) -> Result<(), Fault> {
        let mut value = [0; 1];
        match rustix::fs::fgetxattr(directory, OPAQUE_XATTR, &mut value[..]) {
            Ok(1) if value == *b"y" => {
                let length = path.len();
                path.extend_from_slice(OPAQUE);
                let marked = self.header(&mark(path));
                path.truncate(length);
                marked
            }
            // Another value is none that we mount with: nothing in the directory is hidden by it.
            Ok(_) | Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(reading(path, error)),
        }
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), Fault> {
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = [&path[..at], WHITEOUT, &path[at..]].concat();
        self.header(&mark(&name))
    }

    fn file(&mut self, path: &[u8], found: &Stat) -> Result<(), Fault> {
        let failed = |error| reading(path, error);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOATIME;
        let file = self.open(path, flags).map_err(failed)?;
        let opened = rustix::fs::fstat(&file).map_err(failed)?;
        if (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino) {
            return Err(changed(path));
        }
        let xattrs = attributes(&file, path, &mut self.chunk)?;
        let size_bytes = u64::try_from(opened.st_size).map_err(|_| changed(path))?;
        self.header(&Entry { xattrs: &xattrs, size_bytes, ..entry(path, EntryType::Regular, &opened) })?;
        let mut left = size_bytes;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let count = rustix::io::read(&file, &mut self.chunk[..most]).map_err(failed)?;
            if count == 0 {
                return Err(changed(path));
            }
            self.out.write_all(&self.chunk[..count]).map_err(writing)?;
            left -= count as u64;
        }
        header::pad(self.out, size_bytes).map_err(writing)
    }

    fn header(&mut self, entry: &Entry<'_>) -> Result<(), Fault> {
        self.entries += 1;
        header::write(self.out, entry).map_err(writing)
    }

    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }
}

fn entry<'e>(name: &'e [u8], kind: EntryType, found: &Stat) -> Entry<'e> {
    Entry {
        name,
        kind,
        link: b"",
        mode: found.st_mode & 0o7777,
        uid: found.st_uid,
        gid: found.st_gid,
        size_bytes: 0,
        mtime_secs: u64::try_from(found.st_mtime).unwrap_or(0),
        xattrs: &[],
    }
}

/// An empty file whose name says everything.
fn mark(name: &[u8]) -> Entry<'_> {
    Entry {
        name,
        kind: EntryType::Regular,
        link: b"",
        mode: 0,
        uid: 0,
        gid: 0,
        size_bytes: 0,
        mtime_secs: 0,
        xattrs: &[],
    }
}

/// The attributes that a layer keeps, sorted by name.
fn attributes(file: &OwnedFd, path: &[u8], buffer: &mut [u8]) -> Result<Attributes, Fault> {
    let failed = |error| reading(path, error);
    let count = match rustix::fs::flistxattr(file.as_fd(), &mut *buffer) {
        Ok(count) => count,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(failed(error)),
    };
    let mut names: Vec<Vec<u8>> =
        buffer[..count].split(|byte| *byte == 0).filter(|name| is_kept(name)).map(<[u8]>::to_vec).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    let mut attributes = Vec::new();
    for name in names {
        if name.contains(&b'=') {
            // A PAX record's key ends with the first of them.
            let (name, path) = (shown(&name), shown(path));
            return Err(Fault::invalid(format!(
                "A layer can't hold the attribute {name} of {path}: it has a = in it."
            )));
        }
        let count = rustix::fs::fgetxattr(file, &name[..], &mut *buffer).map_err(failed)?;
        attributes.push((name, buffer[..count].to_vec()));
    }
    Ok(attributes)
}

fn reading(path: &[u8], error: Errno) -> Fault {
    match error {
        Errno::NAMETOOLONG => Fault::TooLarge(format!("A layer has a name of more than {NAME_MAX_BYTES} bytes.")),
        error => Fault::Internal(format!("reading {} of a writable layer: {error}", shown(path))),
    }
}

fn changed(path: &[u8]) -> Fault {
    Fault::Internal(format!("{} of a writable layer changed while it was read", shown(path)))
}

/// A fault of ours is carried through the stream; anything else is the host's.
fn writing(error: io::Error) -> Fault {
    error.downcast::<Fault>().unwrap_or_else(|error| Fault::Internal(format!("writing a layer: {error}")))
}
