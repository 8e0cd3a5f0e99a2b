//! API keys at rest: a hash, never the secret.

use cakework_core::id::{AccountId, KeyId};
use sqlx::FromRow;

use super::{Store, StoreError, bad_row, column, number};
use crate::keys::Scope;

/// A stored key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredKey {
    pub(crate) id: KeyId,
    pub(crate) account: AccountId,
    pub(crate) tenant: Option<String>,
    pub(crate) name: String,
    pub(crate) scope: Scope,
    /// SHA-256 of the secret, in hex.
    pub(crate) secret_hash: String,
    pub(crate) created_ms: u64,
    pub(crate) expires_ms: Option<u64>,
    pub(crate) last_used_ms: Option<u64>,
    pub(crate) revoked_ms: Option<u64>,
}

#[derive(FromRow)]
struct Row {
    id: String,
    account_id: String,
    tenant: Option<String>,
    name: String,
    scope: String,
    secret_hash: String,
    created_ms: i64,
    expires_ms: Option<i64>,
    last_used_ms: Option<i64>,
    revoked_ms: Option<i64>,
}

impl TryFrom<Row> for StoredKey {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id.parse().map_err(bad_row("key"))?,
            account: row.account_id.parse().map_err(bad_row("key"))?,
            tenant: row.tenant,
            name: row.name,
            scope: row.scope.parse().map_err(bad_row("key"))?,
            secret_hash: row.secret_hash,
            created_ms: number(row.created_ms),
            expires_ms: row.expires_ms.map(number),
            last_used_ms: row.last_used_ms.map(number),
            revoked_ms: row.revoked_ms.map(number),
        })
    }
}

impl Store {
    /// Adds a key.
    pub(crate) async fn insert_key(&self, key: &StoredKey) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO api_keys (id, account_id, tenant, name, scope, secret_hash, created_ms, expires_ms, \
             last_used_ms, revoked_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(key.id.as_str())
        .bind(key.account.as_str())
        .bind(key.tenant.as_deref())
        .bind(&key.name)
        .bind(key.scope.as_str())
        .bind(&key.secret_hash)
        .bind(column(key.created_ms))
        .bind(key.expires_ms.map(column))
        .bind(key.last_used_ms.map(column))
        .bind(key.revoked_ms.map(column))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// A key by its public name.
    pub(crate) async fn key(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM api_keys WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.map(StoredKey::try_from).transpose()
    }

    /// Every key, the oldest first.
    pub(crate) async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT * FROM api_keys ORDER BY created_ms, id").fetch_all(&self.readers).await?;
        rows.into_iter().map(StoredKey::try_from).collect()
    }

    /// Ends a key; one that was revoked before keeps its first moment.
    pub(crate) async fn revoke_key(&self, id: &KeyId, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE api_keys SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL")
            .bind(id.as_str())
            .bind(column(now_ms))
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Notes that a key was used.
    pub(crate) async fn touch_key(&self, id: &KeyId, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE api_keys SET last_used_ms = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(column(now_ms))
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
