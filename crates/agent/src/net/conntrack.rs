//! Forgetting the connections of VMs that are gone, by ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
//!
//! The kernel remembers for minutes, and for TCP days, that packets of a connection are to be translated back to the
//! address that began it. The next VM with that address must not get them.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rtnetlink::sys::{Socket, SocketAddr};

const NETLINK_NETFILTER: isize = 12;
const CONNTRACK_GET: u16 = (1 << 8) | 1;
const CONNTRACK_DELETE: u16 = (1 << 8) | 2;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLA_F_NESTED: u16 = 1 << 15;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
/// Bytes of a message's header and of the header after it that names the address family.
const HEADER_BYTES: usize = 16;
const FAMILY_BYTES: usize = 4;
const FAMILY: [u8; FAMILY_BYTES] = [2, 0, 0, 0];
const RECEIVE_BYTES: usize = 64 * 1024;
/// Bound of one walk: a busy host has hundreds of thousands of connections.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Removes the connections that were begun under addresses that are gone. Blocking.
pub fn forget(is_gone: impl Fn(Ipv4Addr) -> bool) -> io::Result<()> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let deadline = Instant::now() + TIMEOUT;
    let mut found = Vec::new();
    ask(&socket, &message(CONNTRACK_GET, NLM_F_DUMP, &[]), deadline, |body| {
        found.extend(original_tuple(body).filter(|tuple| source(tuple).is_some_and(&is_gone)).map(<[u8]>::to_vec));
    })?;
    for tuple in found {
        let request = message(CONNTRACK_DELETE, NLM_F_ACK, &attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, &tuple));
        match ask(&socket, &request, deadline, |_| ()) {
            // It ended on its own.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Sends a request and reads its answers to the last.
fn ask(socket: &Socket, request: &[u8], deadline: Instant, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    socket.send(request, 0)?;
    loop {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut packet = Vec::with_capacity(RECEIVE_BYTES);
        socket.recv(&mut packet, 0)?;
        let mut rest = &packet[..];
        while let Some((kind, body, after)) = split_message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                    return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => each(body),
            }
            rest = after;
        }
    }
}

/// The first message's type and body, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER_BYTES..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The attributes of a list, as type and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & !NLA_F_NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Who began the connection, to whom: the key that it is deleted by.
fn original_tuple(body: &[u8]) -> Option<&[u8]> {
    find(body.get(FAMILY_BYTES..)?, CTA_TUPLE_ORIG)
}

fn source(tuple: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = find(find(tuple, CTA_TUPLE_IP)?, CTA_IP_V4_SRC)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + FAMILY_BYTES + attributes.len()).expect("a short message");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence number and port stay zero: one request is under way at a time.
    bytes.extend([0; 8]);
    bytes.extend(FAMILY);
    bytes.extend(attributes);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("a short attribute");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_connections_source_is_read_from_its_original_tuple() {
        let address = Ipv4Addr::new(10, 77, 0, 1);
        let tuple = attribute(CTA_TUPLE_IP | NLA_F_NESTED, &attribute(CTA_IP_V4_SRC, &address.octets()));
        let bytes = message(CONNTRACK_GET, NLM_F_DUMP, &attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, &tuple));
        let (kind, body, rest) = split_message(&bytes).expect("whole");
        assert_eq!((kind, rest), (CONNTRACK_GET, [].as_slice()));
        assert_eq!(original_tuple(body).and_then(source), Some(address));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some((_, body, _)) = split_message(&bytes) {
                let _ = original_tuple(body).and_then(source);
            }
        }
    }
}
