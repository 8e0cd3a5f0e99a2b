//! Asking the upstreams: each in turn until one answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UdpSocket};

use super::message::Question;
use super::{read_framed, write_framed};

/// How a question came and goes on: an answer too long for UDP says so, and the guest asks again over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Packets.
    Udp,
    /// Streams.
    Tcp,
}

/// Upstreams that are asked for one question, as many as the C library's resolver takes (resolv.conf(5)).
const UPSTREAMS_MAX: usize = 3;
const RESOLV_CONF: &str = "/etc/resolv.conf";
const RESOLV_CONF_MAX_BYTES: usize = 64 * 1024;
/// A machine that moves between networks gets a new file.
const RESOLV_CONF_AGE: Duration = Duration::from_secs(10);
const DNS_PORT: u16 = 53;
/// Longest answer over UDP: what resolvers ask for at most (RFC 6891 §6.2.5).
const UDP_ANSWER_MAX_BYTES: usize = 4096;
const TCP_ANSWER_MAX_BYTES: usize = 65_535;

/// The servers that questions are forwarded to.
#[derive(Debug)]
pub struct Upstreams {
    fixed: Vec<SocketAddr>,
    system: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
    timeout: Duration,
}

impl Upstreams {
    /// These servers, or those of `/etc/resolv.conf` when there are none.
    pub fn new(fixed: Vec<SocketAddr>, timeout: Duration) -> Self {
        Self { fixed, system: Mutex::new(None), timeout }
    }

    /// The first answer to the question.
    ///
    /// # Errors
    /// The last upstream's failure, or that there is none.
    pub async fn ask(&self, question: &Question, transport: Transport) -> io::Result<Vec<u8>> {
        let mut last = io::Error::other("there is no upstream name server");
        for server in self.servers().await.into_iter().take(UPSTREAMS_MAX) {
            let work = async {
                match transport {
                    Transport::Udp => over_udp(server, question).await,
                    Transport::Tcp => over_tcp(server, question).await,
                }
            };
            match tokio::time::timeout(self.timeout, work).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(elapsed) => last = elapsed.into(),
            }
        }
        Err(last)
    }

    async fn servers(&self) -> Vec<SocketAddr> {
        if !self.fixed.is_empty() {
            return self.fixed.clone();
        }
        let known = self.system.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((read_at, servers)) = &known
            && read_at.elapsed() < RESOLV_CONF_AGE
        {
            return servers.clone();
        }
        let servers = match tokio::fs::read(RESOLV_CONF).await {
            Ok(bytes) => parse(&String::from_utf8_lossy(&bytes[..bytes.len().min(RESOLV_CONF_MAX_BYTES)])),
            // A file that is being replaced keeps what was known.
            Err(_) => known.map(|(_, servers)| servers).unwrap_or_default(),
        };
        *self.system.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), servers.clone()));
        servers
    }
}

/// The `nameserver` lines of resolv.conf(5). One with a zone (`fe80::1%eth0`) has no form as plain address and is
/// left out.
fn parse(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().map(str::split_ascii_whitespace);
    words
        .filter_map(|mut line| {
            (line.next()? == "nameserver").then_some(())?;
            Some(SocketAddr::new(line.next()?.parse().ok()?, DNS_PORT))
        })
        .collect()
}

/// A socket and an id of its own for each question: an answer can't be forged without seeing the question.
async fn over_udp(server: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id = rand::random();
    socket.send(&question.with_id(id)).await?;
    let mut buffer = vec![0; UDP_ANSWER_MAX_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = question.accept(id, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let id = rand::random();
    write_framed(&mut stream, &question.with_id(id)).await?;
    let answer = read_framed(&mut stream, TCP_ANSWER_MAX_BYTES).await?;
    question.accept(id, &answer).ok_or_else(|| io::Error::other("the upstream answered another question"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_from_resolv_conf() {
        let text = "# comment\nsearch example.com\nnameserver 192.0.2.53\nnameserver\t2001:db8::53 # two\n\
                    nameserver fe80::1%eth0\nnameserver\noptions edns0\n";
        let expected = ["192.0.2.53:53", "[2001:db8::53]:53"].map(|text| text.parse().expect("an address"));
        assert_eq!(parse(text), expected);
    }
}
