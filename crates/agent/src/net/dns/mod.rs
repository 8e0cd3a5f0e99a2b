//! The role `dns`: the forwarder that guests ask by their gateway's port 53. It holds no privilege, no cache and no
//! names: a question goes to an upstream as it came, the answer comes back as it is. So no guest can learn from it
//! what another one asked, and no name of another VM is in it to be learned.
//!
//! An answer may point into a private range. It is passed on: the firewall denies the connection, whoever told the
//! guest the address.
//!
//! It listens on all addresses, since a guest's link may come at any time; the firewall lets only guests in.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) mod message;
mod share;
mod upstream;

use message::{Question, Refusal};
use share::Shares;
use upstream::{Transport, Upstreams};

/// Time between two attempts after the kernel refused to hand over a packet or a connection.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// What the forwarder runs with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsConfig {
    /// The port that the firewall redirects guests' queries to, UDP and TCP.
    pub port: u16,
    /// Where queries go; the name servers of `/etc/resolv.conf` when empty.
    #[serde(default)]
    pub upstreams: Vec<SocketAddr>,
    /// Bounds on what guests can make the forwarder do.
    #[serde(default)]
    pub limits: DnsLimits,
}

/// Bounds on what guests can make the forwarder do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DnsLimits {
    /// Queries in flight, of all VMs.
    pub queries: usize,
    /// Queries in flight, of one VM.
    pub queries_per_vm: usize,
    /// TCP connections, of all VMs.
    pub connections: usize,
    /// TCP connections, of one VM.
    pub connections_per_vm: usize,
    /// Time for one upstream to answer.
    pub upstream_timeout_ms: u64,
    /// Time for a guest to send or take a message over TCP.
    pub idle_timeout_ms: u64,
}

impl Default for DnsLimits {
    fn default() -> Self {
        Self {
            queries: 1024,
            queries_per_vm: 64,
            connections: 256,
            connections_per_vm: 8,
            upstream_timeout_ms: 2_000,
            idle_timeout_ms: 5_000,
        }
    }
}

struct Forwarder {
    upstreams: Upstreams,
    queries: Shares,
    connections: Shares,
    idle_timeout: Duration,
}

/// Answers guests until `shutdown`; then gives up what is in flight.
///
/// # Errors
/// Where the port can't be bound.
pub async fn run(config: DnsConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.port));
    let udp = UdpSocket::bind(address).await.with_context(|| format!("could not bind UDP port {}", config.port))?;
    let tcp = TcpListener::bind(address).await.with_context(|| format!("could not bind TCP port {}", config.port))?;
    let limits = config.limits;
    let forwarder = Arc::new(Forwarder {
        upstreams: Upstreams::new(config.upstreams, Duration::from_millis(limits.upstream_timeout_ms)),
        queries: Shares::new(limits.queries, limits.queries_per_vm),
        connections: Shares::new(limits.connections, limits.connections_per_vm),
        idle_timeout: Duration::from_millis(limits.idle_timeout_ms),
    });
    let tasks = TaskTracker::new();
    let udp = tasks.spawn(shutdown.clone().run_until_cancelled_owned(serve_udp(
        Arc::clone(&forwarder),
        Arc::new(udp),
        tasks.clone(),
        shutdown.clone(),
    )));
    let tcp = shutdown.run_until_cancelled(serve_tcp(forwarder, tcp, &tasks, &shutdown));
    tcp.await;
    udp.await.context("the UDP side panicked")?;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

async fn serve_udp(forwarder: Arc<Forwarder>, socket: Arc<UdpSocket>, tasks: TaskTracker, shutdown: CancellationToken) {
    let mut buffer = vec![0; message::QUERY_MAX_BYTES + 1];
    loop {
        let (length, guest) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        let query = buffer[..length].to_vec();
        let (forwarder, socket) = (Arc::clone(&forwarder), Arc::clone(&socket));
        // More tasks than shares are never alive for long: one without a share answers at once.
        tasks.spawn(shutdown.clone().run_until_cancelled_owned(async move {
            if let Some(answer) = forwarder.answer(guest, &query, Transport::Udp).await {
                // A guest that is gone meanwhile hears nothing.
                let _ = socket.send_to(&answer, guest).await;
            }
        }));
    }
}

async fn serve_tcp(
    forwarder: Arc<Forwarder>,
    listener: TcpListener,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) {
    loop {
        let (stream, guest) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        let forwarder = Arc::clone(&forwarder);
        tasks.spawn(shutdown.clone().run_until_cancelled_owned(async move {
            // Without a share the connection is closed unanswered, which resolvers take for "try again later".
            if let Some(_share) = forwarder.connections.take(guest.ip()) {
                // A guest that breaks off or idles loses its connection; there is nobody to tell.
                let _ = forwarder.converse(stream, guest).await;
            }
        }));
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "a DNS socket failed; trying again");
    tokio::time::sleep(RETRY_DELAY).await;
}

impl Forwarder {
    /// One question's answer; `None` where the bytes deserve none.
    async fn answer(&self, guest: SocketAddr, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let question = match Question::read(query) {
            Ok(question) => question,
            Err(Refusal::Silence) => return None,
            Err(Refusal::Answer(answer)) => return Some(answer),
        };
        let Some(_share) = self.queries.take(guest.ip()) else { return Some(question.servfail()) };
        match self.upstreams.ask(&question, transport).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::debug!(%error, "no upstream answered");
                Some(question.servfail())
            }
        }
    }

    /// Questions and answers of one TCP connection, one after the other (RFC 7766 §6.2.1.1 leaves the order open).
    async fn converse(&self, mut stream: TcpStream, guest: SocketAddr) -> io::Result<()> {
        loop {
            let query = tokio::time::timeout(self.idle_timeout, read_framed(&mut stream, message::QUERY_MAX_BYTES));
            let query = query.await??;
            let Some(answer) = self.answer(guest, &query, Transport::Tcp).await else { return Ok(()) };
            tokio::time::timeout(self.idle_timeout, write_framed(&mut stream, &answer)).await??;
        }
    }
}

/// A message with its length before it (RFC 1035 §4.2.2).
async fn read_framed(stream: &mut TcpStream, max_bytes: usize) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > max_bytes {
        return Err(io::Error::other("the message is too long"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests;
