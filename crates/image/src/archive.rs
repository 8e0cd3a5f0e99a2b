//! Tar archives that are no layers: a build's context, and what ADD unpacks. Unpacked by the confined child.

use std::path::Path;

use cakework_wire::host::AgentProblem;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::config::Unpacker;
use crate::problem::internal;
use crate::unpack::{Purpose, Request, is_header};
use crate::unpacking::Unpacking;

const CHUNK_BYTES: usize = 256 << 10;

/// What an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Inflated bytes, and bytes of its files together; no more compressed ones are read either.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

/// What a file's first bytes (512 at least, where it has them) say it is: a tar archive, plain or compressed by gzip,
/// zstd, bzip2 or xz; `None` for anything else. What a compressed file holds is only known once it is inflated.
pub fn kind(head: &[u8]) -> Option<ArchiveKind> {
    const SIGNATURES: [(&[u8], ArchiveKind); 4] = [
        (&[0x1f, 0x8b, 0x08], ArchiveKind::Gzip),
        (&[0x28, 0xb5, 0x2f, 0xfd], ArchiveKind::Zstd),
        (b"BZh", ArchiveKind::Bzip2),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], ArchiveKind::Xz),
    ];
    let compressed = SIGNATURES.iter().find(|(signature, _)| head.starts_with(signature)).map(|(_, kind)| *kind);
    compressed.or_else(|| head.first_chunk().is_some_and(is_header).then_some(ArchiveKind::Tar))
}

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveKind {
    /// Not at all.
    Tar,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

/// Unpacks an archive into the empty directory `into`, in the confined child, which sees nothing else. Whiteouts have no
/// meaning: a name beginning with `.wh.` is refused. Devices are refused, set-uid bits and owners kept. After a failure
/// `into` holds a part of it.
///
/// # Errors
/// What is wrong with the archive, with the entry's name; no room.
/// [`ProblemCode::Unknown`](cakework_wire::host::ProblemCode::Unknown) where it is no tar archive at all, such as another
/// file that is compressed: nothing was unpacked then.
pub async fn extract(
    unpacker: &Unpacker,
    archive: std::fs::File,
    kind: ArchiveKind,
    into: &Path,
    limits: ArchiveLimits,
) -> Result<(), AgentProblem> {
    let request = Request {
        purpose: Purpose::Archive,
        kind,
        digest: None,
        size_bytes: None,
        diff_id: None,
        inflated_max_bytes: limits.bytes,
        entries_max: limits.entries,
    };
    let mut child = Unpacking::start(unpacker, into, &request).await?;
    let result = feed(&mut child, archive).await;
    child.end().await?;
    result
}

async fn feed(child: &mut Unpacking, archive: std::fs::File) -> Result<(), AgentProblem> {
    let mut archive = tokio::fs::File::from_std(archive);
    let failed = |error| internal("reading an archive", error);
    archive.rewind().await.map_err(failed)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = archive.read(&mut chunk).await.map_err(failed)?;
        if count == 0 || !child.give(&chunk[..count]).await? {
            return child.conclude().await.map(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_cksum();
        let tar = header.as_bytes();
        let mut broken = *tar;
        broken[0] = b'x';
        for (head, expected) in [
            (&b"\x1f\x8b\x08\0\0"[..], Some(ArchiveKind::Gzip)),
            (b"\x28\xb5\x2f\xfd\x04", Some(ArchiveKind::Zstd)),
            (b"BZh91AY", Some(ArchiveKind::Bzip2)),
            (b"\xfd7zXZ\0\0", Some(ArchiveKind::Xz)),
            (&tar[..], Some(ArchiveKind::Tar)),
            (&[&tar[..], b"more"].concat(), Some(ArchiveKind::Tar)),
            (&tar[..511], None),
            (&broken, None),
            (&[0; 1024], None),
            (b"PK\x03\x04", None),
            (b"#!/bin/sh\n", None),
            (b"", None),
        ] {
            assert_eq!(kind(head), expected, "{:?}", &head[..head.len().min(8)]);
        }
    }
}
