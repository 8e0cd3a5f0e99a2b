//! Credentials of registries, sealed, one per account and registry.

use cakework_core::id::AccountId;
use sqlx::FromRow;

use super::{Store, StoreError, column, number};

/// A registry's credential on record.
#[derive(Debug, Clone)]
pub(crate) struct StoredRegistry {
    pub(crate) host: String,
    pub(crate) username: String,
    /// Sealed.
    pub(crate) password: Vec<u8>,
    pub(crate) updated_ms: u64,
}

#[derive(FromRow)]
struct Row {
    host: String,
    username: String,
    password: Vec<u8>,
    updated_ms: i64,
}

impl From<Row> for StoredRegistry {
    fn from(row: Row) -> Self {
        let Row { host, username, password, updated_ms } = row;
        Self { host, username, password, updated_ms: number(updated_ms) }
    }
}

impl Store {
    /// Keeps a credential in place of the one before, if the account may have one more; answers whether it did.
    pub(crate) async fn put_registry(
        &self,
        account: &AccountId,
        registry: &StoredRegistry,
        most: u64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let others: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM registries WHERE account_id = $1 AND host <> $2")
            .bind(account.as_str())
            .bind(&registry.host)
            .fetch_one(&mut *transaction)
            .await?;
        if number(others) >= most {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO registries (account_id, host, username, password, updated_ms) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (account_id, host) DO UPDATE SET username = $3, password = $4, updated_ms = $5",
        )
        .bind(account.as_str())
        .bind(&registry.host)
        .bind(&registry.username)
        .bind(registry.password.as_slice())
        .bind(column(registry.updated_ms))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// An account's credentials, in the order of their registries' names.
    pub(crate) async fn registries(&self, account: &AccountId) -> Result<Vec<StoredRegistry>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT host, username, password, updated_ms FROM registries WHERE account_id = $1 ORDER BY host",
        )
        .bind(account.as_str())
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.into_iter().map(StoredRegistry::from).collect())
    }

    /// Erases a credential; answers whether there was one.
    pub(crate) async fn delete_registry(&self, account: &AccountId, host: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM registries WHERE account_id = $1 AND host = $2")
            .bind(account.as_str())
            .bind(host)
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// As if the disk had changed a password.
    #[cfg(test)]
    pub(crate) async fn spoil_registry(&self, host: &str) {
        let spoilt = sqlx::query("UPDATE registries SET password = zeroblob(64) WHERE host = $1").bind(host);
        spoilt.execute(&self.writer).await.expect("an update");
    }
}
