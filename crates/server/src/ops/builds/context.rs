//! The context of a build from files: one tar stream, named by its digest.
//!
//! Contents go to a file without a name as they are read, so that memory holds one of them at a time. The stream is
//! then written in the order of the paths, with nothing of when or where it was made in it: the same files have the
//! same digest, in whichever order they came.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::Path;

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::read::DecoderReader;
use cakework_api::build::{BuildFile, Encoding};
use cakework_api::problem::ErrorCode;
use cakework_core::limit;
use sha2::{Digest as _, Sha256};

use super::paths::{BadPath, Paths, shown};
use crate::error::ApiError;

const MODE_DEFAULT: u32 = 0o644;
const MODE_MAX: i64 = 0o777;
const DIR_MODE: u32 = 0o755;
/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A context that is being read. Blocking.
pub(crate) struct Draft {
    contents: File,
    size_bytes: u64,
    count: usize,
    paths: Paths,
    files: BTreeMap<String, Entry>,
}

struct Entry {
    offset: u64,
    size_bytes: u64,
    mode: u32,
}

/// A context on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// `sha256:<64 hex>` of the stream.
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
}

impl Draft {
    /// An empty context whose contents rest in `dir` meanwhile.
    pub(crate) fn new(dir: &Path) -> std::io::Result<Self> {
        let contents = tempfile::tempfile_in(dir)?;
        Ok(Self { contents, size_bytes: 0, count: 0, paths: Paths::default(), files: BTreeMap::new() })
    }

    /// Adds the next file, if it is one that may be there.
    pub(crate) fn add(&mut self, file: &BuildFile) -> Result<(), ApiError> {
        let at = self.count;
        if at == limit::BUILD_FILES_MAX {
            let detail = format!("A build has at most {} files.", limit::BUILD_FILES_MAX);
            return Err(ApiError::field(ErrorCode::TooManyFiles, "files", detail));
        }
        let mode = match file.mode {
            None => MODE_DEFAULT,
            Some(mode) => u32::try_from(mode).ok().filter(|_| mode <= MODE_MAX).ok_or_else(|| {
                let detail = format!("`mode` is {mode}; it must be from 0 to {MODE_MAX} (0777).");
                ApiError::field(ErrorCode::OutOfRange, format!("files[{at}].mode"), detail)
            })?,
        };
        let path = self
            .paths
            .add(&file.dir, &file.name)
            .map_err(|BadPath { code, field, detail }| ApiError::field(code, format!("files[{at}].{field}"), detail))?;
        let room_bytes = limit::BUILD_FILES_MAX_BYTES - self.size_bytes;
        let size_bytes = match file.encoding {
            Encoding::Utf8 => self.append(file.content.as_bytes(), room_bytes),
            Encoding::Base64 => self.append(DecoderReader::new(file.content.as_bytes(), &BASE64), room_bytes),
        };
        let size_bytes = size_bytes.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => {
                let detail = format!("The content of `{}` is not base64.", shown(&path));
                ApiError::field(ErrorCode::InvalidFile, format!("files[{at}].content"), detail)
            }
            _ => disk(error),
        })?;
        if size_bytes > room_bytes {
            let most = limit::BUILD_FILES_MAX_BYTES;
            let detail = format!("With `{}` the files have more than {most} bytes together.", shown(&path));
            return Err(ApiError::field(ErrorCode::FilesTooLarge, format!("files[{at}].content"), detail));
        }
        self.files.insert(path, Entry { offset: self.size_bytes, size_bytes, mode });
        self.size_bytes += size_bytes;
        self.count += 1;
        Ok(())
    }

    fn append(&mut self, content: impl Read, room_bytes: u64) -> std::io::Result<u64> {
        std::io::copy(&mut content.take(room_bytes + 1), &mut self.contents)
    }

    /// Writes the stream to `path`, which is whole or not there.
    pub(crate) fn write(mut self, path: &Path) -> std::io::Result<Written> {
        let new = path.with_extension("new");
        let mut hashed = Hashed { file: BufWriter::new(File::create(&new)?), hash: Sha256::new(), size_bytes: 0 };
        self.stream(&mut hashed)?;
        let file = hashed.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        Ok(Written { digest: format!("sha256:{}", hex::encode(hashed.hash.finalize())), size_bytes: hashed.size_bytes })
    }

    fn stream(&mut self, to: impl Write) -> std::io::Result<()> {
        let mut tar = tar::Builder::new(to);
        for dir in self.paths.directories() {
            let mut header = header(tar::EntryType::Directory, DIR_MODE, 0);
            tar.append_data(&mut header, dir, std::io::empty())?;
        }
        for (path, entry) in &self.files {
            self.contents.seek(SeekFrom::Start(entry.offset))?;
            let mut header = header(tar::EntryType::Regular, entry.mode, entry.size_bytes);
            tar.append_data(&mut header, path, (&self.contents).take(entry.size_bytes))?;
        }
        tar.into_inner()?.flush()
    }
}

fn header(kind: tar::EntryType, mode: u32, size_bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size_bytes);
    header
}

/// That the api's own disk failed.
pub(crate) fn disk(error: std::io::Error) -> ApiError {
    if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
        let problem = ApiError::new(ErrorCode::DiskFull, "The server has no room for the files.");
        return ApiError { cause: Some(error.into()), ..problem.retry_after(30) };
    }
    ApiError::internal(error)
}

/// Writes through, and knows what was written.
struct Hashed {
    file: BufWriter<File>,
    hash: Sha256,
    size_bytes: u64,
}

impl Write for &mut Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &str, name: &str, content: &str, encoding: Encoding, mode: Option<i64>) -> BuildFile {
        BuildFile { dir: dir.into(), name: name.into(), content: content.into(), encoding, mode }
    }

    fn plain(dir: &str, name: &str, content: &str) -> BuildFile {
        file(dir, name, content, Encoding::Utf8, None)
    }

    fn written(files: &[BuildFile]) -> (Written, Vec<(String, u32, String)>) {
        let ground = tempfile::tempdir().unwrap();
        let mut draft = Draft::new(ground.path()).unwrap();
        files.iter().for_each(|file| draft.add(file).unwrap());
        let path = ground.path().join("x.tar");
        let written = draft.write(&path).unwrap();
        let mut archive = tar::Archive::new(File::open(&path).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
            let (name, mode) = (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap());
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            (name, mode, content)
        });
        let entries = entries.collect();
        assert_eq!(written.size_bytes, std::fs::metadata(&path).unwrap().len());
        assert_eq!(std::fs::read_dir(ground.path()).unwrap().count(), 1, "nothing else is left");
        (written, entries)
    }

    #[test]
    fn the_stream_holds_the_files_and_depends_on_nothing_else() {
        let long = "d".repeat(120);
        let files = [
            plain("b/c", "two", "2"),
            plain(".", "one", "1"),
            file("b", "tool", "IyEK", Encoding::Base64, Some(0o755)),
            plain(&long, "deep", "x"),
        ];
        let (first, entries) = written(&files);
        let expected = [
            ("b", 0o755, ""),
            ("b/c", 0o755, ""),
            (long.as_str(), 0o755, ""),
            ("b/c/two", 0o644, "2"),
            ("b/tool", 0o755, "#!\n"),
            (&format!("{long}/deep"), 0o644, "x"),
            ("one", 0o644, "1"),
        ];
        let entries: Vec<_> = entries.iter().map(|(a, b, c)| (a.trim_end_matches('/'), *b, c.as_str())).collect();
        assert_eq!(entries, expected);
        let mut turned = files.clone();
        turned.reverse();
        assert_eq!(written(&turned).0, first);
        turned[1].mode = Some(0o700);
        assert_ne!(written(&turned).0.digest, first.digest);
    }

    #[test]
    fn every_bad_file_is_named() {
        let ground = tempfile::tempdir().unwrap();
        let encoded = |content: &str| file(".", "x", content, Encoding::Base64, None);
        for (bad, code, field) in [
            (plain("..", "x", ""), ErrorCode::InvalidFile, "files[1].dir"),
            (plain(".", "a", ""), ErrorCode::FileConflict, "files[1].name"),
            (plain(".", "A", ""), ErrorCode::FileCase, "files[1].name"),
            (encoded("####"), ErrorCode::InvalidFile, "files[1].content"),
            (encoded("YQ=="), ErrorCode::Internal, ""),
            (encoded("YQ"), ErrorCode::Internal, ""),
            (encoded("YQ=a"), ErrorCode::InvalidFile, "files[1].content"),
            (encoded("Y"), ErrorCode::InvalidFile, "files[1].content"),
            (encoded("YW Jj"), ErrorCode::InvalidFile, "files[1].content"),
            (file(".", "x", "", Encoding::Utf8, Some(-1)), ErrorCode::OutOfRange, "files[1].mode"),
            (file(".", "x", "", Encoding::Utf8, Some(0o1000)), ErrorCode::OutOfRange, "files[1].mode"),
            (file(".", "x", "", Encoding::Utf8, Some(0o4755)), ErrorCode::OutOfRange, "files[1].mode"),
        ] {
            let mut draft = Draft::new(ground.path()).unwrap();
            draft.add(&plain(".", "a", "1")).unwrap();
            match draft.add(&bad) {
                Ok(()) => assert_eq!(field, "", "{bad:?}"),
                Err(error) => assert_eq!((error.code, error.field.as_deref()), (code, Some(field)), "{bad:?}"),
            }
        }
    }

    #[test]
    fn there_is_an_end_to_number_and_size() {
        let ground = tempfile::tempdir().unwrap();
        let mut draft = Draft::new(ground.path()).unwrap();
        (0..limit::BUILD_FILES_MAX).for_each(|n| draft.add(&plain("a", &n.to_string(), "")).unwrap());
        assert_eq!(draft.add(&plain(".", "x", "")).unwrap_err().code, ErrorCode::TooManyFiles);
        let mut draft = Draft::new(ground.path()).unwrap();
        let half = "x".repeat(limit::BUILD_FILES_MAX_BYTES as usize / 2);
        draft.add(&plain(".", "a", &half)).unwrap();
        draft.add(&plain(".", "b", &half)).unwrap();
        let refused = draft.add(&plain(".", "c", "x")).unwrap_err();
        assert_eq!((refused.code, refused.field.as_deref()), (ErrorCode::FilesTooLarge, Some("files[2].content")));
    }
}
