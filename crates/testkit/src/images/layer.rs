//! A layer: a tar, packed, with the digests of both. Tars come from a list of entries or from a directory.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::{Blob, Compression, Content};

/// One layer of an image.
#[derive(Debug, Clone)]
pub struct Layer {
    pub(super) blob: Blob,
    pub(super) diff_id: String,
    pub(super) compression: Compression,
}

/// One entry of a tar. Names are written as they are, also those that no honest tool would write.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A directory.
    Dir {
        /// Its name.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A file.
    File {
        /// Its name.
        path: String,
        /// Its permission bits.
        mode: u32,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Its name.
        path: String,
        /// Where it points.
        target: String,
    },
    /// A hard link.
    Hardlink {
        /// Its name.
        path: String,
        /// The entry it is another name of.
        target: String,
    },
    /// A character device.
    CharDevice {
        /// Its name.
        path: String,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A FIFO.
    Fifo {
        /// Its name.
        path: String,
    },
}

impl Entry {
    /// A file with mode 0644.
    pub fn file(path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self::File { path: path.into(), mode: 0o644, bytes: bytes.into() }
    }

    /// A file with mode 0755.
    pub fn program(path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self::File { path: path.into(), mode: 0o755, bytes: bytes.into() }
    }

    /// A directory with mode 0755.
    pub fn dir(path: &str) -> Self {
        Self::Dir { path: path.into(), mode: 0o755 }
    }

    /// A symbolic link.
    pub fn symlink(path: &str, target: &str) -> Self {
        Self::Symlink { path: path.into(), target: target.into() }
    }
}

/// A tar of entries owned by root, with time 0.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        append(&mut builder, entry).expect("writing into memory does not fail");
    }
    builder.into_inner().expect("writing into memory does not fail")
}

impl Layer {
    /// A layer of entries.
    pub fn new(entries: &[Entry], compression: Compression) -> Self {
        Self::from_tar(&tar(entries), compression)
    }

    /// A layer of a whole tar.
    pub fn from_tar(tar: &[u8], compression: Compression) -> Self {
        let mut packer = Packer::new(Vec::new(), compression).expect("writing into memory does not fail");
        packer.write_all(tar).expect("writing into memory does not fail");
        let (bytes, diff_id) = packer.finish().expect("writing into memory does not fail");
        Self { blob: Blob::new(bytes), diff_id, compression }
    }

    /// A layer of all that lies in `root`, owned by root, with time 0, written to `file`.
    pub fn from_dir(root: &Path, compression: Compression, file: &Path) -> Result<Self> {
        let packer = Packer::new(io::BufWriter::new(fs::File::create(file)?), compression)?;
        let mut builder = tar::Builder::new(packer);
        builder.mode(tar::HeaderMode::Deterministic);
        builder.follow_symlinks(false);
        append_tree(&mut builder, root, Path::new(""))?;
        let (mut writer, diff_id) = builder.into_inner()?.finish()?;
        writer.flush()?;
        Self::from_file(file, diff_id, compression)
    }

    /// A layer that lies packed in `file` already.
    pub fn from_file(file: &Path, diff_id: String, compression: Compression) -> Result<Self> {
        let mut hash = Sha256::new();
        let size_bytes = io::copy(&mut fs::File::open(file)?, &mut hash)?;
        let digest = format!("sha256:{}", hex::encode(hash.finalize()));
        Ok(Self { blob: Blob { digest, size_bytes, content: Content::File(file.to_owned()) }, diff_id, compression })
    }

    /// The packed bytes.
    pub fn blob(&self) -> &Blob {
        &self.blob
    }

    /// The digest of the tar inside, `sha256:<hex>`.
    pub fn diff_id(&self) -> &str {
        &self.diff_id
    }

    /// Says another diff-id than the true one: such an image lies.
    #[must_use]
    pub fn with_diff_id(mut self, diff_id: &str) -> Self {
        self.diff_id = diff_id.to_owned();
        self
    }

    /// Replaces the packed bytes and names their true digest, while the diff-id stays.
    #[must_use]
    pub fn with_bytes(mut self, bytes: Vec<u8>) -> Self {
        self.blob = Blob::new(bytes);
        self
    }
}

fn append<W: Write>(builder: &mut tar::Builder<W>, entry: &Entry) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(0o644);
    header.set_size(0);
    let (path, content): (&str, &[u8]) = match entry {
        Entry::Dir { path, mode } => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(*mode);
            (path, &[])
        }
        Entry::File { path, mode, bytes } => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(*mode);
            header.set_size(bytes.len() as u64);
            (path, bytes)
        }
        Entry::Symlink { path, target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name_literal(target)?;
            (path, &[])
        }
        Entry::Hardlink { path, target } => {
            header.set_entry_type(tar::EntryType::Link);
            header.set_link_name_literal(target)?;
            (path, &[])
        }
        Entry::CharDevice { path, major, minor } => {
            header.set_entry_type(tar::EntryType::Char);
            header.set_device_major(*major)?;
            header.set_device_minor(*minor)?;
            (path, &[])
        }
        Entry::Fifo { path } => {
            header.set_entry_type(tar::EntryType::Fifo);
            (path, &[])
        }
    };
    // `Header::set_path` refuses `..` and absolute names; hostile layers need them.
    let name = &mut header.as_gnu_mut().expect("made as a GNU header").name;
    let length = path.len().min(name.len());
    name[..length].copy_from_slice(&path.as_bytes()[..length]);
    header.set_cksum();
    builder.append(&header, content)
}

/// Appends a tree in the order of names, so that equal trees make equal tars.
fn append_tree<W: Write>(builder: &mut tar::Builder<W>, root: &Path, below: &Path) -> Result<()> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(root.join(below))?.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect::<Result<_>>()?;
    names.sort();
    for name in names {
        let relative = below.join(name);
        let path = root.join(&relative);
        let kind = fs::symlink_metadata(&path)?;
        if kind.is_file() || kind.is_symlink() || kind.is_dir() {
            builder.append_path_with_name(&path, &relative).with_context(|| format!("packing {}", path.display()))?;
        }
        if kind.is_dir() && kind.dev() == fs::metadata(root)?.dev() {
            append_tree(builder, root, &relative)?;
        }
    }
    Ok(())
}

/// Writes a tar's bytes packed, and takes the digest of the tar on the way.
struct Packer<W: Write> {
    hash: Sha256,
    sink: Sink<W>,
}

enum Sink<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Packer<W> {
    fn new(writer: W, compression: Compression) -> io::Result<Self> {
        let sink = match compression {
            Compression::None => Sink::Plain(writer),
            Compression::Gzip => Sink::Gzip(GzEncoder::new(writer, flate2::Compression::default())),
            Compression::Zstd => Sink::Zstd(zstd::Encoder::new(writer, 3)?),
        };
        Ok(Self { hash: Sha256::new(), sink })
    }

    fn finish(self) -> io::Result<(W, String)> {
        let diff_id = format!("sha256:{}", hex::encode(self.hash.finalize()));
        let writer = match self.sink {
            Sink::Plain(writer) => writer,
            Sink::Gzip(encoder) => encoder.finish()?,
            Sink::Zstd(encoder) => encoder.finish()?,
        };
        Ok((writer, diff_id))
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.sink {
            Sink::Plain(writer) => writer.write(bytes),
            Sink::Gzip(encoder) => encoder.write(bytes),
            Sink::Zstd(encoder) => encoder.write(bytes),
        }?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Plain(writer) => writer.flush(),
            Sink::Gzip(encoder) => encoder.flush(),
            Sink::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest;
    use super::*;

    #[test]
    fn packing_changes_the_blob_and_not_the_diff_id() {
        let entries = [Entry::dir("etc"), Entry::file("etc/motd", "hello\n")];
        let plain = Layer::new(&entries, Compression::None);
        let gzip = Layer::new(&entries, Compression::Gzip);
        let zstd = Layer::new(&entries, Compression::Zstd);
        assert_eq!(plain.diff_id(), digest(&tar(&entries)));
        assert_eq!(plain.blob().digest(), plain.diff_id());
        assert_eq!((gzip.diff_id(), zstd.diff_id()), (plain.diff_id(), plain.diff_id()));
        assert_eq!(gzip.blob().read().unwrap()[..2], [0x1f, 0x8b]);
        assert_eq!(zstd.blob().read().unwrap()[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    }

    #[test]
    fn hostile_names_are_written_as_they_are() {
        let bytes = tar(&[Entry::file("../../etc/passwd", "x"), Entry::symlink("/abs", "/etc")]);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned()).collect();
        assert_eq!(names, [b"../../etc/passwd".to_vec(), b"/abs".to_vec()]);
    }
}
