//! Reads a tar stream: ustar, GNU and pax headers, bounded in names, extensions and entries.
//!
//! Sources: POSIX.1-2017 `pax` ("ustar Interchange Format", "pax Header Block"), GNU tar "Basic Tar Format". It is our
//! own reader because a layer is a stranger's: every extension is bounded before it is read, and what is not understood
//! is refused, never skipped. Global pax headers carry nothing that an entry needs and are passed over, as Docker does.

use std::io::BufRead;

use super::fault::{Fault, shown};
use super::field;
use super::name::NAME_MAX_BYTES;

/// What tar counts in.
pub const BLOCK_BYTES: usize = 512;
/// Largest pax extension of one entry, in bytes: room for a few extended attributes of the kernel's largest size.
const EXTENSION_MAX_BYTES: u64 = 1 << 20;
/// Most pieces of a sparse file.
const SPARSE_MAX_PIECES: usize = 65_536;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file; its bytes follow.
    File,
    /// Another name of a file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character or block device.
    Device,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// An entry's header, extensions applied.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name, as it stands in the archive.
    pub name: Vec<u8>,
    /// Where it links to.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Size of the file as it is seen, in bytes.
    pub size: u64,
    /// Where the stored bytes of a sparse file belong: offset and length.
    pub pieces: Option<Vec<(u64, u64)>>,
}

#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads entries one after the other.
pub struct Reader<R> {
    stream: R,
    content_left: u64,
    padding_left: u64,
    headers_left: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads `stream`, which may have at most `headers` entries, extension headers counted too.
    pub fn new(stream: R, headers: u64) -> Self {
        Self { stream, content_left: 0, padding_left: 0, headers_left: headers }
    }

    /// The next entry; what was left of the one before is passed over. `None` at the archive's end.
    ///
    /// # Errors
    /// A fault of the layer or of the stream.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Fault> {
        let mut extensions = Extensions::default();
        loop {
            self.pass_content()?;
            let Some(block) = self.header()? else {
                return Ok(None);
            };
            self.headers_left = self
                .headers_left
                .checked_sub(1)
                .ok_or_else(|| Fault::TooLarge("A layer has more entries than this host takes.".into()))?;
            let stored = field::number(&block[124..136])?;
            match block[156] {
                b'x' => self.pax(stored, &mut extensions)?,
                b'g' => {
                    self.extension(stored, EXTENSION_MAX_BYTES)?;
                }
                b'L' => extensions.name = Some(self.long_name(stored)?),
                b'K' => extensions.link = Some(self.long_name(stored)?),
                _ => return self.entry(&block, stored, extensions).map(Some),
            }
        }
    }

    /// Bytes of the current file that are at hand; empty at its end. Say with [`Self::consume`] how many were used.
    ///
    /// # Errors
    /// A fault of the stream.
    pub fn content(&mut self) -> Result<&[u8], Fault> {
        if self.content_left == 0 {
            return Ok(&[]);
        }
        let bytes = self.stream.fill_buf().map_err(Fault::reading)?;
        if bytes.is_empty() {
            return Err(ended());
        }
        let most = usize::try_from(self.content_left).unwrap_or(usize::MAX).min(bytes.len());
        Ok(&bytes[..most])
    }

    /// The first `count` of [`Self::content`] were used.
    pub fn consume(&mut self, count: usize) {
        self.stream.consume(count);
        self.content_left -= count as u64;
    }

    /// Reads on to the stream's end, where only zeros may be.
    ///
    /// # Errors
    /// A fault of the layer or of the stream.
    pub fn finish(mut self) -> Result<R, Fault> {
        loop {
            let bytes = self.stream.fill_buf().map_err(Fault::reading)?;
            let count = bytes.len();
            if count == 0 {
                return Ok(self.stream);
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(Fault::invalid("A layer has bytes behind its end."));
            }
            self.stream.consume(count);
        }
    }

    fn pass_content(&mut self) -> Result<(), Fault> {
        loop {
            let count = self.content()?.len();
            if count == 0 {
                break;
            }
            self.consume(count);
        }
        self.content_left = std::mem::take(&mut self.padding_left);
        while self.content_left > 0 {
            let count = self.content()?.len();
            self.consume(count);
        }
        Ok(())
    }

    fn follow_with(&mut self, bytes: u64) {
        self.content_left = bytes;
        self.padding_left = bytes.next_multiple_of(BLOCK_BYTES as u64) - bytes;
    }

    /// One block, or `None` where the stream ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, Fault> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            let bytes = self.stream.fill_buf().map_err(Fault::reading)?;
            if bytes.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(ended()) };
            }
            let count = bytes.len().min(BLOCK_BYTES - filled);
            block[filled..filled + count].copy_from_slice(&bytes[..count]);
            self.stream.consume(count);
            filled += count;
        }
        Ok(Some(block))
    }

    /// A header block. `None` at a block of zeros or where the stream ends: the end mark is left out by some writers.
    fn header(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, Fault> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        field::check_sum(&block)?;
        Ok(Some(block))
    }

    fn extension(&mut self, bytes: u64, most: u64) -> Result<Vec<u8>, Fault> {
        if bytes > most {
            return Err(Fault::TooLarge("A layer has an entry with too long a name or too many attributes.".into()));
        }
        self.follow_with(bytes);
        let mut extension = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        while self.content_left > 0 {
            let content = self.content()?;
            extension.extend_from_slice(content);
            let count = content.len();
            self.consume(count);
        }
        Ok(extension)
    }

    fn long_name(&mut self, bytes: u64) -> Result<Vec<u8>, Fault> {
        let name = self.extension(bytes, NAME_MAX_BYTES as u64 + 1)?;
        Ok(field::text(&name).to_vec())
    }

    fn pax(&mut self, bytes: u64, extensions: &mut Extensions) -> Result<(), Fault> {
        let records = self.extension(bytes, EXTENSION_MAX_BYTES)?;
        let mut rest = &records[..];
        while !rest.is_empty() {
            let (key, value, after) = field::pax_record(rest)?;
            rest = after;
            match key {
                b"path" => extensions.name = Some(value.to_vec()),
                b"linkpath" => extensions.link = Some(value.to_vec()),
                b"size" => extensions.size = Some(field::decimal(value)?),
                b"uid" => extensions.uid = Some(field::decimal(value)?),
                b"gid" => extensions.gid = Some(field::decimal(value)?),
                b"mtime" => extensions.mtime = Some(field::pax_time(value)?),
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(Fault::invalid("A layer has a sparse file in pax form, which is not supported."));
                }
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        extensions.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, block: &[u8; BLOCK_BYTES], stored: u64, extensions: Extensions) -> Result<Entry, Fault> {
        let name = extensions.name.unwrap_or_else(|| field::header_name(block));
        let link = extensions.link.unwrap_or_else(|| field::text(&block[157..257]).to_vec());
        let stored = extensions.size.unwrap_or(stored);
        let flag = block[156];
        let kind = match flag {
            // Before ustar a directory was a file whose name ends with a slash.
            0 | b'0' if name.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let shown = shown(&name);
                return Err(Fault::invalid(format!("A layer's entry {shown} is of an unknown kind ({other}).")));
            }
        };
        let mut entry = Entry {
            name,
            link,
            kind,
            mode: u32::try_from(field::number(&block[100..108])? & 0o7777).expect("twelve bits"),
            uid: field::owner(extensions.uid, &block[108..116])?,
            gid: field::owner(extensions.gid, &block[116..124])?,
            mtime: match extensions.mtime {
                Some(time) => time,
                None => (field::header_time(&block[136..148])?, 0),
            },
            xattrs: extensions.xattrs,
            size: stored,
            pieces: None,
        };
        if flag == b'S' {
            self.sparse(block, stored, &mut entry)?;
        }
        // Only a file has bytes behind its header, whatever the size of another kind says (as Go's reader has it).
        if kind == Kind::File {
            self.follow_with(stored);
        } else {
            entry.size = 0;
        }
        Ok(entry)
    }

    /// The old GNU form: four pieces in the header, more in blocks that follow it.
    fn sparse(&mut self, block: &[u8; BLOCK_BYTES], stored: u64, entry: &mut Entry) -> Result<(), Fault> {
        let mut pieces = Vec::new();
        let mut more = field::sparse_pieces(&block[386..482], &mut pieces)? && block[482] != 0;
        while more {
            let block = self.block()?.ok_or_else(ended)?;
            more = field::sparse_pieces(&block[..504], &mut pieces)? && block[504] != 0;
            if pieces.len() > SPARSE_MAX_PIECES {
                return Err(Fault::TooLarge("A layer has a sparse file in too many pieces.".into()));
            }
        }
        entry.size = field::number(&block[483..495])?;
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (offset, length) in &pieces {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= entry.size);
            end = next.ok_or_else(|| Fault::invalid("A layer's sparse file overlaps itself."))?;
            sum += length;
        }
        if sum != stored {
            return Err(Fault::invalid("A layer's sparse file has not the bytes that its map names."));
        }
        entry.pieces = Some(pieces);
        Ok(())
    }
}

fn ended() -> Fault {
    Fault::invalid("A layer ends in the middle of an entry.")
}
