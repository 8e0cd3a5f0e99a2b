//! Keeps the children alive: starts them, starts again those that die, ends them with itself.
//!
//! Invariant: children die with the supervisor, whatever kills it; monitors and sandboxes do not. Everything here runs
//! on the main thread, because the kernel ties a child's death signal to the thread that started it (prctl(2)).

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Time for all children to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(15);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A child that lived this long had started well.
const SETTLED: Duration = Duration::from_secs(30);

/// A child to be kept alive.
#[derive(Debug, Clone)]
pub struct Role {
    /// The word that the program is started with.
    pub name: &'static str,
    /// What it is told on stdin.
    pub told: Vec<u8>,
    /// Whether it may write to the supervisor's stdout.
    pub speaks: bool,
}

/// Keeps `roles` alive until SIGTERM or SIGINT; `ready` runs beside them and is dropped at the end.
///
/// # Errors
/// Where the very first start of a role fails. Later ones are tried again.
pub async fn keep(program: PathBuf, roles: Vec<Role>, ready: impl Future<Output = ()>) -> anyhow::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (drain, kill) = (CancellationToken::new(), CancellationToken::new());
    let mut keepers = JoinSet::new();
    let local = tokio::task::LocalSet::new();
    for role in roles {
        let first = start(&program, &role)?;
        keepers.spawn_local_on(keep_one(program.clone(), role, first, drain.clone(), kill.clone()), &local);
    }
    local
        .run_until(async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                () = async { ready.await; std::future::pending().await } => {}
            }
            tracing::info!("ending; VMs run on");
            drain.cancel();
            let ended = async { while keepers.join_next().await.is_some() {} };
            tokio::pin!(ended);
            tokio::select! {
                () = &mut ended => return,
                () = tokio::time::sleep(DRAIN) => tracing::warn!("children did not end in {} s", DRAIN.as_secs()),
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            kill.cancel();
            ended.await;
        })
        .await;
    Ok(())
}

async fn keep_one(program: PathBuf, role: Role, first: Child, drain: CancellationToken, kill: CancellationToken) {
    let mut backoff = BACKOFF_FIRST;
    let mut next = Some(first);
    loop {
        let begun = Instant::now();
        if let Some(mut child) = next.take() {
            let status = tokio::select! {
                status = child.wait() => status,
                () = drain.cancelled() => return end(&role, child, &kill).await,
            };
            tracing::error!(child = role.name, status = %describe(status), "a child died; it is started again");
        }
        if begun.elapsed() >= SETTLED {
            backoff = BACKOFF_FIRST;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = drain.cancelled() => return,
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
        next = start(&program, &role)
            .map_err(|error| tracing::error!(child = role.name, "a child can't be started: {error:#}"))
            .ok();
    }
}

/// Asks a child to end, and kills it when told to.
async fn end(role: &Role, mut child: Child, kill: &CancellationToken) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
        // A child that is gone already has done what it is asked for; it is not reaped before `wait`.
        let _ = kill_process(pid, Signal::TERM);
    }
    tokio::select! {
        _ = child.wait() => {}
        () = kill.cancelled() => {
            tracing::warn!(child = role.name, "a child is killed");
            if let Err(error) = child.kill().await {
                tracing::error!(child = role.name, "a child can't be killed: {error}");
            }
        }
    }
}

fn start(program: &PathBuf, role: &Role) -> anyhow::Result<Child> {
    let (read, write) = std::io::pipe().context("no pipe")?;
    let mut command = Command::new(program);
    command.arg(role.name).stdin(Stdio::from(read)).kill_on_drop(true);
    // Ctrl-C is for the supervisor, which tells its children in its own way; it alone speaks with a service manager.
    command.process_group(0).env_remove("NOTIFY_SOCKET");
    if !role.speaks {
        command.stdout(Stdio::null());
    }
    let child = command.spawn().with_context(|| format!("{} can't be started as {}", program.display(), role.name))?;
    tell(write, &role.told).with_context(|| format!("{} does not listen", role.name))?;
    Ok(child)
}

/// What is told fits into a pipe's 64 KiB, or the child reads it at once: it does nothing else before.
fn tell(mut write: std::io::PipeWriter, told: &[u8]) -> std::io::Result<()> {
    match write.write_all(told) {
        // It died at once; its end is seen where all are.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        },
        Err(error) => error.to_string(),
    }
}
