//! Hosts: the life that each was last seen in.

use cakework_core::id::{HostId, Incarnation};

use super::{Store, StoreError, bad_row, column};

impl Store {
    /// The life of a host that its VMs were confirmed in.
    pub(crate) async fn incarnation(&self, host: &HostId) -> Result<Option<Incarnation>, StoreError> {
        let text: Option<String> = sqlx::query_scalar("SELECT incarnation FROM hosts WHERE id = $1")
            .bind(host.as_str())
            .fetch_optional(&self.readers)
            .await?;
        text.map(|text| text.parse().map_err(bad_row("host"))).transpose()
    }

    /// Adds a host that was never seen. One that is there already is left as it is.
    pub(crate) async fn insert_host(
        &self,
        host: &HostId,
        incarnation: &Incarnation,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO hosts (id, incarnation, seen_ms) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING")
            .bind(host.as_str())
            .bind(incarnation.as_str())
            .bind(column(now_ms))
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
