//! A VM's files: the guest program in its sandbox does the work, and its bytes are passed on.
//!
//! Invariant: no path of a VM is resolved on the host. An answer that is not whole breaks off, it never ends.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use cakework_core::exec::STDOUT;
use cakework_core::id::{HostId, VmId};
use cakework_core::limit;
use cakework_image::rootfs::User;
use cakework_wire::files::{CHUNK_MAX_BYTES, FileOp, FileWish, GuestWish};
use cakework_wire::host::{AgentProblem, ProblemCode};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::process::{self, Streams};
use super::session::{another_host, failed, opened, problem, refused};
use super::{Open, session};
use crate::backend::gvisor::{ExecProcess, first_of};
use crate::vm::{Parts, Registry};

/// Longest time of one work on files.
const LONGEST: Duration = Duration::from_secs(3600);
/// Time for the program to be gone once it has closed its output.
const GONE: Duration = Duration::from_secs(10);

/// Does what is wished; the answer as it comes.
///
/// # Errors
/// Where the VM does not run in this placement, or the program can't be started.
pub async fn run(
    own: &HostId,
    registry: &Registry,
    vm: &VmId,
    wish: FileWish,
    body: Body,
) -> Result<impl Stream<Item = io::Result<Bytes>> + use<>, AgentProblem> {
    if wish.host_id != *own {
        return Err(another_host());
    }
    check(&wish.op)?;
    let open = opened(registry, vm, wish.generation)?;
    let parts = Arc::clone(registry.parts());
    let (dir, program) = (registry.dir_of(vm), parts.guest.clone());
    let prepared = tokio::task::spawn_blocking(move || {
        let first = first_of(&dir.config()).map_err(|error| failed(&error))?;
        let ends = process::open(None).map_err(|error| failed(&error))?;
        let program = File::open(program).map_err(|error| failed(&error))?;
        Ok::<_, AgentProblem>((guest(wish.op, &first.user), ends, program))
    });
    let (guest, (ours, theirs), program) = prepared.await.map_err(|error| failed(&error))??;
    let mut streams = Streams::new(ours).map_err(|error| failed(&error))?;
    let started = parts.gvisor.exec_file(vm.as_str(), &guest, &theirs.stdio(), Some(program.as_fd())).await;
    let pid = started.map_err(refused)?;
    drop(theirs);
    let feeding = streams.stdin.take().map(|stdin| AbortOnDropHandle::new(tokio::spawn(feed(body, stdin))));
    let work = Work {
        running: Some(Running { parts, vm: vm.clone(), pid, _open: open }),
        streams,
        _feeding: feeding,
        end: Instant::now() + LONGEST,
    };
    Ok(futures_util::stream::unfold(work, |mut work| async {
        let next = work.next().await?;
        Some((next, work))
    }))
}

/// The agent relies on nobody for what it hands on.
fn check(op: &FileOp) -> Result<(), AgentProblem> {
    let (FileOp::Read { path }
    | FileOp::Write { path, .. }
    | FileOp::MakeDir { path, .. }
    | FileOp::Remove { path, .. }
    | FileOp::Pack { path }
    | FileOp::Unpack { path }) = op;
    let is_one = path.starts_with('/') && !path.contains('\0') && path.len() <= limit::GUEST_PATH_MAX_BYTES;
    if is_one { Ok(()) } else { Err(problem(ProblemCode::InvalidCommand, "the path is no absolute one")) }
}

/// The program as root in the VM; what it makes is the user's that the VM's own process runs as.
fn guest(op: FileOp, user: &User) -> ExecProcess {
    let wish = GuestWish { op, uid: user.uid, gid: user.gid };
    let wish = serde_json::to_string(&wish).unwrap_or_default();
    let root = User { uid: 0, gid: 0, groups: Vec::new(), home: "/".into() };
    ExecProcess { args: vec!["cakework".into(), "guest".into(), wish], env: Vec::new(), cwd: "/".into(), user: root }
}

/// Passes a body on in chunks. One that breaks off has no last chunk.
async fn feed(body: Body, stdin: mpsc::Sender<Bytes>) {
    let mut source = body.into_data_stream();
    while let Some(next) = source.next().await {
        let Ok(bytes) = next else { return };
        for chunk in bytes.chunks(CHUNK_MAX_BYTES) {
            if !send(&stdin, chunk).await {
                return;
            }
        }
    }
    send(&stdin, &[]).await;
}

async fn send(stdin: &mpsc::Sender<Bytes>, chunk: &[u8]) -> bool {
    // Its length is bounded by the caller.
    let mut framed = (chunk.len() as u32).to_be_bytes().to_vec();
    framed.extend_from_slice(chunk);
    stdin.send(framed.into()).await.is_ok()
}

/// Work that goes on.
struct Work {
    /// `None` once it is over.
    running: Option<Running>,
    streams: Streams,
    _feeding: Option<AbortOnDropHandle<()>>,
    end: Instant,
}

/// The program, which is killed when nobody waits for it any more.
struct Running {
    parts: Arc<Parts>,
    vm: VmId,
    pid: i32,
    _open: Open,
}

impl Work {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.running.as_ref()?;
        loop {
            match tokio::time::timeout_at(self.end, self.streams.outputs.recv()).await {
                Ok(Some((STDOUT, bytes))) => return Some(Ok(bytes)),
                Ok(Some((_, said))) => tracing::debug!(said = %String::from_utf8_lossy(&said), "a guest program"),
                Ok(None) => return self.over().await,
                Err(_) => {
                    self.running = None;
                    return Some(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
    }

    /// Whether all of it came out.
    async fn over(&mut self) -> Option<io::Result<Bytes>> {
        let running = self.running.as_ref()?;
        let status = running.parts.gvisor.wait_exec(running.vm.as_str(), running.pid);
        match tokio::time::timeout(GONE, status).await {
            Ok(status) => {
                let whole = status.as_ref().is_ok_and(|status| *status == 0);
                if !whole {
                    tracing::warn!(vm = %running.vm, ?status, "a guest program failed");
                }
                if let Some(running) = self.running.take() {
                    running.forget();
                }
                (!whole).then(|| Err(io::ErrorKind::UnexpectedEof.into()))
            }
            Err(_) => {
                self.running = None;
                Some(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl Running {
    /// Nothing of it is left to kill.
    fn forget(mut self) {
        self.pid = 0;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.pid != 0 {
            let (parts, vm, pid) = (Arc::clone(&self.parts), self.vm.clone(), self.pid);
            tokio::spawn(async move { session::reap(&parts, &vm, pid).await });
        }
    }
}
