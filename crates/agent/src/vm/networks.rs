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
            // One does not wait for the other: rules come back also where connections can't be forgotten.
            let forgotten = registry.parts().network.forget_flows().await;
            for error in [forgotten, restore(&registry).await].into_iter().filter_map(Result::err) {
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

async fn restore(registry: &Registry) -> Result<(), NetError> {
    let network = &registry.parts().network;
    if !network.lacks_rules(&registry.places()).await? {
        return Ok(());
    }
    tokio::time::sleep(CONFIRM).await;
    if network.restore_rules(&registry.places()).await? {
        tracing::warn!("firewall rules were missing, which another program must have flushed; they are back");
    }
    Ok(())
}
