//! A host, an internet and a LAN made of network namespaces.

use std::fs::File;
use std::future::Future;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use cakework_agent::net::{Attachment, NetConfig, Network, Slot};
use cakework_core::id::{InstanceId, VmId};
use rustix::thread::LinkNameSpaceType;

/// The host's address on its uplink; guests' packets leave under it.
pub const UPLINK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The host's address in the LAN.
pub const HOST_IN_LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
/// A public address of the host beside its uplink's.
pub const HOST_PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
/// A server in the internet.
pub const INTERNET: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// A server in the internet that the operator denies.
pub const INTERNET_DENIED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
/// A name server in the internet.
pub const INTERNET_DNS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// A server in the LAN that the operator allows.
pub const LAN_ALLOWED: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 9);
/// Addresses that LAN servers have: one of each denied range that a packet can be routed to, the metadata service's,
/// and the one that guests know as their gateway.
pub const LAN: [Ipv4Addr; 12] = [
    Ipv4Addr::new(192, 168, 77, 2),
    Ipv4Addr::new(0, 1, 2, 3),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(10, 99, 0, 5),
    Ipv4Addr::new(100, 64, 9, 9),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 1, 1),
    Ipv4Addr::new(172, 16, 9, 9),
    Ipv4Addr::new(192, 0, 0, 9),
    Ipv4Addr::new(192, 168, 1, 1),
    Ipv4Addr::new(198, 19, 0, 9),
    Ipv4Addr::new(240, 0, 0, 5),
];
/// The user that may connect to VMs.
pub const EDGE_UID: u32 = 64_242;
/// A user that may not.
pub const OTHER_UID: u32 = 64_243;
/// The forwarder's port.
pub const DNS_PORT: u16 = 5399;
/// The port that VMs declare.
pub const VM_PORT: u16 = 8080;

/// A network namespace without a name: it ends with its last link and file descriptor.
pub struct Space {
    fd: OwnedFd,
}

impl Space {
    fn new() -> Self {
        let fd = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("these tests need root");
                File::open("/proc/thread-self/ns/net").expect("this thread's namespace").into()
            });
            made.join().expect("the thread that makes a namespace")
        });
        let space = Self { fd };
        space.ip("link set lo up");
        space
    }

    /// The namespace of this file.
    pub fn open(path: &Path) -> Self {
        Self { fd: File::open(path).expect("a namespace").into() }
    }

    /// Runs `work` on a thread in the namespace. A socket made there stays there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// As [`Self::run`], as another user.
    pub fn run_as<T: Send>(&self, uid: u32, work: impl FnOnce() -> T + Send) -> T {
        self.run(|| {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(uid)).expect("root becomes anyone");
            work()
        })
    }

    /// Runs a program in the namespace; its failure fails the test.
    pub fn sh(&self, line: &str) {
        let output = self.run(|| Command::new("sh").arg("-ec").arg(line).output().expect("a shell"));
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs `ip` in the namespace.
    pub fn ip(&self, args: &str) {
        self.sh(&format!("ip {args}"));
    }

    fn enter(&self) {
        rustix::thread::move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("these tests need root");
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd())
    }
}

/// A host with its surroundings and an instance on it.
pub struct World {
    /// The host.
    pub host: Space,
    /// What its uplink leads to. It has no way back to VMs' addresses.
    pub internet: Space,
    /// The network beside it. It knows a way to VMs' addresses: by the host.
    pub lan: Space,
    /// The instance's configuration.
    pub config: NetConfig,
    network: Network,
    _names: Names,
    runtime: tokio::runtime::Runtime,
}

/// A VM's network with a plain namespace for a guest.
pub struct Vm {
    /// Its id.
    pub id: VmId,
    /// Its slot.
    pub slot: Slot,
    /// What `attach` answered.
    pub attachment: Attachment,
    /// Its inside.
    pub inside: Space,
}

impl World {
    /// Runs a test in a new world. The test's thread is on the host.
    pub fn play(test: impl FnOnce(&Self) + Send) {
        let host = Space::new();
        let inside = Space { fd: host.fd.try_clone().expect("a descriptor") };
        inside.run(|| test(&Self::new(host)));
    }

    fn new(host: Space) -> Self {
        let (internet, lan) = (Space::new(), Space::new());
        host.ip(&format!("link add up0 type veth peer name net0 netns {}", internet.path()));
        host.ip(&format!("link add lan0 type veth peer name net0 netns {}", lan.path()));
        host.ip(&format!("addr add {UPLINK}/24 dev up0"));
        host.ip(&format!("addr add {HOST_IN_LAN}/24 dev lan0"));
        host.ip(&format!("addr add {HOST_PUBLIC}/32 dev lo"));
        for link in ["up0", "lan0"] {
            host.ip(&format!("link set {link} up"));
        }
        internet.ip("addr add 198.51.100.1/24 dev net0");
        internet.ip("link set net0 up");
        for server in [INTERNET, INTERNET_DENIED, INTERNET_DNS] {
            internet.ip(&format!("addr add {server}/32 dev lo"));
        }
        lan.ip("addr add 192.168.77.2/24 dev net0");
        lan.ip("link set net0 up");
        lan.ip(&format!("route add default via {HOST_IN_LAN}"));
        host.ip("route add default via 198.51.100.1");
        for server in LAN.into_iter().skip(1).chain([LAN_ALLOWED]) {
            lan.ip(&format!("addr add {server}/32 dev lo"));
            host.ip(&format!("route replace {server}/32 via 192.168.77.2"));
        }
        let config = NetConfig {
            instance: InstanceId::mint(&mut rand::rng()),
            pool: "10.77.0.0/16".parse().expect("a network"),
            deny: vec![format!("{INTERNET_DENIED}/32").parse().expect("a network")],
            allow: vec![format!("{LAN_ALLOWED}/32").parse().expect("a network")],
            dns_port: DNS_PORT,
            edge_uid: EDGE_UID,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let network = runtime.block_on(Network::open(config.clone())).expect("these tests need root and nft");
        let _names = Names(config.instance.clone());
        Self { host, internet, lan, config, network, _names, runtime }
    }

    /// Attaches a VM with [`VM_PORT`].
    pub fn vm(&self, slot: u16) -> Vm {
        let (id, slot) = (VmId::mint(&mut rand::rng()), Slot(slot));
        let attachment = self.attach(&id, slot, Some(VM_PORT));
        let inside = Space::open(&attachment.netns);
        Vm { id, slot, attachment, inside }
    }

    /// Attaches a VM, or again.
    pub fn attach(&self, vm: &VmId, slot: Slot, port: Option<u16>) -> Attachment {
        self.wait(self.network.attach(vm, slot, port)).expect("attached")
    }

    /// Runs something of the network to its end, within a bound.
    pub fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(std::time::Duration::from_secs(30), what).await };
        self.runtime.block_on(bounded).expect("within the test's deadline")
    }

    /// The network under test.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Removes the rules of the instance's table; guests keep their identity.
    pub fn flush_policy(&self) {
        self.host.sh(&format!("nft flush table inet cw{}", self.config.instance));
    }

    /// Removes a VM's own chains and the link's own check: its guest's packets are neither judged nor translated.
    pub fn flush_identity(&self, vm: &Vm) {
        let link = format!("cw{}{:04x}", self.config.instance, vm.slot.0);
        for chain in ["in", "out"] {
            let chain = format!("chain netdev cw{} {link}_{chain}", self.config.instance);
            self.host.sh(&format!("nft flush {chain}; nft delete {chain}"));
        }
        self.host.sh(&format!("echo 0 > /proc/sys/net/ipv4/conf/{link}/rp_filter"));
    }

    /// Removes all rules there are on the host.
    pub fn flush_everything(&self) {
        self.host.sh("nft flush ruleset");
    }
}

/// The names of an instance's namespaces, which are all that outlives the world.
pub struct Names(pub InstanceId);

impl Drop for Names {
    fn drop(&mut self) {
        let prefix = format!("/run/netns/cw{}-", self.0);
        let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().starts_with(&prefix)) {
            // On the way out of a failed test there is nothing better to do than to go on.
            let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
            let _ = std::fs::remove_file(&path);
        }
    }
}
