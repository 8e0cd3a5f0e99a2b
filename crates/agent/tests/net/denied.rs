//! Every row of the deny matrix: the probe fails and the target logs nothing; without the rules the same probe
//! comes through and is logged.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::probe::{ALL, Overheard, PORTS, Target, Way, all_at_once, is_closed, reach, send_from};
use super::world::{
    DNS_PORT, EDGE_UID, HOST_IN_LAN, HOST_PUBLIC, INTERNET, INTERNET_DENIED, LAN, Names, OTHER_UID, Space, UPLINK,
    VM_PORT, Vm, World,
};
use cakework_agent::net::{GUEST, HOST_ADDRESS, NetConfig, Network, Slot};
use cakework_core::id::{InstanceId, VmId};

/// A way from a namespace to an address that must be closed.
struct Row<'a> {
    way: Way,
    to: SocketAddr,
    target: &'a Target,
}

fn rows<'a>(ways: &[Way], address: Ipv4Addr, port: u16, target: &'a Target) -> Vec<Row<'a>> {
    ways.iter().map(|&way| Row { way, to: (address, port).into(), target }).collect()
}

/// Checks that all rows are closed from `space`, calls `open`, and checks that all are open: the first half proves
/// nothing without the second.
fn closed_until(space: &Space, rows: &[Row<'_>], open: impl FnOnce()) {
    closed_until_as(space, 0, rows, open);
}

fn closed_until_as(space: &Space, uid: u32, rows: &[Row<'_>], open: impl FnOnce()) {
    let inside = |probe: fn(Way, SocketAddr) -> bool| move |row: &Row<'_>| space.run_as(uid, || probe(row.way, row.to));
    for (row, is_closed) in all_at_once(rows, inside(is_closed)) {
        assert!(is_closed, "{:?} to {} came through", row.way, row.to);
        assert_eq!(row.target.visitors(row.way), [], "{:?} to {} was logged", row.way, row.to);
    }
    open();
    for (row, came_through) in all_at_once(rows, inside(reach)) {
        assert!(came_through, "{:?} to {} is closed without the rules, too: the test proves nothing", row.way, row.to);
        assert!(row.way == Way::Icmp || !row.target.visitors(row.way).is_empty(), "{:?} to {}", row.way, row.to);
    }
}

#[test]
fn a_vm_reaches_no_other_vm() {
    World::play(|world| {
        let (one, other) = (world.vm(1), world.vm(2));
        let target = Target::new(&other.inside, Ipv4Addr::UNSPECIFIED, VM_PORT);
        let rows = rows(&ALL, other.attachment.address, VM_PORT, &target);
        closed_until(&one.inside, &rows, || world.flush_policy());
    });
}

#[test]
fn a_vm_reaches_no_vm_of_another_instance() {
    World::play(|world| {
        let vm = world.vm(1);
        let config = NetConfig {
            instance: InstanceId::mint(&mut rand::rng()),
            pool: "10.78.0.0/16".parse().expect("a network"),
            // What one operator allows, the other one's VMs are still not open to.
            allow: vec!["0.0.0.0/0".parse().expect("a network")],
            dns_port: DNS_PORT + 1,
            ..world.config.clone()
        };
        let _names = Names(config.instance.clone());
        let other = world.wait(Network::open(config.clone())).expect("a second instance");
        let id = VmId::mint(&mut rand::rng());
        let attachment = world.wait(other.attach(&id, Slot(1), Some(VM_PORT))).expect("attached");
        let (there, here) = (Space::open(&attachment.netns), vm.inside);
        let near = Target::new(&here, Ipv4Addr::UNSPECIFIED, VM_PORT);
        let far = Target::new(&there, Ipv4Addr::UNSPECIFIED, VM_PORT);
        closed_until(&there, &rows(&ALL, vm.attachment.address, VM_PORT, &near), || world.flush_policy());
        // This instance's policy is gone: the other one's alone holds its VM's guests off.
        closed_until(&here, &rows(&ALL, attachment.address, VM_PORT, &far), || {
            world.host.sh(&format!("nft flush table inet cw{}", config.instance));
        });
    });
}

#[test]
fn a_vm_reaches_no_address_of_the_host_on_any_port() {
    World::play(|world| {
        let vm = world.vm(1);
        // The API's and the edge's ports, the DNS forwarder's own, DNS itself, and any other.
        let targets =
            [8081, 8080, DNS_PORT, 53, 7007].map(|port| (port, Target::new(&world.host, Ipv4Addr::UNSPECIFIED, port)));
        let mut all = Vec::new();
        for address in [UPLINK, HOST_IN_LAN, HOST_PUBLIC, HOST_ADDRESS] {
            for (port, target) in &targets {
                all.extend(rows(&PORTS, address, *port, target));
            }
            all.extend(rows(&[Way::Icmp], address, 0, &targets[0].1));
        }
        closed_until(&vm.inside, &all, || world.flush_policy());
    });
}

#[test]
fn a_vm_reaches_neither_private_ranges_nor_the_metadata_service() {
    World::play(|world| {
        let vm = world.vm(1);
        let targets = LAN.map(|address| (address, Target::new(&world.lan, address, 7007)));
        let mut all: Vec<_> = targets.iter().flat_map(|(address, target)| rows(&ALL, *address, 7007, target)).collect();
        let metadata = Target::new(&world.lan, Ipv4Addr::new(169, 254, 169, 254), 80);
        all.extend(rows(&PORTS, Ipv4Addr::new(169, 254, 169, 254), 80, &metadata));
        closed_until(&vm.inside, &all, || world.flush_policy());
    });
}

#[test]
fn a_vm_does_not_reach_what_the_operator_denies() {
    World::play(|world| {
        let vm = world.vm(1);
        let target = Target::new(&world.internet, INTERNET_DENIED, 7007);
        let rows = rows(&ALL, INTERNET_DENIED, 7007, &target);
        closed_until(&vm.inside, &rows, || {
            world.flush_policy();
            // Without the policy nothing translates to the host's address, and the internet needs a way back.
            world.internet.ip("route add 10.77.0.0/16 via 198.51.100.2");
        });
    });
}

/// Lets a guest send to its gateway without asking who it is: a spoofer would not ask.
fn know_the_gateway(vm: &Vm, gateway: &str) {
    vm.inside.ip(&format!("neigh replace {gateway} lladdr 02:63:77:00:00:01 dev eth0"));
}

#[test]
fn a_vm_sends_under_no_other_source() {
    World::play(|world| {
        let (vm, other) = (world.vm(1), world.vm(2));
        let overheard = Overheard::new(&world.internet, INTERNET);
        let sources = [Ipv4Addr::new(10, 0, 0, 3), other.attachment.address, Ipv4Addr::new(9, 9, 9, 9)];
        know_the_gateway(&vm, "10.0.0.1");
        for source in sources {
            vm.inside.ip(&format!("addr add {source}/32 dev eth0"));
        }
        let probes: Vec<_> = ALL.iter().flat_map(|way| sources.map(|source| (*way, source))).collect();
        let send = || {
            all_at_once(&probes, |(way, source)| {
                vm.inside.run(|| send_from(*way, *source, (INTERNET, 7007).into()));
                true
            });
            overheard.packets()
        };
        assert_eq!(send(), []);
        world.flush_policy();
        assert_eq!(send(), [], "the VM's own chains alone hold spoofed sources back");
        world.flush_identity(&vm);
        // No answer finds back to a source that is not the guest's; that it is heard is the proof.
        let heard = send();
        for (way, source) in probes {
            let arrived = heard.contains(&(way, IpAddr::V4(source)));
            assert!(arrived, "{way:?} of {source} not in {heard:?}: the test proves nothing");
        }
    });
}

#[test]
fn a_vm_has_no_ipv6() {
    World::play(|world| {
        let vm = world.vm(1);
        let link = format!("cw{}0001", world.config.instance);
        // The guest and the operator do their best to have it.
        vm.inside.sh(
            "echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6",
        );
        vm.inside.ip("addr add fd77::2/64 dev eth0 nodad");
        vm.inside.ip("route add default via fd77::1");
        know_the_gateway(&vm, "fd77::1");
        know_the_gateway(&vm, "fe80::77");
        world.host.sh(&format!(
            "echo 0 > /proc/sys/net/ipv6/conf/{link}/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
        ));
        world.host.ip(&format!("addr add fd77::1/64 dev {link} nodad"));
        world.host.ip(&format!("addr add fe80::77/64 dev {link} nodad"));
        world.host.ip(&format!("neigh replace fd77::2 lladdr 02:63:77:00:00:02 dev {link}"));
        world.host.ip("addr add fd99::2/64 dev up0 nodad");
        world.internet.ip("addr add fd99::1/64 dev net0 nodad");
        world.internet.ip("route add fd77::/64 via fd99::2");
        let on_host = Target::new(&world.host, std::net::Ipv6Addr::UNSPECIFIED, 7007);
        let routed = Target::new(&world.internet, std::net::Ipv6Addr::UNSPECIFIED, 7007);
        let scope = vm.inside.run(|| index_of("eth0"));
        let link_local =
            SocketAddr::V6(std::net::SocketAddrV6::new("fe80::77".parse().expect("an address"), 7007, 0, scope));
        let mut all = Vec::new();
        for way in ALL {
            all.push(Row { way, to: link_local, target: &on_host });
            all.push(Row { way, to: "[fd77::1]:7007".parse().expect("an address"), target: &on_host });
            all.push(Row { way, to: "[fd99::1]:7007".parse().expect("an address"), target: &routed });
        }
        closed_until(&vm.inside, &all, || {
            world.flush_policy();
            world.flush_identity(&vm);
        });
    });
}

fn index_of(interface: &str) -> u32 {
    let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6").expect("IPv6 is on in the guest");
    let line = text.lines().find(|line| line.ends_with(interface)).expect("the guest has an IPv6 address");
    u32::from_str_radix(line.split_whitespace().nth(1).expect("an index"), 16).expect("hex")
}

#[test]
fn the_edge_itself_has_tcp_only() {
    World::play(|world| {
        let vm = world.vm(1);
        let target = Target::new(&vm.inside, Ipv4Addr::UNSPECIFIED, VM_PORT);
        let rows = rows(&[Way::Udp], vm.attachment.address, VM_PORT, &target);
        closed_until_as(&world.host, EDGE_UID, &rows, || world.flush_policy());
    });
}

#[test]
fn the_edge_reaches_no_other_port_of_a_vm() {
    World::play(|world| {
        let vm = world.vm(1);
        let target = Target::new(&vm.inside, Ipv4Addr::UNSPECIFIED, 9090);
        let rows = rows(&[Way::Tcp], vm.attachment.address, 9090, &target);
        closed_until_as(&world.host, EDGE_UID, &rows, || {
            world.attach(&vm.id, vm.slot, Some(9090));
        });
    });
}

/// What was meant for a VM that is gone goes to nobody else who has its address.
#[test]
fn the_address_of_a_vm_that_is_gone_leads_nowhere() {
    World::play(|world| {
        let gone = Ipv4Addr::new(10, 77, 0, 9);
        world.lan.ip(&format!("addr add {gone}/32 dev lo"));
        world.host.ip(&format!("route add {gone}/32 via {}", LAN[0]));
        let target = Target::new(&world.lan, gone, VM_PORT);
        let rows = rows(&PORTS, gone, VM_PORT, &target);
        closed_until_as(&world.host, EDGE_UID, &rows, || world.flush_policy());
    });
}

#[test]
fn the_lan_reaches_neither_a_vm_nor_the_forwarder() {
    World::play(|world| {
        let vm = world.vm(1);
        let target = Target::new(&vm.inside, Ipv4Addr::UNSPECIFIED, VM_PORT);
        let forwarder = Target::new(&world.host, Ipv4Addr::UNSPECIFIED, DNS_PORT);
        let mut all = rows(&ALL, vm.attachment.address, VM_PORT, &target);
        all.extend(rows(&PORTS, HOST_IN_LAN, DNS_PORT, &forwarder));
        closed_until(&world.lan, &all, || world.flush_policy());
    });
}

#[test]
fn the_host_itself_reaches_no_vm() {
    World::play(|world| {
        let vm = world.vm(1);
        let target = Target::new(&vm.inside, Ipv4Addr::UNSPECIFIED, VM_PORT);
        let address = vm.attachment.address;
        closed_until_as(&world.host, OTHER_UID, &rows(&PORTS, address, VM_PORT, &target), || world.flush_policy());
        let target = Target::new(&vm.inside, Ipv4Addr::UNSPECIFIED, 9090);
        world.wait(Network::open(world.config.clone())).expect("the rules are back");
        world.attach(&vm.id, vm.slot, Some(9090));
        closed_until(&world.host, &rows(&ALL, address, 9090, &target), || world.flush_policy());
    });
}

#[test]
fn a_vm_broadcasts_nothing_to_the_host() {
    World::play(|world| {
        let vm = world.vm(1);
        let target = Target::new(&world.host, Ipv4Addr::UNSPECIFIED, 7007);
        let send = || {
            vm.inside.run(|| {
                let socket = std::net::UdpSocket::bind((GUEST.address, 0)).expect("a socket");
                socket.set_broadcast(true).expect("broadcast");
                // Until the target has it, or the time is over.
                for _ in 0..20 {
                    socket.send_to(b"probe", (Ipv4Addr::BROADCAST, 7007)).expect("sent");
                    if !target.visitors(Way::Udp).is_empty() {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
            });
            !target.visitors(Way::Udp).is_empty()
        };
        assert!(!send());
        world.flush_policy();
        assert!(send(), "closed without the rules, too: the test proves nothing");
    });
}

#[test]
fn a_vm_is_cut_off_when_somebody_empties_the_firewall() {
    World::play(|world| {
        let vm = world.vm(1);
        let target = Target::new(&world.host, Ipv4Addr::UNSPECIFIED, 7007);
        world.flush_everything();
        // The guest does its best: it asks nobody for the way.
        know_the_gateway(&vm, "10.0.0.1");
        let before: Vec<_> = [UPLINK, HOST_ADDRESS].iter().flat_map(|to| rows(&PORTS, *to, 7007, &target)).collect();
        for (row, is_closed) in all_at_once(&before, |row| vm.inside.run(|| is_closed(row.way, row.to))) {
            assert!(is_closed, "{:?} to {}", row.way, row.to);
            assert_eq!(row.target.visitors(row.way), []);
        }
        assert!(world.wait(world.network().restore_rules(&[(vm.slot, Some(VM_PORT))])).expect("restored"));
        let _internet = Target::new(&world.internet, INTERNET, 7007);
        assert!(vm.inside.run(|| reach(Way::Tcp, (INTERNET, 7007).into())));
    });
}
