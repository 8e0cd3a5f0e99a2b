//! What an operator may set of the edge. Every wait, queue and buffer of the crate has its number here.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// How the edge serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeConfig {
    /// The domain under which each VM has its label, such as `localhost` or `apps.example.com`.
    pub base_domain: String,
    /// Its limits.
    pub limits: EdgeLimits,
}

/// The limits of the edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeLimits {
    /// Longest time that a request waits for a VM to start or wake, and for its port to accept.
    pub hold_ms: u64,
    /// Requests that wait for one VM.
    pub queue_max_per_vm: usize,
    /// Requests that wait, for all VMs together.
    pub queue_max: usize,
    /// Open requests and WebSockets of one VM.
    pub requests_max_per_vm: usize,
    /// Open WebSockets, of all VMs together.
    pub upgrades_max: usize,
    /// Longest time for one attempt to connect to a VM whose port accepted before.
    pub connect_ms: u64,
    /// Longest time from a request's last byte to the first of its response.
    pub response_head_ms: u64,
    /// Longest time that `Expect: 100-continue` keeps a body back; then it is sent unasked.
    pub continue_ms: u64,
    /// Client connections in all; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Client connections of one address (a /64 of IPv6); more are closed. A trusted proxy has no such limit.
    pub connections_max_per_client: usize,
    /// Longest time for a request's head to arrive, and for a kept connection to stay without a request.
    pub header_read_ms: u64,
    /// Bytes of a head, in either direction.
    pub header_max_bytes: usize,
    /// Header fields of a head, in either direction.
    pub headers_max: usize,
    /// Longest time in which an open request or WebSocket moves no byte.
    pub idle_ms: u64,
    /// Longest time that a connection to a VM is kept for the next request.
    pub pool_idle_ms: u64,
    /// Kept connections of one VM.
    pub pool_max_per_vm: usize,
    /// Time that open requests have to end when the server, or the VM they are for, goes away.
    pub drain_ms: u64,
    /// Proxies in front of the edge whose `X-Forwarded-*` headers are believed. Nobody's are, by default.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            hold_ms: 30_000,
            queue_max_per_vm: 256,
            queue_max: 2048,
            requests_max_per_vm: 1024,
            upgrades_max: 2048,
            connect_ms: 5_000,
            response_head_ms: 60_000,
            continue_ms: 1_000,
            connections_max: 4096,
            connections_max_per_client: 512,
            header_read_ms: 30_000,
            header_max_bytes: 32 * 1024,
            headers_max: 100,
            idle_ms: 600_000,
            pool_idle_ms: 60_000,
            pool_max_per_vm: 32,
            drain_ms: 10_000,
            trusted_proxies: Vec::new(),
        }
    }
}

/// A limit in milliseconds, as the clock takes it.
pub(crate) const fn millis(limit_ms: u64) -> Duration {
    Duration::from_millis(limit_ms)
}
