//! A stranger's tree on the disk: measured, made root's, and searched, without ever following a link out of it.
//!
//! Invariant: every step down is an open of a plain directory below an open directory, so that a link that takes a
//! directory's place in between leads nowhere.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

/// Folders in folders that are walked: each holds an open file.
const DEPTH_MAX: usize = 128;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How much there is, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Bytes of files and links.
    pub bytes: u64,
    /// Files, folders and links.
    pub files: u64,
}

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// There is more than may be.
    #[error("it is over its limit")]
    TooLarge,
    /// Folders are nested deeper than anyone needs.
    #[error("it is too deep")]
    TooDeep,
    /// What the disk said.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Counts what is in a directory, while others write to it. Blocks.
///
/// # Errors
/// Where it is more than `most`, too deep or unreadable.
pub fn measure(dir: &Path, most: Amount) -> Result<Amount, Stop> {
    let mut found = Amount::default();
    walk(open(dir)?, DEPTH_MAX, &mut |_, _, stat| found.add(stat, most))?;
    Ok(found)
}

/// Makes all that is in a directory root's, the directory too, and counts it. Blocks.
///
/// # Errors
/// Where it is more than `most`, too deep, unreadable, or holds what no checkout makes.
pub fn take_over(dir: &Path, most: Amount) -> Result<Amount, Stop> {
    let mut found = Amount::default();
    let root = open(dir)?;
    rustix::fs::fchown(&root, Some(Uid::ROOT), Some(Gid::ROOT))?;
    walk(root, DEPTH_MAX, &mut |parent, name, stat| {
        found.add(stat, most)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory | FileType::Symlink => {}
            _ => return Err(io::Error::other("a checkout holds neither devices, pipes nor sockets").into()),
        }
        rustix::fs::chownat(parent, name, Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    })?;
    Ok(found)
}

/// Finds a folder of a tree: links are followed as if the tree were all there is. Gives its real path. Blocks.
///
/// # Errors
/// Where there is none, or it is no folder.
pub fn folder(tree: &Path, path: &str) -> io::Result<PathBuf> {
    let root = open(tree)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let found = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Whether there is something of this name at the top of a tree. Blocks.
pub fn has(tree: &Path, name: &str) -> bool {
    open(tree).is_ok_and(|root| rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
}

impl Amount {
    fn add(&mut self, stat: &Stat, most: Self) -> Result<(), Stop> {
        self.files += 1;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            self.bytes = self.bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(u64::MAX));
        }
        if self.files > most.files || self.bytes > most.bytes { Err(Stop::TooLarge) } else { Ok(()) }
    }
}

fn open(dir: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, dir, DIRECTORY, Mode::empty())?)
}

/// Calls `each` with every entry. What vanishes or changes while it is looked at is passed over.
fn walk(
    dir: OwnedFd,
    depth: usize,
    each: &mut impl FnMut(BorrowedFd<'_>, &CString, &Stat) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut inner = Vec::new();
    for entry in Dir::read_from(&dir)? {
        let name = entry?.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        each(dir.as_fd(), &name, &stat)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            inner.push(name);
        }
    }
    let deeper = if inner.is_empty() { 0 } else { depth.checked_sub(1).ok_or(Stop::TooDeep)? };
    for name in inner {
        match rustix::fs::openat(&dir, &name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            next => walk(next?, deeper, each)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    const PLENTY: Amount = Amount { bytes: 1 << 20, files: 1000 };

    #[test]
    fn a_tree_is_counted_and_its_links_are_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("a")).expect("made");
        std::fs::write(dir.path().join("a/b"), "12345").expect("written");
        symlink("/etc", dir.path().join("etc")).expect("linked");
        let found = measure(dir.path(), PLENTY).expect("it is small");
        assert_eq!(found, Amount { bytes: 9, files: 3 });
        for most in [Amount { bytes: 8, ..PLENTY }, Amount { files: 2, ..PLENTY }] {
            assert!(matches!(measure(dir.path(), most), Err(Stop::TooLarge)));
        }
    }

    #[test]
    fn a_tree_is_taken_over_and_what_its_links_name_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        std::fs::create_dir(&tree).expect("made");
        for path in [&outside, &tree.join("file")] {
            std::fs::write(path, "").expect("written");
            std::os::unix::fs::chown(path, Some(4242), Some(4242)).expect("this test runs as root");
        }
        symlink(&outside, tree.join("link")).expect("linked");
        take_over(&tree, PLENTY).expect("it is small");
        assert_eq!(std::fs::metadata(tree.join("file")).expect("there").uid(), 0);
        assert_eq!(std::fs::metadata(&outside).expect("there").uid(), 4242);
        rustix::fs::mknodat(CWD, tree.join("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("made");
        assert!(matches!(take_over(&tree, PLENTY), Err(Stop::Io(_))));
    }

    #[test]
    fn a_tree_may_be_as_deep_as_that() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = |count: usize| std::iter::repeat_n("a", count).collect::<PathBuf>();
        std::fs::create_dir_all(dir.path().join(deep(DEPTH_MAX))).expect("made");
        assert!(measure(dir.path(), PLENTY).is_ok());
        std::fs::create_dir(dir.path().join(deep(DEPTH_MAX + 1))).expect("made");
        assert!(matches!(measure(dir.path(), PLENTY), Err(Stop::TooDeep)));
    }

    #[test]
    fn a_folder_is_found_in_the_tree_and_never_outside() {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().canonicalize().expect("a path").join("tree");
        std::fs::create_dir_all(tree.join("apps/web")).expect("made");
        std::fs::create_dir(dir.path().join("etc")).expect("made");
        std::fs::write(tree.join("file"), "").expect("written");
        for (link, to) in [("in", "apps"), ("out", "/etc"), ("up", "../etc"), ("loop", "loop")] {
            symlink(to, tree.join(link)).expect("linked");
        }
        for good in ["apps/web", "/apps/web", "in/web", "apps/../apps/web/", "../../apps/web"] {
            assert_eq!(folder(&tree, good).expect(good), tree.join("apps/web"), "{good}");
        }
        for bad in ["out", "up", "loop", "file", "none", "apps/none", "", "a\0b"] {
            assert!(folder(&tree, bad).is_err(), "{bad:?}");
        }
    }
}
