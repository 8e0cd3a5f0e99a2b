//! Crash-only: whatever step an attachment or a detachment was killed after, both go through afterwards.
//!
//! Each test plays on a host of its own, a network namespace without a name; it needs root and `nft`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::*;

const WAIT: Duration = Duration::from_secs(20);
const PORT: u16 = 8080;
const SLOT: Slot = Slot(7);

struct Host {
    network: Network,
    vm: VmId,
}

/// What is left of a killed `attach` or `detach`.
#[derive(Debug, Clone, Copy)]
enum Left {
    Nothing,
    File,
    Namespace,
    Pair,
    Rules,
    All,
    WithoutLink,
    WithoutLinkAndRules,
}

const LEFT: [Left; 8] = [
    Left::Nothing,
    Left::File,
    Left::Namespace,
    Left::Pair,
    Left::Rules,
    Left::All,
    Left::WithoutLink,
    Left::WithoutLinkAndRules,
];

/// Runs a test on a host of its own and cleans up behind it, also behind a panic.
fn play(test: impl AsyncFnOnce(&Host) + Send + 'static) {
    let host = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("these tests need root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let lo = rtnetlink::LinkUnspec::new_with_index(1).up().build();
            link::connect().expect("a socket").link().set(lo).execute().await.expect("lo is up");
            let config = NetConfig {
                instance: InstanceId::mint(&mut rand::rng()),
                pool: "10.77.0.0/16".parse().expect("a network"),
                deny: Vec::new(),
                allow: Vec::new(),
                dns_port: 5399,
                edge_uid: 0,
            };
            let network = Network::open(config).await.expect("these tests need root and nft");
            let host = Host { network, vm: VmId::mint(&mut rand::rng()) };
            let _names = Names(host.network.config.instance.clone());
            tokio::time::timeout(WAIT * 4, test(&host)).await.expect("within the test's deadline");
        });
    });
    host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Removes the namespaces' names, which alone outlive the host.
struct Names(InstanceId);

impl Drop for Names {
    fn drop(&mut self) {
        for name in netns::names().unwrap_or_default() {
            if let Some(vm) = name::vm_of_netns(&self.0, &name) {
                // On the way out of a failed test there is nothing better to do than to go on.
                let _ = netns::remove(&name::netns(&self.0, &vm));
            }
        }
    }
}

impl Host {
    fn plan(&self) -> Plan {
        Plan::new(&self.network.config, &self.vm, SLOT).expect("a slot of the pool")
    }

    async fn leave(&self, left: Left) {
        let (plan, host) = (self.plan(), &self.network.host);
        match left {
            Left::Nothing => {}
            Left::File => drop(std::fs::File::create(&plan.netns).expect("a file")),
            Left::Namespace => {
                let made = netns::within(plan.netns.clone(), |made| async move { made }).await;
                assert!(made.expect("a namespace"));
            }
            Left::Pair => assert!(plan.guest_end(host, Told::BySocket).await.expect("the pair").0),
            Left::Rules => {
                plan.guest_end(host, Told::ByNamespace).await.expect("the pair");
                plan.rules(Some(PORT), true).await.expect("the rules");
            }
            Left::All => drop(self.attach().await),
            Left::WithoutLink => {
                self.attach().await;
                plan.remove_link(host).await.expect("removed");
            }
            Left::WithoutLinkAndRules => {
                self.attach().await;
                plan.remove_link(host).await.expect("removed");
                plan.remove_rules().await.expect("removed");
            }
        }
    }

    async fn attach(&self) -> Attachment {
        self.network.attach(&self.vm, SLOT, Some(PORT)).await.expect("attached")
    }

    async fn assert_gone(&self) {
        let plan = self.plan();
        assert_eq!(self.network.list().await.expect("listed"), []);
        assert!(!plan.netns.exists());
        assert!(!link::names(&self.network.host).await.expect("listed").contains(&plan.interface));
        let chains = nft::chains().await.expect("listed");
        assert!(chains.iter().all(|(_, _, chain)| !chain.starts_with(&plan.interface)), "{chains:?}");
    }
}

/// A connection from the host to the VM's port, with an answer.
async fn assert_works(attachment: &Attachment) {
    let listen = |_| async { TcpListener::bind((name::GUEST.address, PORT)).expect("the guest has its address") };
    let listener = netns::within(attachment.netns.clone(), listen).await.expect("inside");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"hello").expect("written");
    });
    let to = SocketAddr::from((attachment.address, PORT));
    let mut stream = TcpStream::connect_timeout(&to, WAIT).expect("the VM's port is reached");
    stream.set_read_timeout(Some(WAIT)).expect("a timeout");
    stream.read_exact(&mut [0; 5]).expect("an answer");
    server.join().expect("the guest's server");
}

fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mounts");
    mounts.contains(path.to_str().expect("a plain path"))
}

#[test]
fn an_attachment_goes_through_whatever_is_left() {
    for left in LEFT {
        play(async move |host| {
            host.leave(left).await;
            let attachment = host.attach().await;
            assert_works(&attachment).await;
            host.network.detach(&host.vm, SLOT).await.expect("detached");
            host.assert_gone().await;
        });
    }
}

#[test]
fn a_detachment_goes_through_whatever_is_left() {
    for left in LEFT {
        play(async move |host| {
            host.leave(left).await;
            for _ in 0..2 {
                host.network.detach(&host.vm, SLOT).await.unwrap_or_else(|error| panic!("{left:?}: {error}"));
                host.assert_gone().await;
                assert!(!is_mounted(&host.plan().netns));
            }
        });
    }
}

#[test]
fn whatever_is_left_is_listed() {
    for left in [Left::File, Left::Namespace, Left::Pair, Left::Rules, Left::All, Left::WithoutLinkAndRules] {
        play(async move |host| {
            host.leave(left).await;
            assert_eq!(host.network.list().await.expect("listed"), std::slice::from_ref(&host.vm), "{left:?}");
        });
    }
}

#[test]
fn a_slot_that_a_lost_vm_holds_is_taken_over() {
    play(async |host| {
        host.attach().await;
        let held = std::fs::File::open(host.plan().netns).expect("the namespace lives on without its name");
        host.plan().remove_netns().await.expect("removed");
        let other = Host { network: host.network.clone(), vm: VmId::mint(&mut rand::rng()) };
        assert_works(&other.attach().await).await;
        drop(held);
    });
}

#[test]
fn lost_rules_come_back_and_only_then_does_the_vm_work() {
    play(async |host| {
        let attachment = host.attach().await;
        let vms = [(SLOT, Some(PORT))];
        assert!(!host.network.restore_rules(&vms).await.expect("looked"));
        nft::apply("flush ruleset").await.expect("flushed");
        assert!(TcpStream::connect_timeout(&(attachment.address, PORT).into(), Duration::from_millis(300)).is_err());
        assert!(host.network.restore_rules(&vms).await.expect("restored"));
        assert_works(&attachment).await;
        assert!(!host.network.restore_rules(&vms).await.expect("looked"));
    });
}
