//! Deliveries: events on their way to endpoints.
//!
//! One is claimed by moving its due time to the end of a lease and counting the attempt, in one statement: whoever
//! dies in between leaves a row that comes due again. The end of an attempt is written only by who holds the claim.

use cakework_core::id::{AccountId, EventId, WebhookId};
use cakework_core::webhook::{EventKind, Failing, Next};
use sqlx::{FromRow, QueryBuilder, Sqlite};

use super::events::{PENDING_MAX, Payload, pending};
use super::page::{Cursor, Page};
use super::webhooks::{self, Webhook, Why};
use super::{Store, StoreError, bad_row, column, number};

/// A delivery on record.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) event: EventId,
    pub(crate) kind: EventKind,
    pub(crate) state: DeliveryState,
    pub(crate) attempts: u64,
    pub(crate) due_ms: Option<u64>,
    pub(crate) status_code: Option<u16>,
    pub(crate) error: Option<String>,
    pub(crate) duration_ms: Option<u64>,
    pub(crate) created_ms: u64,
    pub(crate) updated_ms: u64,
}

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryState {
    Pending,
    Delivered,
    Failed,
}

impl DeliveryState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}

#[derive(FromRow)]
struct Row {
    event_id: String,
    kind: String,
    state: String,
    attempts: i64,
    due_ms: Option<i64>,
    status_code: Option<i64>,
    error: Option<String>,
    duration_ms: Option<i64>,
    created_ms: i64,
    updated_ms: i64,
}

impl TryFrom<Row> for Delivery {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let state = DeliveryState::read(&row.state).ok_or("its state");
        Ok(Self {
            event: row.event_id.parse().map_err(bad_row("delivery"))?,
            kind: row.kind.parse().map_err(bad_row("delivery"))?,
            state: state.map_err(bad_row("delivery"))?,
            attempts: number(row.attempts),
            due_ms: row.due_ms.map(number),
            status_code: row.status_code.and_then(|code| u16::try_from(code).ok()),
            error: row.error,
            duration_ms: row.duration_ms.map(number),
            created_ms: number(row.created_ms),
            updated_ms: number(row.updated_ms),
        })
    }
}

/// An attempt that this process makes.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) webhook: WebhookId,
    pub(crate) event: EventId,
    pub(crate) kind: EventKind,
    pub(crate) payload: Payload,
    /// When the event happened.
    pub(crate) happened_ms: u64,
    /// This attempt's number, from 1.
    pub(crate) attempt: u64,
    until_ms: u64,
}

/// What an attempt came to.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) status_code: Option<u16>,
    pub(crate) error: Option<String>,
    pub(crate) duration_ms: u64,
    pub(crate) next: Next,
}

/// What became of a wish to deliver again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    Done,
    Unknown,
    /// As much waits for the endpoint as may.
    Full,
}

impl Store {
    /// Enabled endpoints with a delivery that is due, without those and the accounts that are named.
    pub(crate) async fn webhooks_due(
        &self,
        now_ms: u64,
        busy: &[WebhookId],
        busy_accounts: &[AccountId],
        limit: u32,
    ) -> Result<Vec<Webhook>, StoreError> {
        let any: Option<i64> = sqlx::query_scalar("SELECT 1 FROM deliveries WHERE due_ms <= $1 LIMIT 1")
            .bind(column(now_ms))
            .fetch_optional(&self.readers)
            .await?;
        if any.is_none() {
            return Ok(Vec::new());
        }
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT * FROM webhooks WHERE disabled_ms IS NULL");
        except(&mut query, "id", busy.iter().map(WebhookId::as_str));
        except(&mut query, "account_id", busy_accounts.iter().map(AccountId::as_str));
        query.push(" AND EXISTS (SELECT 1 FROM deliveries d WHERE d.webhook_id = webhooks.id AND d.due_ms <= ");
        query.push_bind(column(now_ms)).push(") ORDER BY RANDOM() LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<webhooks::Row> = query.build_query_as().fetch_all(&self.readers).await?;
        rows.into_iter().map(Webhook::try_from).collect()
    }

    /// Claims up to `most` due deliveries of an endpoint until `until_ms`, the longest waiting first.
    pub(crate) async fn claim_deliveries(
        &self,
        webhook: &WebhookId,
        now_ms: u64,
        until_ms: u64,
        most: u32,
    ) -> Result<Vec<Claim>, StoreError> {
        let mut transaction = self.begin().await?;
        let claimed: Vec<(String, i64)> = sqlx::query_as(
            "UPDATE deliveries SET due_ms = $1, attempts = attempts + 1 WHERE webhook_id = $2 AND due_ms <= $3 AND \
             event_id IN (SELECT event_id FROM deliveries WHERE webhook_id = $2 AND due_ms <= $3 \
             ORDER BY due_ms, event_id LIMIT $4) RETURNING event_id, attempts",
        )
        .bind(column(until_ms))
        .bind(webhook.as_str())
        .bind(column(now_ms))
        .bind(i64::from(most))
        .fetch_all(&mut *transaction)
        .await?;
        let mut claims = Vec::new();
        for (event, attempts) in claimed {
            let (kind, payload, created_ms): (String, String, i64) =
                sqlx::query_as("SELECT kind, payload, created_ms FROM events WHERE id = $1")
                    .bind(&event)
                    .fetch_one(&mut *transaction)
                    .await?;
            claims.push(Claim {
                webhook: webhook.clone(),
                event: event.parse().map_err(bad_row("delivery"))?,
                kind: kind.parse().map_err(bad_row("event"))?,
                payload: serde_json::from_str(&payload).map_err(bad_row("event"))?,
                happened_ms: number(created_ms),
                attempt: number(attempts),
                until_ms,
            });
        }
        transaction.commit().await?;
        Ok(claims)
    }

    /// Writes down what an attempt came to, and what that says of its endpoint. Answers why the endpoint is disabled
    /// by it. Nothing is written where the claim is not held any more.
    pub(crate) async fn attempted(
        &self,
        claim: &Claim,
        attempt: &Attempt,
        now_ms: u64,
    ) -> Result<Option<Why>, StoreError> {
        let (state, due_ms) = match attempt.next {
            Next::Delivered => (DeliveryState::Delivered, None),
            Next::Retry { after_ms } => (DeliveryState::Pending, Some(now_ms + after_ms)),
            Next::Failed | Next::Gone => (DeliveryState::Failed, None),
        };
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE deliveries SET state = $1, due_ms = $2, status_code = $3, error = $4, duration_ms = $5, \
             updated_ms = $6 WHERE webhook_id = $7 AND event_id = $8 AND attempts = $9 AND due_ms = $10",
        )
        .bind(state.as_str())
        .bind(due_ms.map(column))
        .bind(attempt.status_code.map(i64::from))
        .bind(attempt.error.as_deref())
        .bind(column(attempt.duration_ms))
        .bind(column(now_ms))
        .bind(claim.webhook.as_str())
        .bind(claim.event.as_str())
        .bind(column(claim.attempt))
        .bind(column(claim.until_ms))
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        let before: (Option<i64>, Option<i64>) =
            sqlx::query_as("SELECT failing_since_ms, failed_ms FROM webhooks WHERE id = $1")
                .bind(claim.webhook.as_str())
                .fetch_one(&mut *transaction)
                .await?;
        let before =
            before.0.zip(before.1).map(|(since, last)| Failing { since_ms: number(since), last_ms: number(last) });
        let failing = match attempt.next {
            Next::Delivered => None,
            Next::Retry { .. } | Next::Failed | Next::Gone => Some(Failing::again(before, now_ms)),
        };
        if failing != before {
            sqlx::query("UPDATE webhooks SET failing_since_ms = $1, failed_ms = $2 WHERE id = $3")
                .bind(failing.map(|failing| column(failing.since_ms)))
                .bind(failing.map(|failing| column(failing.last_ms)))
                .bind(claim.webhook.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        let why = match attempt.next {
            Next::Gone => Some(Why::Gone),
            Next::Delivered | Next::Retry { .. } | Next::Failed => {
                failing.is_some_and(Failing::is_too_long).then_some(Why::Failing)
            }
        };
        if let Some(why) = why {
            webhooks::disable(&mut transaction, &claim.webhook, why, now_ms).await?;
        }
        transaction.commit().await?;
        Ok(why)
    }

    /// A delivery to an endpoint, which the caller has found in the account.
    pub(crate) async fn delivery(&self, webhook: &WebhookId, event: &EventId) -> Result<Option<Delivery>, StoreError> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM deliveries WHERE webhook_id = $1 AND event_id = $2")
            .bind(webhook.as_str())
            .bind(event.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.map(Delivery::try_from).transpose()
    }

    /// A page of an endpoint's deliveries, the newest first.
    pub(crate) async fn deliveries(
        &self,
        webhook: &WebhookId,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<Delivery>, StoreError> {
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT * FROM deliveries WHERE webhook_id = ");
        query.push_bind(webhook.as_str().to_owned());
        if let Some(after) = after {
            query.push(" AND (created_ms, event_id) < (").push_bind(column(after.created_ms)).push(", ");
            query.push_bind(after.id.clone()).push(")");
        }
        query.push(" ORDER BY created_ms DESC, event_id DESC LIMIT ").push_bind(column(limit as u64 + 1));
        let rows: Vec<Row> = query.build_query_as().fetch_all(&self.readers).await?;
        let deliveries = rows.into_iter().map(Delivery::try_from).collect::<Result<Vec<_>, _>>()?;
        let place = |delivery: &Delivery| Cursor { created_ms: delivery.created_ms, id: delivery.event.to_string() };
        Ok(Page::cut(deliveries, limit, place))
    }

    /// Delivers an event again, from the first attempt on, at once. It keeps its id.
    pub(crate) async fn replay(&self, webhook: &WebhookId, event: &EventId, now_ms: u64) -> Result<Replay, StoreError> {
        let mut transaction = self.begin().await?;
        if pending(&mut transaction, webhook).await? >= PENDING_MAX {
            return Ok(Replay::Full);
        }
        let done = sqlx::query(
            "UPDATE deliveries SET state = 'pending', attempts = 0, due_ms = $1, updated_ms = $1 \
             WHERE webhook_id = $2 AND event_id = $3",
        )
        .bind(column(now_ms))
        .bind(webhook.as_str())
        .bind(event.as_str())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(if done.rows_affected() == 1 { Replay::Done } else { Replay::Unknown })
    }
}

/// ` AND column NOT IN (…)`, where there is something to leave out.
fn except<'a>(query: &mut QueryBuilder<Sqlite>, column: &'static str, values: impl Iterator<Item = &'a str>) {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return;
    }
    query.push(" AND ").push(column).push(" NOT IN (");
    let mut list = query.separated(", ");
    for value in values {
        list.push_bind(value.to_owned());
    }
    query.push(")");
}
