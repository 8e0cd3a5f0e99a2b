//! What the agent is told when it starts: resolved by the supervisor, read as JSON from standard input.

use std::path::PathBuf;

use cakework_core::id::InstanceId;
use cakework_image::ImageConfig;
use serde::{Deserialize, Serialize};

use crate::build::BuildConfig;
use crate::build::git::GitConfig;
use crate::cached::Caps;
use crate::logs::{LogConfig, Retention};
use crate::net::NetConfig;

/// The configuration of the agent role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentConfig {
    /// The instance: all names on the host begin with it.
    pub instance: InstanceId,
    /// The agent's own directory, owned by root.
    pub dir: PathBuf,
    /// The unix socket that the host protocol is served on.
    pub socket: PathBuf,
    /// The group that may open the socket, beside root.
    pub socket_gid: Option<u32>,
    /// The `cakework` program: monitors and unpackers are started from it.
    pub program: PathBuf,
    /// The program that works on VMs' files from inside, linked statically; `program` where absent.
    #[serde(default)]
    pub guest: Option<PathBuf>,
    /// gVisor's `runsc`.
    pub runsc: PathBuf,
    /// What the host may promise; absent amounts are measured.
    #[serde(default)]
    pub capacity: CapacityConfig,
    /// A cgroup, from the hierarchy's root, that the instance's own is made in; the root itself where absent.
    #[serde(default)]
    pub cgroup_parent: Option<String>,
    /// What of the memory may be held by cached VMs that do not run.
    #[serde(default)]
    pub cached: CachedConfig,
    /// The VMs' networks.
    pub network: NetConfig,
    /// Where images come from.
    #[serde(default)]
    pub images: ImageConfig,
    /// The limits of each VM's log, and of each build's.
    #[serde(default)]
    pub logs: LogConfig,
    /// How long the logs of VMs that are over are kept.
    #[serde(default)]
    pub ended_logs: Retention,
    /// What builds may use.
    #[serde(default)]
    pub builds: BuildConfig,
    /// Where the repositories of builds come from.
    #[serde(default)]
    pub git: GitConfig,
}

impl AgentConfig {
    /// Where the engine keeps its own state.
    pub(crate) fn runsc_root(&self) -> PathBuf {
        self.dir.join("runsc")
    }

    /// The same for builds: a file system in memory, since a secret that is a variable is in that state. The name is as
    /// short as the other: a socket lies in it.
    pub(crate) fn build_runsc_root(&self) -> PathBuf {
        self.dir.join("build")
    }
}

/// What cached VMs may hold that do not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CachedConfig {
    /// Memory of sandboxes that wait for a start or to be woken, in MiB; absent: a quarter of what may be promised.
    pub waiting_mib: Option<u64>,
    /// The same for one scope; absent: half of that.
    pub scope_waiting_mib: Option<u64>,
}

impl CachedConfig {
    pub(crate) fn caps(&self, memory_mib: u64) -> Caps {
        let host_mib = self.waiting_mib.unwrap_or(memory_mib / 4);
        Caps { host_mib, scope_mib: self.scope_waiting_mib.unwrap_or(host_mib / 2) }
    }
}

/// What the host may promise to VMs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CapacityConfig {
    /// Memory in MiB; absent: the machine's, less what the host itself needs.
    pub memory_mib: Option<u64>,
    /// CPU time in thousandths of a CPU; absent: the machine's CPUs times [`Self::cpu_factor`].
    pub cpu_milli: Option<u64>,
    /// How often each CPU may be promised: most VMs idle most of the time.
    pub cpu_factor: u32,
    /// Disk in MiB; absent: what is free where the VMs' disks lie, less a tenth.
    pub disk_mib: Option<u64>,
    /// VMs at once.
    pub slots: u16,
}

impl Default for CapacityConfig {
    fn default() -> Self {
        Self { memory_mib: None, cpu_milli: None, cpu_factor: 16, disk_mib: None, slots: 512 }
    }
}
