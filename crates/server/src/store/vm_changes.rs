//! What changes a VM's record. Each is one transaction and a compare-and-set: whoever comes late changes nothing.
//!
//! A VM's state changes in [`Store::apply`] alone (and [`Store::host_changed`], which is the same function over all
//! VMs of a life that is gone, whose builds are lost with them), and what it becomes is [`transition`]'s decision.
//! Invariant beside it: `incarnation` of a VM that is not over is either empty (unconfirmed) or the one in `hosts`.

use std::net::Ipv4Addr;

use cakework_core::cached::{Sleep, Start};
use cakework_core::id::{Generation, HostId, Incarnation, VmId};
use cakework_core::isolation::Isolation;
use cakework_core::lifecycle::{Change, Exit, ExitReason, VmEvent, VmState, transition};
use sqlx::{Sqlite, Transaction};

use super::build_changes::lose_builds;
use super::vms::{Row, Vm, columns};
use super::{Store, StoreError, column, events, keyed};

/// Time that a host has beyond the grace time to end a VM before it is asked to end it at once.
const STOP_MARGIN_MS: u64 = 15_000;
/// Time until the end of a VM is asked for again with a line in the log.
const DESTROY_DEADLINE_MS: u64 = 60_000;

/// What is known with an event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// How it ended, or will have ended if its host can't tell.
    pub(crate) exit: Option<Exit>,
    /// Where it is reached.
    pub(crate) address: Option<Ipv4Addr>,
    /// How it started.
    pub(crate) start: Option<Start>,
    /// How a cached one that runs sleeps.
    pub(crate) sleep: Option<Sleep>,
    /// The bounds of a start that is asked for.
    pub(crate) begin: Option<Begin>,
    /// A cached one whose host does not have it, or not as the record says: it is held anew.
    pub(crate) is_lost: bool,
}

impl Facts {
    /// Only an exit.
    pub(crate) fn exit(exit: Exit) -> Self {
        Self { exit: Some(exit), ..Self::default() }
    }
}

/// The bounds of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begin {
    /// Until then it has to run.
    pub(crate) deadline_ms: u64,
    /// Until then the reconciler leaves it to whoever asked.
    pub(crate) due_ms: u64,
}

/// An answer of a host that took a placement.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) id: &'a VmId,
    pub(crate) generation: Generation,
    pub(crate) host: &'a HostId,
    /// The life that it answered in.
    pub(crate) incarnation: &'a Incarnation,
    pub(crate) isolation: Option<Isolation>,
}

impl Store {
    /// Applies an event to a VM if it is still in this generation. Answers the record as it is now, `None` where the
    /// event said nothing new.
    pub(crate) async fn apply(
        &self,
        id: &VmId,
        generation: Generation,
        event: VmEvent,
        facts: &Facts,
        now_ms: u64,
    ) -> Result<Option<Vm>, StoreError> {
        let mut transaction = self.begin().await?;
        let row: Option<Row> =
            sqlx::query_as(concat!("SELECT ", columns!(), " FROM vms WHERE id = $1 AND generation = $2"))
                .bind(id.as_str())
                .bind(column(generation.0))
                .fetch_optional(&mut *transaction)
                .await?;
        let Some(vm) = row.map(Vm::try_from).transpose()? else { return Ok(None) };
        let changed = apply_to(&mut transaction, &vm, event, facts, now_ms).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Records that a host is about to be asked to take an unplaced VM, or one that another host did not take: the
    /// next generation. `false`: somebody else placed it, or it is not wanted any more. A cached VM is wanted also while
    /// it stands still: its host holds it.
    pub(crate) async fn place(&self, vm: &Vm, host: &HostId) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE vms SET host_id = $1, generation = generation + 1, incarnation = NULL \
             WHERE id = $2 AND generation = $3 AND incarnation IS NULL \
             AND (state = 'created' OR (state = 'stopped' AND kind = 'cached'))",
        )
        .bind(host.as_str())
        .bind(vm.id.as_str())
        .bind(column(vm.generation.0))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records that a host in this life has a VM, and with it what the host said of it. Nothing changes where the host's
    /// life on record is another. Answers the record as it is now if that is on it, and whether the VM's state changed.
    pub(crate) async fn confirm(
        &self,
        taken: &Taken<'_>,
        said: Option<(VmEvent, Facts)>,
        now_ms: u64,
    ) -> Result<Option<(Vm, bool)>, StoreError> {
        let mut transaction = self.begin().await?;
        let row: Option<Row> = sqlx::query_as(concat!(
            "UPDATE vms SET incarnation = $1, isolation = COALESCE($2, isolation), attempts = 0, due_ms = CASE \
             WHEN state = 'created' THEN deadline_ms WHEN state = 'stopped' THEN NULL ELSE due_ms END \
             WHERE id = $3 AND generation = $4 AND host_id = $5 AND state <> 'destroyed' AND incarnation IS NULL \
             AND EXISTS (SELECT 1 FROM hosts WHERE hosts.id = $5 AND hosts.incarnation = $1) RETURNING ",
            columns!()
        ))
        .bind(taken.incarnation.as_str())
        .bind(taken.isolation.map(Isolation::as_str))
        .bind(taken.id.as_str())
        .bind(column(taken.generation.0))
        .bind(taken.host.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(vm) = row.map(Vm::try_from).transpose()? else { return Ok(None) };
        let changed = match said {
            Some((event, facts)) => apply_to(&mut transaction, &vm, event, &facts, now_ms).await?,
            None => None,
        };
        transaction.commit().await?;
        Ok(Some(changed.map_or((vm, false), |vm| (vm, true))))
    }

    /// Forgets that a host has a wanted VM, which the host in the same life does not know: it is asked again.
    pub(crate) async fn unconfirm(&self, vm: &Vm, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE vms SET incarnation = NULL, due_ms = $3 WHERE id = $1 AND generation = $2 AND state = 'created'",
        )
        .bind(vm.id.as_str())
        .bind(column(vm.generation.0))
        .bind(column(now_ms))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Claims a due VM until `until_ms`. `false`: another process has it.
    pub(crate) async fn claim(&self, vm: &Vm, until_ms: u64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE vms SET due_ms = $1, attempts = attempts + 1 WHERE id = $2 AND due_ms = $3 AND generation = $4",
        )
        .bind(column(until_ms))
        .bind(vm.id.as_str())
        .bind(vm.due_ms.map(column))
        .bind(column(vm.generation.0))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Makes a VM due, unless its record moved on to a state that waits for nothing.
    pub(crate) async fn due_at(&self, id: &VmId, due_ms: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE vms SET due_ms = $1 WHERE id = $2 AND due_ms IS NOT NULL")
            .bind(column(due_ms))
            .bind(id.as_str())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Removes a VM that no host took and that nobody was told of.
    pub(crate) async fn forget(&self, id: &VmId) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "DELETE FROM vms WHERE id = $1 AND incarnation IS NULL \
             AND (state = 'created' OR (state = 'stopped' AND kind = 'cached'))",
        )
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await?;
        let is_done = done.rows_affected() == 1;
        if is_done {
            keyed::unclaim(&mut transaction, id.as_str()).await?;
        }
        transaction.commit().await?;
        Ok(is_done)
    }

    /// Moves a host from one life to the next: what was confirmed in the old one is over, in the same transaction.
    /// `None`: the host's life on record is not `old` any more.
    pub(crate) async fn host_changed(
        &self,
        host: &HostId,
        old: &Incarnation,
        new: &Incarnation,
        now_ms: u64,
    ) -> Result<Option<usize>, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query("UPDATE hosts SET incarnation = $1, seen_ms = $2 WHERE id = $3 AND incarnation = $4")
            .bind(new.as_str())
            .bind(column(now_ms))
            .bind(host.as_str())
            .bind(old.as_str())
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        let rows: Vec<Row> = sqlx::query_as(concat!(
            "SELECT ",
            columns!(),
            " FROM vms WHERE host_id = $1 AND incarnation = $2 AND state <> 'destroyed'"
        ))
        .bind(host.as_str())
        .bind(old.as_str())
        .fetch_all(&mut *transaction)
        .await?;
        let lost = rows.len() + lose_builds(&mut transaction, host, old, now_ms).await?;
        for row in rows {
            let vm = Vm::try_from(row)?;
            let facts = Facts { is_lost: true, ..Facts::exit(Exit::only(ExitReason::HostLost)) };
            apply_to(&mut transaction, &vm, VmEvent::HostLost, &facts, now_ms).await?;
        }
        // Those that stood still did not change their state; what was made ready for them is gone.
        sqlx::query(
            "UPDATE vms SET incarnation = NULL, generation = generation + 1, due_ms = $1 \
             WHERE host_id = $2 AND incarnation = $3 AND state = 'stopped' AND kind = 'cached'",
        )
        .bind(column(now_ms))
        .bind(host.as_str())
        .bind(old.as_str())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Some(lost))
    }
}

/// When a state has to be left, and when the reconciler acts on it first.
fn timers(vm: &Vm, next: VmState, facts: &Facts, now_ms: u64) -> (Option<u64>, Option<u64>) {
    match (next, facts.begin) {
        (VmState::Created, Some(begin)) => (Some(begin.deadline_ms), Some(begin.due_ms)),
        (VmState::Created, None) => (vm.deadline_ms, vm.due_ms),
        (VmState::Started | VmState::Stopped | VmState::Destroyed, _) => (None, None),
        (VmState::Stopping, _) => (Some(now_ms + vm.spec.stop_grace_ms + STOP_MARGIN_MS), Some(now_ms)),
        (VmState::Destroying, _) => (Some(now_ms + DESTROY_DEADLINE_MS), Some(now_ms)),
    }
}

async fn apply_to(
    transaction: &mut Transaction<'static, Sqlite>,
    vm: &Vm,
    event: VmEvent,
    facts: &Facts,
    now_ms: u64,
) -> Result<Option<Vm>, StoreError> {
    let next = match transition(vm.kind(), vm.state, event) {
        Change::To(next) => next,
        Change::Stay => return Ok(None),
    };
    let begins = next == VmState::Created;
    let (over, rests) = (next == VmState::Destroyed, next == VmState::Stopped);
    // A run is a placement of its own; so is holding a VM of which its host may know less, or more, than the record.
    let is_anew = begins || (rests && vm.host.is_some() && (facts.is_lost || vm.incarnation.is_none()));
    let wish = match (begins || rests, over) {
        (true, _) => None,
        (false, true) => vm.wish.clone(),
        (false, false) => facts.exit.clone().or_else(|| vm.wish.clone()),
    };
    let exit = match (over || rests, &facts.exit) {
        (false, _) if next == VmState::Destroying => vm.exit.as_ref(),
        (false, _) => None,
        // Its host does not know how it ended, but why its end was asked for is on record.
        (true, Some(exit)) if exit.reason == ExitReason::Unknown => Some(vm.wish.as_ref().unwrap_or(exit)),
        (true, Some(exit)) => Some(exit),
        // Of one that stood still, the end of its last run is on record.
        (true, None) => vm.wish.as_ref().or(vm.exit.as_ref()),
    };
    let runs = next == VmState::Started;
    let start = if runs { facts.start.as_ref() } else { vm.start.as_ref() };
    let start = start.filter(|_| !begins).map(|start| serde_json::to_string(start).expect("a start is plain data"));
    let text = |exit: &Exit| serde_json::to_string(exit).expect("an exit is plain data");
    let address = if runs { facts.address } else { None };
    let sleep = if runs { facts.sleep } else { None };
    let (deadline_ms, mut due_ms) = timers(vm, next, facts, now_ms);
    if rests && (is_anew || vm.host.is_none()) {
        due_ms = Some(now_ms);
    }
    // Writers follow one another: the numbers of changes are in the order of their commits.
    let row: Option<Row> = sqlx::query_as(concat!(
        "UPDATE counters SET value = value + 1 WHERE name = 'vms'; \
         UPDATE vms SET state = $1, address = $2, wish = $3, exit = $4, \
         seq = (SELECT value FROM counters WHERE name = 'vms'), deadline_ms = $5, due_ms = $6, attempts = 0, \
         updated_ms = $7, env = CASE WHEN $1 = 'destroyed' THEN NULL ELSE env END, sleep = $8, start = $9, \
         generation = generation + $10, incarnation = CASE WHEN $10 = 1 THEN NULL ELSE incarnation END, \
         said = CASE WHEN $10 = 1 THEN 0 ELSE said END \
         WHERE id = $11 AND state = $12 AND generation = $13 RETURNING ",
        columns!()
    ))
    .bind(next.as_str())
    .bind(address.map(|address| address.to_string()))
    .bind(wish.as_ref().map(text))
    .bind(exit.map(text))
    .bind(deadline_ms.map(column))
    .bind(due_ms.map(column))
    .bind(column(now_ms))
    .bind(sleep.map(Sleep::as_str))
    .bind(start)
    .bind(i64::from(is_anew))
    .bind(vm.id.as_str())
    .bind(vm.state.as_str())
    .bind(column(vm.generation.0))
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(changed) = row.map(Vm::try_from).transpose()? else { return Ok(None) };
    events::record_vm(transaction, &changed, exit, now_ms).await?;
    Ok(Some(changed))
}
