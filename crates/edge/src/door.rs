//! The door: it accepts client connections, counts them, bounds their heads and silence, and ends them. What answers is
//! whoever owns it.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::idle::IdleStream;

type AnyError = Box<dyn Error + Send + Sync>;

/// The pause after a failed accept: such failures (no file descriptor left) pass, but not at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The least that hyper takes as the size of a connection's buffer.
const HYPER_MIN_BYTES: usize = 8192;

/// What client connections may take.
#[derive(Debug, Clone)]
pub struct DoorLimits {
    /// Connections in all; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Connections of one address (a /64 of IPv6); more are closed.
    pub connections_max_per_client: usize,
    /// Proxies, which have no such limit.
    pub trusted_proxies: Vec<IpNet>,
    /// Longest time for a request's head to arrive, and for a kept connection to stay without a request.
    pub header_read: Duration,
    /// Bytes of a head.
    pub header_max_bytes: usize,
    /// Header fields of a head.
    pub headers_max: usize,
    /// Longest time in which an open request or WebSocket moves no byte.
    pub idle: Duration,
    /// Time that open requests have to end at the end.
    pub drain: Duration,
}

/// The size of a read buffer that bounds a head in bytes.
pub(crate) fn buffer_bytes(header_max_bytes: usize) -> usize {
    header_max_bytes.max(HYPER_MIN_BYTES)
}

/// A door, and what stands open behind it.
#[derive(Debug, Clone, Default)]
pub struct Door {
    /// Everything that the end waits for: connections, and what their owner adds.
    pub(crate) tasks: TaskTracker,
    /// Ends what is still open then.
    pub(crate) cut: CancellationToken,
}

impl Door {
    /// Serves each client by what `service` makes for it until `shutdown`; then accepts no more, gives open requests
    /// their time to end, and cuts what is left. However this future ends, nothing of it goes on.
    pub async fn serve<S>(
        self,
        listener: TcpListener,
        limits: DoorLimits,
        service: impl Fn(IpAddr) -> S,
        shutdown: CancellationToken,
    ) where
        S: HttpService<Incoming, Future: Send, Error: Into<AnyError>> + Send + 'static,
        S::ResBody: Body<Data: Send, Error: Into<AnyError>> + Send + 'static,
    {
        let _cut_at_end = self.cut.clone().drop_guard();
        let limits = Arc::new(limits);
        let places = Arc::new(Semaphore::new(limits.connections_max));
        let clients = Clients::default();
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
                let (stream, peer) = listener.accept().await?;
                Ok::<_, io::Error>((place, stream, peer.ip().to_canonical()))
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accepted => match accepted {
                    Ok((place, stream, client)) => {
                        let trusted = limits.trusted_proxies.iter().any(|net| net.contains(&client));
                        let max = if trusted { usize::MAX } else { limits.connections_max_per_client };
                        let Some(counted) = clients.count(client, max) else {
                            tracing::debug!(%client, "a client has too many connections");
                            continue;
                        };
                        let guard = Guard { _place: place, _counted: counted };
                        let ends = (self.cut.clone(), shutdown.clone());
                        self.tasks.spawn(converse(stream, client, guard, Arc::clone(&limits), service(client), ends));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no connection was accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        self.tasks.close();
        if timeout(limits.drain, self.tasks.wait()).await.is_err() {
            tracing::info!(open = self.tasks.len(), "cutting what is still open");
        }
        self.cut.cancel();
        self.tasks.wait().await;
    }
}

/// Serves one client connection; `ends` are told when it must end and when it should.
async fn converse<S>(
    stream: TcpStream,
    client: IpAddr,
    guard: Guard,
    limits: Arc<DoorLimits>,
    service: S,
    (cut, shutdown): (CancellationToken, CancellationToken),
) where
    S: HttpService<Incoming, Future: Send, Error: Into<AnyError>> + Send + 'static,
    S::ResBody: Body<Data: Send, Error: Into<AnyError>> + Send + 'static,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    let io = TokioIo::new(IdleStream::new(stream, limits.idle, guard));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_buf_size(buffer_bytes(limits.header_max_bytes))
        .max_header_size(limits.header_max_bytes)
        .max_headers(limits.headers_max)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cut.cancelled() => return,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = cut.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%client, %error, "a client's connection broke");
    }
}

/// What a client connection takes while its socket is open, as a WebSocket too.
struct Guard {
    _place: OwnedSemaphorePermit,
    _counted: Counted,
}

/// Connections per client.
#[derive(Debug, Clone, Default)]
struct Clients {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Clients {
    fn count(&self, client: IpAddr, max: usize) -> Option<Counted> {
        let client = network(client);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&client).copied().unwrap_or_default();
        if count >= max {
            return None;
        }
        counts.insert(client, count + 1);
        Some(Counted { clients: self.clone(), client })
    }
}

/// One counted connection.
struct Counted {
    clients: Clients,
    client: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.clients.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

/// Who counts as one client: an address, or the /64 that one customer has of IPv6.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}
