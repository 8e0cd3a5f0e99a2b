//! Writes a log's segments: appends records, closes a segment when it is full, and removes the oldest ones over the
//! limit.
//!
//! Invariant: what a flush has written is whole records. A write that failed in the middle is taken back, the lines are
//! dropped, and a gap record follows as soon as there is room. Nothing is synced: a log outlives the processes of its
//! host, but not its host's crash, with which its VM is over as well.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use cakework_core::id::Generation;
use cakework_wire::segment::{self, Body, GapReason, HEADER_BYTES, RECORD_OVERHEAD_BYTES, Record};

use crate::logs::files::read_at;
use crate::logs::{LogConfig, files};

/// Records that wait for their write; one of the greatest length always fits.
const PENDING_MAX_BYTES: usize = 96 * 1024;
const SCAN_CHUNK_BYTES: usize = 256 * 1024;

/// The one writer of a log.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    generation: Generation,
    segment_bytes: u64,
    total_bytes: u64,
    /// The open segment. Absent: the next flush makes one.
    file: Option<File>,
    /// Its number; that of the last closed one where none is open.
    number: u32,
    /// Its bytes.
    len: u64,
    /// What the next records are stamped with: Unix milliseconds, never falling.
    stamp_ms: u64,
    pending: Vec<u8>,
    gap: Option<GapReason>,
}

impl Writer {
    /// Opens the log in `dir` at its end, cutting off a torn record. `resumed` says that another monitor wrote it before.
    /// What can't be opened now is tried again with each flush.
    pub fn open(dir: &Path, generation: Generation, config: &LogConfig, resumed: bool) -> Self {
        let mut writer = Self {
            dir: dir.to_owned(),
            generation,
            segment_bytes: config.segment_bytes,
            total_bytes: config.total_bytes,
            file: None,
            number: 0,
            len: 0,
            stamp_ms: 0,
            pending: Vec::with_capacity(PENDING_MAX_BYTES),
            gap: resumed.then_some(GapReason::MonitorLost),
        };
        if writer.resume().is_err() {
            writer.gap.get_or_insert(GapReason::NoSpace);
        }
        writer
    }

    fn resume(&mut self) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let Some(&last) = files::list(&self.dir)?.last() else { return Ok(()) };
        self.number = last;
        let file = File::options().read(true).write(true).open(files::path_of(&self.dir, last))?;
        let found = Tail::of(&file)?;
        self.stamp_ms = found.last_ms;
        if found.generation == Some(self.generation) {
            file.set_len(found.intact_bytes)?;
            self.len = found.intact_bytes;
            self.file = Some(file);
        }
        Ok(())
    }

    /// Stamps the records that follow; a clock that went back is not followed.
    pub fn stamp(&mut self, now_ms: u64) {
        self.stamp_ms = self.stamp_ms.max(now_ms);
    }

    /// Adds a record; it is in the file after the next [`Self::flush`].
    pub fn push(&mut self, body: Body<'_>) {
        let text = if let Body::Line { text, .. } = body { text.len() } else { 8 };
        if !self.pending.is_empty() && self.pending.len() + text + RECORD_OVERHEAD_BYTES > PENDING_MAX_BYTES {
            self.flush();
        }
        segment::append(&mut self.pending, Record { timestamp_ms: self.stamp_ms, body });
    }

    /// Writes what was added, by one call. Where that fails it is dropped, and a gap remembered.
    pub fn flush(&mut self) {
        if self.gap.is_none() && self.pending.is_empty() {
            return;
        }
        if self.try_flush().is_err() {
            self.gap.get_or_insert(GapReason::NoSpace);
        }
        self.pending.clear();
    }

    /// Whether lines were lost that no record tells of yet: flush again before long.
    pub const fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    fn try_flush(&mut self) -> io::Result<()> {
        if let Some(reason) = self.gap {
            let mut record = Vec::new();
            segment::append(&mut record, Record { timestamp_ms: self.stamp_ms, body: Body::Gap { reason } });
            self.write(&record)?;
            self.gap = None;
        }
        let pending = std::mem::take(&mut self.pending);
        let written = if pending.is_empty() { Ok(()) } else { self.write(&pending) };
        self.pending = pending;
        written
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fits = self.len <= HEADER_BYTES || self.len + bytes.len() as u64 <= self.segment_bytes;
        if !fits {
            self.file = None;
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => self.next_segment()?,
        };
        let file = self.file.insert(file);
        match file.write_all_at(bytes, self.len) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Where even this fails, the next write goes to the same place, and readers stop at the torn record.
                let _ = file.set_len(self.len);
                Err(error)
            }
        }
    }

    /// Makes the next segment: it has its header before it has its name.
    fn next_segment(&mut self) -> io::Result<File> {
        std::fs::create_dir_all(&self.dir)?;
        self.make_room()?;
        let number = self.number + 1;
        let draft = self.dir.join("draft");
        let made = File::create(&draft).and_then(|mut file| {
            file.write_all(&segment::header(self.generation, number))?;
            std::fs::rename(&draft, files::path_of(&self.dir, number))?;
            Ok(file)
        });
        if made.is_err() {
            let _ = std::fs::remove_file(&draft);
        } else {
            self.number = number;
            self.len = HEADER_BYTES;
        }
        made
    }

    /// Removes the oldest segments until one more fits under the limit.
    fn make_room(&self) -> io::Result<()> {
        let paths: Vec<_> =
            files::list(&self.dir)?.into_iter().map(|number| files::path_of(&self.dir, number)).collect();
        let sizes: Vec<u64> = paths.iter().map(|path| path.metadata().map_or(0, |metadata| metadata.len())).collect();
        let mut total: u64 = sizes.iter().sum();
        for (path, size) in paths.iter().zip(sizes) {
            if total + self.segment_bytes <= self.total_bytes {
                break;
            }
            std::fs::remove_file(path)?;
            total -= size;
        }
        Ok(())
    }
}

/// What a segment's file holds.
struct Tail {
    /// `None` where not even the header is whole.
    generation: Option<Generation>,
    intact_bytes: u64,
    last_ms: u64,
}

impl Tail {
    fn of(file: &File) -> io::Result<Self> {
        let mut buffer = vec![0; SCAN_CHUNK_BYTES];
        let mut found = Self { generation: None, intact_bytes: HEADER_BYTES, last_ms: 0 };
        let count = read_at(file, &mut buffer, 0)?;
        match segment::read_header(&buffer[..count]) {
            Ok((generation, _)) => found.generation = Some(generation),
            Err(segment::Torn) => return Ok(found),
        }
        loop {
            let count = read_at(file, &mut buffer, found.intact_bytes)?;
            let mut at = 0;
            while let Ok(Some((record, size))) = segment::read_forward(&buffer[at..count]) {
                found.last_ms = record.timestamp_ms;
                at += size;
            }
            if at == 0 {
                return Ok(found);
            }
            found.intact_bytes += at as u64;
        }
    }
}
