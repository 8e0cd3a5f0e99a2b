//! A client of a sandbox's control socket: gVisor's urpc (`pkg/urpc`, `runsc/boot/controller.go`).
//!
//! ```text
//! → {"method": "containerManager.Pause", "arg": …}  with file descriptors as SCM_RIGHTS
//! ← {"success": true, "err": "", "result": …}
//! ```
//! One connection carries one call. The protocol belongs to one build of gVisor: what it answers is read with a limit,
//! and whoever calls has another way, or an end, for what fails. Invariant: no call is longer than its limit, and none
//! holds its connection after it, since a sandbox that ends waits many seconds for whoever is still connected.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::monitor::plan::Control;

/// Bytes of an answer: the longest we ask for is a list of processes.
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// Descriptors of one call.
const FILES_MAX: usize = 8;
const CHUNK_BYTES: usize = 4096;
/// What of a refusal is kept for the operator's log.
const REFUSAL_MAX_CHARS: usize = 1000;

/// A call on a control socket failed.
#[derive(Debug, thiserror::Error)]
pub enum UrpcError {
    /// Nobody listens: the sandbox is gone, or not there yet.
    #[error("the sandbox's control socket can't be reached")]
    Connect(#[source] io::Error),
    /// The connection broke, or was closed before the answer: the sandbox may have ended.
    #[error("the sandbox's control socket broke off in {method}")]
    Broken {
        /// The method.
        method: &'static str,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// There was no answer in time. Whether the call is still carried out is not known.
    #[error("the sandbox did not answer {method} within {} ms", limit.as_millis())]
    Timeout {
        /// The method.
        method: &'static str,
        /// Its time.
        limit: Duration,
    },
    /// The sandbox answered that it failed.
    #[error("{method} failed: {said}")]
    Refused {
        /// The method.
        method: &'static str,
        /// The sandbox's words, for the operator.
        said: String,
    },
    /// The answer is none that this build of the protocol has.
    #[error("the sandbox's answer to {method} is not one of its protocol")]
    Odd {
        /// The method.
        method: &'static str,
    },
}

/// A sandbox's control socket.
#[derive(Debug, Clone)]
pub struct ControlSocket {
    control: Control,
}

#[derive(Serialize)]
struct Call<'a, A> {
    method: &'static str,
    arg: &'a A,
}

#[derive(Deserialize)]
struct Reply {
    success: bool,
    #[serde(default)]
    err: String,
    #[serde(default)]
    result: Value,
}

impl ControlSocket {
    /// The socket of a sandbox; nothing is opened yet.
    pub const fn new(control: Control) -> Self {
        Self { control }
    }

    /// Calls `method`, such as `containerManager.WaitPID`, with an argument and descriptors; gives its result.
    ///
    /// # Errors
    /// [`UrpcError`]. A call that is dropped or out of time may still be carried out.
    pub async fn call<A: Serialize + Sync, T: DeserializeOwned>(
        &self,
        method: &'static str,
        arg: &A,
        files: &[BorrowedFd<'_>],
        limit: Duration,
    ) -> Result<T, UrpcError> {
        let request = serde_json::to_vec(&Call { method, arg }).map_err(|_| UrpcError::Odd { method })?;
        let broken = |source| UrpcError::Broken { method, source };
        let exchange = async {
            let stream = connect(&self.control.socket).map_err(UrpcError::Connect)?;
            send(&stream, &request, files).await.map_err(broken)?;
            read(&stream, method).await
        };
        let reply = tokio::time::timeout(limit, exchange).await.map_err(|_| UrpcError::Timeout { method, limit })??;
        if !reply.success {
            return Err(UrpcError::Refused { method, said: reply.err.chars().take(REFUSAL_MAX_CHARS).collect() });
        }
        serde_json::from_value(reply.result).map_err(|_| UrpcError::Odd { method })
    }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    // A socket's address is short; its directory's descriptor makes any path so.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path.parent().ok_or_else(invalid)?, flags, Mode::empty())?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(invalid)?;
    // A listener with a full queue would block here; the sandbox's takes many and answers each by a thread of its own.
    let stream = StdUnixStream::connect(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Sends the request; the descriptors go with its first byte, where the other side looks for them.
async fn send(stream: &UnixStream, request: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    if files.len() > FILES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut sent = 0;
    while sent < request.len() {
        stream.writable().await?;
        let files = if sent == 0 { files } else { &[] };
        match stream.try_io(Interest::WRITABLE, || send_some(stream, &request[sent..], files)) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn send_some(stream: &UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(rustix::net::sendmsg(stream, &[io::IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Reads one JSON value, which is the whole answer.
async fn read(stream: &UnixStream, method: &'static str) -> Result<Reply, UrpcError> {
    let mut answer = Vec::new();
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let count = match read_some(stream, &mut chunk).await {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        let count = count.map_err(|source| UrpcError::Broken { method, source })?;
        answer.extend_from_slice(&chunk[..count]);
        match serde_json::from_slice(&answer) {
            Ok(reply) => return Ok(reply),
            Err(error) if error.is_eof() && answer.len() <= ANSWER_MAX_BYTES => {}
            Err(_) => return Err(UrpcError::Odd { method }),
        }
    }
}

async fn read_some(stream: &UnixStream, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixListener;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A sandbox that answers one call with `answer` and keeps the connection open until `done` is dropped.
    fn sandbox(answer: Vec<u8>, done: std::sync::mpsc::Receiver<()>) -> (ControlSocket, tempfile::TempDir) {
        // Longer than a socket's address may be.
        let dir = tempfile::Builder::new().prefix(&"x".repeat(120)).tempdir().expect("a directory");
        let short = format!("/proc/self/fd/{}", std::fs::File::open(dir.path()).map(keep).expect("a directory"));
        let listener = UnixListener::bind(format!("{short}/s")).expect("a socket");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut buffer = [0; 1 << 12];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let slices = &mut [io::IoSliceMut::new(&mut buffer)];
            rustix::net::recvmsg(&stream, slices, &mut ancillary, RecvFlags::empty()).expect("a request");
            for message in ancillary.drain() {
                let RecvAncillaryMessage::ScmRights(files) = message else { continue };
                for file in files {
                    std::fs::File::from(file).write_all(b"got it").expect("writable");
                }
            }
            // The client may have had enough.
            let _ = stream.write_all(&answer);
            let _ = done.recv();
        });
        let control = Control { socket: dir.path().join("s"), container: "vm".into() };
        (ControlSocket::new(control), dir)
    }

    /// Left open for the test's life.
    fn keep(file: std::fs::File) -> i32 {
        std::os::fd::IntoRawFd::into_raw_fd(file)
    }

    async fn ask(answer: &[u8]) -> Result<u32, UrpcError> {
        let (_open, done) = std::sync::mpsc::channel();
        let (socket, _dir) = sandbox(answer.to_vec(), done);
        socket.call("containerManager.Wait", &"vm", &[], LIMIT).await
    }

    #[tokio::test]
    async fn an_answer_is_read_while_the_connection_stays_open() {
        assert_eq!(ask(br#"{"success":true,"err":"","result":256}"#).await.expect("an answer"), 256);
        assert!(
            matches!(ask(br#"{"success":false,"err":"no","result":null}"#).await, Err(UrpcError::Refused { said, .. }) if said == "no")
        );
    }

    #[tokio::test]
    async fn what_is_no_answer_is_refused_and_bounded() {
        assert!(matches!(ask(b"HTTP/1.1 200 OK").await, Err(UrpcError::Odd { .. })));
        assert!(matches!(ask(br#"{"success":true,"result":"text"}"#).await, Err(UrpcError::Odd { .. })));
        let mut endless = br#"{"success":true,"result":""#.to_vec();
        endless.resize(ANSWER_MAX_BYTES * 2, b' ');
        assert!(matches!(ask(&endless).await, Err(UrpcError::Odd { .. })));
    }

    #[tokio::test]
    async fn a_sandbox_that_says_nothing_or_ends_is_told_apart() {
        let (open, done) = std::sync::mpsc::channel();
        let (socket, dir) = sandbox(Vec::new(), done);
        let pause = async |socket: &ControlSocket, limit| {
            socket.call::<_, Value>("containerManager.Pause", &(), &[], limit).await
        };
        let silent = pause(&socket, Duration::from_millis(50)).await;
        assert!(matches!(silent, Err(UrpcError::Timeout { .. })), "{silent:?}");
        drop(open);
        let (open, done) = std::sync::mpsc::channel();
        drop(open);
        let (socket, _dir) = sandbox(Vec::new(), done);
        assert!(matches!(pause(&socket, LIMIT).await, Err(UrpcError::Broken { .. })));
        let gone = ControlSocket::new(Control { socket: dir.path().join("none"), container: "vm".into() });
        assert!(matches!(pause(&gone, LIMIT).await, Err(UrpcError::Connect(_))));
    }

    #[tokio::test]
    async fn descriptors_arrive() {
        let (_open, done) = std::sync::mpsc::channel();
        let (socket, _dir) = sandbox(br#"{"success":true,"result":{}}"#.to_vec(), done);
        let mut file = tempfile::tempfile().expect("a file");
        let sent: Value = socket.call("containerManager.Restore", &(), &[file.as_fd()], LIMIT).await.expect("taken");
        assert_eq!(sent, serde_json::json!({}));
        let mut content = String::new();
        std::io::Seek::rewind(&mut file).and_then(|()| file.read_to_string(&mut content)).expect("readable");
        assert_eq!(content, "got it");
    }
}
