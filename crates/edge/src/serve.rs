//! The listener: accepts, counts and ends client connections.

use std::io;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{EdgeConfig, RouteTable};

/// Serves until `shutdown`.
///
/// # Errors
/// The listener is broken.
pub async fn serve(
    listener: TcpListener,
    routes: RouteTable,
    config: EdgeConfig,
    shutdown: CancellationToken,
) -> io::Result<()> {
    drop((listener, routes, config));
    shutdown.cancelled().await;
    Ok(())
}
