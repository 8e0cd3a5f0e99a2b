//! The api role's configuration, as the supervisor resolved it. Nothing here is read from a file or the environment.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use cakework_core::limit;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// All that the api role is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerConfig {
    /// The role's own directory: database, admin socket, sealing key. It is made where it is missing.
    pub dir: PathBuf,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where the edge listens.
    pub edge_listen: SocketAddr,
    /// Where the metrics are read without a key, beside the admin socket.
    pub metrics_listen: Option<SocketAddr>,
    /// VMs are reached as `<label>.<base_domain>`.
    pub base_domain: String,
    /// Form of a VM's `url`, with `{hostname}` in it, such as `https://{hostname}` behind a TLS terminator. Without
    /// it: `http://<hostname>:<port of edge_listen>`.
    pub public_url: Option<String>,
    /// Origins whose pages may call the API from a browser, or `*` for all.
    pub cors_origins: Vec<String>,
    /// The host protocol's socket.
    pub agent_socket: PathBuf,
    /// What one account may have at a time.
    pub limits: AccountLimits,
    /// How often it may ask.
    pub rates: RequestRates,
    /// Writable root disk of a VM, in MiB.
    pub vm_disk_mib: u32,
    /// Longest time that an image may take to arrive for a VM to start, in seconds.
    pub start_timeout_secs: u64,
    /// How builds are taken on.
    pub builds: BuildRules,
    /// Addresses that webhooks may be sent to although they are not public.
    pub webhook_allow: Vec<IpNet>,
    /// PEM file of authorities whose receivers are trusted beside the public ones.
    pub webhook_ca_file: Option<PathBuf>,
    /// Make a key at the first start and print it: one line on stdout, `key: <key>`.
    pub print_first_key: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("api"),
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            edge_listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            metrics_listen: None,
            base_domain: "localhost".to_owned(),
            public_url: None,
            cors_origins: Vec::new(),
            agent_socket: PathBuf::from("run/agent.sock"),
            limits: AccountLimits::default(),
            rates: RequestRates::default(),
            vm_disk_mib: limit::DISK_DEFAULT_MIB,
            start_timeout_secs: 600,
            builds: BuildRules::default(),
            webhook_allow: Vec::new(),
            webhook_ca_file: None,
            print_first_key: false,
        }
    }
}

impl ServerConfig {
    /// Where a VM's port is reached from outside.
    pub(crate) fn url_of(&self, hostname: &str) -> String {
        match (&self.public_url, self.edge_listen.port()) {
            (Some(form), _) => form.replace("{hostname}", hostname),
            (None, 80) => format!("http://{hostname}"),
            (None, port) => format!("http://{hostname}:{port}"),
        }
    }
}

/// What one account may have at a time. VMs that are over do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AccountLimits {
    /// VMs.
    pub vms: u64,
    /// CPUs of all its VMs together.
    pub cpu: u64,
    /// Memory of all its VMs together, in MiB.
    pub memory_mib: u64,
    /// Volumes of all its VMs together, in GB.
    pub volume_gb: u64,
    /// Images.
    pub images: u64,
    /// Builds that wait for their turn.
    pub queued_builds: u64,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self { vms: 200, cpu: 800, memory_mib: 512 * 1024, volume_gb: 10_000, images: 10_000, queued_builds: 100 }
    }
}

/// Requests that may be sent in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RequestRates {
    /// With one key.
    pub of_key: NonZeroU32,
    /// With all keys of one account.
    pub of_account: NonZeroU32,
}

impl Default for RequestRates {
    fn default() -> Self {
        let rate = |per_second| NonZeroU32::new(per_second).expect("it is not 0");
        Self { of_key: rate(1000), of_account: rate(2000) }
    }
}

/// How builds are taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BuildRules {
    /// Builds that one host does at a time.
    pub parallel: u64,
    /// Longest time that a build takes once it had its turn, in seconds.
    pub timeout_secs: u64,
    /// Longest time that a build waits for its turn, in seconds.
    pub queue_timeout_secs: u64,
    /// Builds of all accounts together that wait for their turn.
    pub queued: u64,
}

impl Default for BuildRules {
    fn default() -> Self {
        Self { parallel: 2, timeout_secs: 3600, queue_timeout_secs: 6 * 3600, queued: 1000 }
    }
}
