//! Asks a sandbox over its control socket how its root container ended: for a monitor that is not the sandbox's parent.
//!
//! gVisor's urpc (`pkg/urpc`, `pkg/sentry/control` and `runsc/boot/controller.go`): JSON both ways on a stream socket,
//! `{"method", "arg"}` and `{"success", "err", "result"}`. `containerManager.Wait` answers a wait status (wait(2)) when
//! the container has ended. The protocol belongs to one build of gVisor: whatever else comes is no answer, and the end is
//! then unknown. Nothing here blocks.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::plan::Control;

/// Bytes of a sandbox's answer.
const ANSWER_MAX_BYTES: usize = 4096;

/// A question that waits for its answer.
#[derive(Debug)]
pub struct Question {
    /// `None` once all was said. A sandbox that ends waits many seconds for whoever is still connected.
    socket: Option<OwnedFd>,
    answer: Vec<u8>,
}

#[derive(Deserialize)]
struct Reply {
    success: bool,
    result: Option<u32>,
}

impl Question {
    /// Asks; `None` where nobody listens.
    pub fn ask(control: &Control) -> Option<Self> {
        let socket = connect(&control.socket)?;
        let request = serde_json::json!({"method": "containerManager.Wait", "arg": control.container}).to_string();
        let sent = rustix::net::send(&socket, request.as_bytes(), SendFlags::NOSIGNAL).ok()?;
        (sent == request.len()).then_some(Self { socket: Some(socket), answer: Vec::new() })
    }

    /// What to poll for input; `None` once all was said.
    pub fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Reads what has come.
    pub fn read(&mut self) {
        let mut buffer = [0; 512];
        while let Some(socket) = &self.socket {
            match rustix::io::read(socket, &mut buffer) {
                Ok(count @ 1..) if self.answer.len() + count <= ANSWER_MAX_BYTES => {
                    self.answer.extend_from_slice(&buffer[..count]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Ok(_) | Err(_) => self.socket = None,
            }
        }
        // One value is the whole answer, whatever it says.
        if serde_json::from_slice::<IgnoredAny>(&self.answer).is_ok() {
            self.socket = None;
        }
    }

    /// The wait status, once it was answered.
    pub fn status(&self) -> Option<u32> {
        serde_json::from_slice::<Reply>(&self.answer).ok().filter(|reply| reply.success)?.result
    }
}

fn connect(path: &Path) -> Option<OwnedFd> {
    // A socket's address is short; its directory's descriptor makes any path so.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path.parent()?, flags, Mode::empty()).ok()?;
    let short = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), path.file_name()?.to_str()?);
    let address = SocketAddrUnix::new(short).ok()?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    rustix::net::connect(&socket, &address).ok()?;
    Some(socket)
}
