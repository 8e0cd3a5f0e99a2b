//! Events: written in the transaction of the change that they tell of, with one delivery for each endpoint that is to
//! be told. A change that is undone was never told of, and one that stands is never forgotten.
//!
//! An event that nobody wants is not kept.

use std::collections::BTreeMap;

use cakework_core::id::{AccountId, BuildId, EventId, HostLabel, ImageId, VmId, WebhookId};
use cakework_core::lifecycle::{Exit, VmState};
use cakework_core::webhook::EventKind;
use cakework_wire::build::BuildProblem;
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};

use super::vms::Vm;
use super::{Store, StoreError, bad_row, column, number};

/// Deliveries that may wait for one endpoint; further ones are given up at once, and say so.
pub(crate) const PENDING_MAX: u64 = if cfg!(test) { 30 } else { 5_000 };
/// Bytes of a sentence that an event repeats.
const MESSAGE_MAX_BYTES: usize = 2_048;

/// What an event tells, as it is stored. The body is made from it when it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Payload {
    /// A VM came to a new state.
    Vm {
        vm: VmId,
        image: ImageId,
        label: HostLabel,
        state: VmState,
        exit: Option<Exit>,
        metadata: BTreeMap<String, String>,
        tenant: Option<String>,
    },
    /// A build is over.
    Build {
        build: BuildId,
        image: Option<ImageId>,
        error: Option<BuildProblem>,
        metadata: BTreeMap<String, String>,
        tenant: Option<String>,
    },
    /// An endpoint is tried.
    Ping { webhook: WebhookId },
}

impl Payload {
    fn tenant(&self) -> Option<&str> {
        match self {
            Self::Vm { tenant, .. } | Self::Build { tenant, .. } => tenant.as_deref(),
            Self::Ping { .. } => None,
        }
    }
}

/// Writes an event and its deliveries. Answers how many endpoints are to be told.
pub(super) async fn record(
    transaction: &mut Transaction<'static, Sqlite>,
    account: &AccountId,
    kind: EventKind,
    payload: &Payload,
    now_ms: u64,
) -> Result<usize, StoreError> {
    let rows: Vec<(String, Option<String>)> = sqlx::query_as(
        "SELECT id, events FROM webhooks WHERE account_id = $1 AND disabled_ms IS NULL \
         AND (tenant IS NULL OR tenant = $2)",
    )
    .bind(account.as_str())
    .bind(payload.tenant())
    .fetch_all(&mut **transaction)
    .await?;
    let mut endpoints = Vec::new();
    for (id, events) in rows {
        let chosen: Option<Vec<EventKind>> =
            events.map(|text| serde_json::from_str(&text).map_err(bad_row("webhook"))).transpose()?;
        if chosen.is_none_or(|chosen| chosen.contains(&kind)) {
            endpoints.push(id.parse().map_err(bad_row("webhook"))?);
        }
    }
    if !endpoints.is_empty() {
        tell(transaction, account, kind, payload, &endpoints, now_ms).await?;
    }
    Ok(endpoints.len())
}

/// Tells of the state that a VM came to, where that is one that events tell of. A one-time VM's end is `vm.destroyed`,
/// however it ended.
pub(super) async fn record_vm(
    transaction: &mut Transaction<'static, Sqlite>,
    vm: &Vm,
    exit: Option<&Exit>,
    now_ms: u64,
) -> Result<(), StoreError> {
    let kind = match vm.state {
        VmState::Started => EventKind::VmStarted,
        VmState::Stopped => EventKind::VmStopped,
        VmState::Destroyed => EventKind::VmDestroyed,
        VmState::Created | VmState::Stopping | VmState::Destroying => return Ok(()),
    };
    let mut exit = exit.cloned();
    if let Some(message) = exit.as_mut().and_then(|exit| exit.message.as_mut()) {
        message.truncate(message.floor_char_boundary(MESSAGE_MAX_BYTES));
    }
    let payload = Payload::Vm {
        vm: vm.id.clone(),
        image: vm.image.clone(),
        label: vm.label.clone(),
        state: vm.state,
        exit,
        metadata: vm.metadata.clone(),
        tenant: vm.tenant.clone(),
    };
    record(transaction, &vm.account, kind, &payload, now_ms).await?;
    Ok(())
}

/// A build that is over.
#[derive(Debug)]
pub(crate) struct BuildEnd<'a> {
    pub(crate) account: &'a AccountId,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) build: &'a BuildId,
    /// The image, or why there is none.
    pub(crate) outcome: Result<&'a ImageId, &'a BuildProblem>,
    pub(crate) metadata: &'a BTreeMap<String, String>,
}

/// Tells of a build's end.
pub(super) async fn record_build(
    transaction: &mut Transaction<'static, Sqlite>,
    end: &BuildEnd<'_>,
    now_ms: u64,
) -> Result<(), StoreError> {
    let (kind, image, error) = match end.outcome {
        Ok(image) => (EventKind::BuildSucceeded, Some(image.clone()), None),
        Err(problem) => {
            let mut problem = problem.clone();
            problem.message.truncate(problem.message.floor_char_boundary(MESSAGE_MAX_BYTES));
            if let Some(instruction) = &mut problem.instruction {
                instruction.truncate(instruction.floor_char_boundary(MESSAGE_MAX_BYTES));
            }
            (EventKind::BuildFailed, None, Some(problem))
        }
    };
    let payload = Payload::Build {
        build: end.build.clone(),
        image,
        error,
        metadata: end.metadata.clone(),
        tenant: end.tenant.map(str::to_owned),
    };
    record(transaction, end.account, kind, &payload, now_ms).await?;
    Ok(())
}

async fn tell(
    transaction: &mut Transaction<'static, Sqlite>,
    account: &AccountId,
    kind: EventKind,
    payload: &Payload,
    endpoints: &[WebhookId],
    now_ms: u64,
) -> Result<EventId, StoreError> {
    let id = EventId::mint(now_ms, &mut rand::rng());
    sqlx::query("INSERT INTO events (id, account_id, kind, payload, created_ms) VALUES ($1, $2, $3, $4, $5)")
        .bind(id.as_str())
        .bind(account.as_str())
        .bind(kind.as_str())
        .bind(serde_json::to_string(payload).expect("a payload is plain data"))
        .bind(column(now_ms))
        .execute(&mut **transaction)
        .await?;
    for webhook in endpoints {
        let room = pending(transaction, webhook).await? < PENDING_MAX;
        let (state, due_ms, error) = match room {
            true => ("pending", Some(column(now_ms)), None),
            false => ("failed", None, Some("too many deliveries waited for this endpoint")),
        };
        sqlx::query(
            "INSERT INTO deliveries (webhook_id, event_id, kind, state, attempts, due_ms, error, created_ms, updated_ms) \
             VALUES ($1, $2, $3, $4, 0, $5, $6, $7, $7)",
        )
        .bind(webhook.as_str())
        .bind(id.as_str())
        .bind(kind.as_str())
        .bind(state)
        .bind(due_ms)
        .bind(error)
        .bind(column(now_ms))
        .execute(&mut **transaction)
        .await?;
    }
    Ok(id)
}

/// Deliveries that wait for an endpoint.
pub(super) async fn pending(
    transaction: &mut Transaction<'static, Sqlite>,
    webhook: &WebhookId,
) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM deliveries WHERE webhook_id = $1 AND due_ms IS NOT NULL")
        .bind(webhook.as_str())
        .fetch_one(&mut **transaction)
        .await?;
    Ok(number(count))
}

impl Store {
    /// Writes an event for one endpoint alone: somebody tries it.
    pub(crate) async fn ping(
        &self,
        account: &AccountId,
        webhook: &WebhookId,
        now_ms: u64,
    ) -> Result<EventId, StoreError> {
        let mut transaction = self.begin().await?;
        let payload = Payload::Ping { webhook: webhook.clone() };
        let endpoints = [webhook.clone()];
        let id = tell(&mut transaction, account, EventKind::Ping, &payload, &endpoints, now_ms).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Tells of a build's end by itself.
    #[cfg(test)]
    pub(crate) async fn tell_build(&self, end: &BuildEnd<'_>, now_ms: u64) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        record_build(&mut transaction, end, now_ms).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Forgets some events from before `before_ms` with their deliveries; answers how many.
    pub(crate) async fn forget_events(&self, before_ms: u64, limit: u32) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE created_ms < $1 ORDER BY created_ms LIMIT $2)",
        )
        .bind(column(before_ms))
        .bind(i64::from(limit))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected())
    }
}
