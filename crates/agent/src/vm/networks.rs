//! What VMs' networks need now and then: rules that another program flushed come back, and connections of VMs that are
//! gone are forgotten.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Registry;
use crate::net::NetError;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// Time until it is looked again at rules that are missing: those of a VM that starts are about to be made.
const CONFIRM: Duration = Duration::from_secs(1);

/// Looks after them until the agent ends.
pub async fn look_after_networks(registry: Registry, shutdown: CancellationToken) {
    let work = async {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = look(&registry).await {
                // Also where a VM went away meanwhile.
                tracing::warn!(error = &error as &dyn std::error::Error, "networks could not be looked after");
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

async fn look(registry: &Registry) -> Result<(), NetError> {
    let network = &registry.parts().network;
    network.forget_flows().await?;
    if !network.lacks_rules(&registry.places()).await? {
        return Ok(());
    }
    tokio::time::sleep(CONFIRM).await;
    if network.restore_rules(&registry.places()).await? {
        tracing::warn!("firewall rules were missing, which another program must have flushed; they are back");
    }
    Ok(())
}
