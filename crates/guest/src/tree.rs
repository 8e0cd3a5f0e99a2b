//! Single files and directories.
//!
//! Invariant: nothing but a regular file or a directory is read, and nothing is waited for: a pipe, a device or a socket is
//! refused. A file is there whole or as it was.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use cakework_core::limit;
use cakework_wire::files::{Entry, FileRefusal, Listing};
use rustix::fs::OFlags;

use crate::done_with;
use crate::entry::entry;
use crate::refusal::{Failure, OrRefused as _, Refusal};

/// Bytes of a file that the system makes as it is read, and does not know the size of.
const UNSIZED_MAX_BYTES: u64 = 1 << 20;
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// A file's bytes, or what is in a directory.
pub fn read(path: &str, out: &mut impl Write) -> Result<(), Failure> {
    let path = Path::new(path);
    let mut file = open(path, OFlags::empty()).or_refused()?;
    let metadata = file.metadata().or_refused()?;
    let mut found = entry(path, &metadata);
    if metadata.is_dir() {
        let listing = list(path)?;
        done_with(out, found)?;
        serde_json::to_writer(out, &listing).map_err(io::Error::from)?;
        return Ok(());
    }
    if !metadata.is_file() {
        return Err(Refusal::kind("it is a device, a pipe or a socket").into());
    }
    if found.size > limit::VM_FILE_MAX_BYTES {
        return Err(Refusal::too_large().into());
    }
    if found.size == 0 {
        // A file of /proc is made as it is read.
        let mut bytes = Vec::new();
        file.take(UNSIZED_MAX_BYTES).read_to_end(&mut bytes).or_refused()?;
        found.size = bytes.len() as u64;
        done_with(out, found)?;
        return Ok(out.write_all(&bytes)?);
    }
    let size = found.size;
    done_with(out, found)?;
    let copied = io::copy(&mut Read::by_ref(&mut file).take(size), out)?;
    if copied < size {
        // It became shorter meanwhile: what was promised can't be given.
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(())
}

/// Opens what may be anything, without waiting for it.
pub fn open(path: &Path, more: OFlags) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | more;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

fn list(path: &Path) -> Result<Listing, Refusal> {
    let mut entries = Vec::new();
    let mut truncated = false;
    for found in fs::read_dir(path).or_refused()? {
        if entries.len() == limit::VM_LISTING_MAX {
            truncated = true;
            break;
        }
        let found = found.or_refused()?;
        // One that went meanwhile is none.
        if let Ok(metadata) = found.metadata() {
            entries.push(entry(&found.path(), &metadata));
        }
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Listing { entries, truncated })
}

/// Writes a file beside its name, and gives it that name once it is whole.
pub fn write(path: &str, mode: Option<u32>, owner: (u32, u32), bytes: &mut impl Read) -> Result<Entry, Refusal> {
    let named = Path::new(path);
    if path.ends_with('/') || named.file_name().is_none() {
        return Err(Refusal::kind("the path names a directory"));
    }
    let (target, before) = target(named)?;
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        return Err(Refusal::kind("there is something else than a file"));
    }
    let dir = target.parent().unwrap_or(Path::new("/"));
    make_dirs(dir, DIR_MODE, owner)?;
    let beside = dir.join(format!(".cakework-{}", std::process::id()));
    let owner = before.as_ref().map_or(owner, |before| (before.uid(), before.gid()));
    let mode = mode.unwrap_or_else(|| before.map_or(FILE_MODE, |before| before.permissions().mode() & 0o7777));
    let written = fill(&beside, mode, owner, bytes).and_then(|()| fs::rename(&beside, &target).or_refused());
    if let Err(refusal) = written {
        // What is left is nobody's; that it can't be removed says nothing new.
        let _ = fs::remove_file(&beside);
        return Err(refusal);
    }
    let metadata = fs::symlink_metadata(&target).or_refused()?;
    Ok(entry(&target, &metadata))
}

/// The file that is meant, links followed, and what it is where it is there.
fn target(named: &Path) -> Result<(PathBuf, Option<fs::Metadata>), Refusal> {
    match fs::symlink_metadata(named) {
        Ok(metadata) if metadata.is_symlink() => {
            let target = fs::canonicalize(named).or_refused()?;
            let metadata = fs::symlink_metadata(&target).or_refused()?;
            Ok((target, Some(metadata)))
        }
        Ok(metadata) => Ok((named.to_owned(), Some(metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((named.to_owned(), None)),
        Err(error) => Err(Refusal::of(&error)),
    }
}

fn fill(path: &Path, mode: u32, (uid, gid): (u32, u32), bytes: &mut impl Read) -> Result<(), Refusal> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).or_refused()?;
    copy(bytes, &mut file)?;
    std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).or_refused()?;
    // After the owner: a change of that takes set-user-id away.
    file.set_permissions(Permissions::from_mode(mode & 0o7777)).or_refused()
}

/// Copies what goes in, and tells a source that breaks off from a disk that takes no more.
fn copy(bytes: &mut impl Read, file: &mut File) -> Result<(), Refusal> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let count = bytes.read(&mut chunk).map_err(|error| broken(&error))?;
        if count == 0 {
            return Ok(());
        }
        file.write_all(&chunk[..count]).or_refused()?;
    }
}

/// What is said of bytes that can't be read to their end.
pub fn broken(error: &io::Error) -> Refusal {
    if rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::FBIG) {
        return Refusal::too_large();
    }
    Refusal::new(FileRefusal::Broken, "the bytes broke off before their end")
}

/// Makes a directory, and those on the way.
pub fn make_dir(path: &str, mode: Option<u32>, owner: (u32, u32)) -> Result<Entry, Refusal> {
    let path = Path::new(path);
    make_dirs(path, mode.unwrap_or(DIR_MODE), owner)?;
    let metadata = fs::metadata(path).or_refused()?;
    Ok(entry(path, &metadata))
}

/// Makes the directories that are missing; the last one gets the mode.
pub fn make_dirs(path: &Path, mode: u32, owner: (u32, u32)) -> Result<(), Refusal> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(Refusal::kind("a part of the path is no directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Refusal::of(&error)),
    }
    if let Some(parent) = path.parent() {
        make_dirs(parent, DIR_MODE, owner)?;
    }
    fs::create_dir(path).or_refused()?;
    lchown(path, Some(owner.0), Some(owner.1)).or_refused()?;
    fs::set_permissions(path, Permissions::from_mode(mode & 0o7777)).or_refused()
}

/// Removes what is at a path; answers what it was.
pub fn remove(path: &str, recursive: bool) -> Result<Entry, Refusal> {
    let path = Path::new(path.trim_end_matches('/'));
    if path.file_name().is_none() {
        return Err(Refusal::kind("the root stays"));
    }
    let metadata = fs::symlink_metadata(path).or_refused()?;
    let was = entry(path, &metadata);
    let removed = match (metadata.is_dir(), recursive) {
        (true, true) => fs::remove_dir_all(path),
        (true, false) => fs::remove_dir(path),
        (false, _) => fs::remove_file(path),
    };
    removed.or_refused().map(|()| was)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cakework_wire::files::{EntryKind, FileAnswer};

    fn me() -> (u32, u32) {
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    fn reading(path: &Path) -> Result<(Entry, Vec<u8>), Refusal> {
        let mut out = Vec::new();
        match read(path.to_str().expect("text"), &mut out) {
            Ok(()) => {}
            Err(Failure::Refused(refusal)) => return Err(refusal),
            Err(Failure::Broken(error)) => panic!("{error}"),
        }
        let at = out.iter().position(|byte| *byte == b'\n').expect("a line");
        match serde_json::from_slice(&out[..at]).expect("an answer") {
            FileAnswer::Done(entry) => Ok((entry, out[at + 1..].to_vec())),
            FileAnswer::Refused { .. } => panic!("refused"),
        }
    }

    #[test]
    fn a_file_is_written_read_listed_and_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b/file");
        let text = path.to_str().expect("text");
        let written = write(text, Some(0o640), me(), &mut &b"one"[..]).expect("written");
        assert_eq!(
            (written.kind, written.size, written.mode, written.name.as_str()),
            (EntryKind::File, 3, 0o640, "file")
        );
        write(text, None, me(), &mut &b"other"[..]).expect("written again");
        let (entry, bytes) = reading(&path).expect("read");
        assert_eq!((entry.size, entry.mode, bytes.as_slice()), (5, 0o640, &b"other"[..]), "mode and name stay");
        let (entry, listing) = reading(path.parent().expect("a parent")).expect("listed");
        let listing: Listing = serde_json::from_slice(&listing).expect("a listing");
        assert_eq!(
            (entry.kind, listing.entries.len(), listing.entries[0].name.as_str()),
            (EntryKind::Directory, 1, "file")
        );
        let a = dir.path().join("a").display().to_string();
        assert_eq!(remove(&a, false).expect_err("not empty").code, FileRefusal::NotEmpty);
        assert_eq!(remove(&format!("{a}/"), true).expect("removed").kind, EntryKind::Directory);
        assert_eq!(remove(&a, true).expect_err("gone").code, FileRefusal::NotFound);
        assert_eq!(remove("/", true).expect_err("the root").code, FileRefusal::Kind);
    }

    #[test]
    fn what_is_no_file_is_neither_read_nor_written_nor_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        for path in [fifo.as_path(), Path::new("/dev/zero"), Path::new("/dev/tty")] {
            assert_eq!(reading(path).expect_err("refused").code, FileRefusal::Kind, "{}", path.display());
        }
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        assert_eq!(write(&text(&fifo), None, me(), &mut &b""[..]).expect_err("refused").code, FileRefusal::Kind);
        assert_eq!(write(&text(dir.path()), None, me(), &mut &b""[..]).expect_err("refused").code, FileRefusal::Kind);
        std::os::unix::fs::symlink(&fifo, dir.path().join("link")).expect("a link");
        let link = text(&dir.path().join("link"));
        assert_eq!(write(&link, None, me(), &mut &b""[..]).expect_err("refused").code, FileRefusal::Kind);
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).expect("a link");
        let dangling = text(&dir.path().join("dangling"));
        assert_eq!(write(&dangling, None, me(), &mut &b""[..]).expect_err("refused").code, FileRefusal::NotFound);
        let sparse = dir.path().join("sparse");
        File::create(&sparse).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        assert_eq!(reading(&sparse).expect_err("refused").code, FileRefusal::TooLarge);
        assert!(reading(Path::new("/proc/self/status")).expect("read").1.starts_with(b"Name:"));
    }

    #[test]
    fn bytes_that_break_off_leave_the_file_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let text = path.to_str().expect("text");
        write(text, None, me(), &mut &b"old"[..]).expect("written");
        let mut cut = crate::chunks::Chunks::new(&b"\0\0\0\x05new"[..]);
        assert_eq!(write(text, None, me(), &mut cut).expect_err("refused").code, FileRefusal::Broken);
        assert_eq!(fs::read(&path).expect("there"), b"old");
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1, "nothing is left beside it");
    }
}
