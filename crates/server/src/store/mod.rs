//! The store: every record of the api, and the only SQL.
//!
//! One file per noun. Rows are private structs that become domain types by `TryFrom`. Writes go through one
//! connection under `BEGIN IMMEDIATE`, reads through a few others; a second api process on the same database is
//! ordinary. Invariant: a VM's state changes only by `apply`, a build's only by `apply_build`, and every read of an object
//! names its account.

pub(crate) mod accounts;
pub(crate) mod build_changes;
pub(crate) mod builds;
pub(crate) mod cached;
pub(crate) mod deliveries;
pub(crate) mod events;
pub(crate) mod hosts;
pub(crate) mod images;
pub(crate) mod keyed;
pub(crate) mod keys;
pub(crate) mod page;
pub(crate) mod registries;
mod sealed;
pub(crate) mod stands;
pub(crate) mod vm_changes;
pub(crate) mod vms;
pub(crate) mod webhooks;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Sqlite, Transaction};

/// Connections that read.
const READERS: u32 = 4;
/// Longest wait for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database has no room.
    #[error("the database's disk is full")]
    Full(#[source] sqlx::Error),
    /// Another request with the same idempotency key made something meanwhile.
    #[error("a request with this key has made something")]
    Repeated,
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// A row does not read as what it should be.
    #[error("a stored {noun} can't be read: {what}")]
    Row {
        /// Of what.
        noun: &'static str,
        /// The column, or the reader's own words.
        what: String,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        const SQLITE_FULL: &str = "13";
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        if code.as_deref() == Some(SQLITE_FULL) { Self::Full(error) } else { Self::Database(error) }
    }
}

/// For the `TryFrom` of rows.
fn bad_row<E: std::fmt::Display>(noun: &'static str) -> impl Fn(E) -> StoreError {
    move |error| StoreError::Row { noun, what: error.to_string() }
}

/// Unsigned numbers as columns hold them. Nothing here is near the end of the range.
fn column(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The way back; negative numbers are never written.
fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// Opens `cakework.db` in `dir` and brings it to this build's schema.
    pub(crate) async fn open(dir: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(dir.join("cakework.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What was acknowledged survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            // KiB of pages that each connection keeps; the system's cache has the rest.
            .pragma("cache_size", "-512")
            // Erased secrets are overwritten in the file.
            .pragma("secure_delete", "ON");
        // A connection to a file does not go stale: none is tried before it is used.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // SQLite ends a transaction by itself where its disk is full; a connection that still counts it as open takes
            // no other one.
            .after_release(|connection, _| {
                Box::pin(async move {
                    // Whatever is still to be rolled back is, once this is answered.
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options.clone())
            .await
            .context("the database can't be opened")?;
        sqlx::migrate!("./migrations").run(&writer).await.context("the database can't be brought to this version")?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await
            .context("the database can't be opened")?;
        Ok(Self { writer, readers })
    }

    /// Writes a whole copy of the database, as it is now, to a file that is not there yet.
    pub(crate) async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        sqlx::query("VACUUM INTO $1").bind(file.display().to_string()).execute(&self.readers).await?;
        Ok(())
    }

    /// Closes all connections; the write-ahead log is folded into the database.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// A transaction that no other writer runs beside.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

#[cfg(test)]
mod tests {
    use cakework_api::problem::ErrorCode;
    use cakework_core::id::AccountId;

    use super::*;
    use crate::error::ApiError;

    #[tokio::test]
    async fn a_database_without_room_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        // SQLite says the same where its file system has no room.
        sqlx::query("PRAGMA max_page_count = 1").execute(&store.writer).await.unwrap();
        let mut full = None;
        for now_ms in 0..10_000 {
            let id = AccountId::mint(now_ms, &mut rand::rng());
            full = store.make_account(&id, &"x".repeat(1000), now_ms).await.err();
            if full.is_some() {
                break;
            }
        }
        let full = full.expect("no file grows without end");
        assert!(matches!(full, StoreError::Full(_)), "{full:?}");
        assert_eq!(ApiError::from(full).code, ErrorCode::DiskFull);
    }
}
