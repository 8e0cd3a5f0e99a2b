//! Images.

use cakework_core::id::{AccountId, ImageId};
use cakework_wire::host::{AgentProblem, ProblemCode};
use sqlx::{FromRow, QueryBuilder, Sqlite};

use super::keyed::{self, Claim};
use super::page::{Cursor, Page};
use super::{Store, StoreError, bad_row, column, number};

/// An image on record.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) id: ImageId,
    pub(crate) account: AccountId,
    pub(crate) tenant: Option<String>,
    pub(crate) reference: String,
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
    pub(crate) state: ImageState,
    pub(crate) done_bytes: u64,
    pub(crate) error: Option<AgentProblem>,
    /// The registry credential, sealed.
    pub(crate) credential: Option<Vec<u8>>,
    pub(crate) due_ms: Option<u64>,
    pub(crate) attempts: u64,
    pub(crate) created_ms: u64,
    pub(crate) updated_ms: u64,
}

/// Where an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageState {
    Pulling,
    Ready,
    Failed,
}

impl ImageState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pulling => "pulling",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Pulling, Self::Ready, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}

#[derive(FromRow)]
struct Row {
    id: String,
    account_id: String,
    tenant: Option<String>,
    reference: String,
    digest: String,
    size_bytes: i64,
    state: String,
    done_bytes: i64,
    error: Option<String>,
    credential: Option<Vec<u8>>,
    due_ms: Option<i64>,
    attempts: i64,
    created_ms: i64,
    updated_ms: i64,
}

impl TryFrom<Row> for Image {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let state = ImageState::read(&row.state).ok_or("its state");
        let error = row.error.map(|text| serde_json::from_str::<AgentProblem>(&text)).transpose();
        Ok(Self {
            id: row.id.parse().map_err(bad_row("image"))?,
            account: row.account_id.parse().map_err(bad_row("image"))?,
            tenant: row.tenant,
            reference: row.reference,
            digest: row.digest,
            size_bytes: number(row.size_bytes),
            state: state.map_err(bad_row("image"))?,
            done_bytes: number(row.done_bytes),
            error: error.map_err(bad_row("image"))?,
            credential: row.credential,
            due_ms: row.due_ms.map(number),
            attempts: number(row.attempts),
            created_ms: number(row.created_ms),
            updated_ms: number(row.updated_ms),
        })
    }
}

impl Store {
    /// Adds an image if the account may have one more; answers whether it did.
    pub(crate) async fn insert_image(
        &self,
        image: &Image,
        most: u64,
        claim: Option<&Claim>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM images WHERE account_id = $1")
            .bind(image.account.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        if number(count) >= most {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO images (id, account_id, tenant, reference, digest, size_bytes, state, done_bytes, credential, \
             due_ms, attempts, created_ms, updated_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, $11)",
        )
        .bind(image.id.as_str())
        .bind(image.account.as_str())
        .bind(image.tenant.as_deref())
        .bind(&image.reference)
        .bind(&image.digest)
        .bind(column(image.size_bytes))
        .bind(image.state.as_str())
        .bind(column(image.done_bytes))
        .bind(image.credential.as_deref())
        .bind(image.due_ms.map(column))
        .bind(column(image.created_ms))
        .execute(&mut *transaction)
        .await?;
        keyed::claim(&mut transaction, claim, image.id.as_str()).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// An image of an account.
    pub(crate) async fn image(&self, account: &AccountId, id: &ImageId) -> Result<Option<Image>, StoreError> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM images WHERE id = $1 AND account_id = $2")
            .bind(id.as_str())
            .bind(account.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.map(Image::try_from).transpose()
    }

    /// A page of an account's images, the newest first.
    pub(crate) async fn images(
        &self,
        account: &AccountId,
        tenant: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<Image>, StoreError> {
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT * FROM images WHERE account_id = ");
        query.push_bind(account.as_str().to_owned());
        if let Some(tenant) = tenant {
            query.push(" AND tenant = ").push_bind(tenant.to_owned());
        }
        if let Some(after) = after {
            query.push(" AND (created_ms, id) < (").push_bind(column(after.created_ms)).push(", ");
            query.push_bind(after.id.clone()).push(")");
        }
        query.push(" ORDER BY created_ms DESC, id DESC LIMIT ").push_bind(column(limit as u64 + 1));
        let rows: Vec<Row> = query.build_query_as().fetch_all(&self.readers).await?;
        let images = rows.into_iter().map(Image::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(images, limit, |image| Cursor { created_ms: image.created_ms, id: image.id.to_string() }))
    }

    /// Images that the reconciler should look at.
    pub(crate) async fn images_due(&self, now_ms: u64, limit: u32) -> Result<Vec<Image>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as("SELECT * FROM images WHERE due_ms <= $1 ORDER BY due_ms LIMIT $2")
            .bind(column(now_ms))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.into_iter().map(Image::try_from).collect()
    }

    /// Claims a due image until `until_ms`. `false`: another process has it.
    pub(crate) async fn claim_image(&self, image: &Image, until_ms: u64) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE images SET due_ms = $1, attempts = attempts + 1 WHERE id = $2 AND due_ms = $3")
            .bind(column(until_ms))
            .bind(image.id.as_str())
            .bind(image.due_ms.map(column))
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes how much of an arriving image is there.
    pub(crate) async fn image_progress(&self, digest: &str, done_bytes: u64, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE images SET done_bytes = $1, updated_ms = $2 WHERE digest = $3 AND state = 'pulling' AND \
             done_bytes <> $1",
        )
        .bind(column(done_bytes))
        .bind(column(now_ms))
        .bind(digest)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// All arriving images of this digest are there. Their credentials are erased.
    pub(crate) async fn image_ready(&self, digest: &str, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE images SET state = 'ready', done_bytes = size_bytes, credential = NULL, due_ms = NULL, attempts = 0, \
             updated_ms = $1 WHERE digest = $2 AND state = 'pulling'",
        )
        .bind(column(now_ms))
        .bind(digest)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// The arriving images of a digest that a host was asked for can't be used. Their credentials are erased.
    pub(crate) async fn image_failed(&self, digest: &str, why: &AgentProblem, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE images SET state = 'failed', error = $1, credential = NULL, due_ms = NULL, updated_ms = $2 \
             WHERE digest = $3 AND state = 'pulling' AND attempts > 0",
        )
        .bind(serde_json::to_string(why).expect("a problem is plain data"))
        .bind(column(now_ms))
        .bind(digest)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Digests of all images that are said to arrive.
    pub(crate) async fn pulling_digests(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT DISTINCT digest FROM images WHERE state = 'pulling' AND attempts > 0")
            .fetch_all(&self.readers)
            .await?)
    }

    /// Makes the arriving images of a digest due: their host has to be asked again.
    pub(crate) async fn image_due(&self, digest: &str, due_ms: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE images SET due_ms = $1 WHERE digest = $2 AND state = 'pulling'")
            .bind(column(due_ms))
            .bind(digest)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Digests of all images that are said to be ready.
    pub(crate) async fn ready_digests(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT DISTINCT digest FROM images WHERE state = 'ready'")
            .fetch_all(&self.readers)
            .await?)
    }

    /// The host lost a ready image's layers: they are to arrive again, now without a credential. No registry has those
    /// of a build: such an image has failed.
    pub(crate) async fn image_lost(&self, digest: &str, now_ms: u64) -> Result<(), StoreError> {
        let message = "The host lost the image: build it again.".to_owned();
        let why = AgentProblem { code: ProblemCode::Unknown, message };
        sqlx::query(
            "UPDATE images SET state = 'failed', error = $1, updated_ms = $2 WHERE digest = $3 AND state = 'ready' \
             AND build_id IS NOT NULL",
        )
        .bind(serde_json::to_string(&why).expect("a problem is plain data"))
        .bind(column(now_ms))
        .bind(digest)
        .execute(&self.writer)
        .await?;
        sqlx::query(
            "UPDATE images SET state = 'pulling', done_bytes = 0, due_ms = $1, attempts = 0, updated_ms = $1 \
             WHERE digest = $2 AND state = 'ready'",
        )
        .bind(column(now_ms))
        .bind(digest)
        .execute(&self.writer)
        .await?;
        Ok(())
    }
}
