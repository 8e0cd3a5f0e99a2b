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
    attempt(way, None, to, LONG)
}

/// True when no answer comes back.
pub fn is_closed(way: Way, to: SocketAddr) -> bool {
    !attempt(way, None, to, SHORT)
}

/// Sends packets under a source address of the caller's choice and looks for no answer.
pub fn send_from(source: IpAddr, to: SocketAddr) {
    attempt(Way::Udp, Some(source), to, SHORT);
}

fn attempt(way: Way, source: Option<IpAddr>, to: SocketAddr, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    match way {
        Way::Tcp => {
            let Ok(mut stream) = TcpStream::connect_timeout(&to, patience) else { return false };
            stream.set_read_timeout(Some(patience)).expect("a timeout");
            stream.read_exact(&mut [0; 5]).is_ok()
        }
        Way::Udp => {
            let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
            let source = source.unwrap_or_else(|| any.parse().expect("an address"));
            let socket = UdpSocket::bind((source, 0)).expect("a socket");
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
        Way::Icmp => {
            let IpAddr::V4(address) = to.ip() else { panic!("the probe has no ICMPv6") };
            until(deadline, || ping(address))
        }
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

/// An echo request and its reply (RFC 792) on a raw socket.
fn ping(to: Ipv4Addr) -> bool {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).expect("a raw socket");
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ATTEMPT)).expect("a timeout");
    let id: [u8; 2] = rand::random();
    let mut request = [8, 0, 0, 0, id[0], id[1], 0, 1];
    let sum: u32 = request.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded");
    request[2..4].copy_from_slice(&checksum.to_be_bytes());
    if rustix::net::sendto(&socket, &request, SendFlags::empty(), &SocketAddr::from((to, 0))).is_err() {
        std::thread::sleep(ATTEMPT);
        return false;
    }
    let mut buffer = [0; 256];
    while let Ok((length, _)) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty()) {
        let body = usize::from(buffer[0] & 15) * 4;
        let from_target = buffer[12..16] == to.octets();
        if length >= body + 8 && from_target && buffer[body] == 0 && buffer[body + 4..][..2] == id {
            return true;
        }
    }
    false
}

/// Runs probes at the same time, each on a thread of its own, and answers which came through.
pub fn all_at_once<P: Sync>(probes: &[P], run: impl Fn(&P) -> bool + Sync) -> Vec<(&P, bool)> {
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = probes.iter().map(|probe| (probe, scope.spawn(move || run(probe)))).collect();
        threads.into_iter().map(|(probe, thread)| (probe, thread.join().expect("a probe"))).collect()
    })
}
