//! The confined child: it reads one layer on its standard input and unpacks it into its working directory, which is
//! all that it can see.
//!
//! ```text
//! stdin   one line of JSON, a Request; then the layer's bytes as the registry sends them
//! stdout  one line of JSON, an Outcome
//! ```
//! Unpacked means: whiteouts are character devices 0:0, opaque directories carry `trusted.overlay.opaque=y` (OCI image
//! spec, "Whiteouts", in the words of overlayfs); owners, modes with setuid bits, times, `security.capability` and
//! `user.*` attributes are kept. Device nodes are refused, but left out under `dev/`, which a sandbox brings itself.

mod confine;
mod fault;
mod field;
mod name;
mod stream;
mod sys;
mod tar;
mod tree;

use std::io::{BufRead, Read, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use cakework_wire::host::AgentProblem;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use self::fault::Fault;
use self::tree::Tree;

pub use self::stream::Compression;

/// Longest request, in bytes.
const REQUEST_MAX_BYTES: u64 = 4096;

/// What is to be unpacked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// How it is compressed.
    pub compression: Compression,
    /// SHA-256 of the compressed bytes, in hex.
    pub digest: String,
    /// How many they are.
    pub size_bytes: u64,
    /// SHA-256 of the inflated bytes, in hex.
    pub diff_id: String,
    /// Most inflated bytes, and most bytes of its files together.
    pub inflated_max_bytes: u64,
    /// Most entries.
    pub entries_max: u64,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The layer is what was asked for, and on the disk.
    Done {
        /// Inflated bytes.
        inflated_bytes: u64,
    },
    /// It is not.
    Failed(AgentProblem),
}

/// The role `unpack`. It must be called before the process has started a thread: namespaces, capabilities and system
/// call filters are a thread's own.
pub fn child_main() -> ExitCode {
    let outcome =
        confine::confine().map_err(|error| Fault::Internal(format!("no confinement, {error}"))).and_then(|()| {
            let mut input = std::io::stdin().lock();
            run(&mut input)
        });
    let outcome = match outcome {
        Ok(inflated_bytes) => Outcome::Done { inflated_bytes },
        Err(fault) => {
            if let Fault::Internal(cause) = &fault {
                // To the operator, through the parent's log.
                let _ = writeln!(std::io::stderr(), "{cause}");
            }
            Outcome::Failed(fault.problem())
        }
    };
    let mut line = serde_json::to_vec(&outcome).expect("plain data");
    line.push(b'\n');
    match std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush()) {
        Ok(()) if matches!(outcome, Outcome::Done { .. }) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn run(input: &mut impl BufRead) -> Result<u64, Fault> {
    let mut line = Vec::new();
    input
        .take(REQUEST_MAX_BYTES)
        .read_until(b'\n', &mut line)
        .map_err(|error| Fault::Internal(format!("the request: {error}")))?;
    let request: Request =
        serde_json::from_slice(&line).map_err(|error| Fault::Internal(format!("the request: {error}")))?;
    let root =
        rustix::fs::openat(rustix::fs::CWD, "/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Fault::Internal(format!("the root: {error}")))?;
    confine::limit_files(request.inflated_max_bytes)
        .map_err(|error| Fault::Internal(format!("the size limit: {error}")))?;
    unpack(input, &request, root)
}

/// Unpacks a layer below `root`; answers its inflated bytes.
fn unpack(input: impl Read, request: &Request, root: OwnedFd) -> Result<u64, Fault> {
    let stream = stream::open(input, request.compression, request.size_bytes, request.inflated_max_bytes)?;
    let mut archive = tar::Reader::new(stream, request.entries_max);
    let mut tree = Tree::new(root);
    let mut seen_bytes = 0_u64;
    while let Some(entry) = archive.next_entry()? {
        // A sparse file is larger than its bytes in the stream.
        seen_bytes = seen_bytes.saturating_add(entry.size);
        if seen_bytes > request.inflated_max_bytes {
            return Err(Fault::TooLarge("A layer's files are larger than this host takes.".into()));
        }
        if let Some(file) = tree.place(&entry)? {
            write_content(&mut archive, &file, &entry)?;
            tree.seal(&file, &entry)?;
        }
    }
    let totals = stream::finish(archive.finish()?)?;
    if totals.compressed != (request.size_bytes, request.digest.clone()) {
        return Err(Fault::invalid("A layer's bytes are not those that its manifest names."));
    }
    if totals.inflated.1 != request.diff_id {
        return Err(Fault::invalid("A layer's content is not what the image's configuration names."));
    }
    tree.finish()?;
    Ok(totals.inflated.0)
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
