//! `cakework serve`: as root all roles, under a supervisor; otherwise the api alone, with an agent that is there.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use cakework_server::ServerConfig;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::cli::Serve;
use crate::config::{self, Placed, Settings};
use crate::identity::Identity;
use crate::instance::Instance;
use crate::supervisor::Role;
use crate::{doctor, instance, logging, role, supervisor};

/// Time for the ports of a supervisor that was killed to become free.
const PORT_WAIT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);
const REPLY_MAX_BYTES: u64 = 64 * 1024;
const REPLY_WAIT: Duration = Duration::from_secs(5);
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Serves until a signal.
///
/// # Errors
/// What keeps it from starting.
pub fn run(options: Serve, logs: logging::Options) -> anyhow::Result<ExitCode> {
    let settings = config::load(&options.overrides, &options.addresses)?;
    logging::start(&logs, "serve")?;
    match options.agent_socket {
        Some(socket) => serve_api(&settings, socket)?,
        None if rustix::process::geteuid().is_root() => serve_all(&settings, &logs)?,
        None => bail!(
            "VMs need root: run `sudo cakework serve`, or give --agent-socket PATH to use an agent that root runs"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn serve_api(settings: &Settings, agent_socket: PathBuf) -> anyhow::Result<()> {
    let dir = instance::api_dir(&settings.data_dir);
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("{} can't be made; choose another --data-dir", dir.display()))?;
    let agent_socket = std::path::absolute(agent_socket)?;
    role::api_in_place(api(settings, dir, agent_socket))
}

/// What the api is told. Its first key goes to a person or a file, and not where log lines are kept.
fn api(settings: &Settings, dir: PathBuf, agent_socket: PathBuf) -> ServerConfig {
    let mut config = config::api(settings, dir, agent_socket);
    config.print_first_key &= !stdout_is_journal();
    config
}

/// Whether stdout is the journal's, as its environment variable says (systemd.exec(5)).
fn stdout_is_journal() -> bool {
    let Ok(stdout) = rustix::fs::fstat(std::io::stdout()) else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == format!("{}:{}", stdout.st_dev, stdout.st_ino))
}

fn serve_all(settings: &Settings, logs: &logging::Options) -> anyhow::Result<()> {
    let (instance, _lock) = instance::prepare(&settings.data_dir, settings.network.pool)?;
    for address in [settings.listen, settings.edge_listen] {
        wait_for_port(address)?;
    }
    if instance.api == Identity::NAMELESS_ROOT {
        tracing::warn!("the api runs as uid 0 without capabilities: {}", doctor::unreachable_hint(&settings.data_dir));
    }
    for row in doctor::quick(settings) {
        row.log();
    }
    let program = std::env::current_exe().context("this program's own path")?;
    let placed = Placed { instance: &instance, program: program.clone(), dns_port: instance.dns_port };
    let roles = vec![
        role_of("agent", None, logs, config::agent(settings, &placed)),
        role_of("dns", Some(instance.dns), logs, config::dns(settings, &placed)),
        role_of("api", Some(instance.api), logs, api(settings, instance.api_dir(), instance.agent_socket())),
    ];
    tracing::info!(instance = %instance.id, pool = %instance.pool, api_uid = instance.api.uid, "starting");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervisor::keep(program, roles, announce(settings, &instance)))
}

fn role_of<C: Serialize>(name: &'static str, identity: Option<Identity>, logs: &logging::Options, config: C) -> Role {
    let told = role::Told { supervisor: std::process::id(), identity, logs: logs.clone(), config };
    Role { name, told: serde_json::to_vec(&told).expect("plain data"), speaks: name == "api" }
}

/// Says early, and with the fix, what would otherwise be a child that dies again and again.
fn wait_for_port(address: SocketAddr) -> anyhow::Result<()> {
    let end = std::time::Instant::now() + PORT_WAIT;
    loop {
        match TcpListener::bind(address) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && std::time::Instant::now() < end => {
                std::thread::sleep(POLL);
            }
            Err(error) => bail!(
                "{address} can't be listened on: {error}; find who has it with `ss -ltnp 'sport = :{}'`, or choose \
                 another with --listen and --edge-listen",
                address.port()
            ),
        }
    }
}

/// Waits until everything answers, then says so on stdout, once.
async fn announce(settings: &Settings, instance: &Instance) {
    let socket = instance.agent_socket();
    until("the API", async || Ok(TcpStream::connect(reachable(settings.listen)).await.map(drop)?)).await;
    until("the edge", async || Ok(TcpStream::connect(reachable(settings.edge_listen)).await.map(drop)?)).await;
    let vms = until("the agent", async || tokio::time::timeout(REPLY_WAIT, ask_agent(&socket)).await?).await;
    let hostnames = settings.public_url.as_ref().map_or_else(
        || format!("http://<label>.{}:{}", settings.base_domain, settings.edge_listen.port()),
        |url| url.replace("{hostname}", &format!("<label>.{}", settings.base_domain)),
    );
    // A service manager that waits for it (sd_notify(3)) goes on.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "the service manager could not be told that the server is ready");
    }
    crate::print_line(&format!("ready: API http://{}, hostnames {hostnames}, {vms}", settings.listen));
}

/// Tries until it works, and says so where that takes long. The caller's end ends it.
async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> anyhow::Result<T>) -> T {
    let mut said = tokio::time::Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) if said.elapsed() >= SILENCE_MAX => {
                tracing::warn!("{what} does not answer yet: {error:#}");
                said = tokio::time::Instant::now();
            }
            Err(_) => {}
        }
        tokio::time::sleep(POLL).await;
    }
}

/// An address that all interfaces listen on is asked by the loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

/// Whether the agent starts VMs, in words: one request of the host protocol.
async fn ask_agent(socket: &Path) -> anyhow::Result<String> {
    use cakework_wire::host::{HostStatus, PROTOCOL, PROTOCOL_HEADER, Reply};
    let mut stream = UnixStream::connect(socket).await?;
    // HTTP/1.0, so that the answer is neither chunked nor followed by another.
    let request = format!("GET /v1/host HTTP/1.0\r\nhost: agent\r\n{PROTOCOL_HEADER}: {PROTOCOL}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = Vec::new();
    stream.take(REPLY_MAX_BYTES).read_to_end(&mut text).await?;
    let body = text.windows(4).position(|window| window == b"\r\n\r\n").context("no HTTP answer")? + 4;
    let reply: Reply<HostStatus> = serde_json::from_slice(&text[body..])?;
    Ok(match (reply.body.isolation, reply.body.refusal) {
        (Some(isolation), _) => format!("VMs isolated by {isolation}"),
        (None, Some(reason)) => format!("no VMs: {reason}"),
        (None, None) => bail!("the agent does not know yet"),
    })
}
