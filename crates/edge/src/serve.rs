//! The listener: accepts, counts and ends client connections.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{EdgeLimits, millis};
use crate::idle::IdleStream;
use crate::proxy::Proxy;
use crate::reach::Reach;
use crate::{EdgeConfig, EdgeMetrics, RouteTable, Waker};

/// How often kept connections are looked through, at least and at most.
const SWEEP_MIN: Duration = Duration::from_millis(100);
const SWEEP_MAX: Duration = Duration::from_secs(5);
/// The pause after a failed accept: such failures (no file descriptor left) pass, but not at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl EdgeLimits {
    /// The read buffer of a connection bounds a head in bytes. hyper takes nothing below 8 KiB.
    pub(crate) fn buffer_bytes(&self) -> usize {
        const HYPER_MIN_BYTES: usize = 8192;
        self.header_max_bytes.max(HYPER_MIN_BYTES)
    }
}

/// Serves until `shutdown`, with `waker` for VMs that do not run; then accepts no more, gives open requests `drain_ms` to
/// end, and cuts what is left.
///
/// # Errors
/// None today: failures to accept pass.
pub async fn serve(
    listener: TcpListener,
    routes: RouteTable,
    config: EdgeConfig,
    metrics: EdgeMetrics,
    waker: Arc<dyn Waker>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let limits = config.limits.clone();
    let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
    // Connections to VMs, which are kept for the next request, and wakes: an end does not wait for them.
    let to_vms = TaskTracker::new();
    // However this future ends, also by being dropped, nothing of it goes on.
    let _cut_at_end = cut.clone().drop_guard();
    let reach = Arc::new(Reach::new(limits.clone(), waker, to_vms.clone(), cut.clone()));
    let proxy = Arc::new(Proxy {
        config,
        metrics,
        routes,
        reach: Arc::clone(&reach),
        upgrades: Arc::new(Semaphore::new(limits.upgrades_max)),
        tasks: tasks.clone(),
        cut: cut.clone(),
    });
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let clients = Clients::default();
    let mut sweep = interval(millis(limits.pool_idle_ms).clamp(SWEEP_MIN, SWEEP_MAX));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, peer) = listener.accept().await?;
            Ok::<_, io::Error>((place, stream, peer.ip().to_canonical()))
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = sweep.tick() => reach.sweep(),
            accepted = accepted => match accepted {
                Ok((place, stream, client)) => {
                    let trusted = limits.trusted_proxies.iter().any(|net| net.contains(&client));
                    let max = if trusted { usize::MAX } else { limits.connections_max_per_client };
                    let Some(counted) = clients.count(client, max) else {
                        tracing::debug!(%client, "a client has too many connections");
                        continue;
                    };
                    let guard = Guard { _place: place, _counted: counted };
                    tasks.spawn(converse(stream, client, guard, Arc::clone(&proxy), shutdown.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection was accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    tasks.close();
    if timeout(millis(limits.drain_ms), tasks.wait()).await.is_err() {
        tracing::info!(open = tasks.len(), "cutting what is still open");
    }
    cut.cancel();
    tasks.wait().await;
    to_vms.close();
    to_vms.wait().await;
    Ok(())
}

/// Serves one client connection.
async fn converse(stream: TcpStream, client: IpAddr, guard: Guard, proxy: Arc<Proxy>, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    let (limits, cut) = (proxy.config.limits.clone(), proxy.cut.clone());
    let io = TokioIo::new(IdleStream::new(stream, millis(limits.idle_ms), guard));
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { proxy.answer(client, request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(millis(limits.header_read_ms))
        .max_buf_size(limits.buffer_bytes())
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
