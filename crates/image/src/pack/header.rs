//! One entry as tar: a ustar header, and a PAX header before it where its fields are too small.
//!
//! Source: POSIX.1-2017 `pax`, "ustar Interchange Format" and "pax Extended Header". Names and links are written as the
//! bytes that they are, also where those are no UTF-8.

use std::io::{self, Write};

use tar::{EntryType, Header};

use crate::unpack::tar::BLOCK_BYTES;

/// Largest number in eleven octal digits.
const SIZE_MAX_BYTES: u64 = 0o777_7777_7777;
/// Largest number in seven octal digits.
const ID_MAX: u32 = 0o777_7777;
const NAME_MAX_BYTES: usize = 100;
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Relative to the root; a directory's ends with a slash.
    pub name: &'a [u8],
    /// What it is.
    pub kind: EntryType,
    /// What a link leads to.
    pub link: &'a [u8],
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes that follow.
    pub size_bytes: u64,
    /// Seconds since 1970, none before it.
    pub mtime_secs: u64,
    /// Extended attributes, sorted by name.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Writes an entry's headers. Its bytes and [`pad`] follow.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, entry: &Entry<'_>) -> io::Result<()> {
    let records = records(entry);
    if !records.is_empty() {
        let mut header = Header::new_ustar();
        set(&mut header, PAX_NAME, b"");
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_size(records.len() as u64);
        header.set_cksum();
        out.write_all(header.as_bytes())?;
        out.write_all(&records)?;
        pad(out, records.len() as u64)?;
    }
    let mut header = Header::new_ustar();
    set(&mut header, entry.name, entry.link);
    header.set_entry_type(entry.kind);
    header.set_mode(entry.mode);
    // A reader that knows PAX does not look at what its records replace.
    header.set_uid(if entry.uid > ID_MAX { 0 } else { entry.uid.into() });
    header.set_gid(if entry.gid > ID_MAX { 0 } else { entry.gid.into() });
    header.set_size(if entry.size_bytes > SIZE_MAX_BYTES { 0 } else { entry.size_bytes });
    header.set_mtime(if entry.mtime_secs > SIZE_MAX_BYTES { 0 } else { entry.mtime_secs });
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// Fills the last block of so many bytes.
///
/// # Errors
/// Those of `out`.
pub fn pad(out: &mut impl Write, bytes: u64) -> io::Result<()> {
    let block = BLOCK_BYTES as u64;
    let missing = usize::try_from(bytes.next_multiple_of(block) - bytes).expect("less than a block");
    out.write_all(&[0; BLOCK_BYTES][..missing])
}

/// The end mark.
///
/// # Errors
/// Those of `out`.
pub fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK_BYTES])
}

fn set(header: &mut Header, name: &[u8], link: &[u8]) {
    let ustar = header.as_ustar_mut().expect("it was made so");
    let cut = |text: &[u8]| text.len().min(NAME_MAX_BYTES);
    ustar.name[..cut(name)].copy_from_slice(&name[..cut(name)]);
    ustar.linkname[..cut(link)].copy_from_slice(&link[..cut(link)]);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
}

/// The PAX records that an entry needs, in the order of their keys.
fn records(entry: &Entry<'_>) -> Vec<u8> {
    let mut records = Vec::new();
    for (name, value) in entry.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    let mut number = |key: &[u8], value: u64, most: u64| {
        if value > most {
            record(&mut records, key, value.to_string().as_bytes());
        }
    };
    number(b"gid", entry.gid.into(), ID_MAX.into());
    number(b"mtime", entry.mtime_secs, SIZE_MAX_BYTES);
    number(b"size", entry.size_bytes, SIZE_MAX_BYTES);
    number(b"uid", entry.uid.into(), ID_MAX.into());
    for (key, text) in [(&b"linkpath"[..], entry.link), (b"path", entry.name)] {
        if text.len() > NAME_MAX_BYTES {
            record(&mut records, key, text);
        }
    }
    records
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [&b" "[..], key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Entry<'static> = Entry {
        name: b"a",
        kind: EntryType::Regular,
        link: b"",
        mode: 0o644,
        uid: 0,
        gid: 0,
        size_bytes: 0,
        mtime_secs: 0,
        xattrs: &[],
    };

    fn written(entry: &Entry<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, entry).expect("memory takes all");
        out
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for value_bytes in [0, 1, 90, 91, 92, 93, 980, 990, 991, 992, 9980, 9990] {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; value_bytes]);
            let length = records.split(|byte| *byte == b' ').next().expect("a first part");
            assert_eq!(String::from_utf8_lossy(length), records.len().to_string(), "{value_bytes}");
        }
    }

    #[test]
    fn a_pax_header_stands_only_where_it_is_needed() {
        assert_eq!(written(&PLAIN).len(), BLOCK_BYTES);
        assert_eq!(written(&Entry { name: &[b'n'; 100], uid: ID_MAX, ..PLAIN }).len(), BLOCK_BYTES);
        let attributes = [(b"user.a".to_vec(), b"v".to_vec())];
        for entry in [
            Entry { name: &[b'n'; 101], ..PLAIN },
            Entry { link: &[b'n'; 101], kind: EntryType::Symlink, ..PLAIN },
            Entry { uid: ID_MAX + 1, ..PLAIN },
            Entry { gid: u32::MAX - 1, ..PLAIN },
            Entry { size_bytes: SIZE_MAX_BYTES + 1, ..PLAIN },
            Entry { mtime_secs: SIZE_MAX_BYTES + 1, ..PLAIN },
            Entry { xattrs: &attributes, ..PLAIN },
        ] {
            assert_eq!(written(&entry).len(), 3 * BLOCK_BYTES, "{entry:?}");
        }
    }

    #[test]
    fn numbers_beyond_a_header_are_read_back() {
        let entry =
            Entry { uid: 3_000_000, gid: 4_000_000, mtime_secs: 1 << 34, size_bytes: SIZE_MAX_BYTES + 1, ..PLAIN };
        let bytes = written(&entry);
        let mut reader = crate::unpack::tar::Reader::new(&bytes[..], 10);
        let read = reader.next_entry().expect("it is a tar").expect("it has an entry");
        assert_eq!((read.uid, read.gid, read.size), (entry.uid, entry.gid, entry.size_bytes));
        assert_eq!(read.mtime, (1 << 34, 0));
    }
}
