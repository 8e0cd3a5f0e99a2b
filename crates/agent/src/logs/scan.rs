//! The records of one segment's file, read in either direction through a window of bounded size.
//!
//! Invariant: only whole records are handed out. The file may grow meanwhile; what is behind the last whole record at the
//! moment of reading does not exist yet.

use std::fs::File;
use std::io;
use std::path::Path;

use cakework_core::id::Generation;
use cakework_wire::segment::{self, HEADER_BYTES, PAYLOAD_MAX_BYTES, RECORD_OVERHEAD_BYTES, Record};

use super::files::{self, read_at};

const WINDOW_BYTES: usize = 256 * 1024;
const LENGTH_BYTES: usize = 4;

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    file: File,
    /// The placement whose lines it has.
    pub generation: Generation,
    window: Vec<u8>,
    /// Where in the file the window begins.
    window_at: u64,
}

impl Segment {
    /// Opens a segment. `None` where it was removed meanwhile or has no whole header.
    pub fn open(dir: &Path, number: u32) -> io::Result<Option<Self>> {
        let file = match File::open(files::path_of(dir, number)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut header = [0; HEADER_BYTES as usize];
        let count = read_at(&file, &mut header, 0)?;
        let Ok((generation, _)) = segment::read_header(&header[..count]) else { return Ok(None) };
        Ok(Some(Self { file, generation, window: Vec::new(), window_at: 0 }))
    }

    /// The record that begins at `offset`, and its size. `None` where none is whole there.
    pub fn forward(&mut self, offset: u64) -> io::Result<Option<(Record<'_>, u64)>> {
        if self.held_from(offset, LENGTH_BYTES).is_none() {
            self.fill(offset)?;
        }
        let Some(size) = self.held_from(offset, LENGTH_BYTES).and_then(record_size) else { return Ok(None) };
        if self.held_from(offset, size).is_none() {
            self.fill(offset)?;
        }
        let Some(bytes) = self.held_from(offset, size) else { return Ok(None) };
        Ok(segment::read_forward(bytes).ok().flatten().map(|(record, size)| (record, size as u64)))
    }

    /// The record that ends at `end`, and its size. `None` at the first record's start, or where none ends.
    pub fn backward(&mut self, end: u64) -> io::Result<Option<(Record<'_>, u64)>> {
        let Some(tail) = end.checked_sub(LENGTH_BYTES as u64).filter(|tail| *tail >= HEADER_BYTES) else {
            return Ok(None);
        };
        if self.held_from(tail, LENGTH_BYTES).is_none() {
            self.fill(end.saturating_sub(WINDOW_BYTES as u64).max(HEADER_BYTES))?;
        }
        let Some(size) = self.held_from(tail, LENGTH_BYTES).and_then(record_size) else { return Ok(None) };
        let Some(start) = end.checked_sub(size as u64).filter(|start| *start >= HEADER_BYTES) else { return Ok(None) };
        if self.held_from(start, size).is_none() {
            self.fill(end.saturating_sub(WINDOW_BYTES as u64).max(HEADER_BYTES))?;
        }
        let Some(bytes) = self.held_from(start, size) else { return Ok(None) };
        Ok(segment::read_forward(bytes).ok().flatten().map(|(record, size)| (record, size as u64)))
    }

    /// The end of the last whole record that ends at or before `limit`, found by walking from the start.
    pub fn boundary(&mut self, limit: u64) -> io::Result<u64> {
        let mut at = HEADER_BYTES;
        while let Some((_, size)) = self.forward(at)? {
            if at + size > limit {
                break;
            }
            at += size;
        }
        Ok(at)
    }

    /// The file's length now.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The time of the first record; `None` where there is none yet.
    pub fn first_ms(&self) -> io::Result<Option<u64>> {
        let mut bytes = vec![0; PAYLOAD_MAX_BYTES + RECORD_OVERHEAD_BYTES];
        // Most first records are short: the whole window is not needed to see them.
        for length in [1024, bytes.len()] {
            let count = read_at(&self.file, &mut bytes[..length], HEADER_BYTES)?;
            if let Ok(Some((record, _))) = segment::read_forward(&bytes[..count]) {
                return Ok(Some(record.timestamp_ms));
            }
        }
        Ok(None)
    }

    fn held_from(&self, offset: u64, count: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.window_at)?).ok()?;
        self.window.get(start..start.checked_add(count)?)
    }

    fn fill(&mut self, offset: u64) -> io::Result<()> {
        self.window.resize(WINDOW_BYTES, 0);
        self.window_at = offset;
        let filled = read_at(&self.file, &mut self.window, offset);
        self.window.truncate(*filled.as_ref().unwrap_or(&0));
        filled.map(drop)
    }
}

/// The size of the record whose length stands in these bytes; `None` where no record is so long.
fn record_size(length: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    (length <= PAYLOAD_MAX_BYTES).then_some(length + RECORD_OVERHEAD_BYTES)
}
