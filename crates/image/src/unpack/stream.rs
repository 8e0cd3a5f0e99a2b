//! The way of a layer's bytes: counted and hashed as they come in, inflated, counted and hashed again.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fault::Fault;

/// Bytes that are read, inflated and written at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Largest window of a zstd stream, as a power of two: what its own tool takes without being told.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

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

/// Counts and hashes what is read through it, and refuses to read more than a limit.
pub struct Metered<R> {
    source: R,
    hash: Sha256,
    bytes: u64,
    max_bytes: u64,
    over: fn() -> Fault,
}

impl<R: Read> Metered<R> {
    fn new(source: R, max_bytes: u64, over: fn() -> Fault) -> Self {
        Self { source, hash: Sha256::new(), bytes: 0, max_bytes, over }
    }

    /// Bytes read, and their SHA-256 in hex.
    pub fn total(self) -> (u64, String, R) {
        (self.bytes, hex::encode(self.hash.finalize()), self.source)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.bytes += count as u64;
        if self.bytes > self.max_bytes {
            return Err((self.over)().into());
        }
        self.hash.update(&buffer[..count]);
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
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(source) => source.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl<R: Read> Decoder<R> {
    fn into_source(self) -> Compressed<R> {
        match self {
            Self::None(source) => source,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

/// What a layer turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub struct Totals {
    /// Compressed bytes and their SHA-256 in hex.
    pub compressed: (u64, String),
    /// Inflated bytes and their SHA-256 in hex, the diff-id.
    pub inflated: (u64, String),
}

/// Opens a layer of `compressed_bytes` that may inflate to `inflated_max_bytes`.
///
/// # Errors
/// [`Fault::Internal`] where the decoder can't be made.
pub fn open<R: Read>(
    source: R,
    compression: Compression,
    compressed_bytes: u64,
    inflated_max_bytes: u64,
) -> Result<Inflated<R>, Fault> {
    let compressed = BufReader::with_capacity(
        CHUNK_BYTES,
        Metered::new(source, compressed_bytes, || Fault::invalid("A layer is larger than its manifest says.")),
    );
    let decoder = match compression {
        Compression::None => Decoder::None(compressed),
        Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(compressed))),
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(compressed)
                .and_then(|mut decoder| decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map(|()| decoder))
                .map_err(|error| Fault::Internal(format!("the zstd decoder: {error}")))?;
            Decoder::Zstd(Box::new(decoder))
        }
    };
    let over = || Fault::TooLarge("A layer inflates to more than this host takes.".into());
    Ok(BufReader::with_capacity(CHUNK_BYTES, Metered::new(decoder, inflated_max_bytes, over)))
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
