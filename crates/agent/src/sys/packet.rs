//! Packet sockets: all that passes one network interface (packet(7)).
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use nix::libc;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Bytes that wait in each direction: what gVisor's own command asks for.
const BUFFER_BYTES: libc::c_int = 4 << 20;
/// `PACKET_VNET_HDR` in linux/if_packet.h.
const PACKET_VNET_HDR: libc::c_int = 15;

/// A packet socket of one interface.
#[derive(Debug)]
pub struct PacketSocket {
    /// The socket.
    pub socket: OwnedFd,
    /// Packets have a `virtio_net_hdr` in front of them, so that they may be longer than the interface's.
    pub offloads: bool,
}

impl PacketSocket {
    /// Opens one for an interface of this thread's network namespace.
    ///
    /// # Errors
    /// Where there is no such interface, or the caller lacks `CAP_NET_RAW`.
    pub fn open(interface: &str) -> io::Result<Self> {
        // Without a protocol it hears nothing until it is bound to its interface.
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
        bind(&socket, index)?;
        let offloads = set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, 1).is_ok();
        // Without CAP_NET_ADMIN the host's default has to do.
        for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
            let _ = set(&socket, libc::SOL_SOCKET, option, BUFFER_BYTES);
        }
        Ok(Self { socket, offloads })
    }

    /// The socket, to be handed on.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.socket)
    }
}

fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is a whole `sockaddr_ll` of this length, which the kernel only reads.
    said(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value is an int of this length, which the kernel only reads.
    said(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) })
}

fn said(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_socket_is_of_one_interface() {
        let packets = PacketSocket::open("lo").expect("a socket: this needs root");
        assert!(packets.offloads);
        assert!(PacketSocket::open("nosuchinterface").is_err());
    }
}
