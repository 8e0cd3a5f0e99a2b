//! Every setting that there is, with its default: the shape of the configuration file.
//!
//! Invariant: the keys are an operator's contract, so they are spelled out here and mapped to the roles' own
//! configurations in [`super::resolve`], rather than being whatever those happen to be called.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use cakework_agent::git::GitConfig;
use cakework_agent::logs::{LogConfig, Retention};
use cakework_agent::{BuildConfig, CapacityConfig};
use cakework_image::ImageConfig;
use cakework_server::{AccountLimits, BuildRules, RequestRates, ServerConfig};
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
    /// Where the metrics are read without a key.
    pub metrics_listen: Option<SocketAddr>,
    /// VMs are reached as `<label>.<base_domain>`.
    pub base_domain: String,
    /// Form of a VM's URL, with `{hostname}` in it.
    pub public_url: Option<String>,
    /// Origins whose pages may call the API from a browser.
    pub cors_origins: Vec<String>,
    pub isolation: Isolation,
    pub capacity: Capacity,
    pub cached: Cached,
    pub network: Network,
    pub images: Images,
    pub logs: Logs,
    pub vm: Vm,
    pub builds: Builds,
    pub git: Git,
    pub webhooks: Webhooks,
    pub limits: Limits,
    pub requests: Requests,
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

/// `[cached]`: what of the memory cached VMs may take that do not run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cached {
    pub waiting_mib: Option<u64>,
    pub account_waiting_mib: Option<u64>,
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
    pub ended_age_secs: u64,
    pub ended_bytes: u64,
    pub ended_account_bytes: u64,
}

/// `[vm]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vm {
    pub disk_mib: u32,
    pub start_timeout_secs: u64,
}

/// `[builds]`: how many at once, what each may use, and what is kept of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Builds {
    pub parallel: u16,
    pub timeout_secs: u64,
    pub queue_timeout_secs: u64,
    pub queued: u64,
    pub memory_mib: u32,
    pub cpu: u32,
    pub disk_mib: u32,
    pub layer_max_bytes: u64,
    pub archive_entries: u64,
    pub download_max_bytes: u64,
    pub download_timeout_secs: u64,
    pub tmpfs_mib: u32,
    pub cache_bytes: u64,
    pub cache_age_secs: u64,
    pub cache_mount_mib: u32,
    pub cache_mounts_bytes: u64,
    pub log_age_secs: u64,
    pub logs_bytes: u64,
    pub allow: Vec<IpNet>,
}

/// `[git]`: the forge that repositories come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Git {
    pub base_url: String,
    pub ca_file: Option<PathBuf>,
    pub max_bytes: u64,
    pub max_files: u64,
    pub timeout_secs: u64,
}

/// `[webhooks]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    pub allow: Vec<IpNet>,
    pub ca_file: Option<PathBuf>,
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
    pub queued_builds: u64,
}

/// `[requests]`: how often the API may be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Requests {
    pub per_second_of_key: NonZeroU32,
    pub per_second_of_account: NonZeroU32,
}

impl Default for Settings {
    fn default() -> Self {
        let server = ServerConfig::default();
        Self {
            data_dir: PathBuf::from("/var/lib/cakework"),
            listen: server.listen,
            edge_listen: server.edge_listen,
            metrics_listen: server.metrics_listen,
            base_domain: server.base_domain,
            public_url: server.public_url,
            cors_origins: server.cors_origins,
            isolation: Isolation::default(),
            capacity: Capacity::default(),
            cached: Cached::default(),
            network: Network::default(),
            images: Images::default(),
            logs: Logs::default(),
            vm: Vm { disk_mib: server.vm_disk_mib, start_timeout_secs: server.start_timeout_secs },
            builds: Builds::default(),
            git: Git::default(),
            webhooks: Webhooks::default(),
            limits: Limits::default(),
            requests: Requests::default(),
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
        let (logs, ended) = (LogConfig::default(), Retention::default());
        Self {
            segment_bytes: logs.segment_bytes,
            total_bytes: logs.total_bytes,
            lines_per_second: logs.lines_per_second,
            bytes_per_second: logs.bytes_per_second,
            burst_lines: logs.burst_lines,
            burst_bytes: logs.burst_bytes,
            ended_age_secs: ended.age_secs,
            ended_bytes: ended.bytes,
            ended_account_bytes: ended.scope_bytes,
        }
    }
}

impl Default for Vm {
    fn default() -> Self {
        Settings::default().vm
    }
}

impl Default for Builds {
    fn default() -> Self {
        let builds = BuildConfig::default();
        let rules = BuildRules::default();
        Self {
            parallel: builds.parallel,
            timeout_secs: rules.timeout_secs,
            queue_timeout_secs: rules.queue_timeout_secs,
            queued: rules.queued,
            memory_mib: builds.memory_mib,
            cpu: builds.cpu,
            disk_mib: builds.disk_mib,
            layer_max_bytes: builds.layer_max_bytes,
            archive_entries: builds.archive_entries,
            download_max_bytes: builds.download_max_bytes,
            download_timeout_secs: builds.download_timeout_secs,
            tmpfs_mib: builds.tmpfs_mib,
            cache_bytes: builds.cache_bytes,
            cache_age_secs: builds.cache_age_secs,
            cache_mount_mib: builds.cache_mount_mib,
            cache_mounts_bytes: builds.cache_mounts_bytes,
            log_age_secs: builds.log_age_secs,
            logs_bytes: builds.logs_bytes,
            allow: Vec::new(),
        }
    }
}

impl Default for Git {
    fn default() -> Self {
        let git = GitConfig::default();
        Self {
            base_url: git.base_url,
            ca_file: git.ca_file,
            max_bytes: git.max_bytes,
            max_files: git.max_files,
            timeout_secs: git.timeout_ms / 1000,
        }
    }
}

impl Default for Requests {
    fn default() -> Self {
        let RequestRates { of_key, of_account } = RequestRates::default();
        Self { per_second_of_key: of_key, per_second_of_account: of_account }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let AccountLimits { vms, cpu, memory_mib, volume_gb, images, queued_builds } = AccountLimits::default();
        Self { vms, cpu, memory_mib, volume_gb, images, queued_builds }
    }
}
