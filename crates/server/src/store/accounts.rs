//! Accounts.

use cakework_core::id::AccountId;

use super::{Store, StoreError, bad_row, column};

impl Store {
    /// The account of the first start, where there is any.
    pub(crate) async fn first_account(&self) -> Result<Option<AccountId>, StoreError> {
        let id: Option<String> = sqlx::query_scalar("SELECT id FROM accounts ORDER BY created_ms, id LIMIT 1")
            .fetch_optional(&self.readers)
            .await?;
        id.map(|id| id.parse().map_err(bad_row("account"))).transpose()
    }

    /// Makes an account unless there is one already; answers whether it did.
    pub(crate) async fn make_first_account(&self, id: &AccountId, name: &str, now_ms: u64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO accounts (id, name, created_ms) SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM accounts)",
        )
        .bind(id.as_str())
        .bind(name)
        .bind(column(now_ms))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Makes an account beside the first.
    #[cfg(test)]
    pub(crate) async fn make_account(&self, id: &AccountId, name: &str, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO accounts (id, name, created_ms) VALUES ($1, $2, $3)")
            .bind(id.as_str())
            .bind(name)
            .bind(column(now_ms))
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Whether there is this account.
    pub(crate) async fn has_account(&self, id: &AccountId) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM accounts WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.readers)
            .await?;
        Ok(found.is_some())
    }
}
