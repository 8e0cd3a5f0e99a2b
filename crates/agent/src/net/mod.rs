//! A private network per VM: network namespace, veth pair, firewall, and the DNS forwarder that guests are given.
//!
//! Every name and address on the host derives from the instance and the slot, so that a half-made network can be
//! finished or taken away without a record of how far it came.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use cakework_core::id::{InstanceId, VmId};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

mod accepts;
mod conntrack;
pub mod dns;
mod flows;
mod link;
mod name;
mod netns;
mod nft;
mod rules;

pub use accepts::accepts;
use flows::Flows;
pub use name::{GUEST, GUEST_MAC, HOST_ADDRESS};

use crate::sys::packet::PacketSocket;

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

/// How an engine learns of the guest's end of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It finds address and route in the namespace, and takes them away from there.
    ByNamespace,
    /// It is handed a packet socket, and told what it has to know.
    BySocket,
}

/// A VM's network as it is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The network namespace to start the engine with, `/run/netns/<name>`.
    pub netns: PathBuf,
    /// The VM's address, visible from the host only.
    pub address: Ipv4Addr,
    /// What the guest sees.
    pub guest: GuestNet,
    /// The namespace was not there before.
    pub fresh: bool,
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
    /// The kernel refused a request for a link, an address or a route.
    #[error("could not {what}: {error}")]
    Netlink {
        /// The step.
        what: &'static str,
        /// The kernel's answer.
        error: rtnetlink::Error,
    },
    /// The kernel did not answer.
    #[error("could not {what}: no answer in time")]
    Timeout {
        /// The step.
        what: &'static str,
    },
    /// Something that was made is gone: another program works on it.
    #[error("{what} vanished while it was set up")]
    Vanished {
        /// The thing.
        what: &'static str,
    },
    /// `nft` could not be run, or refused the rules.
    #[error("nft: {message}")]
    Nft {
        /// What it said.
        message: String,
    },
    /// A file or a namespace could not be made or removed.
    #[error("could not {what}: {error}")]
    Io {
        /// The step.
        what: &'static str,
        /// The cause.
        error: std::io::Error,
    },
}

impl NetError {
    fn is_errno(&self, errno: rustix::io::Errno) -> bool {
        match self {
            Self::Netlink { error: rtnetlink::Error::NetlinkError(message), .. } => {
                message.raw_code().unsigned_abs() == errno.raw_os_error().unsigned_abs()
            }
            _ => false,
        }
    }
}

/// The networks of one instance on this host.
#[derive(Debug, Clone)]
pub struct Network {
    config: Arc<NetConfig>,
    /// A netlink socket in the host's namespace.
    host: rtnetlink::Handle,
    flows: Flows,
}

impl Network {
    /// Makes the instance's table anew, in one transaction, and turns IPv4 forwarding on; VMs that are attached stay
    /// so. To be called within a tokio runtime that outlives the value.
    ///
    /// # Errors
    /// Where the kernel or `nft` refuses.
    pub async fn open(config: NetConfig) -> Result<Self, NetError> {
        let host = link::connect()?;
        blocking("prepare the directory of namespaces", netns::prepare).await?;
        nft::apply(&rules::instance(&config)).await?;
        // After the rules: there is no moment in which a VM's packets are forwarded unjudged.
        blocking("turn on IPv4 forwarding", enable_forwarding).await?;
        let links = link::names(&host).await?;
        let network = Self { config: Arc::new(config), host, flows: Flows::default() };
        // Which addresses were left is not on record.
        let config = Arc::clone(&network.config);
        let is_gone = move |address| {
            let slot = name::slot(config.pool, address);
            slot.is_some_and(|slot| !links.contains(&name::interface(&config.instance, slot)))
        };
        blocking("forget connections", move || conntrack::forget(is_gone)).await?;
        Ok(network)
    }

    /// Makes a VM's network, finishes a half-made one, or makes it ready for the next start of the engine, which finds
    /// address and route in the namespace. Not for a VM whose engine runs: the engine owns the guest's address.
    ///
    /// # Errors
    /// Where the kernel refuses; what was made by then is finished by the next call or taken by [`Self::detach`].
    pub async fn attach(&self, vm: &VmId, slot: Slot, port: Option<u16>) -> Result<Attachment, NetError> {
        let (attachment, _) = self.attach_guest(vm, slot, Told::ByNamespace).await?;
        self.attach_host(vm, slot, port, attachment.fresh).await?;
        Ok(attachment)
    }

    /// The half of [`Self::attach`] that the engine needs to start: the namespace and the guest's end. The host's end
    /// is down, so nothing passes. With [`Told::BySocket`] also what the engine is handed.
    ///
    /// # Errors
    /// As for [`Self::attach`].
    pub async fn attach_guest(
        &self,
        vm: &VmId,
        slot: Slot,
        told: Told,
    ) -> Result<(Attachment, Option<PacketSocket>), NetError> {
        let plan = Plan::new(&self.config, vm, slot)?;
        let (fresh, packets) = plan.guest_end(&self.host, told).await?;
        Ok((Attachment { netns: plan.netns, address: plan.address, guest: name::GUEST, fresh }, packets))
    }

    /// The other half, which may be made while the engine starts, and again while it runs: the rules, then the host's
    /// end. `fresh` says that the namespace was new.
    ///
    /// # Errors
    /// As for [`Self::attach`].
    pub async fn attach_host(&self, vm: &VmId, slot: Slot, port: Option<u16>, fresh: bool) -> Result<(), NetError> {
        let plan = Plan::new(&self.config, vm, slot)?;
        let (rules, free) = tokio::join!(plan.rules(port, fresh), self.flows.free(plan.address));
        rules.and(free)?;
        plan.host_end(&self.host).await
    }

    /// Removes all of a VM's network; idempotent. The link goes first and the namespace's name last: a link is never
    /// there without its rules, and as long as anything is left the name tells that it is.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn detach(&self, vm: &VmId, slot: Slot) -> Result<(), NetError> {
        let plan = Plan::new(&self.config, vm, slot)?;
        plan.remove_link(&self.host).await?;
        plan.remove_rules().await?;
        self.flows.leave(plan.address);
        plan.remove_netns().await
    }

    /// Forgets the connections of VMs that were detached. To be called now and then; an address whose turn comes before is
    /// seen to by [`Self::attach`].
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn forget_flows(&self) -> Result<(), NetError> {
        self.flows.forget().await
    }

    /// Brings back the rules of the instance and of these VMs where somebody removed them, such as a restart of another
    /// firewall that begins with `flush ruleset`. It leaves all else alone, so it may be called while the VMs run, and
    /// often. Answers whether anything was missing. Between the loss and this call VMs are cut off: see
    /// [`link::harden_host_end`].
    ///
    /// # Errors
    /// Where `nft` refuses; every VM was tried.
    pub async fn restore_rules(&self, vms: &[(Slot, Option<u16>)]) -> Result<bool, NetError> {
        let lost = self.lost_rules(vms).await?;
        let mut result = Ok(lost.any());
        if lost.of_instance {
            result = nft::apply(&rules::instance(&self.config)).await.and(result);
        }
        for (slot, port) in lost.of_vms {
            let address = name::address(self.config.pool, slot)?;
            let instance = &self.config.instance;
            let script = rules::without_vm(instance, slot) + &rules::vm(instance, slot, address, port);
            result = nft::apply(&script).await.and(result);
        }
        result
    }

    /// Whether rules of the instance or of these VMs are missing. Those of a VM come a moment after its link.
    ///
    /// # Errors
    /// Where the kernel or `nft` refuses to list.
    pub async fn lacks_rules(&self, vms: &[(Slot, Option<u16>)]) -> Result<bool, NetError> {
        Ok(self.lost_rules(vms).await?.any())
    }

    async fn lost_rules(&self, vms: &[(Slot, Option<u16>)]) -> Result<Lost, NetError> {
        let (instance, table) = (&self.config.instance, name::prefix(&self.config.instance));
        let (there, links) = (nft::chains().await?, link::names(&self.host).await?);
        let is_there =
            |family: &str, chain: &str| there.iter().any(|(f, t, c)| f == family && *t == table && c == chain);
        let is_lost = |slot| {
            links.contains(&name::interface(instance, slot))
                && !rules::chains(instance, slot).iter().all(|chain| is_there("netdev", chain))
        };
        Ok(Lost {
            of_instance: !is_there("inet", rules::LAST_CHAIN),
            of_vms: vms.iter().copied().filter(|(slot, _)| is_lost(*slot)).collect(),
        })
    }

    /// The VMs that have something on this host. A VM's namespace is made first and removed last, so its name stands
    /// for all of it.
    ///
    /// # Errors
    /// Where the kernel refuses to list.
    pub async fn list(&self) -> Result<Vec<VmId>, NetError> {
        let names = blocking("list namespaces", netns::names).await?;
        Ok(names.iter().filter_map(|text| name::vm_of_netns(&self.config.instance, text)).collect())
    }

    /// Removes everything of an instance, its tables too. Forwarding stays on: others may have come to need it.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn purge(instance: &InstanceId) -> Result<(), NetError> {
        let host = link::connect()?;
        for interface in link::names(&host).await? {
            if name::is_interface(instance, &interface) {
                link::remove(&host, &interface).await?;
            }
        }
        let table = name::prefix(instance);
        nft::apply(&["inet", "netdev"].map(|family| rules::without(family, &table)).concat()).await?;
        for vm in blocking("list namespaces", netns::names).await? {
            if let Some(vm) = name::vm_of_netns(instance, &vm) {
                let path = name::netns(instance, &vm);
                blocking("remove a namespace", move || netns::remove(&path)).await?;
            }
        }
        Ok(())
    }
}

/// Rules that are missing.
struct Lost {
    of_instance: bool,
    of_vms: Vec<(Slot, Option<u16>)>,
}

impl Lost {
    const fn any(&self) -> bool {
        self.of_instance || !self.of_vms.is_empty()
    }
}

/// The steps of [`Network::attach`] and [`Network::detach`] for one VM, each of which can be the last one before a
/// kill.
struct Plan {
    instance: InstanceId,
    slot: Slot,
    address: Ipv4Addr,
    interface: String,
    netns: PathBuf,
}

impl Plan {
    fn new(config: &NetConfig, vm: &VmId, slot: Slot) -> Result<Self, NetError> {
        Ok(Self {
            instance: config.instance.clone(),
            slot,
            address: name::address(config.pool, slot)?,
            interface: name::interface(&config.instance, slot),
            netns: name::netns(&config.instance, vm),
        })
    }

    /// The namespace, the pair, and the guest's end of it; answers whether the namespace is new.
    async fn guest_end(&self, host: &rtnetlink::Handle, told: Told) -> Result<(bool, Option<PacketSocket>), NetError> {
        let (host, netns, interface) = (host.clone(), self.netns.clone(), self.interface.clone());
        let work = move |fresh| async move {
            let guest = link::connect()?;
            let index = link::make_guest_end(&guest, &host, &netns, &interface, fresh).await?;
            let packets = match told {
                Told::ByNamespace => link::address_guest_end(&guest, index).await.map(|()| None)?,
                Told::BySocket => Some(PacketSocket::open(name::GUEST.interface))
                    .transpose()
                    .map_err(|error| NetError::Io { what: "open the guest's packet socket", error })?,
            };
            Ok((fresh, packets))
        };
        netns::within(self.netns.clone(), work)
            .await
            .map_err(|error| NetError::Io { what: "make a namespace", error })?
    }

    /// Chains from an earlier life are replaced. Where there can't be one the deletion is spared: it waits for the
    /// kernel's readers, which takes most of the time of an attachment.
    async fn rules(&self, port: Option<u16>, fresh: bool) -> Result<(), NetError> {
        let script = rules::vm(&self.instance, self.slot, self.address, port);
        if fresh && nft::apply(&script).await.is_ok() {
            return Ok(());
        }
        nft::apply(&(rules::without_vm(&self.instance, self.slot) + &script)).await
    }

    async fn host_end(&self, host: &rtnetlink::Handle) -> Result<(), NetError> {
        link::harden_host_end(&self.interface)?;
        link::make_host_end(host, &self.interface, self.address).await
    }

    async fn remove_link(&self, host: &rtnetlink::Handle) -> Result<(), NetError> {
        link::remove(host, &self.interface).await
    }

    async fn remove_rules(&self) -> Result<(), NetError> {
        nft::apply(&rules::without_vm(&self.instance, self.slot)).await
    }

    async fn remove_netns(&self) -> Result<(), NetError> {
        let path = self.netns.clone();
        blocking("remove a namespace", move || netns::remove(&path)).await
    }
}

/// Written only where it is off: writing resets other settings of the host.
fn enable_forwarding() -> io::Result<()> {
    const PATH: &str = "/proc/sys/net/ipv4/ip_forward";
    if std::fs::read_to_string(PATH)?.trim() != "1" {
        std::fs::write(PATH, "1")?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NetError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| NetError::Io { what, error })
}

#[cfg(test)]
mod tests;
