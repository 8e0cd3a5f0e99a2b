//! From settings and an instance to what each role is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use cakework_agent::git::GitConfig;
use cakework_agent::logs::{LogConfig, Retention};
use cakework_agent::net::NetConfig;
use cakework_agent::net::dns::{DnsConfig, DnsLimits};
use cakework_agent::{AgentConfig, BuildConfig, CachedConfig, CapacityConfig};
use cakework_image::ImageConfig;
use cakework_image::egress::EgressConfig;
use cakework_server::{AccountLimits, BuildRules, RequestRates, ServerConfig};

use super::settings::Settings;
use crate::instance::Instance;

/// An instance in its place: what the settings alone don't say.
#[derive(Debug)]
pub struct Placed<'a> {
    pub instance: &'a Instance,
    /// The `cakework` program itself.
    pub program: PathBuf,
    /// The port of the DNS forwarder.
    pub dns_port: u16,
}

/// What the agent is told.
pub fn agent(settings: &Settings, placed: &Placed<'_>) -> AgentConfig {
    let instance = placed.instance;
    let capacity = &settings.capacity;
    AgentConfig {
        instance: instance.id.clone(),
        dir: instance.agent_dir(),
        socket: instance.agent_socket(),
        socket_gid: Some(instance.api.gid),
        program: placed.program.clone(),
        guest: None,
        runsc: settings.isolation.runsc.clone(),
        capacity: CapacityConfig {
            memory_mib: capacity.memory_mib,
            cpu_milli: capacity.cpu_milli,
            cpu_factor: capacity.cpu_factor,
            disk_mib: capacity.disk_mib,
            slots: capacity.slots,
        },
        cgroup_parent: capacity.cgroup_parent.clone(),
        cached: CachedConfig {
            waiting_mib: settings.cached.waiting_mib,
            scope_waiting_mib: settings.cached.account_waiting_mib,
        },
        network: NetConfig {
            instance: instance.id.clone(),
            pool: instance.pool,
            deny: settings.network.deny.clone(),
            allow: settings.network.allow.clone(),
            dns_port: placed.dns_port,
            edge_uid: instance.api.uid,
        },
        images: images(settings),
        logs: LogConfig {
            segment_bytes: settings.logs.segment_bytes,
            total_bytes: settings.logs.total_bytes,
            lines_per_second: settings.logs.lines_per_second,
            bytes_per_second: settings.logs.bytes_per_second,
            burst_lines: settings.logs.burst_lines,
            burst_bytes: settings.logs.burst_bytes,
        },
        ended_logs: Retention {
            age_secs: settings.logs.ended_age_secs,
            bytes: settings.logs.ended_bytes,
            scope_bytes: settings.logs.ended_account_bytes,
        },
        builds: builds(settings),
        git: GitConfig {
            base_url: settings.git.base_url.clone(),
            ca_file: settings.git.ca_file.clone(),
            max_bytes: settings.git.max_bytes,
            max_files: settings.git.max_files,
            timeout_ms: settings.git.timeout_secs.saturating_mul(1000),
            ..GitConfig::default()
        },
    }
}

fn builds(settings: &Settings) -> BuildConfig {
    let builds = &settings.builds;
    BuildConfig {
        parallel: builds.parallel,
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
    }
}

fn images(settings: &Settings) -> ImageConfig {
    let images = &settings.images;
    let mut config = ImageConfig {
        mirrors: images.mirrors.clone(),
        plain_http: images.plain_http.clone(),
        ca_file: images.ca_file.clone(),
        parallel_layers: images.parallel_layers,
        egress: EgressConfig { deny: settings.network.deny.clone(), allow: settings.builds.allow.clone() },
        ..ImageConfig::default()
    };
    config.limits.layers = images.max_layers;
    config.limits.compressed_bytes = images.max_compressed_bytes;
    config.limits.inflated_bytes = images.max_inflated_bytes;
    config.limits.entries = images.max_entries;
    config
}

/// What the api is told. `dir` is its own directory, `agent_socket` where the host protocol is spoken.
pub fn api(settings: &Settings, dir: PathBuf, agent_socket: PathBuf) -> ServerConfig {
    let limits = &settings.limits;
    ServerConfig {
        dir,
        listen: settings.listen,
        edge_listen: settings.edge_listen,
        metrics_listen: settings.metrics_listen,
        base_domain: settings.base_domain.clone(),
        public_url: settings.public_url.clone(),
        cors_origins: settings.cors_origins.clone(),
        agent_socket,
        limits: AccountLimits {
            vms: limits.vms,
            cpu: limits.cpu,
            memory_mib: limits.memory_mib,
            volume_gb: limits.volume_gb,
            images: limits.images,
            queued_builds: limits.queued_builds,
        },
        rates: RequestRates {
            of_key: settings.requests.per_second_of_key,
            of_account: settings.requests.per_second_of_account,
        },
        vm_disk_mib: settings.vm.disk_mib,
        start_timeout_secs: settings.vm.start_timeout_secs,
        builds: BuildRules {
            parallel: settings.builds.parallel.into(),
            timeout_secs: settings.builds.timeout_secs,
            queue_timeout_secs: settings.builds.queue_timeout_secs,
            queued: settings.builds.queued,
        },
        webhook_allow: settings.webhooks.allow.clone(),
        webhook_ca_file: settings.webhooks.ca_file.clone(),
        print_first_key: true,
    }
}

/// What the DNS forwarder is told.
pub fn dns(settings: &Settings, placed: &Placed<'_>) -> DnsConfig {
    DnsConfig {
        port: placed.dns_port,
        upstreams: settings.network.upstream_dns.iter().map(|ip| SocketAddr::new(*ip, 53)).collect(),
        limits: DnsLimits::default(),
    }
}
