//! The way of a layer's bytes: counted and hashed as they come in, inflated, counted and hashed again.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fault::Fault;
use crate::archive::ArchiveKind;

/// Bytes that are read, inflated and written at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Largest window of a zstd stream, as a power of two: what its own tool takes without being told.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Room for the largest dictionary that the tool `xz` makes by itself (`-9`: 64 MiB), four times.
const XZ_MEMORY_MAX_KIB: u32 = 256 << 10;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
}

impl From<Compression> for ArchiveKind {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::Tar,
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// What is known of a stream beforehand.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Compressed bytes, where they are declared.
    pub compressed_bytes: Option<u64>,
    /// Most inflated bytes; also most compressed ones where none are declared.
    pub inflated_max_bytes: u64,
    /// Whether anyone wants to know the digest of the compressed bytes.
    pub is_compressed_hashed: bool,
    /// The same of the inflated ones.
    pub is_inflated_hashed: bool,
}

/// Counts what is read through it, hashes it where wanted, and refuses to read more than a limit.
pub struct Metered<R> {
    source: R,
    hash: Option<Sha256>,
    bytes: u64,
    max_bytes: u64,
    over: fn() -> Fault,
}

impl<R: Read> Metered<R> {
    fn new(source: R, is_hashed: bool, max_bytes: u64, over: fn() -> Fault) -> Self {
        Self { source, hash: is_hashed.then(Sha256::new), bytes: 0, max_bytes, over }
    }

    /// Bytes read, and their SHA-256 in hex where it is wanted.
    pub fn total(self) -> (u64, Option<String>, R) {
        (self.bytes, self.hash.map(|hash| hex::encode(hash.finalize())), self.source)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.bytes += count as u64;
        if self.bytes > self.max_bytes {
            return Err((self.over)().into());
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        Ok(count)
    }
}

type Compressed<R> = BufReader<Metered<R>>;

/// A layer's tar stream.
pub type Inflated<R> = BufReader<Metered<Decoder<R>>>;

/// Inflates a compressed stream.
pub enum Decoder<R: Read> {
    /// Nothing to inflate.
    None(Compressed<R>),
    /// Gzip.
    Gzip(Box<MultiGzDecoder<Compressed<R>>>),
    /// Zstandard.
    Zstd(Box<zstd::stream::read::Decoder<'static, Compressed<R>>>),
    /// bzip2.
    Bzip2(Box<MultiBzDecoder<Compressed<R>>>),
    /// xz.
    Xz(Box<XzReader<Compressed<R>>>),
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(source) => source.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Bzip2(decoder) => decoder.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
        }
    }
}

impl<R: Read> Decoder<R> {
    fn into_source(self) -> Compressed<R> {
        match self {
            Self::None(source) => source,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
            Self::Bzip2(decoder) => decoder.into_inner(),
            Self::Xz(decoder) => decoder.into_inner(),
        }
    }
}

/// What a layer turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub struct Totals {
    /// Compressed bytes and their SHA-256 in hex.
    pub compressed: (u64, Option<String>),
    /// Inflated bytes and their SHA-256 in hex, the diff-id.
    pub inflated: (u64, Option<String>),
}

/// Opens a layer or archive.
///
/// # Errors
/// [`Fault::Internal`] where the decoder can't be made.
pub fn open<R: Read>(source: R, kind: ArchiveKind, bounds: Bounds) -> Result<Inflated<R>, Fault> {
    let (most, over): (u64, fn() -> Fault) = match bounds.compressed_bytes {
        Some(declared) => (declared, || Fault::invalid("A layer is larger than its manifest says.")),
        None => (bounds.inflated_max_bytes, || Fault::TooLarge("A layer is larger than this host takes.".into())),
    };
    let metered = Metered::new(source, bounds.is_compressed_hashed, most, over);
    let compressed = BufReader::with_capacity(CHUNK_BYTES, metered);
    let decoder = match kind {
        ArchiveKind::Tar => Decoder::None(compressed),
        ArchiveKind::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(compressed))),
        ArchiveKind::Bzip2 => Decoder::Bzip2(Box::new(MultiBzDecoder::new(compressed))),
        ArchiveKind::Xz => Decoder::Xz(Box::new(XzReader::new_mem_limit(compressed, true, XZ_MEMORY_MAX_KIB))),
        ArchiveKind::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(compressed)
                .and_then(|mut decoder| decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map(|()| decoder))
                .map_err(|error| Fault::Internal(format!("the zstd decoder: {error}")))?;
            Decoder::Zstd(Box::new(decoder))
        }
    };
    let over = || Fault::TooLarge("A layer inflates to more than this host takes.".into());
    let inflated = Metered::new(decoder, bounds.is_inflated_hashed, bounds.inflated_max_bytes, over);
    Ok(BufReader::with_capacity(CHUNK_BYTES, inflated))
}

/// Checks that the compressed stream ended with the inflated one, and adds up.
///
/// # Errors
/// [`Fault::Invalid`] where bytes follow.
pub fn finish<R: Read>(stream: Inflated<R>) -> Result<Totals, Fault> {
    let (inflated_bytes, diff_id, decoder) = stream.into_inner().total();
    let mut source = decoder.into_source();
    if !source.fill_buf().map_err(Fault::reading)?.is_empty() {
        return Err(Fault::invalid("A layer has bytes behind its end."));
    }
    let (compressed_bytes, digest, _) = source.into_inner().total();
    Ok(Totals { compressed: (compressed_bytes, digest), inflated: (inflated_bytes, diff_id) })
}
