//! One command, from the client's wish to its last word.
//!
//! Invariant: a command never outlives its client, its time or its VM; the client hears how it ended only after all that
//! it wrote.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket};
use cakework_core::exec::{ExecEnd, ExecExit, ExecInput, ExecSpec, STDIN};
use cakework_core::id::{Generation, HostId, VmId};
use cakework_core::limit;
use cakework_image::rootfs;
use cakework_wire::exec::{ExecNews, StartExec};
use cakework_wire::host::{AgentProblem, ProblemCode, VmObservation};
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::process::{self, Streams};
use super::{Closed, Open};
use crate::backend::gvisor::urpc::UrpcError;
use crate::backend::gvisor::{EngineError, ExecProcess, bundle, first_of, signal_number};
use crate::vm::{Parts, Registry};

/// Time for the client's wish to come.
const HELLO: Duration = Duration::from_secs(10);
/// Time for a killed command to be gone.
const GONE: Duration = Duration::from_secs(10);
/// Time for the last messages to be taken.
const FAREWELL: Duration = Duration::from_secs(10);
/// What the sandbox says of a program that can't be run.
const NOT_FOUND: [&str; 3] = ["no such file", "permission denied", "exec format error"];

/// Serves one command over a WebSocket.
pub async fn run(own: HostId, registry: Registry, vm: VmId, mut socket: WebSocket) {
    let last = match begin(&own, &registry, &vm, &mut socket).await {
        Ok(Some(command)) => command.run(&mut socket).await.map(ExecNews::Exit),
        Ok(None) => None,
        Err(problem) => Some(ExecNews::Refused(problem)),
    };
    let Some(last) = last else { return };
    let farewell = async {
        socket.send(news(&last)).await?;
        socket.send(Message::Close(None)).await
    };
    // A client that is gone has heard enough.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// A command that runs.
struct Command {
    parts: Arc<Parts>,
    vm: VmId,
    pid: i32,
    streams: Streams,
    open: Open,
    end: Instant,
    has_terminal: bool,
}

/// Hears what is wanted and starts it; `None` where the client goes before it says so.
async fn begin(
    own: &HostId,
    registry: &Registry,
    vm: &VmId,
    socket: &mut WebSocket,
) -> Result<Option<Command>, AgentProblem> {
    let wish = match tokio::time::timeout(HELLO, socket.recv()).await {
        Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str::<StartExec>(text.as_str()),
        Ok(None | Some(Err(_))) | Err(_) => return Ok(None),
        Ok(Some(Ok(_))) => return Err(problem(ProblemCode::Protocol, "the first message is to be a command")),
    };
    let StartExec { host_id, generation, spec } =
        wish.map_err(|error| problem(ProblemCode::Protocol, format!("the first message is no command: {error}")))?;
    if host_id != *own {
        return Err(another_host());
    }
    check(&spec)?;
    let open = opened(registry, vm, generation)?;
    let parts = Arc::clone(registry.parts());
    let dir = registry.dir_of(vm);
    let tty = spec.tty;
    let end = Instant::now() + Duration::from_millis(spec.timeout_ms);
    let prepared = tokio::task::spawn_blocking(move || {
        let first = first_of(&dir.config()).map_err(|error| failed(&error))?;
        let process = merged(first, spec, |user| rootfs::find_user(&dir.rootfs(), user))?;
        let ends = process::open(tty).map_err(|error| failed(&error))?;
        Ok((process, ends))
    });
    let (process, (ours, theirs)) = prepared.await.map_err(|error| failed(&error))??;
    let streams = Streams::new(ours).map_err(|error| failed(&error))?;
    let pid = parts.gvisor.exec(vm.as_str(), &process, &theirs.stdio()).await.map_err(refused)?;
    drop(theirs);
    Ok(Some(Command { parts, vm: vm.clone(), pid, streams, open, end, has_terminal: tty.is_some() }))
}

/// A place for one more in a VM that runs in this placement, and is awake.
pub(super) fn opened(registry: &Registry, vm: &VmId, generation: Generation) -> Result<Open, AgentProblem> {
    let parts = registry.parts();
    check_runs(parts, vm, generation)?;
    let open = parts.execs.open(vm).map_err(|closed| match closed {
        Closed::Asleep => not_running(),
        Closed::Full => problem(ProblemCode::Busy, format!("{} commands are open in the VM", limit::EXECS_MAX)),
    })?;
    // It may have ended before the place was taken; from here on its end finds the place.
    check_runs(parts, vm, generation)?;
    Ok(open)
}

fn check_runs(parts: &Parts, vm: &VmId, generation: Generation) -> Result<(), AgentProblem> {
    let report = parts.board.vm_report(vm).ok_or_else(|| problem(ProblemCode::Unknown, "the host does not know it"))?;
    let runs = report.generation == generation && matches!(report.observation, VmObservation::Running { .. });
    runs.then_some(()).ok_or_else(not_running)
}

/// The agent relies on nobody for what it hands to the engine.
fn check(spec: &ExecSpec) -> Result<(), AgentProblem> {
    let words = spec.command.iter().map(String::len).sum::<usize>();
    let env = spec.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
    let texts = spec.command.iter().chain(spec.env.keys()).chain(spec.env.values()).chain(&spec.cwd).chain(&spec.user);
    let wrong = if spec.command.first().is_none_or(String::is_empty) {
        "the command is empty"
    } else if spec.command.len() > limit::COMMAND_WORDS_MAX || words > limit::COMMAND_TOTAL_MAX_BYTES {
        "the command is too long"
    } else if env > limit::ENV_TOTAL_MAX_BYTES || spec.env.keys().any(|name| name.is_empty() || name.contains('=')) {
        "the environment is too large, or has a name that is none"
    } else if texts.into_iter().any(|text| text.contains('\0')) {
        "a text holds a NUL"
    } else if spec.cwd.as_ref().is_some_and(|cwd| !cwd.starts_with('/') || cwd.len() > limit::GUEST_PATH_MAX_BYTES) {
        "the working directory is no absolute path"
    } else if spec.timeout_ms == 0 || spec.timeout_ms > limit::EXEC_TIMEOUT_MAX_SECS * 1000 {
        "the time is none that a command may have"
    } else {
        return Ok(());
    };
    Err(problem(ProblemCode::InvalidCommand, wrong))
}

/// The command with what it has from the VM's own process.
fn merged(
    first: ExecProcess,
    spec: ExecSpec,
    find: impl FnOnce(&str) -> Result<rootfs::User, rootfs::RootfsError>,
) -> Result<ExecProcess, AgentProblem> {
    let ExecProcess { mut env, cwd, user, .. } = first;
    let user = match spec.user {
        Some(other) => {
            let other = find(&other)
                .map_err(|error| problem(ProblemCode::InvalidCommand, format!("the user can't be used: {error}")))?;
            bundle::set(&mut env, format!("HOME={}", other.home));
            other
        }
        None => user,
    };
    if spec.tty.is_some() {
        bundle::set(&mut env, "TERM=xterm-256color".to_owned());
    }
    for (name, value) in spec.env {
        bundle::set(&mut env, format!("{name}={value}"));
    }
    Ok(ExecProcess { args: spec.command, env, cwd: spec.cwd.unwrap_or(cwd), user })
}

/// What became of a message to or from the client.
enum Heard {
    GoesOn,
    Gone,
}

fn news(news: &ExecNews) -> Message {
    Message::Text(serde_json::to_string(news).unwrap_or_default().into())
}

impl Command {
    async fn run(self, socket: &mut WebSocket) -> Option<ExecExit> {
        // Whoever is gone by now is found so at the next message.
        let _ = tokio::time::timeout(FAREWELL, socket.send(news(&ExecNews::Started))).await;
        self.talk(socket).await
    }

    /// Passes messages both ways until the command is over; `None` where nobody wants to hear how it ended.
    async fn talk(mut self, socket: &mut WebSocket) -> Option<ExecExit> {
        let (parts, vm, pid) = (Arc::clone(&self.parts), self.vm.clone(), self.pid);
        let mut over = std::pin::pin!(parts.gvisor.wait_exec(vm.as_str(), pid));
        let mut reason = ExecEnd::Exited;
        let mut end = self.end;
        let mut pending: Option<Bytes> = None;
        let mut reads = true;
        let status = loop {
            tokio::select! {
                status = &mut over => break status.ok(),
                message = socket.recv(), if pending.is_none() => {
                    if let Heard::Gone = self.hear(message, &mut pending).await {
                        self.kill().await;
                        let _ = tokio::time::timeout(GONE, over).await;
                        return None;
                    }
                }
                room = room(self.streams.stdin.clone()), if pending.is_some() => match (room, pending.take()) {
                    (Some(room), Some(bytes)) => drop(room.send(bytes)),
                    // It reads no more.
                    _ => self.streams.stdin = None,
                },
                chunk = self.streams.outputs.recv(), if reads => match chunk {
                    Some(chunk) => if !self.send(socket, chunk, end).await {
                        self.kill().await;
                        let status = tokio::time::timeout(GONE, over).await;
                        let timed_out = Instant::now() >= end;
                        return timed_out.then(|| exit(status.ok().and_then(Result::ok), ExecEnd::Timeout));
                    },
                    None => reads = false,
                },
                () = tokio::time::sleep_until(end) => {
                    if reason == ExecEnd::Timeout {
                        break None;
                    }
                    reason = ExecEnd::Timeout;
                    end = Instant::now() + GONE;
                    self.kill().await;
                }
                () = self.parts.shutdown.cancelled() => return None,
            }
        };
        let farewell = Instant::now() + FAREWELL;
        while let Some(chunk) = self.streams.rest().await {
            if !self.send(socket, chunk, farewell).await || Instant::now() >= farewell {
                break;
            }
        }
        if self.streams.are_held() {
            self.open.lingers();
        }
        let reason = if status.is_none() && reason == ExecEnd::Exited { ExecEnd::VmEnded } else { reason };
        Some(exit(status, reason))
    }

    async fn hear(&mut self, message: Option<Result<Message, axum::Error>>, pending: &mut Option<Bytes>) -> Heard {
        match message {
            Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&STDIN) => {
                let bytes = bytes.slice(1..);
                for signal in self.streams.signals(&bytes) {
                    self.signal(signal as i32).await;
                }
                *pending = Some(bytes).filter(|bytes| !bytes.is_empty() && self.streams.stdin.is_some());
            }
            Some(Ok(Message::Text(text))) => match serde_json::from_str(text.as_str()) {
                Ok(ExecInput::Resize(size)) => {
                    if self.streams.resize(size) {
                        self.signal(Signal::SIGWINCH as i32).await;
                    }
                }
                Ok(ExecInput::Signal { signal }) => {
                    if let Some(number) = signal_number(&signal) {
                        self.signal(number).await;
                    }
                }
                Ok(ExecInput::Eof) => self.streams.end_input().await,
                Err(_) => return Heard::Gone,
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_) | Message::Close(_)) | Err(_)) | None => return Heard::Gone,
        }
        Heard::GoesOn
    }

    async fn signal(&self, number: i32) {
        let (id, pid) = (self.vm.as_str(), self.pid);
        // Where nobody is in front, whoever runs the terminal is meant.
        let sent = self.parts.gvisor.signal_exec(id, pid, number, self.has_terminal).await;
        if let Err(error) = sent {
            tracing::debug!(vm = %self.vm, pid, error = &error as &dyn std::error::Error, "a signal was not sent");
        }
    }

    async fn kill(&self) {
        self.parts.gvisor.kill_exec(self.vm.as_str(), self.pid).await;
    }

    /// Sends a chunk; false where the client is gone, or takes it not in time.
    async fn send(&self, socket: &mut WebSocket, (stream, chunk): (u8, Bytes), by: Instant) -> bool {
        let mut message = Vec::with_capacity(chunk.len() + 1);
        message.push(stream);
        message.extend_from_slice(&chunk);
        matches!(tokio::time::timeout_at(by, socket.send(Message::Binary(message.into()))).await, Ok(Ok(())))
    }
}

/// Kills a process of the sandbox's, and lets the sandbox forget it.
pub(super) async fn reap(parts: &Parts, vm: &VmId, pid: i32) {
    parts.gvisor.kill_exec(vm.as_str(), pid).await;
    let _ = tokio::time::timeout(GONE, parts.gvisor.wait_exec(vm.as_str(), pid)).await;
}

async fn room(stdin: Option<mpsc::Sender<Bytes>>) -> Option<mpsc::OwnedPermit<Bytes>> {
    stdin?.reserve_owned().await.ok()
}

fn exit(status: Option<u32>, reason: ExecEnd) -> ExecExit {
    status.map_or(ExecExit { code: None, signal: None, reason }, |status| ExecExit::of_status(status, reason))
}

pub(super) fn problem(code: ProblemCode, message: impl Into<String>) -> AgentProblem {
    AgentProblem { code, message: message.into() }
}

pub(super) fn another_host() -> AgentProblem {
    problem(ProblemCode::Unknown, "this is another host")
}

fn not_running() -> AgentProblem {
    problem(ProblemCode::NotRunning, "the VM does not run")
}

pub(super) fn failed(error: &(dyn std::error::Error + 'static)) -> AgentProblem {
    tracing::error!(error, "a command was not started");
    problem(ProblemCode::Internal, "the agent failed; its log has the cause")
}

/// What the sandbox says about a command that it can't start is the user's to mend; the rest is not.
pub(super) fn refused(error: EngineError) -> AgentProblem {
    if let EngineError::Socket { source: UrpcError::Refused { said, .. }, .. } = &error {
        let said = said.to_lowercase();
        if let Some(why) = NOT_FOUND.iter().find(|why| said.contains(*why)) {
            return problem(ProblemCode::InvalidCommand, format!("the command can't be started: {why}"));
        }
        if said.contains("stopped") || said.contains("not started") {
            return not_running();
        }
    }
    failed(&error)
}
