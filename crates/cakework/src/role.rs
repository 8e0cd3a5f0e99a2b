//! The long-lived children: how each starts, with what it is told on stdin.
//!
//! Invariant: a child gives up what it does not need before it reads a byte from anywhere else or starts a thread, and
//! dies with the supervisor.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use cakework_agent::AgentConfig;
use cakework_agent::net::dns::DnsConfig;
use cakework_server::ServerConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::identity::Identity;
use crate::{instance, logging, privilege};

/// Bytes of what a role is told at its start.
const TOLD_MAX_BYTES: u64 = 1 << 20;
/// Time for an agent whose supervisor was killed to be gone.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(10);

/// What the supervisor writes to a child's stdin.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told<C> {
    /// The supervisor, to die with.
    pub supervisor: u32,
    /// Whom to become, without any capability; `None` stays what it is.
    pub identity: Option<Identity>,
    /// How to log.
    pub logs: logging::Options,
    /// The role's own configuration.
    pub config: C,
}

/// The role `agent`: root.
pub fn agent() -> ExitCode {
    start("agent", 4, |config: AgentConfig, shutdown| async move {
        // Two agents on one directory would fight; the one before may be dying still.
        let file = config.socket.parent().unwrap_or(Path::new("/")).join(instance::AGENT_LOCK);
        let held = tokio::task::spawn_blocking(move || instance::lock_file(&file, PREDECESSOR_WAIT)).await??;
        let _held = held.context("another agent still runs on this directory")?;
        cakework_agent::run(config, shutdown).await
    })
}

/// The role `api`: its own uid.
pub fn api() -> ExitCode {
    start("api", 4, cakework_server::run)
}

/// The role `dns`: its own uid.
pub fn dns() -> ExitCode {
    start("dns", 1, |config: DnsConfig, shutdown| cakework_agent::net::dns::run(config, shutdown))
}

/// The api in this process, for `serve --agent-socket`.
///
/// # Errors
/// As [`cakework_server::run`].
pub fn api_in_place(config: ServerConfig) -> anyhow::Result<()> {
    set_up_process()?;
    run_until_signal(4, |shutdown| cakework_server::run(config, shutdown))
}

fn start<C, R, F>(role: &'static str, threads_max: usize, run: R) -> ExitCode
where
    C: DeserializeOwned,
    R: FnOnce(C, CancellationToken) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let done = listen_and_obey(role).and_then(|config| {
        tracing::info!("started");
        run_until_signal(threads_max, |shutdown| run(config, shutdown))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Reads what the supervisor says and becomes whom it names.
fn listen_and_obey<C: DeserializeOwned>(role: &'static str) -> anyhow::Result<C> {
    let mut text = Vec::new();
    std::io::stdin().take(TOLD_MAX_BYTES).read_to_end(&mut text).context("nothing was said on stdin")?;
    let told: Told<C> = serde_json::from_slice(&text).context("this role is started by `cakework serve`")?;
    logging::start(&told.logs, role)?;
    set_up_process()?;
    if let Some(Identity { uid, gid }) = told.identity {
        privilege::confine(uid, gid).context("privileges could not be given up")?;
    }
    privilege::die_with(told.supervisor)?;
    Ok(told.config)
}

/// As many files as may be, no core dump, which would hold secrets, and an implementation of TLS for those who ask for one.
fn set_up_process() -> anyhow::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("the limit of core dumps")?;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("the limit of open files")?;
    // The error says that one is chosen already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(())
}

/// Runs to the end; SIGTERM and SIGINT ask for it by way of the token.
fn run_until_signal<R, F>(threads_max: usize, run: R) -> anyhow::Result<()>
where
    R: FnOnce(CancellationToken) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(threads_max);
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().context("no asynchronous runtime")?;
    let done = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let work = run(shutdown.clone());
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        shutdown.cancel();
        work.await
    });
    // Blocking work that nobody waits for any more must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}
