//! The edge behind its door: the proxy for each client, and the connections to VMs that are kept.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{EdgeLimits, millis};
use crate::door::{Door, DoorLimits};
use crate::proxy::Proxy;
use crate::reach::Reach;
use crate::{EdgeConfig, EdgeMetrics, RouteTable, Waker};

/// How often kept connections are looked through, at least and at most.
const SWEEP_MIN: Duration = Duration::from_millis(100);
const SWEEP_MAX: Duration = Duration::from_secs(5);

impl EdgeLimits {
    fn of_the_door(&self) -> DoorLimits {
        DoorLimits {
            connections_max: self.connections_max,
            connections_max_per_client: self.connections_max_per_client,
            trusted_proxies: self.trusted_proxies.clone(),
            header_read: millis(self.header_read_ms),
            header_max_bytes: self.header_max_bytes,
            headers_max: self.headers_max,
            idle: millis(self.idle_ms),
            drain: millis(self.drain_ms),
        }
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
    let door = Door::default();
    // Connections to VMs, which are kept for the next request, and wakes: an end does not wait for them.
    let to_vms = TaskTracker::new();
    let reach = Arc::new(Reach::new(limits.clone(), waker, to_vms.clone(), door.cut.clone()));
    let proxy = Arc::new(Proxy {
        config,
        metrics,
        routes,
        reach: Arc::clone(&reach),
        upgrades: Arc::new(Semaphore::new(limits.upgrades_max)),
        tasks: door.tasks.clone(),
        cut: door.cut.clone(),
    });
    let service = |client| {
        let proxy = Arc::clone(&proxy);
        service_fn(move |request| {
            let proxy = Arc::clone(&proxy);
            async move { proxy.answer(client, request).await }
        })
    };
    tokio::select! {
        () = door.serve(listener, limits.of_the_door(), service, shutdown) => {}
        () = sweep(&reach, &limits) => {}
    }
    to_vms.close();
    to_vms.wait().await;
    Ok(())
}

/// Looks through kept connections, without an end.
async fn sweep(reach: &Reach, limits: &EdgeLimits) {
    let mut due = interval(millis(limits.pool_idle_ms).clamp(SWEEP_MIN, SWEEP_MAX));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        reach.sweep();
    }
}
