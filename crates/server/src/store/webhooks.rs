//! Webhook endpoints. Their secrets rest sealed; what is sent to them is in [`super::events`] and
//! [`super::deliveries`].

use cakework_core::id::{AccountId, WebhookId};
use cakework_core::webhook::{EventKind, Failing};
use sqlx::{FromRow, Sqlite, Transaction};

use super::keyed::{self, Claim};
use super::{Store, StoreError, bad_row, column, number};

/// An endpoint on record.
#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) id: WebhookId,
    pub(crate) account: AccountId,
    pub(crate) tenant: Option<String>,
    pub(crate) url: String,
    /// The kinds that it is told of; `None` is all.
    pub(crate) events: Option<Vec<EventKind>>,
    pub(crate) description: Option<String>,
    /// The key of its signatures, sealed.
    pub(crate) secret: Vec<u8>,
    /// The key before, sealed, and until when it signs too.
    pub(crate) old_secret: Option<(Vec<u8>, u64)>,
    pub(crate) failing: Option<Failing>,
    pub(crate) disabled: Option<(Why, u64)>,
    pub(crate) created_ms: u64,
    pub(crate) updated_ms: u64,
}

/// Why an endpoint is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It answered 410.
    Gone,
    /// It failed for days.
    Failing,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Gone, Self::Failing].into_iter().find(|why| why.as_str() == text)
    }
}

#[derive(FromRow)]
pub(super) struct Row {
    id: String,
    account_id: String,
    tenant: Option<String>,
    url: String,
    events: Option<String>,
    description: Option<String>,
    secret: Vec<u8>,
    old_secret: Option<Vec<u8>>,
    old_until_ms: Option<i64>,
    failing_since_ms: Option<i64>,
    failed_ms: Option<i64>,
    disabled_ms: Option<i64>,
    disabled_why: Option<String>,
    created_ms: i64,
    updated_ms: i64,
}

impl TryFrom<Row> for Webhook {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let why = row.disabled_why.map(|text| Why::read(&text).ok_or("its reason")).transpose();
        let failing = row.failing_since_ms.zip(row.failed_ms);
        Ok(Self {
            id: row.id.parse().map_err(bad_row("webhook"))?,
            account: row.account_id.parse().map_err(bad_row("webhook"))?,
            tenant: row.tenant,
            url: row.url,
            events: row.events.map(|text| serde_json::from_str(&text).map_err(bad_row("webhook"))).transpose()?,
            description: row.description,
            secret: row.secret,
            old_secret: row.old_secret.zip(row.old_until_ms.map(number)),
            failing: failing.map(|(since, last)| Failing { since_ms: number(since), last_ms: number(last) }),
            disabled: why.map_err(bad_row("webhook"))?.zip(row.disabled_ms.map(number)),
            created_ms: number(row.created_ms),
            updated_ms: number(row.updated_ms),
        })
    }
}

impl Store {
    /// Adds an endpoint if the account may have one more; answers whether it did.
    pub(crate) async fn insert_webhook(
        &self,
        webhook: &Webhook,
        most: u64,
        claim: Option<&Claim>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM webhooks WHERE account_id = $1")
            .bind(webhook.account.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        if number(count) >= most {
            return Ok(false);
        }
        let events = webhook.events.as_ref();
        sqlx::query(
            "INSERT INTO webhooks (id, account_id, tenant, url, events, description, secret, created_ms, updated_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        )
        .bind(webhook.id.as_str())
        .bind(webhook.account.as_str())
        .bind(webhook.tenant.as_deref())
        .bind(&webhook.url)
        .bind(events.map(|kinds| serde_json::to_string(kinds).expect("a list of words is plain data")))
        .bind(webhook.description.as_deref())
        .bind(webhook.secret.as_slice())
        .bind(column(webhook.created_ms))
        .execute(&mut *transaction)
        .await?;
        keyed::claim(&mut transaction, claim, webhook.id.as_str()).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// An endpoint of an account.
    pub(crate) async fn webhook(&self, account: &AccountId, id: &WebhookId) -> Result<Option<Webhook>, StoreError> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM webhooks WHERE id = $1 AND account_id = $2")
            .bind(id.as_str())
            .bind(account.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.map(Webhook::try_from).transpose()
    }

    /// All endpoints of an account, the newest first: they are few.
    pub(crate) async fn webhooks(&self, account: &AccountId, tenant: Option<&str>) -> Result<Vec<Webhook>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT * FROM webhooks WHERE account_id = $1 AND ($2 IS NULL OR tenant = $2) \
             ORDER BY created_ms DESC, id DESC",
        )
        .bind(account.as_str())
        .bind(tenant)
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(Webhook::try_from).collect()
    }

    /// Removes an endpoint with all that is on its way to it; answers whether it was there.
    pub(crate) async fn delete_webhook(&self, account: &AccountId, id: &WebhookId) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM webhooks WHERE id = $1 AND account_id = $2")
            .bind(id.as_str())
            .bind(account.as_str())
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives an endpoint a new secret; the one before signs, too, until `old_until_ms`. The one before that is erased.
    pub(crate) async fn rotate_webhook(
        &self,
        account: &AccountId,
        id: &WebhookId,
        secret: &[u8],
        old_until_ms: u64,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let keep = old_until_ms > now_ms;
        let done = sqlx::query(
            "UPDATE webhooks SET old_secret = CASE WHEN $1 = 1 THEN secret END, old_until_ms = CASE WHEN $1 = 1 \
             THEN $2 END, secret = $3, updated_ms = $4 WHERE id = $5 AND account_id = $6",
        )
        .bind(i64::from(keep))
        .bind(column(old_until_ms))
        .bind(secret)
        .bind(column(now_ms))
        .bind(id.as_str())
        .bind(account.as_str())
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Lets an endpoint be told of events again. What it failed on before is forgotten.
    pub(crate) async fn enable_webhook(
        &self,
        account: &AccountId,
        id: &WebhookId,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE webhooks SET disabled_ms = NULL, disabled_why = NULL, failing_since_ms = NULL, failed_ms = NULL, \
             updated_ms = $1 WHERE id = $2 AND account_id = $3",
        )
        .bind(column(now_ms))
        .bind(id.as_str())
        .bind(account.as_str())
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Erases the secrets that sign no more.
    pub(crate) async fn erase_old_secrets(&self, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE webhooks SET old_secret = NULL, old_until_ms = NULL WHERE old_until_ms <= $1")
            .bind(column(now_ms))
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

/// Stops telling an endpoint; what was on its way is given up, and can be replayed once it is enabled.
pub(super) async fn disable(
    transaction: &mut Transaction<'static, Sqlite>,
    id: &WebhookId,
    why: Why,
    now_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE webhooks SET disabled_ms = $1, disabled_why = $2, updated_ms = $1 WHERE id = $3")
        .bind(column(now_ms))
        .bind(why.as_str())
        .bind(id.as_str())
        .execute(&mut **transaction)
        .await?;
    sqlx::query(
        "UPDATE deliveries SET state = 'failed', due_ms = NULL, error = 'the endpoint was disabled', updated_ms = $1 \
         WHERE webhook_id = $2 AND state = 'pending'",
    )
    .bind(column(now_ms))
    .bind(id.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
