//! The log segment: an append-only file that the monitor writes and the agent reads. It *is* the log; no copy of a
//! line exists anywhere else.
//!
//! ```text
//! file    = header record*
//! header  = magic[8] = "CWLOG\0\0\1" | generation u64 | segment u32 | reserved u32 = 0        24 bytes
//! record  = length u32 | kind u8 | stream u8 | flags u16 | timestamp u64 | crc u32 | payload | length u32
//! ```
//! Integers are little-endian. `length` counts the payload's bytes and stands at both ends, so that a reader can go
//! either way. `crc` is CRC-32 (IEEE) of kind, stream, flags, timestamp and payload. `timestamp` is Unix milliseconds
//! and never falls within a log. A record that is cut short or whose crc is wrong ends the file: the writer of the
//! next life truncates it there and notes a [`Body::Gap`].

use cakework_core::id::Generation;
use cakework_core::limit;

/// Bytes before the first record.
pub const HEADER_BYTES: u64 = 24;
/// Bytes of a record beside its payload.
pub const RECORD_OVERHEAD_BYTES: usize = 24;
/// Largest payload: a line of the greatest length.
pub const PAYLOAD_MAX_BYTES: usize = limit::LOG_LINE_MAX_BYTES;

const MAGIC: [u8; 8] = *b"CWLOG\0\0\x01";
const FLAG_CONTINUES: u16 = 1;
const HEAD_BYTES: usize = 20;

/// Where a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why lines may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// The monitor was killed: bytes in flight at that moment are lost.
    MonitorLost,
    /// The disk or the log's size limit had no room.
    NoSpace,
    /// The host was lost.
    HostLost,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// A line, without its newline.
    Line {
        /// Where it was written to.
        stream: Stream,
        /// The line goes on in the next record of this stream: it is longer than [`PAYLOAD_MAX_BYTES`].
        continues: bool,
        /// Its bytes, as the guest wrote them.
        text: &'a [u8],
    },
    /// Lines were dropped by the rate limit.
    Dropped {
        /// How many.
        lines: u64,
    },
    /// Lines may be missing here.
    Gap {
        /// Why.
        reason: GapReason,
    },
}

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Unix milliseconds.
    pub timestamp_ms: u64,
    /// What it says.
    pub body: Body<'a>,
}

/// The bytes at this place are no whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log segment is torn here")]
pub struct Torn;

/// The header of a segment.
pub fn header(generation: Generation, segment: u32) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&generation.0.to_le_bytes());
    bytes[16..20].copy_from_slice(&segment.to_le_bytes());
    bytes
}

/// Reads a header: the generation and the segment's number.
///
/// # Errors
/// [`Torn`] where the bytes are no header of this version.
pub fn read_header(bytes: &[u8]) -> Result<(Generation, u32), Torn> {
    let bytes = bytes.get(..HEADER_BYTES as usize).ok_or(Torn)?;
    if bytes[..8] != MAGIC {
        return Err(Torn);
    }
    Ok((Generation(u64_at(bytes, 8)), u32_at(bytes, 16)))
}

/// Appends a record. A line's text is cut at [`PAYLOAD_MAX_BYTES`]: the caller splits longer ones.
pub fn append(buffer: &mut Vec<u8>, record: Record<'_>) {
    let dropped;
    let gap;
    let (kind, stream, flags, payload): (u8, u8, u16, &[u8]) = match record.body {
        Body::Line { stream, continues, text } => {
            let stream = match stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            };
            let flags = if continues { FLAG_CONTINUES } else { 0 };
            (1, stream, flags, &text[..text.len().min(PAYLOAD_MAX_BYTES)])
        }
        Body::Dropped { lines } => {
            dropped = lines.to_le_bytes();
            (2, 0, 0, &dropped)
        }
        Body::Gap { reason } => {
            gap = [match reason {
                GapReason::MonitorLost => 1,
                GapReason::NoSpace => 2,
                GapReason::HostLost => 3,
            }];
            (3, 0, 0, &gap)
        }
    };
    let length = u32::try_from(payload.len()).expect("a payload is at most 64 KiB").to_le_bytes();
    let mut head = [0; 12];
    head[0] = kind;
    head[1] = stream;
    head[2..4].copy_from_slice(&flags.to_le_bytes());
    head[4..].copy_from_slice(&record.timestamp_ms.to_le_bytes());
    buffer.extend_from_slice(&length);
    buffer.extend_from_slice(&head);
    buffer.extend_from_slice(&checksum(&head, payload).to_le_bytes());
    buffer.extend_from_slice(payload);
    buffer.extend_from_slice(&length);
}

/// Reads the record that begins at `bytes[0]`; answers it and its size in bytes. `None` at the end of the bytes.
///
/// # Errors
/// [`Torn`] where a record begins but is not whole.
pub fn read_forward(bytes: &[u8]) -> Result<Option<(Record<'_>, usize)>, Torn> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() < RECORD_OVERHEAD_BYTES {
        return Err(Torn);
    }
    let length = u32_at(bytes, 0) as usize;
    let size = length + RECORD_OVERHEAD_BYTES;
    if length > PAYLOAD_MAX_BYTES || bytes.len() < size || u32_at(bytes, size - 4) as usize != length {
        return Err(Torn);
    }
    let payload = &bytes[HEAD_BYTES..HEAD_BYTES + length];
    if u32_at(bytes, 16) != checksum(&bytes[4..16], payload) {
        return Err(Torn);
    }
    let body = match bytes[4] {
        1 => Body::Line {
            stream: match bytes[5] {
                1 => Stream::Stdout,
                2 => Stream::Stderr,
                _ => return Err(Torn),
            },
            continues: u16::from_le_bytes([bytes[6], bytes[7]]) & FLAG_CONTINUES != 0,
            text: payload,
        },
        2 => Body::Dropped { lines: u64::from_le_bytes(payload.try_into().map_err(|_| Torn)?) },
        3 => Body::Gap {
            reason: match payload {
                [1] => GapReason::MonitorLost,
                [2] => GapReason::NoSpace,
                [3] => GapReason::HostLost,
                _ => return Err(Torn),
            },
        },
        _ => return Err(Torn),
    };
    Ok(Some((Record { timestamp_ms: u64_at(bytes, 8), body }, size)))
}

/// Reads the record that ends at the end of `bytes`; answers it and its size in bytes. `None` where nothing is left.
/// `bytes` begins with the first record, not with the header.
///
/// # Errors
/// [`Torn`] where the bytes do not end with a whole record.
pub fn read_backward(bytes: &[u8]) -> Result<Option<(Record<'_>, usize)>, Torn> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let tail = bytes.len().checked_sub(4).ok_or(Torn)?;
    let size = (u32_at(bytes, tail) as usize).saturating_add(RECORD_OVERHEAD_BYTES);
    let start = bytes.len().checked_sub(size).ok_or(Torn)?;
    read_forward(&bytes[start..])
}

/// How many of `bytes`, which begin with the first record, are whole records.
pub fn intact_bytes(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Ok(Some((_, size))) = read_forward(&bytes[end..]) {
        end += size;
    }
    end
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples() -> Vec<Record<'static>> {
        let line = |stream, continues, text| Body::Line { stream, continues, text };
        [
            line(Stream::Stdout, false, b"hello".as_slice()),
            line(Stream::Stderr, true, b"\xff\0half a line"),
            line(Stream::Stdout, false, b""),
            Body::Dropped { lines: 1 << 40 },
            Body::Gap { reason: GapReason::MonitorLost },
            Body::Gap { reason: GapReason::NoSpace },
            Body::Gap { reason: GapReason::HostLost },
        ]
        .into_iter()
        .enumerate()
        .map(|(index, body)| Record { timestamp_ms: 1_700_000_000_000 + index as u64, body })
        .collect()
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = Vec::new();
        samples().into_iter().for_each(|record| append(&mut bytes, record));
        bytes
    }

    #[test]
    fn the_format_is_frozen() {
        let mut bytes = header(Generation(2), 3).to_vec();
        append(&mut bytes, samples()[0]);
        assert_eq!(
            bytes,
            b"CWLOG\0\0\x01\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\
              \x05\0\0\0\x01\x01\0\0\x00\x68\xe5\xcf\x8b\x01\0\0\xc7\x24\x31\xc9hello\x05\0\0\0"
        );
        assert_eq!(read_header(&bytes), Ok((Generation(2), 3)));
    }

    #[test]
    fn records_read_the_same_both_ways() {
        let bytes = encoded();
        let (mut at, mut forward) = (0, Vec::new());
        while let Some((record, size)) = read_forward(&bytes[at..]).expect("whole") {
            forward.push(record);
            at += size;
        }
        let (mut end, mut backward) = (bytes.len(), Vec::new());
        while let Some((record, size)) = read_backward(&bytes[..end]).expect("whole") {
            backward.push(record);
            end -= size;
        }
        backward.reverse();
        assert_eq!(forward, samples());
        assert_eq!(backward, samples());
    }

    #[test]
    fn a_cut_anywhere_keeps_the_whole_records_before_it() {
        let bytes = encoded();
        for cut in 0..bytes.len() {
            let intact = intact_bytes(&bytes[..cut]);
            assert!(intact <= cut);
            assert!(read_forward(&bytes[..cut][intact..]).is_err() || intact == cut);
        }
        assert_eq!(intact_bytes(&bytes), bytes.len());
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let bytes = encoded();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert!(intact_bytes(&flipped) <= at, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_forward(&bytes);
            let _ = read_backward(&bytes);
            let _ = read_header(&bytes);
        }
    }
}
