//! What a VM's network is for: the internet by the host's address, names, the edge's way in; and its life on the host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use cakework_agent::net::{Attachment, GUEST, Network, dns};
use cakework_core::id::VmId;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::io::{Read, Write};
use tokio_util::sync::CancellationToken;

use super::probe::{ALL, PORTS, Target, Way, is_closed, reach};
use super::world::{DNS_PORT, EDGE_UID, INTERNET, INTERNET_DNS, LAN_ALLOWED, Space, UPLINK, VM_PORT, World};

const WAIT: Duration = Duration::from_secs(10);
/// What the internet's name server answers.
pub const ANSWER: Ipv4Addr = INTERNET;

#[test]
fn a_vm_reaches_the_internet_under_the_hosts_address() {
    World::play(|world| {
        let vm = world.vm(1);
        let target = Target::new(&world.internet, INTERNET, 7007);
        for way in ALL {
            assert!(vm.inside.run(|| reach(way, (INTERNET, 7007).into())), "{way:?}");
        }
        for way in PORTS {
            let visitors = target.visitors(way);
            assert!(
                visitors.iter().all(|peer| peer.ip() == IpAddr::V4(UPLINK)) && !visitors.is_empty(),
                "{visitors:?}"
            );
        }
    });
}

#[test]
fn a_vm_reaches_what_the_operator_allows() {
    World::play(|world| {
        let vm = world.vm(1);
        let _target = Target::new(&world.lan, LAN_ALLOWED, 7007);
        for way in ALL {
            assert!(vm.inside.run(|| reach(way, (LAN_ALLOWED, 7007).into())), "{way:?}");
        }
    });
}

#[test]
fn the_edge_reaches_the_vms_port() {
    World::play(|world| {
        let vm = world.vm(1);
        let target = Target::new(&vm.inside, GUEST.address, VM_PORT);
        let to = SocketAddr::from((vm.attachment.address, VM_PORT));
        assert!(world.host.run_as(EDGE_UID, || reach(Way::Tcp, to)));
        assert_eq!(target.visitors(Way::Tcp).len(), 1);
    });
}

/// A Python app writes an answer's head and body in two parts, and holds the second until the first is acknowledged.
#[test]
fn what_a_vm_sends_is_acknowledged_at_once() {
    World::play(|world| {
        let vm = world.vm(1);
        let address = vm.attachment.address.to_string();
        let shown = world.host.run(|| std::process::Command::new("ip").args(["route", "show", &address]).output());
        let shown = String::from_utf8(shown.expect("ip is there").stdout).expect("text");
        assert!(shown.contains("quickack 1"), "{shown}");
    });
}

/// Answers every question with [`ANSWER`] until the process ends.
pub fn name_server(world: &World) {
    let address = SocketAddr::from((INTERNET_DNS, 53));
    let (tcp, udp) = world.internet.run(|| {
        (TcpListener::bind(address).expect("port 53 of the fake internet"), UdpSocket::bind(address).expect("port 53"))
    });
    let answer = |bytes: &[u8]| {
        let mut message = Message::from_vec(bytes).expect("a question");
        message.metadata.message_type = MessageType::Response;
        let query = message.queries[0].clone();
        if query.query_type() == RecordType::A {
            message.add_answer(Record::from_rdata(query.name().clone(), 60, RData::A(A(ANSWER))));
        }
        message.to_vec().expect("encodable")
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&answer(&buffer[..length]), peer);
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            if let Ok(bytes) = read_framed(&mut stream) {
                let _ = write_framed(&mut stream, &answer(&bytes));
            }
        }
    });
}

/// Runs the forwarder on the world's host, as nobody, until the process ends; returns when it listens.
pub fn forwarder(world: &World) {
    let config = dns::DnsConfig {
        port: DNS_PORT,
        upstreams: vec![(INTERNET_DNS, 53).into()],
        limits: dns::DnsLimits::default(),
    };
    world.host.run_as(64_244, || {
        // The runtime's threads are made by this one and so are where and who it is.
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(dns::run(config, CancellationToken::new())).expect("the forwarder ran");
        });
    });
    let deadline = std::time::Instant::now() + WAIT;
    // The rules close the port to the host as well; what listens is told by the kernel's table.
    let listens = || {
        let table = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("the host's sockets");
        table.contains(&format!("00000000:{DNS_PORT:04X} 00000000:0000 0A"))
    };
    while !world.host.run(listens) {
        assert!(std::time::Instant::now() < deadline, "the forwarder does not listen");
        std::thread::yield_now();
    }
}

fn question() -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii("app.example.com.").expect("a name"), RecordType::A));
    message.to_vec().expect("encodable")
}

fn ask_udp(space: &Space, resolver: Ipv4Addr) -> std::io::Result<Vec<u8>> {
    space.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(WAIT))?;
        socket.connect((resolver, 53))?;
        socket.send(&question())?;
        let mut buffer = vec![0; 2048];
        let length = socket.recv(&mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    })
}

fn ask_tcp(space: &Space, resolver: Ipv4Addr) -> std::io::Result<Vec<u8>> {
    space.run(|| {
        let mut stream = TcpStream::connect_timeout(&(resolver, 53).into(), WAIT)?;
        stream.set_read_timeout(Some(WAIT))?;
        write_framed(&mut stream, &question())?;
        read_framed(&mut stream)
    })
}

fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn write_framed(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(bytes.len()).expect("short");
    stream.write_all(&[&length.to_be_bytes(), bytes].concat())
}

#[test]
fn a_vm_resolves_names_at_its_gateway_over_udp_and_tcp() {
    World::play(|world| {
        name_server(world);
        forwarder(world);
        let vm = world.vm(1);
        for answer in [ask_udp(&vm.inside, GUEST.resolver), ask_tcp(&vm.inside, GUEST.resolver)] {
            let message = Message::from_vec(&answer.expect("an answer")).expect("a message");
            assert_eq!(message.metadata.id, 4711);
            assert_eq!(message.answers[0].data, RData::A(A(ANSWER)));
        }
    });
}

#[test]
fn attaching_again_gives_the_guest_its_address_back() {
    World::play(|world| {
        let vm = world.vm(1);
        let _target = Target::new(&world.internet, INTERNET, 7007);
        // As the engine does when it starts.
        vm.inside.ip("addr flush dev eth0");
        assert!(vm.inside.run(|| is_closed(Way::Tcp, (INTERNET, 7007).into())));
        let again = Attachment { fresh: false, ..vm.attachment.clone() };
        assert_eq!(world.attach(&vm.id, vm.slot, Some(VM_PORT)), again);
        assert!(vm.inside.run(|| reach(Way::Tcp, (INTERNET, 7007).into())));
    });
}

#[test]
fn a_new_agent_leaves_attached_vms_connected() {
    World::play(|world| {
        let vm = world.vm(1);
        let _target = Target::new(&vm.inside, GUEST.address, VM_PORT);
        world.wait(Network::open(world.config.clone())).expect("opened again");
        let to = SocketAddr::from((vm.attachment.address, VM_PORT));
        assert!(world.host.run_as(EDGE_UID, || reach(Way::Tcp, to)));
    });
}

#[test]
fn vms_are_listed_detached_and_purged_without_a_trace() {
    World::play(|world| {
        let vms = [world.vm(1), world.vm(2), world.vm(3)];
        let ids = || {
            let mut ids = world.wait(world.network().list()).expect("listed");
            ids.sort();
            ids
        };
        let mut expected: Vec<_> = vms.iter().map(|vm| vm.id.clone()).collect();
        expected.sort();
        assert_eq!(ids(), expected);
        for _ in 0..2 {
            world.wait(world.network().detach(&vms[0].id, vms[0].slot)).expect("detached, also twice");
        }
        expected.retain(|id| *id != vms[0].id);
        assert_eq!(ids(), expected);
        world.host.sh(&format!("! ip link show cw{}0001", world.config.instance));
        world.host.sh("! ip route | grep -w 10.77.0.1");
        for _ in 0..2 {
            world.wait(Network::purge(&world.config.instance)).expect("purged, also twice");
        }
        assert_eq!(ids(), []);
        world.host.sh(&format!("! nft list tables | grep cw{0}; ! ip link | grep cw{0}", world.config.instance));
    });
}

#[test]
fn the_next_vm_of_a_slot_gets_nothing_that_comes_for_the_one_before() {
    World::play(|world| {
        let server = world.internet.run(|| UdpSocket::bind((INTERNET, 7007)).expect("a socket"));
        server.set_read_timeout(Some(WAIT)).expect("a timeout");
        let guest_socket = |space: &Space| {
            let socket = space.run(|| UdpSocket::bind((GUEST.address, 5555)).expect("a socket"));
            socket.set_read_timeout(Some(WAIT)).expect("a timeout");
            socket
        };
        let meet = |socket: &UdpSocket| {
            socket.send_to(b"hello", (INTERNET, 7007)).expect("sent");
            server.recv_from(&mut [0; 64]).expect("the server hears the guest").1
        };
        let one = world.vm(1);
        let first = guest_socket(&one.inside);
        let seen_as = meet(&first);
        server.send_to(b"late", seen_as).expect("sent");
        first.recv(&mut [0; 64]).expect("what comes in for a VM reaches it");
        let gets_its_own_alone = |next: &Space, before: SocketAddr| {
            let socket = guest_socket(next);
            server.send_to(b"for the one before", before).expect("sent");
            // What follows on the same way arrives after what would have gone wrong.
            let seen_as = meet(&socket);
            server.send_to(b"for the next", seen_as).expect("sent");
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).expect("the next VM's own");
            assert_eq!(&buffer[..length], b"for the next");
            seen_as
        };
        world.wait(world.network().detach(&one.id, one.slot)).expect("detached");
        let next = world.vm(1);
        let seen_as = gets_its_own_alone(&next.inside, seen_as);
        // Nor where whoever detached it has forgotten so.
        world.wait(world.network().detach(&next.id, next.slot)).expect("detached");
        let network = world.wait(Network::open(world.config.clone())).expect("opened again");
        let third = VmId::mint(&mut rand::rng());
        let attachment = world.wait(network.attach(&third, next.slot, Some(VM_PORT))).expect("attached");
        gets_its_own_alone(&Space::open(&attachment.netns), seen_as);
    });
}
