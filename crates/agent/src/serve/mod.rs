//! Serves the host protocol on a unix socket, to root and to the api's user only.
//!
//! Invariant: a connection of anyone else is closed before a byte of it is read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use axum::serve::Listener;
use cakework_image::ImageStore;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::build::Builds;
use crate::cached::Shared;
use crate::engine::Engine;
use crate::host::Host;
use crate::vm::Registry;

mod builds;
mod problem;
mod routes;

/// How long open requests may take to end once the agent shuts down.
const DRAIN_WAIT: Duration = Duration::from_secs(5);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What the routes work on.
#[derive(Debug)]
pub struct State {
    /// Who this host is.
    pub host: Mutex<Host>,
    /// Where `host.json` is.
    pub dir: std::path::PathBuf,
    /// The VMs.
    pub registry: Registry,
    /// What cached VMs share.
    pub cached: Arc<Shared>,
    /// The builds.
    pub builds: Builds,
    /// The images.
    pub images: ImageStore,
    /// What is reported.
    pub board: Board,
    /// What VMs run in; `None` while none is started.
    pub engine: Option<Engine>,
    /// The agent ends.
    pub shutdown: CancellationToken,
}

/// Binds the socket, in place of one that an earlier agent left. Blocks.
///
/// # Errors
/// Where it can't be made.
pub fn bind(path: &Path, gid: Option<u32>) -> anyhow::Result<UnixListener> {
    crate::sys::file::remove(path)?;
    // Nobody can connect to a socket in a name that nobody knows: it gets its owner and mode before its own.
    let beside = path.with_extension("new");
    crate::sys::file::remove(&beside)?;
    let listener = UnixListener::bind(&beside).with_context(|| format!("binding {}", beside.display()))?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o660))?;
    std::os::unix::fs::chown(&beside, Some(0), Some(gid.unwrap_or(0)))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// Serves until the state's `shutdown`, then lets open requests end, for a bounded time.
///
/// # Errors
/// Where the socket fails.
pub async fn serve(listener: UnixListener, state: Arc<State>, peer_uid: u32) -> anyhow::Result<()> {
    let shutdown = state.shutdown.clone();
    let peers = Peers { listener, uid: peer_uid };
    let serving = axum::serve(peers, routes::router(state)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        served = serving.into_future() => served?,
        () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN_WAIT).await } => {}
    }
    Ok(())
}

/// Connections of root and of one user.
struct Peers {
    listener: UnixListener,
    uid: u32,
}

impl Listener for Peers {
    type Io = UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == 0 || peer.uid() == self.uid => return (stream, address),
                    Ok(peer) => tracing::warn!(uid = peer.uid(), "a connection of a stranger was closed"),
                    Err(error) => tracing::warn!(%error, "a connection without credentials was closed"),
                },
                Err(error) => {
                    tracing::error!(%error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
