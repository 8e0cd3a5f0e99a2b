//! What a cached VM's record has beside that of every VM, and what changes it without changing its state: sleep, and
//! being held anew.

use std::net::Ipv4Addr;

use cakework_core::cached::{Prewarm, Sleep};
use cakework_core::id::{Generation, VmId};

use super::vms::{Row, Vm, columns, next_seq, read_all};
use super::{Store, StoreError, column};

/// What a cached VM is beside every VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CachedVm {
    pub(crate) prewarm: Prewarm,
    /// Time without a request after which it is put to sleep; `None`: never.
    pub(crate) idle_timeout_ms: Option<u64>,
    /// Requests to its hostname start and wake it.
    pub(crate) auto_start: bool,
    /// While it is started, where it sleeps.
    pub(crate) sleep: Option<Sleep>,
}

impl Store {
    /// Records how a started VM sleeps, or with `None` that it is awake at an address, as its host said under the number
    /// `said`. `false`: that is on record, or something later is, or the VM is not started in this generation.
    pub(crate) async fn sleeps(
        &self,
        id: &VmId,
        generation: Generation,
        sleep: Option<Sleep>,
        address: Option<Ipv4Addr>,
        said: u64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let seq = next_seq(&mut transaction).await?;
        let (sleep, address) = (sleep.map(Sleep::as_str), address.map(|address| address.to_string()));
        let done = sqlx::query(
            "UPDATE vms SET sleep = $1, address = COALESCE($2, address), seq = $3, said = $6 WHERE id = $4 \
             AND generation = $5 AND state = 'started' AND kind = 'cached' AND said < $6 \
             AND (COALESCE(sleep, '') <> COALESCE($1, '') OR COALESCE(address, '') <> COALESCE($2, address, ''))",
        )
        .bind(sleep)
        .bind(address)
        .bind(column(seq))
        .bind(id.as_str())
        .bind(column(generation.0))
        .bind(column(said))
        .execute(&mut *transaction)
        .await?;
        // Without a change the number is not taken.
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Has a VM that stands still held by its host under a new generation: the host does not have it, or may still be
    /// told to run it by a message that is on its way.
    pub(crate) async fn hold_anew(&self, vm: &Vm, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE vms SET incarnation = NULL, generation = generation + 1, due_ms = $3 \
             WHERE id = $1 AND generation = $2 AND state = 'stopped'",
        )
        .bind(vm.id.as_str())
        .bind(column(vm.generation.0))
        .bind(column(now_ms))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Lets a transient state's deadline pass.
    #[cfg(test)]
    pub(crate) async fn pass_deadline(&self, id: &VmId) -> Result<(), StoreError> {
        sqlx::query("UPDATE vms SET deadline_ms = 1, due_ms = 1 WHERE id = $1 AND deadline_ms IS NOT NULL")
            .bind(id.as_str())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// VMs that are awake and go to sleep by themselves.
    pub(crate) async fn vms_that_idle(&self) -> Result<Vec<Vm>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(concat!(
            "SELECT ",
            columns!(),
            " FROM vms WHERE idle_timeout_ms IS NOT NULL AND state = 'started' AND sleep IS NULL"
        ))
        .fetch_all(&self.readers)
        .await?;
        read_all(rows)
    }
}
