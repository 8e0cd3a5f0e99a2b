//! The agent role and its per-VM monitor: VMs, engines, networks, logs.

mod config;
pub mod engine;
pub mod logs;
pub mod monitor;
pub mod net;
mod sys;

use tokio_util::sync::CancellationToken;

pub use config::{AgentConfig, CapacityConfig};

/// Runs the agent until `shutdown`; the VMs run on.
///
/// # Errors
/// Where the host protocol can't be served.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let _ = config;
    shutdown.cancelled().await;
    Ok(())
}

/// Ends and removes all that an instance holds on this host. Its data directory stays.
///
/// # Errors
/// Where something could not be removed.
pub async fn purge(config: &AgentConfig) -> anyhow::Result<()> {
    let _ = config;
    Ok(())
}
