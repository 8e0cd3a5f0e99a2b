//! How many there are of what, for the operator's metrics: of all accounts together.

use super::{Store, StoreError, number};

/// VMs of one kind in one state.
#[derive(Debug)]
pub(crate) struct VmsInState {
    /// `once` or `cached`.
    pub(crate) kind: String,
    /// The state's word; of those that sleep, `asleep` or `spilled`.
    pub(crate) state: String,
    pub(crate) count: u64,
}

/// What is not over.
#[derive(Debug)]
pub(crate) struct Stands {
    pub(crate) vms: Vec<VmsInState>,
    /// Builds by their state's word.
    pub(crate) builds: Vec<(String, u64)>,
    /// Webhook deliveries that are still to be made.
    pub(crate) deliveries: u64,
}

impl Store {
    /// Counts what is not over.
    pub(crate) async fn stands(&self) -> Result<Stands, StoreError> {
        let vms: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT kind, CASE WHEN state <> 'started' OR sleep IS NULL THEN state WHEN sleep = 'paused' THEN 'asleep' \
             ELSE sleep END AS shown, COUNT(*) FROM vms WHERE state <> 'destroyed' GROUP BY kind, shown",
        )
        .fetch_all(&self.readers)
        .await?;
        let builds: Vec<(String, i64)> =
            sqlx::query_as("SELECT state, COUNT(*) FROM builds WHERE state IN ('queued', 'building') GROUP BY state")
                .fetch_all(&self.readers)
                .await?;
        let deliveries: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM deliveries WHERE due_ms IS NOT NULL")
            .fetch_one(&self.readers)
            .await?;
        let vms = vms.into_iter().map(|(kind, state, count)| VmsInState { kind, state, count: number(count) });
        let builds = builds.into_iter().map(|(state, count)| (state, number(count)));
        Ok(Stands { vms: vms.collect(), builds: builds.collect(), deliveries: number(deliveries) })
    }
}
