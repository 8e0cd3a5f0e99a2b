//! Doors for the fuzz targets to what reads strangers' bytes, each with what has to hold of whatever was read.

use std::time::SystemTime;

use reqwest::Url;
use reqwest::header::{CONTENT_DISPOSITION, CONTENT_RANGE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::archive::{ArchiveKind, kind};
use crate::config::ImageLimits;
use crate::digest::Digest;
use crate::egress::file_name::file_name;
use crate::manifest::{self, Document};
use crate::reference::Reference;
use crate::registry::auth;
use crate::registry::endpoint::{first_byte, retry_after};
use crate::rootfs::user;
use crate::unpack::fault::Fault;
use crate::unpack::name::Name;
use crate::unpack::stream::{self, Bounds};
use crate::unpack::tar::{self, Entry};

/// Inflated bytes, and entries: small, so that many inputs are tried.
const INFLATED_MAX_BYTES: u64 = 1 << 20;
const ENTRIES_MAX: u64 = 100;

/// A layer or archive behind a byte that says how it is compressed.
pub fn tar(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let kinds = [ArchiveKind::Tar, ArchiveKind::Gzip, ArchiveKind::Zstd, ArchiveKind::Bzip2, ArchiveKind::Xz];
    let _ = kind(bytes);
    let bounds = Bounds {
        compressed_bytes: None,
        inflated_max_bytes: INFLATED_MAX_BYTES,
        is_compressed_hashed: false,
        is_inflated_hashed: false,
    };
    let Ok(inflated) = stream::open(bytes, kinds[usize::from(*choice) % kinds.len()], bounds) else { return };
    let mut archive = tar::Reader::new(inflated, ENTRIES_MAX);
    let mut entries = 0;
    while let Ok(Some(entry)) = archive.next_entry() {
        entries += 1;
        if check(&entry).is_err() || drain(&mut archive, &entry).is_err() {
            return;
        }
    }
    assert!(entries <= ENTRIES_MAX);
}

fn check(entry: &Entry) -> Result<(), Fault> {
    let name = Name::parse(&entry.name)?;
    let parts = || name.as_bytes().split(|byte| *byte == b'/');
    assert!(!name.as_bytes().starts_with(b"/") && parts().all(|part| part != b".." && part != b"."));
    let _ = (name.split(), name.is_reserved(), name.is_under_dev(), name.meaning());
    if let Some(pieces) = &entry.pieces {
        let mut end = 0;
        for (offset, length) in pieces {
            assert!(*offset >= end && offset + length <= entry.size, "pieces follow each other inside the file");
            end = offset + length;
        }
    }
    Ok(())
}

fn drain(archive: &mut tar::Reader<stream::Inflated<&[u8]>>, entry: &Entry) -> Result<(), Fault> {
    let mut left = match &entry.pieces {
        Some(pieces) => pieces.iter().map(|(_, length)| length).sum(),
        None if entry.kind == tar::Kind::File => entry.size,
        None => 0,
    };
    while left > 0 {
        let count = archive.content()?.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        archive.consume(count);
        left -= count as u64;
    }
    Ok(())
}

/// What a registry or a server of files says, in each of its places.
pub fn registry(bytes: &[u8]) {
    let limits = ImageLimits::default();
    if let Ok(document) = manifest::read(bytes) {
        match document {
            Document::Index(manifests) => {
                let _ = manifest::pick(&manifests).map(|picked| picked.digest());
            }
            Document::Manifest(read) => {
                let _ = manifest::check(&read, &limits);
                let _ = manifest::plan(&read, bytes, &limits);
            }
        }
    }
    if let Some(token) = auth::bearer(bytes) {
        assert!(token.is_sensitive());
    }
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        let of = |name| HeaderMap::from_iter([(name, value.clone())]);
        let _ = auth::challenges(&of(WWW_AUTHENTICATE));
        let _ = (first_byte(&of(CONTENT_RANGE)), retry_after(&of(RETRY_AFTER), SystemTime::UNIX_EPOCH));
        let url = Url::parse("https://files.example/a/b.tar").expect("a URL");
        if let Some(name) = file_name(&of(CONTENT_DISPOSITION), &url) {
            assert!(!name.contains(['/', '\\', '\0']) && !matches!(&name[..], "" | "." | ".."), "{name}");
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        let parts = [&reference.host, &reference.repository];
        assert!(parts.iter().all(|part| !part.is_empty() && !part.contains(['@', '?', '#', '%', ' '])), "{text}");
        assert!(!reference.repository.split('/').any(|part| matches!(part, "" | "." | "..")), "{text}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
}

/// `USER`, `etc/passwd` and `etc/group`, apart by NUL bytes.
pub fn passwd(text: &str) {
    let mut parts = text.splitn(3, '\0');
    let mut next = || parts.next().unwrap_or_default();
    let (user, passwd, group) = (next(), next(), next());
    if let Ok(found) = user::find_in(passwd, group, user) {
        assert!(found.home.starts_with('/') && !found.home.contains('\0'));
    }
}
