//! The confined child: it reads one layer or archive on its standard input and unpacks it into its working directory,
//! which is all that it can see.
//!
//! ```text
//! stdin   one line of JSON, a Request; then the layer's bytes as the registry sends them
//! stdout  one line of JSON, an Outcome
//! ```
//! A layer unpacked means: whiteouts are character devices 0:0, opaque directories carry `trusted.overlay.opaque=y` (OCI image
//! spec, "Whiteouts", in the words of overlayfs); owners, modes with setuid bits, times, `security.capability` and
//! `user.*` attributes are kept. Device nodes are refused, but left out under `dev/`, which a sandbox brings itself. In
//! an archive nothing is a whiteout, and every device is refused.

mod confine;
pub(crate) mod fault;
mod field;
pub(crate) mod name;
pub(crate) mod stream;
mod sys;
pub(crate) mod tar;
pub(crate) mod tree;

use std::io::{BufRead, Read, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use cakework_wire::host::AgentProblem;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use self::fault::Fault;
use self::stream::Bounds;
use self::tree::Tree;
use crate::archive::ArchiveKind;

pub use self::stream::Compression;

/// Longest request, in bytes.
const REQUEST_MAX_BYTES: u64 = 4096;

/// What is to be unpacked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// What it is for.
    pub purpose: Purpose,
    /// How it is compressed.
    pub kind: ArchiveKind,
    /// SHA-256 of the compressed bytes, in hex, where one is promised: then it is that or refused.
    pub digest: Option<String>,
    /// How many they are, in the same way.
    pub size_bytes: Option<u64>,
    /// SHA-256 of the inflated bytes, in hex, in the same way.
    pub diff_id: Option<String>,
    /// Most inflated bytes, and most bytes of its files together; most compressed bytes where none are promised.
    pub inflated_max_bytes: u64,
    /// Most entries.
    pub entries_max: u64,
}

/// What is unpacked for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A layer of an image: whiteouts hide what lies below.
    Layer,
    /// Files for a directory; whatever follows the archive's end is not read.
    Archive,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The layer is what was asked for, and on the disk.
    Done {
        /// Inflated bytes.
        inflated_bytes: u64,
        /// SHA-256 of the inflated bytes, in hex; an archive has none.
        diff_id: Option<String>,
    },
    /// It is not.
    Failed(AgentProblem),
}

/// A block is the header of a tar entry: its checksum is right, and it is no end mark.
pub fn is_header(block: &[u8; 512]) -> bool {
    block.iter().any(|byte| *byte != 0) && field::check_sum(block).is_ok()
}

/// The role `unpack`. It must be called before the process has started a thread: namespaces, capabilities and system
/// call filters are a thread's own.
pub fn child_main() -> ExitCode {
    let mut purpose = Purpose::Layer;
    let outcome =
        confine::confine().map_err(|error| Fault::Internal(format!("no confinement, {error}"))).and_then(|()| {
            let mut input = std::io::stdin().lock();
            let request = read_request(&mut input)?;
            purpose = request.purpose;
            run(&mut input, &request)
        });
    let outcome = match outcome {
        Ok((inflated_bytes, diff_id)) => Outcome::Done { inflated_bytes, diff_id },
        Err(fault) => {
            if let Fault::Internal(cause) = &fault {
                // To the operator, through the parent's log.
                let _ = writeln!(std::io::stderr(), "{cause}");
            }
            Outcome::Failed(fault.problem(purpose))
        }
    };
    let mut line = serde_json::to_vec(&outcome).expect("plain data");
    line.push(b'\n');
    match std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush()) {
        Ok(()) if matches!(outcome, Outcome::Done { .. }) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn read_request(input: &mut impl BufRead) -> Result<Request, Fault> {
    let mut line = Vec::new();
    input
        .take(REQUEST_MAX_BYTES)
        .read_until(b'\n', &mut line)
        .map_err(|error| Fault::Internal(format!("the request: {error}")))?;
    serde_json::from_slice(&line).map_err(|error| Fault::Internal(format!("the request: {error}")))
}

fn run(input: &mut impl BufRead, request: &Request) -> Result<(u64, Option<String>), Fault> {
    let root =
        rustix::fs::openat(rustix::fs::CWD, "/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Fault::Internal(format!("the root: {error}")))?;
    confine::limit_files(request.inflated_max_bytes)
        .map_err(|error| Fault::Internal(format!("the size limit: {error}")))?;
    unpack(input, request, root)
}

/// Unpacks a layer or archive below `root`; answers its inflated bytes and diff-id.
fn unpack(input: impl Read, request: &Request, root: OwnedFd) -> Result<(u64, Option<String>), Fault> {
    let is_layer = request.purpose == Purpose::Layer;
    let bounds = Bounds {
        compressed_bytes: request.size_bytes,
        inflated_max_bytes: request.inflated_max_bytes,
        is_compressed_hashed: request.digest.is_some(),
        is_inflated_hashed: is_layer,
    };
    let mut archive = tar::Reader::new(stream::open(input, request.kind, bounds)?, request.entries_max);
    let mut tree = Tree::new(root, request.purpose);
    let mut seen_bytes = 0_u64;
    let mut next = archive.next_entry();
    if !is_layer && matches!(next, Ok(None) | Err(Fault::Invalid(_))) {
        return Err(Fault::NoArchive);
    }
    while let Some(entry) = next? {
        // A sparse file is larger than its bytes in the stream.
        seen_bytes = seen_bytes.saturating_add(entry.size);
        if seen_bytes > request.inflated_max_bytes {
            return Err(Fault::TooLarge("A layer's files are larger than this host takes.".into()));
        }
        if let Some(file) = tree.place(&entry)? {
            write_content(&mut archive, &file, &entry)?;
            tree.seal(&file, &entry)?;
        }
        next = archive.next_entry();
    }
    if !is_layer {
        tree.finish()?;
        return Ok((seen_bytes, None));
    }
    let totals = stream::finish(archive.finish()?)?;
    let (size_bytes, digest) = totals.compressed;
    let is_size_right = request.size_bytes.is_none_or(|promised| promised == size_bytes);
    if !is_size_right || digest != request.digest {
        return Err(Fault::invalid("A layer's bytes are not those that its manifest names."));
    }
    let (inflated_bytes, diff_id) = totals.inflated;
    if request.diff_id.is_some() && request.diff_id != diff_id {
        return Err(Fault::invalid("A layer's content is not what the image's configuration names."));
    }
    tree.finish()?;
    Ok((inflated_bytes, diff_id))
}

fn write_content(archive: &mut tar::Reader<impl BufRead>, file: &OwnedFd, entry: &tar::Entry) -> Result<(), Fault> {
    let failed = |error| Fault::writing(&entry.name, error);
    let whole = [(0, entry.size)];
    for (offset, length) in entry.pieces.as_deref().unwrap_or(&whole) {
        if entry.pieces.is_some() {
            rustix::fs::seek(file, rustix::fs::SeekFrom::Start(*offset)).map_err(failed)?;
        }
        let mut left = *length;
        while left > 0 {
            let content = archive.content()?;
            let most = content.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = rustix::io::write(file, &content[..most]).map_err(failed)?;
            archive.consume(count);
            left -= count as u64;
        }
    }
    if entry.pieces.is_some() {
        rustix::fs::ftruncate(file, entry.size).map_err(failed)?;
    }
    Ok(())
}
