//! Puts the api role together: opens the store, takes the addresses, runs the reconcilers, drains at the end.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use cakework_edge::door::{Door, DoorLimits};
use cakework_edge::{EdgeConfig, EdgeLimits};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::ServerConfig;
use crate::ops::cached::run::Wakes;
use crate::seal::Sealer;
use crate::store::Store;
use crate::{keys, metrics, reconcile, routes, snapshot};

/// Time that a start call waits for its VM to run: well inside the 60 s after which clients give up.
const START_WAIT: Duration = Duration::from_secs(10);
/// Longest time that open connections may take after `shutdown`.
const DRAIN: Duration = Duration::from_secs(10);
/// Client connections of a listener of the API in all; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// Client connections of it from one address (a /64 of IPv6); more are closed.
const CONNECTIONS_MAX_PER_CLIENT: usize = 1024;
/// Longest time for a request's head to arrive, and for a kept connection to stay without a request: clients keep theirs
/// for 90 seconds at most, so that none sends into a connection that is just being closed.
const HEADER_WAIT: Duration = Duration::from_secs(100);
/// Bytes of a request's head.
const HEADER_MAX_BYTES: usize = 32 * 1024;
/// Header fields of a request.
const HEADERS_MAX: usize = 100;
/// Longest time in which a connection moves no byte: as long as the longest command may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Serves the API, the edge and the admin socket until `shutdown`; then drains for at most ten seconds.
///
/// # Errors
/// A data directory that can't be used, an address that can't be bound, a database of a later version.
pub async fn run(config: ServerConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let dir = config.dir.clone();
    let (sealer, _lock) = tokio::task::spawn_blocking(move || prepare(&dir)).await??;
    let store = Store::open(&config.dir).await?;
    let listener = bind(config.listen).await?;
    let twin = bind_twin(&listener).await;
    let edge_listener = bind(config.edge_listen).await?;
    let admin_listener = keys::admin::listen(&config.dir)?;
    let metrics_listener = match config.metrics_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    if config.print_first_key
        && let Some(key) = keys::first_key(&store).await?
    {
        writeln!(std::io::stdout(), "key: {key}").context("the first key can't be printed")?;
    }
    let edge = EdgeConfig { base_domain: config.base_domain.clone(), limits: EdgeLimits::default() };
    tracing::info!(api = %listener.local_addr()?, edge = %edge_listener.local_addr()?, "serving");

    let app = App::new(config, store.clone(), sealer, START_WAIT)?;
    let seq = reconcile::follow::fill(&app).await?;
    // Requests are drained while the reconcilers still work for them.
    let reconcilers = CancellationToken::new();
    let mut serving: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let mut working: JoinSet<()> = JoinSet::new();
    working.spawn(reconcile::follow::run(Arc::clone(&app), seq, reconcilers.clone()));
    working.spawn(reconcile::watch::run(Arc::clone(&app), reconcilers.clone()));
    working.spawn(reconcile::vms::run(Arc::clone(&app), reconcilers.clone()));
    working.spawn(reconcile::idle::run(Arc::clone(&app), reconcilers.clone()));
    working.spawn(reconcile::images::run(Arc::clone(&app), reconcilers.clone()));
    working.spawn(reconcile::builds::run(Arc::clone(&app), reconcilers.clone()));
    working.spawn(reconcile::webhooks::run(Arc::clone(&app), reconcilers.clone()));

    let router = routes::router(Arc::clone(&app));
    for listener in std::iter::once(listener).chain(twin) {
        serving.spawn(behind_a_door(listener, router.clone(), shutdown.clone()));
    }
    let (token, table, waker) = (shutdown.clone(), app.routes.clone(), Arc::new(Wakes(Arc::clone(&app))));
    let counts = app.metrics.edge.clone();
    serving.spawn(async move {
        cakework_edge::serve(edge_listener, table, edge, counts, waker, token).await.context("the edge stopped")
    });
    let metrics = metrics::serve::router(Arc::clone(&app));
    if let Some(listener) = metrics_listener {
        serving.spawn(behind_a_door(listener, metrics.clone(), shutdown.clone()));
    }
    let (token, router) = (shutdown.clone(), keys::admin::router(store.clone(), app.config.dir.clone()).merge(metrics));
    serving.spawn(async move {
        let server = axum::serve(admin_listener, router).with_graceful_shutdown(token.cancelled_owned());
        server.await.context("the admin socket stopped")
    });

    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = serving.join_next() => ended.context("a server panicked").and_then(|ended| ended),
        Some(ended) = working.join_next() => ended.context("a reconciler panicked"),
    };
    shutdown.cancel();
    app.closing.cancel();
    let drained = tokio::time::timeout(DRAIN, async { while serving.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("connections that were still open are closed");
    }
    serving.shutdown().await;
    reconcilers.cancel();
    let _ = tokio::time::timeout(DRAIN, async { while working.join_next().await.is_some() {} }).await;
    working.shutdown().await;
    app.tasks.close();
    let _ = tokio::time::timeout(DRAIN, app.tasks.wait()).await;
    store.close().await;
    ended
}

/// Serves a router until `shutdown`, to clients that are bounded in every way.
async fn behind_a_door(listener: TcpListener, router: Router, shutdown: CancellationToken) -> anyhow::Result<()> {
    let limits = DoorLimits {
        connections_max: CONNECTIONS_MAX,
        connections_max_per_client: CONNECTIONS_MAX_PER_CLIENT,
        // Whoever stands before the API on this host.
        trusted_proxies: [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(IpNet::from).into(),
        header_read: HEADER_WAIT,
        header_max_bytes: HEADER_MAX_BYTES,
        headers_max: HEADERS_MAX,
        idle: SILENCE_MAX,
        drain: DRAIN,
    };
    let service = move |_| TowerToHyperService::new(router.clone());
    Door::default().serve(listener, limits, service, shutdown).await;
    Ok(())
}

/// Makes the directory private and takes what lies in it. Blocking.
fn prepare(dir: &Path) -> anyhow::Result<(Sealer, std::fs::File)> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).context("the api's directory can't be made")?;
    let mode = std::fs::metadata(dir)?.permissions().mode();
    anyhow::ensure!(mode & 0o022 == 0, "{} is writable for others: chmod 700 it", dir.display());
    let lock = keys::serve_lock(dir)?;
    snapshot::sweep(dir)?;
    let sealer = Sealer::open(dir)?;
    if sealer.is_turning() {
        tracing::warn!(
            "a rotation of the sealing key was cut off: stop the server and run `cakework rotate-key` again"
        );
    }
    Ok((sealer, lock))
}

/// The same port of `::1` where the API listens on 127.0.0.1: `localhost` leads to either, and some clients try only the
/// first. It is no failure where the host has no IPv6.
async fn bind_twin(listener: &TcpListener) -> Option<TcpListener> {
    let address = listener.local_addr().ok().filter(|address| address.ip() == Ipv4Addr::LOCALHOST)?;
    match TcpListener::bind((Ipv6Addr::LOCALHOST, address.port())).await {
        Ok(twin) => Some(twin),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            tracing::warn!("[::1]:{} is taken: clients of `localhost` may reach another server", address.port());
            None
        }
        Err(error) => {
            tracing::debug!(%error, "the API does not listen on ::1");
            None
        }
    }
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{address} can't be bound: is another server there?"))
}
