//! Every setting that there is, with its default: the shape of the configuration file.
//!
//! Invariant: the keys are an operator's contract, so they are spelled out here and mapped to the roles' own
//! configurations in [`super::resolve`], rather than being whatever those happen to be called.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use cakework_agent::CapacityConfig;
use cakework_agent::logs::LogConfig;
use cakework_image::ImageConfig;
use cakework_server::{AccountLimits, ServerConfig};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where the edge listens.
    pub edge_listen: SocketAddr,
    /// VMs are reached as `<label>.<base_domain>`.
    pub base_domain: String,
    /// Form of a VM's URL, with `{hostname}` in it.
    pub public_url: Option<String>,
    pub isolation: Isolation,
    pub capacity: Capacity,
    pub network: Network,
    pub images: Images,
    pub logs: Logs,
    pub vm: Vm,
    pub limits: Limits,
}

/// `[isolation]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Isolation {
    pub engine: Engine,
    /// gVisor's program.
    pub runsc: PathBuf,
}

/// What VMs run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The strongest that this build knows and the host can give.
    Auto,
    /// gVisor with the systrap platform.
    Gvisor,
}

/// `[capacity]`: what the host may promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capacity {
    pub memory_mib: Option<u64>,
    pub cpu_milli: Option<u64>,
    pub cpu_factor: u32,
    pub disk_mib: Option<u64>,
    pub slots: u16,
    pub cgroup_parent: Option<String>,
}

/// `[network]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    pub pool: Option<Ipv4Net>,
    pub deny: Vec<IpNet>,
    pub allow: Vec<IpNet>,
    pub upstream_dns: Vec<IpAddr>,
}

/// `[images]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Images {
    pub mirrors: BTreeMap<String, Vec<String>>,
    pub plain_http: Vec<String>,
    pub ca_file: Option<PathBuf>,
    pub parallel_layers: usize,
    pub max_layers: usize,
    pub max_compressed_bytes: u64,
    pub max_inflated_bytes: u64,
    pub max_entries: u64,
}

/// `[logs]`: each VM's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    pub segment_bytes: u64,
    pub total_bytes: u64,
    pub lines_per_second: u64,
    pub bytes_per_second: u64,
    pub burst_lines: u64,
    pub burst_bytes: u64,
}

/// `[vm]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vm {
    pub disk_mib: u32,
    pub start_timeout_secs: u64,
}

/// `[limits]`: what one account may have at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub vms: u64,
    pub cpu: u64,
    pub memory_mib: u64,
    pub volume_gb: u64,
    pub images: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let server = ServerConfig::default();
        Self {
            data_dir: PathBuf::from("/var/lib/cakework"),
            listen: server.listen,
            edge_listen: server.edge_listen,
            base_domain: server.base_domain,
            public_url: server.public_url,
            isolation: Isolation::default(),
            capacity: Capacity::default(),
            network: Network::default(),
            images: Images::default(),
            logs: Logs::default(),
            vm: Vm { disk_mib: server.vm_disk_mib, start_timeout_secs: server.start_timeout_secs },
            limits: Limits::default(),
        }
    }
}

impl Default for Isolation {
    fn default() -> Self {
        Self { engine: Engine::Auto, runsc: PathBuf::from("/usr/bin/runsc") }
    }
}

impl Default for Capacity {
    fn default() -> Self {
        let CapacityConfig { memory_mib, cpu_milli, cpu_factor, disk_mib, slots } = CapacityConfig::default();
        Self { memory_mib, cpu_milli, cpu_factor, disk_mib, slots, cgroup_parent: None }
    }
}

impl Default for Images {
    fn default() -> Self {
        let images = ImageConfig::default();
        Self {
            mirrors: images.mirrors,
            plain_http: images.plain_http,
            ca_file: images.ca_file,
            parallel_layers: images.parallel_layers,
            max_layers: images.limits.layers,
            max_compressed_bytes: images.limits.compressed_bytes,
            max_inflated_bytes: images.limits.inflated_bytes,
            max_entries: images.limits.entries,
        }
    }
}

impl Default for Logs {
    fn default() -> Self {
        let logs = LogConfig::default();
        Self {
            segment_bytes: logs.segment_bytes,
            total_bytes: logs.total_bytes,
            lines_per_second: logs.lines_per_second,
            bytes_per_second: logs.bytes_per_second,
            burst_lines: logs.burst_lines,
            burst_bytes: logs.burst_bytes,
        }
    }
}

impl Default for Vm {
    fn default() -> Self {
        Settings::default().vm
    }
}

impl Default for Limits {
    fn default() -> Self {
        let AccountLimits { vms, cpu, memory_mib, volume_gb, images } = AccountLimits::default();
        Self { vms, cpu, memory_mib, volume_gb, images }
    }
}
