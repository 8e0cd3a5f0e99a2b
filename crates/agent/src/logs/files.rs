//! The segments of a log as files: `NNNNNN.seg` in one directory, numbered from 1. Their content is
//! [`cakework_wire::segment`]'s.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const EXTENSION: &str = ".seg";

/// Where a segment is.
pub fn path_of(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:06}{EXTENSION}"))
}

/// The numbers of the segments in `dir`, ascending. No directory, no segments.
///
/// # Errors
/// What the host said.
pub fn list(dir: &Path) -> io::Result<Vec<u32>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(EXTENSION));
        numbers.extend(digits.and_then(|digits| digits.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads at `offset` until the buffer is full or the file ends; answers how many bytes.
///
/// # Errors
/// What the host said.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
