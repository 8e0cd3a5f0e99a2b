//! Whether a VM accepts on its port: the firewall lets the edge's user alone connect to it.

use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use nix::unistd::{Uid, setfsuid};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::TcpSocket;

/// Longest wait for a port to accept.
const LIMIT: Duration = Duration::from_millis(500);

/// Whether a connection to `address` is accepted; it is made as the user `uid` and closed at once.
pub async fn accepts(address: SocketAddrV4, uid: u32) -> bool {
    let connected = async { socket_of(uid).await?.connect(address.into()).await };
    matches!(tokio::time::timeout(LIMIT, connected).await, Ok(Ok(_)))
}

/// A socket belongs to whom the thread's file system user is when it is made. The thread ends with that user.
async fn socket_of(uid: u32) -> std::io::Result<TcpSocket> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("knock".to_owned()).spawn(move || {
        setfsuid(Uid::from_raw(uid));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        // Nobody listens any more when the caller gave up.
        let _ = answer.send(socket);
    })?;
    let socket = answered.await.map_err(|_| std::io::Error::other("the thread of a socket panicked"))??;
    Ok(TcpSocket::from_std_stream(TcpStream::from(socket)))
}
