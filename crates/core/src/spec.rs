//! What a VM is to be: the part of a start request that its host needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The specification of a VM, validated by the api and carried to a host.
///
/// It holds no host path, no OCI runtime spec and no argument of a host program.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VmSpec {
    /// The image's manifest digest, `sha256:<64 hex>`: what the host's layer store knows it by.
    pub image_digest: String,
    /// CPUs, 1–8.
    pub cpu: u32,
    /// Memory in MiB, 256–16384: seen inside as the limit.
    pub memory_mib: u32,
    /// Writable root disk in MiB.
    pub disk_mib: u32,
    /// Size of the ext4 volume at `/data`, in GB (10⁹ bytes are not meant: 1 GB is 1024 MiB).
    pub volume_gb: Option<u32>,
    /// The port that the edge may reach.
    pub port: Option<u16>,
    /// Environment variables set over the image's.
    pub env: BTreeMap<String, String>,
    /// Replaces the image's command; its entrypoint stays.
    pub command: Option<Vec<String>>,
    /// Time between the stop signal and the kill.
    pub stop_grace_ms: u64,
}

/// Environment variables may hold secrets: they are not printed.
impl std::fmt::Debug for VmSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VmSpec")
            .field("image_digest", &self.image_digest)
            .field("cpu", &self.cpu)
            .field("memory_mib", &self.memory_mib)
            .field("disk_mib", &self.disk_mib)
            .field("volume_gb", &self.volume_gb)
            .field("port", &self.port)
            .field("env_names", &self.env.keys())
            .finish_non_exhaustive()
    }
}

impl VmSpec {
    /// What this VM takes from its host's capacity.
    pub fn demand(&self) -> crate::admission::Amounts {
        crate::admission::Amounts {
            memory_mib: u64::from(self.memory_mib),
            cpu_milli: u64::from(self.cpu) * 1000,
            disk_mib: u64::from(self.disk_mib) + u64::from(self.volume_gb.unwrap_or(0)) * 1024,
            slots: 1,
        }
    }
}
