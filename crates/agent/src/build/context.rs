//! Takes in a build's context: a tar stream that is named by its digest, and comes before the build.
//!
//! Invariant: a file that bears a digest's name holds what the digest says. It is not looked into here.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use cakework_core::id::BuildId;
use cakework_core::limit;
use cakework_wire::build::ContextKept;
use cakework_wire::host::{AgentProblem, ProblemCode};
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::dir::BuildDir;
use super::registry::{Builds, disk_problem};

/// Bytes of a context's tar stream: the files', and for each one its header, a long name's and the padding.
pub const CONTEXT_MAX_BYTES: u64 = limit::BUILD_FILES_MAX_BYTES + limit::BUILD_FILES_MAX as u64 * 4096;

/// The digits of a digest `sha256:<64 hex>`.
pub fn hex_of(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (hex.len() == 64 && hex.bytes().all(is_hex)).then_some(hex)
}

impl Builds {
    /// Keeps a context for a build that is to come. One that is there already stays, and nothing is read.
    ///
    /// # Errors
    /// It is not what its digest says, too large, breaks off, or finds no room.
    pub async fn keep_context<E: std::fmt::Display>(
        &self,
        build: &BuildId,
        digest: &str,
        stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<ContextKept, AgentProblem> {
        let hex = hex_of(digest).ok_or_else(|| refused("the digest is not sha256 and 64 digits"))?;
        let dir = BuildDir::new(&self.parts().dir, build);
        let path = dir.context_tar(hex);
        if let Ok(kept) = tokio::fs::metadata(&path).await {
            return Ok(ContextKept { size_bytes: kept.len() });
        }
        if self.is_live(build) {
            return Err(refused("the build has begun"));
        }
        tokio::fs::create_dir_all(dir.path()).await.map_err(|error| disk_problem(&error))?;
        // Two uploads at once are two files: the last one takes the name, and both are the same.
        let beside = path.with_extension(format!("{:016x}.tmp", rand::random::<u64>()));
        let kept = receive(stream, hex, &beside).await;
        let kept = match kept {
            Ok(size_bytes) => tokio::fs::rename(&beside, &path)
                .await
                .map(|()| ContextKept { size_bytes })
                .map_err(|error| disk_problem(&error)),
            Err(problem) => Err(problem),
        };
        if kept.is_err() {
            // A file that stays goes with the build's directory.
            let _ = tokio::fs::remove_file(&beside).await;
        }
        kept
    }
}

async fn receive<E: std::fmt::Display>(
    mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
    hex: &str,
    to: &Path,
) -> Result<u64, AgentProblem> {
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(to);
    let mut file = tokio::fs::File::from_std(file.map_err(|error| disk_problem(&error))?);
    let (mut hash, mut size_bytes) = (Sha256::new(), 0_u64);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| refused(&format!("the context broke off: {error}")))?;
        size_bytes += chunk.len() as u64;
        if size_bytes > CONTEXT_MAX_BYTES {
            return Err(refused(&format!("the context has more than {CONTEXT_MAX_BYTES} bytes")));
        }
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(|error| disk_problem(&error))?;
    }
    file.flush().await.map_err(|error| disk_problem(&error))?;
    if hex::encode(hash.finalize()) == hex {
        Ok(size_bytes)
    } else {
        Err(refused("the context is not what its digest says"))
    }
}

fn refused(message: &str) -> AgentProblem {
    AgentProblem { code: ProblemCode::Protocol, message: message.into() }
}
