//! Requests that carried an idempotency key.

use cakework_core::id::AccountId;
use sqlx::{FromRow, Sqlite, Transaction};

use super::{Store, StoreError, column};

/// A request's place among those of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestKey {
    pub(crate) account: AccountId,
    /// The tenant that the caller's key is bound to, or an empty text.
    pub(crate) tenant: String,
    pub(crate) key: String,
}

/// A request that is about to make something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) key: RequestKey,
    /// What it asks for, sealed.
    pub(crate) request: Vec<u8>,
    pub(crate) now_ms: u64,
    /// Requests from before this moment are forgotten.
    pub(crate) since_ms: u64,
}

/// A request that made something.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct KeyedRequest {
    /// What it asked for, sealed.
    pub(crate) request: Vec<u8>,
    /// The id of what it made.
    pub(crate) object: String,
    /// How it was answered, sealed.
    pub(crate) answer: Option<Vec<u8>>,
}

impl Store {
    /// What was made under this key since then.
    pub(crate) async fn keyed_request(
        &self,
        key: &RequestKey,
        since_ms: u64,
    ) -> Result<Option<KeyedRequest>, StoreError> {
        let found = sqlx::query_as(
            "SELECT request, object, answer FROM keyed_requests WHERE account_id = $1 AND tenant = $2 AND key = $3 AND \
             created_ms >= $4",
        )
        .bind(key.account.as_str())
        .bind(&key.tenant)
        .bind(&key.key)
        .bind(column(since_ms))
        .fetch_optional(&self.readers)
        .await?;
        Ok(found)
    }

    /// Keeps how a request was answered.
    pub(crate) async fn keep_answer(&self, key: &RequestKey, answer: &[u8]) -> Result<(), StoreError> {
        sqlx::query("UPDATE keyed_requests SET answer = $4 WHERE account_id = $1 AND tenant = $2 AND key = $3")
            .bind(key.account.as_str())
            .bind(&key.tenant)
            .bind(&key.key)
            .bind(answer)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// As if each process had died before it could keep its answer.
    #[cfg(test)]
    pub(crate) async fn forget_answers(&self) {
        sqlx::query("UPDATE keyed_requests SET answer = NULL").execute(&self.writer).await.expect("an update");
    }

    /// Forgets some requests from before `before_ms`; answers how many.
    pub(crate) async fn forget_requests(&self, before_ms: u64, limit: u32) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM keyed_requests WHERE (account_id, tenant, key) IN (SELECT account_id, tenant, key FROM \
             keyed_requests WHERE created_ms < $1 ORDER BY created_ms LIMIT $2)",
        )
        .bind(column(before_ms))
        .bind(i64::from(limit))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected())
    }
}

/// Notes, in the transaction that makes `object`, which request made it.
pub(super) async fn claim(
    transaction: &mut Transaction<'static, Sqlite>,
    claim: Option<&Claim>,
    object: &str,
) -> Result<(), StoreError> {
    let Some(Claim { key, request, now_ms, since_ms }) = claim else { return Ok(()) };
    let done = sqlx::query(
        "INSERT INTO keyed_requests (account_id, tenant, key, request, object, created_ms) VALUES \
         ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id, tenant, key) DO UPDATE SET request = excluded.request, \
         object = excluded.object, answer = NULL, created_ms = excluded.created_ms \
         WHERE keyed_requests.created_ms < $7",
    )
    .bind(key.account.as_str())
    .bind(&key.tenant)
    .bind(&key.key)
    .bind(request.as_slice())
    .bind(object)
    .bind(column(*now_ms))
    .bind(column(*since_ms))
    .execute(&mut **transaction)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Repeated) }
}

/// Forgets the request that made what was taken back.
pub(super) async fn unclaim(transaction: &mut Transaction<'static, Sqlite>, object: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM keyed_requests WHERE object = $1").bind(object).execute(&mut **transaction).await?;
    Ok(())
}
