//! Targets that log what reaches them, and probes that try to.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::world::Space;

/// How long a probe goes on where no answer is expected.
const SHORT: Duration = Duration::from_millis(700);
/// How long a probe goes on where an answer is expected: it ends with the first one.
const LONG: Duration = Duration::from_secs(15);
/// How long an attempt with packets that may get lost waits before the next.
const ATTEMPT: Duration = Duration::from_millis(300);

/// The ways to reach a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Tcp,
    Udp,
    Icmp,
}

pub const ALL: [Way; 3] = [Way::Tcp, Way::Udp, Way::Icmp];
pub const PORTS: [Way; 2] = [Way::Tcp, Way::Udp];

/// A port that listens on TCP and UDP, answers, and logs who came.
pub struct Target {
    log: Arc<Mutex<Vec<(Way, SocketAddr)>>>,
}

impl Target {
    /// Listens until the process ends.
    pub fn new(space: &Space, address: impl Into<IpAddr>, port: u16) -> Self {
        let address = SocketAddr::new(address.into(), port);
        let (tcp, udp) = space.run(|| {
            let tcp = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
            (tcp, UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}")))
        });
        let target = Self { log: Arc::default() };
        let log = Arc::clone(&target.log);
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let Ok(peer) = stream.peer_addr() else { continue };
                log.lock().expect("not poisoned").push((Way::Tcp, peer));
                let _ = stream.write_all(b"hello");
            }
        });
        let log = Arc::clone(&target.log);
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                log.lock().expect("not poisoned").push((Way::Udp, peer));
                let _ = udp.send_to(b"hello", peer);
            }
        });
        target
    }

    /// Who came this way.
    pub fn visitors(&self, way: Way) -> Vec<SocketAddr> {
        let log = self.log.lock().expect("not poisoned");
        log.iter().filter(|(by, _)| *by == way).map(|(_, peer)| *peer).collect()
    }
}

/// True when an answer comes back from an address, asked from the namespace of this thread.
pub fn reach(way: Way, to: SocketAddr) -> bool {
    attempt(way, to, LONG)
}

/// True when no answer comes back.
pub fn is_closed(way: Way, to: SocketAddr) -> bool {
    !attempt(way, to, SHORT)
}

/// Sends packets under a source address of the caller's choice and looks for no answer.
pub fn send_from(way: Way, source: Ipv4Addr, to: SocketAddr) {
    let end = Instant::now() + SHORT;
    while Instant::now() < end {
        // A firewall on this side answers with an error at once.
        let _ = send_once(way, source, to);
        std::thread::sleep(ATTEMPT);
    }
}

fn send_once(way: Way, source: Ipv4Addr, to: SocketAddr) -> rustix::io::Result<()> {
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, connect, ipproto, sendto, socket_with};
    let (kind, protocol) = match way {
        Way::Tcp => (SocketType::STREAM, ipproto::TCP),
        Way::Udp => (SocketType::DGRAM, ipproto::UDP),
        Way::Icmp => (SocketType::RAW, ipproto::ICMP),
    };
    let socket = socket_with(AddressFamily::INET, kind, SocketFlags::NONBLOCK, Some(protocol))?;
    bind(&socket, &SocketAddr::from((source, 0)))?;
    match way {
        // It is never connected: the first packet is all that matters, and that has left.
        Way::Tcp => match connect(&socket, &to) {
            Err(rustix::io::Errno::INPROGRESS) => Ok(()),
            other => other,
        },
        Way::Udp => sendto(&socket, b"probe", SendFlags::empty(), &to).map(drop),
        Way::Icmp => sendto(&socket, &echo_request(8, rand::random()), SendFlags::empty(), &to).map(drop),
    }
}

/// Notes the source of every packet that comes to an address, whether or not anybody listens or could answer.
pub struct Overheard {
    log: Arc<Mutex<Vec<(Way, IpAddr)>>>,
}

impl Overheard {
    /// Listens until the process ends.
    pub fn new(space: &Space, at: Ipv4Addr) -> Self {
        use rustix::net::{AddressFamily, RecvFlags, SocketType, ipproto};
        let overheard = Self { log: Arc::default() };
        for (way, protocol) in [(Way::Tcp, ipproto::TCP), (Way::Udp, ipproto::UDP), (Way::Icmp, ipproto::ICMP)] {
            let raw =
                || rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(protocol)).expect("a raw socket");
            let socket = space.run(raw);
            let log = Arc::clone(&overheard.log);
            std::thread::spawn(move || {
                let mut packet = [0; 2048];
                // A raw socket gives the packet with its header (raw(7)): source and destination are at fixed places.
                while let Ok((length, _)) = rustix::net::recv(&socket, &mut packet, RecvFlags::empty()) {
                    if length >= 20 && packet[16..20] == at.octets() {
                        let source: [u8; 4] = packet[12..16].try_into().expect("four bytes");
                        log.lock().expect("not poisoned").push((way, source.into()));
                    }
                }
            });
        }
        overheard
    }

    /// What came so far.
    pub fn packets(&self) -> Vec<(Way, IpAddr)> {
        self.log.lock().expect("not poisoned").clone()
    }
}

fn attempt(way: Way, to: SocketAddr, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    match way {
        Way::Tcp => {
            let Ok(mut stream) = TcpStream::connect_timeout(&to, patience) else { return false };
            stream.set_read_timeout(Some(patience)).expect("a timeout");
            stream.read_exact(&mut [0; 5]).is_ok()
        }
        Way::Udp => {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.set_read_timeout(Some(ATTEMPT)).expect("a timeout");
            until(deadline, || {
                // A firewall on this side answers with an error at once, one on the way not at all.
                let sent = socket.send_to(b"probe", to).is_ok();
                if !sent {
                    std::thread::sleep(ATTEMPT);
                }
                sent && socket.recv(&mut [0; 64]).is_ok()
            })
        }
        Way::Icmp => until(deadline, || ping(to)),
    }
}

/// Attempts until one succeeds or the time is over.
fn until(deadline: Instant, attempt: impl Fn() -> bool) -> bool {
    while Instant::now() < deadline {
        if attempt() {
            return true;
        }
    }
    false
}

/// An echo request and its reply on a raw socket (RFC 792; RFC 4443, where the kernel sets the checksum).
fn ping(to: SocketAddr) -> bool {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
    let (family, protocol, request, reply) = match to {
        SocketAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        SocketAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let socket = rustix::net::socket(family, SocketType::RAW, Some(protocol)).expect("a raw socket");
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ATTEMPT)).expect("a timeout");
    let id: [u8; 2] = rand::random();
    let mut target = to;
    target.set_port(0);
    if rustix::net::sendto(&socket, &echo_request(request, id), SendFlags::empty(), &target).is_err() {
        std::thread::sleep(ATTEMPT);
        return false;
    }
    let mut buffer = [0; 256];
    let end = Instant::now() + ATTEMPT;
    while let Ok((length, _, from)) = rustix::net::recvfrom(&socket, &mut buffer, RecvFlags::empty()) {
        // Only IPv4 comes with its header.
        let body = if to.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
        let from_target = from.is_some_and(|from| SocketAddr::try_from(from).is_ok_and(|from| from.ip() == to.ip()));
        if length >= body + 8 && from_target && buffer[body] == reply && buffer[body + 4..][..2] == id {
            return true;
        }
        if Instant::now() >= end {
            break;
        }
    }
    false
}

fn echo_request(kind: u8, id: [u8; 2]) -> [u8; 8] {
    let mut request = [kind, 0, 0, 0, id[0], id[1], 0, 1];
    let sum: u32 = request.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded");
    request[2..4].copy_from_slice(&checksum.to_be_bytes());
    request
}

/// Runs probes at the same time, each on a thread of its own, and answers which came through.
pub fn all_at_once<P: Sync>(probes: &[P], run: impl Fn(&P) -> bool + Sync) -> Vec<(&P, bool)> {
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = probes.iter().map(|probe| (probe, scope.spawn(move || run(probe)))).collect();
        threads.into_iter().map(|(probe, thread)| (probe, thread.join().expect("a probe"))).collect()
    })
}
