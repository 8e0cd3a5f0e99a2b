//! The parent's side of the confined child: it is started, given bytes, and asked what came of them. The parent moves
//! bytes; everything that depends on what they say happens in the child.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use cakework_wire::host::AgentProblem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::config::Unpacker;
use crate::problem::internal;
use crate::unpack::{Outcome, Request};

/// Longest time that the child takes no bytes: a disk that is busy with everything else.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);
/// From the last byte until everything is on the disk.
const FINISH_TIMEOUT: Duration = Duration::from_secs(600);
const OUTCOME_MAX_BYTES: u64 = 64 << 10;
/// Fewer turns between the two processes than with the usual 64 KiB.
const PIPE_BYTES: usize = 1 << 20;

/// A child that unpacks. It is killed when this is dropped; who removes its directory waits for [`Self::end`] before.
#[derive(Debug)]
pub struct Unpacking {
    child: Child,
    input: Option<ChildStdin>,
}

impl Unpacking {
    /// Starts a child in `directory` with its request.
    ///
    /// # Errors
    /// The host's own fault.
    pub async fn start(unpacker: &Unpacker, directory: &Path, request: &Request) -> Result<Self, AgentProblem> {
        let mut child = Command::new(&unpacker.program)
            .args(&unpacker.args)
            .current_dir(directory)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| internal("starting the unpacker", error))?;
        let input = child.stdin.take().expect("it is piped");
        // Without room for it the usual size serves.
        let _ = rustix::pipe::fcntl_setpipe_size(&input, PIPE_BYTES);
        let mut unpacking = Self { child, input: Some(input) };
        let mut line = serde_json::to_vec(request).expect("plain data");
        line.push(b'\n');
        unpacking.give(&line).await?;
        Ok(unpacking)
    }

    /// Gives it bytes. `false` says that it has heard enough: [`Self::conclude`] knows why.
    ///
    /// # Errors
    /// The host's own fault.
    pub async fn give(&mut self, bytes: &[u8]) -> Result<bool, AgentProblem> {
        let Some(input) = &mut self.input else {
            return Ok(false);
        };
        match timeout(STALL_TIMEOUT, input.write_all(bytes)).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.input = None;
                Ok(false)
            }
            Ok(Err(error)) => Err(internal("feeding the unpacker", error)),
            Err(_) => Err(internal("feeding the unpacker", "it takes no bytes")),
        }
    }

    /// Says that no more bytes follow and hears what came of them: the diff-id of a layer.
    ///
    /// # Errors
    /// What is wrong with the bytes, or the host's own fault.
    pub async fn conclude(&mut self) -> Result<Option<String>, AgentProblem> {
        self.input = None;
        let mut output = self.child.stdout.take().expect("it is piped, and asked once").take(OUTCOME_MAX_BYTES);
        let mut errors = self.child.stderr.take().expect("it is piped, and asked once").take(OUTCOME_MAX_BYTES);
        let (mut line, mut complaint) = (Vec::new(), Vec::new());
        let read = async { tokio::try_join!(output.read_to_end(&mut line), errors.read_to_end(&mut complaint)) };
        match timeout(FINISH_TIMEOUT, read).await {
            Ok(read) => read.map_err(|error| internal("hearing the unpacker", error))?,
            Err(_) => return Err(internal("hearing the unpacker", "it does not end")),
        };
        if !complaint.is_empty() {
            tracing::warn!(complaint = %String::from_utf8_lossy(&complaint), "the unpacker complains");
        }
        match serde_json::from_slice(&line) {
            Ok(Outcome::Done { diff_id, .. }) => Ok(diff_id),
            Ok(Outcome::Failed(problem)) => Err(problem),
            Err(_) => Err(internal("unpacking a layer", "the unpacker ended without a word")),
        }
    }

    /// Ends it, whatever it does, and waits until it is gone.
    ///
    /// # Errors
    /// The host's own fault.
    pub async fn end(mut self) -> Result<(), AgentProblem> {
        self.child.kill().await.map_err(|error| internal("ending the unpacker", error))
    }
}
