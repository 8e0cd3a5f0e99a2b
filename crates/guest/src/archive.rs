//! Directories as tar archives.
//!
//! Invariant: what is packed was measured before the first byte came out, and stays on the directory's own file system;
//! what is unpacked lands in the directory, whatever its names and links say.

use std::fs::{self, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use cakework_core::limit;
use cakework_wire::files::{Entry, FileRefusal};
use rustix::fs::OFlags;
use tar::{Archive, Builder, EntryType, Header};

use crate::done_with;
use crate::entry::entry;
use crate::refusal::{Failure, OrRefused as _, Refusal};
use crate::tree::{broken, make_dirs, open};

/// Packs what is in a directory: files, directories and links.
pub fn pack(path: &str, out: &mut impl Write) -> Result<(), Failure> {
    let root = Path::new(path);
    let metadata = fs::metadata(root).or_refused()?;
    if !metadata.is_dir() {
        return Err(Refusal::kind("it is no directory").into());
    }
    let found = walk(root, metadata.dev())?;
    done_with(out, entry(root, &metadata))?;
    let mut archive = Builder::new(out);
    for (path, metadata) in found {
        let Ok(name) = path.strip_prefix(root) else { continue };
        add(&mut archive, &path, name, &metadata)?;
    }
    archive.finish()?;
    Ok(())
}

/// All that is packed, each directory before what is in it.
fn walk(root: &Path, device: u64) -> Result<Vec<(PathBuf, Metadata)>, Refusal> {
    let (mut found, mut bytes) = (Vec::new(), 0u64);
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for child in fs::read_dir(&dir).or_refused()? {
            let path = child.or_refused()?.path();
            // One that went meanwhile is none.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let kind = metadata.file_type();
            if metadata.dev() != device || !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
                continue;
            }
            bytes = bytes.saturating_add(if kind.is_file() { metadata.len() } else { 0 });
            if bytes > limit::VM_FILE_MAX_BYTES {
                return Err(Refusal::too_large());
            }
            if found.len() == limit::VM_ARCHIVE_ENTRIES_MAX {
                return Err(too_many());
            }
            if kind.is_dir() {
                dirs.push(path.clone());
            }
            found.push((path, metadata));
        }
    }
    Ok(found)
}

fn add(archive: &mut Builder<&mut impl Write>, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    if metadata.is_symlink() {
        let Ok(target) = fs::read_link(path) else { return Ok(()) };
        header.set_size(0);
        return archive.append_link(&mut header, name, target);
    }
    if metadata.is_dir() {
        header.set_size(0);
        return archive.append_data(&mut header, name, io::empty());
    }
    let file = match open(path, OFlags::NOFOLLOW) {
        Ok(file) if file.metadata()?.is_file() => file,
        // It went, or is something else by now.
        _ => return Ok(()),
    };
    // One that grows is cut where it was measured; one that shrinks is filled up with zeros, as by GNU tar.
    let bytes = file.chain(io::repeat(0)).take(metadata.len());
    archive.append_data(&mut header, name, bytes)
}

/// Unpacks an archive into a directory.
pub fn unpack(path: &str, owner: (u32, u32), bytes: &mut impl Read) -> Result<Entry, Refusal> {
    let root = Path::new(path);
    make_dirs(root, 0o755, owner)?;
    let mut archive = Archive::new(bytes);
    archive.set_preserve_permissions(true);
    archive.set_unpack_xattrs(false);
    for (count, found) in archive.entries().map_err(|error| no_archive(&error))?.enumerate() {
        if count == limit::VM_ARCHIVE_ENTRIES_MAX {
            return Err(too_many());
        }
        let mut found = found.map_err(|error| no_archive(&error))?;
        let name = found.path().map_err(|error| no_archive(&error))?.into_owned();
        let kind = found.header().entry_type();
        if !matches!(
            kind,
            EntryType::Regular | EntryType::Continuous | EntryType::Directory | EntryType::Symlink | EntryType::Link
        ) {
            return Err(Refusal::kind("the archive has a device, a pipe, or something else that is no file"));
        }
        if !found.unpack_in(root).map_err(|error| unpacking(&error))? {
            return Err(Refusal::new(FileRefusal::Denied, "a name in the archive leads out of the directory"));
        }
        own(root, &name, owner)?;
    }
    let metadata = fs::metadata(root).or_refused()?;
    Ok(entry(root, &metadata))
}

/// Gives what was unpacked, itself and no link's target, to its owner.
fn own(root: &Path, name: &Path, owner: (u32, u32)) -> Result<(), Refusal> {
    let parts = name.components().filter(|part| matches!(part, std::path::Component::Normal(_)));
    let path = root.join(parts.collect::<PathBuf>());
    match lchown(&path, Some(owner.0), Some(owner.1)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Refusal::of(&error)),
        _ => Ok(()),
    }
}

/// The archive's reader wraps what the system said, or what the source did.
fn unpacking(error: &io::Error) -> Refusal {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(next) = cause {
        if let Some(error) = next.downcast_ref::<io::Error>()
            && (error.raw_os_error().is_some() || error.kind() == io::ErrorKind::UnexpectedEof)
        {
            let ended = error.kind() == io::ErrorKind::UnexpectedEof;
            return if ended { broken(error) } else { Refusal::of(error) };
        }
        cause = next.source();
    }
    no_archive(error)
}

fn no_archive(error: &io::Error) -> Refusal {
    if error.kind() == io::ErrorKind::UnexpectedEof || rustix::io::Errno::from_io_error(error).is_some() {
        return broken(error);
    }
    Refusal::new(FileRefusal::Broken, "the bytes are no tar archive")
}

fn too_many() -> Refusal {
    let max = limit::VM_ARCHIVE_ENTRIES_MAX;
    Refusal::new(FileRefusal::TooLarge, format!("it has more than {max} entries"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> (u32, u32) {
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    fn text(path: &Path) -> &str {
        path.to_str().expect("text")
    }

    #[test]
    fn a_directory_goes_out_and_in_again() {
        let (from, to) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        fs::create_dir_all(from.path().join("a/b")).expect("made");
        fs::write(from.path().join("a/b/file"), "content").expect("written");
        fs::set_permissions(from.path().join("a/b/file"), std::os::unix::fs::PermissionsExt::from_mode(0o751))
            .expect("set");
        std::os::unix::fs::symlink("b/file", from.path().join("a/link")).expect("a link");
        rustix::fs::mknodat(rustix::fs::CWD, from.path().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("a pipe");
        let mut out = Vec::new();
        pack(text(from.path()), &mut out).expect("packed");
        let at = out.iter().position(|byte| *byte == b'\n').expect("a line");
        unpack(&format!("{}/new", text(to.path())), me(), &mut &out[at + 1..]).expect("unpacked");
        let new = to.path().join("new");
        assert_eq!(fs::read_to_string(new.join("a/link")).expect("through the link"), "content");
        assert_eq!(fs::metadata(new.join("a/b/file")).expect("there").mode() & 0o777, 0o751);
        assert!(!new.join("pipe").exists());
    }

    fn archive(add: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        add(&mut archive);
        archive.into_inner().expect("an archive")
    }

    fn named(archive: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, target: &str) {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        archive.append(&header, io::empty()).expect("added");
    }

    #[test]
    fn an_archive_stays_in_its_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let inside = dir.path().join("inside");
        let into = |bytes: &[u8]| unpack(text(&inside), me(), &mut &*bytes);
        let out = archive(|archive| named(archive, "../out", EntryType::Regular, ""));
        assert_eq!(into(&out).expect_err("refused").code, FileRefusal::Denied);
        let through = archive(|archive| {
            named(archive, "link", EntryType::Symlink, "..");
            named(archive, "link/out", EntryType::Regular, "");
        });
        into(&through).expect_err("refused");
        let device = archive(|archive| named(archive, "zero", EntryType::Char, ""));
        assert_eq!(into(&device).expect_err("refused").code, FileRefusal::Kind);
        let hard = archive(|archive| named(archive, "hard", EntryType::Link, "../../../../etc/passwd"));
        into(&hard).expect_err("refused");
        assert_eq!(into(&[b'x'; 2048]).expect_err("refused").code, FileRefusal::Broken);
        assert!(!dir.path().join("out").exists());
        let absolute = archive(|archive| named(archive, "/abs/file", EntryType::Regular, ""));
        into(&absolute).expect("it is inside");
        assert!(inside.join("abs/file").exists());
    }
}
