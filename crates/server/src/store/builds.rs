//! Builds: reading and adding them. What changes a build afterwards is in [`super::build_changes`].

use std::collections::BTreeMap;

use cakework_core::build::BuildState;
use cakework_core::id::{AccountId, BuildId, Generation, HostId, ImageId, Incarnation};
use cakework_wire::build::{BuildPhase, BuildProblem};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, QueryBuilder, Sqlite};

use super::keyed::{self, Claim};
use super::page::{Cursor, Page};
use super::{Store, StoreError, bad_row, column, number};

/// A build on record.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    pub(crate) id: BuildId,
    pub(crate) account: AccountId,
    pub(crate) tenant: Option<String>,
    pub(crate) state: BuildState,
    pub(crate) spec: BuildSpec,
    /// Build arguments and secrets, sealed.
    pub(crate) secrets: Option<Vec<u8>>,
    /// The repository's token, sealed.
    pub(crate) token: Option<Vec<u8>>,
    pub(crate) host: Option<HostId>,
    /// The life of the host that confirmed the placement.
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) generation: Generation,
    pub(crate) phase: Option<BuildPhase>,
    pub(crate) step: u32,
    pub(crate) steps: u32,
    pub(crate) error: Option<BuildProblem>,
    pub(crate) image: Option<ImageId>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) deadline_ms: u64,
    pub(crate) due_ms: Option<u64>,
    pub(crate) attempts: u64,
    pub(crate) created_ms: u64,
    pub(crate) updated_ms: u64,
}

/// What is built; nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BuildSpec {
    pub(crate) dockerfile: String,
    pub(crate) dockerignore: Option<String>,
    pub(crate) source: Source,
    pub(crate) target: Option<String>,
    pub(crate) no_cache: bool,
    /// It was asked for with a key that is bound to its tenant.
    pub(crate) is_bound: bool,
}

/// Where its files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", rename_all_fields = "camelCase", tag = "kind")]
pub(crate) enum Source {
    /// A context that the api has.
    Files { digest: String, size_bytes: u64 },
    /// A repository.
    Git {
        repository: String,
        reference: String,
        path: Option<String>,
        /// It came with a token.
        private: bool,
    },
}

/// A build that is to be.
#[derive(Debug)]
pub(crate) struct NewBuild {
    pub(crate) id: BuildId,
    pub(crate) account: AccountId,
    pub(crate) tenant: Option<String>,
    pub(crate) spec: BuildSpec,
    /// Sealed.
    pub(crate) secrets: Vec<u8>,
    /// Sealed.
    pub(crate) token: Option<Vec<u8>>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// When it has to have had its turn.
    pub(crate) deadline_ms: u64,
    pub(crate) now_ms: u64,
}

/// What an account and all of them may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    /// Builds of all accounts that wait.
    pub(crate) queued: u64,
    /// Builds of the account that wait.
    pub(crate) queued_of_account: u64,
    /// Images of the account, those that are being built included.
    pub(crate) images: u64,
}

/// What is in the way of one more build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueRefusal {
    Queued,
    QueuedOfAccount,
    Images,
}

/// What a list of builds is narrowed to.
#[derive(Debug, Default, Clone)]
pub(crate) struct BuildFilter {
    pub(crate) image: Option<ImageId>,
    /// Any of these; all where empty.
    pub(crate) states: &'static [BuildState],
    pub(crate) tenant: Option<String>,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) after: Option<Cursor>,
}

#[derive(FromRow)]
pub(super) struct Row {
    id: String,
    account_id: String,
    tenant: Option<String>,
    state: String,
    spec: String,
    secrets: Option<Vec<u8>>,
    token: Option<Vec<u8>>,
    host_id: Option<String>,
    incarnation: Option<String>,
    generation: i64,
    phase: Option<String>,
    step: i64,
    steps: i64,
    error: Option<String>,
    image_id: Option<String>,
    metadata: String,
    deadline_ms: i64,
    due_ms: Option<i64>,
    attempts: i64,
    created_ms: i64,
    updated_ms: i64,
}

impl TryFrom<Row> for Build {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let bad = || bad_row("build");
        let phase = row.phase.map(serde_json::Value::String).map(serde_json::from_value).transpose();
        let count = |value: i64| u32::try_from(value).unwrap_or(0);
        Ok(Self {
            id: row.id.parse().map_err(bad_row("build"))?,
            account: row.account_id.parse().map_err(bad_row("build"))?,
            tenant: row.tenant,
            state: row.state.parse().map_err(bad_row("build"))?,
            spec: serde_json::from_str(&row.spec).map_err(bad())?,
            secrets: row.secrets,
            token: row.token,
            host: row.host_id.map(|id| id.parse().map_err(bad_row("build"))).transpose()?,
            incarnation: row.incarnation.map(|id| id.parse().map_err(bad_row("build"))).transpose()?,
            generation: Generation(number(row.generation)),
            phase: phase.map_err(bad())?,
            step: count(row.step),
            steps: count(row.steps),
            error: row.error.map(|text| serde_json::from_str(&text).map_err(bad_row("build"))).transpose()?,
            image: row.image_id.map(|id| id.parse().map_err(bad_row("build"))).transpose()?,
            metadata: serde_json::from_str(&row.metadata).map_err(bad())?,
            deadline_ms: number(row.deadline_ms),
            due_ms: row.due_ms.map(number),
            attempts: number(row.attempts),
            created_ms: number(row.created_ms),
            updated_ms: number(row.updated_ms),
        })
    }
}

fn read_all(rows: Vec<Row>) -> Result<Vec<Build>, StoreError> {
    rows.into_iter().map(Build::try_from).collect()
}

impl Store {
    /// A build of an account.
    pub(crate) async fn build(&self, account: &AccountId, id: &BuildId) -> Result<Option<Build>, StoreError> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM builds WHERE id = $1 AND account_id = $2")
            .bind(id.as_str())
            .bind(account.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.map(Build::try_from).transpose()
    }

    /// A build whoever owns it: for the reconcilers, never for a request.
    pub(crate) async fn any_build(&self, id: &BuildId) -> Result<Option<Build>, StoreError> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM builds WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.map(Build::try_from).transpose()
    }

    /// A page of an account's builds, the newest first.
    pub(crate) async fn builds(
        &self,
        account: &AccountId,
        filter: &BuildFilter,
        limit: usize,
    ) -> Result<Page<Build>, StoreError> {
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT * FROM builds WHERE account_id = ");
        query.push_bind(account.as_str().to_owned());
        if let Some(image) = &filter.image {
            query.push(" AND image_id = ").push_bind(image.as_str().to_owned());
        }
        if let Some(tenant) = &filter.tenant {
            query.push(" AND tenant = ").push_bind(tenant.clone());
        }
        if !filter.states.is_empty() {
            query.push(" AND state IN (");
            let mut list = query.separated(", ");
            for state in filter.states {
                list.push_bind(state.as_str());
            }
            query.push(")");
        }
        for (key, value) in &filter.metadata {
            query.push(" AND EXISTS (SELECT 1 FROM build_metadata m WHERE m.build_id = builds.id AND m.key = ");
            query.push_bind(key.clone()).push(" AND m.value = ").push_bind(value.clone()).push(")");
        }
        if let Some(after) = &filter.after {
            query.push(" AND (created_ms, id) < (").push_bind(column(after.created_ms)).push(", ");
            query.push_bind(after.id.clone()).push(")");
        }
        query.push(" ORDER BY created_ms DESC, id DESC LIMIT ").push_bind(column(limit as u64 + 1));
        let rows: Vec<Row> = query.build_query_as().fetch_all(&self.readers).await?;
        let place = |build: &Build| Cursor { created_ms: build.created_ms, id: build.id.to_string() };
        Ok(Page::cut(read_all(rows)?, limit, place))
    }

    /// Builds that the reconciler should look at, the longest waiting first.
    pub(crate) async fn builds_due(&self, now_ms: u64, limit: u32) -> Result<Vec<Build>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as("SELECT * FROM builds WHERE due_ms <= $1 ORDER BY due_ms LIMIT $2")
            .bind(column(now_ms))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        read_all(rows)
    }

    /// Builds that go on at a host.
    pub(crate) async fn builds_of_host(&self, host: &HostId) -> Result<Vec<Build>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as("SELECT * FROM builds WHERE host_id = $1 AND state = 'building'")
            .bind(host.as_str())
            .fetch_all(&self.readers)
            .await?;
        read_all(rows)
    }

    /// Whether any build waits for its turn.
    pub(crate) async fn builds_wait(&self) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM builds WHERE state = 'queued' LIMIT 1")
            .fetch_optional(&self.readers)
            .await?;
        Ok(found.is_some())
    }

    /// Adds a build if there is room for it, decided in the same transaction.
    pub(crate) async fn insert_build(
        &self,
        build: &NewBuild,
        limits: QueueLimits,
        claim: Option<&Claim>,
    ) -> Result<Result<(), QueueRefusal>, StoreError> {
        let mut transaction = self.begin().await?;
        let (queued, own): (i64, i64) = sqlx::query_as(
            "SELECT COUNT(*), COALESCE(SUM(CASE WHEN account_id = $1 THEN 1 ELSE 0 END), 0) FROM builds \
             WHERE state = 'queued'",
        )
        .bind(build.account.as_str())
        .fetch_one(&mut *transaction)
        .await?;
        let images: i64 = sqlx::query_scalar(
            "SELECT (SELECT COUNT(*) FROM images WHERE account_id = $1) + (SELECT COUNT(*) FROM builds WHERE \
             account_id = $1 AND state IN ('queued', 'building'))",
        )
        .bind(build.account.as_str())
        .fetch_one(&mut *transaction)
        .await?;
        for (count, most, refusal) in [
            (own, limits.queued_of_account, QueueRefusal::QueuedOfAccount),
            (queued, limits.queued, QueueRefusal::Queued),
            (images, limits.images, QueueRefusal::Images),
        ] {
            if number(count) >= most {
                return Ok(Err(refusal));
            }
        }
        sqlx::query(
            "INSERT INTO builds (id, account_id, tenant, state, spec, secrets, token, generation, step, steps, metadata, \
             deadline_ms, due_ms, attempts, created_ms, updated_ms) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, $8, $9, $9, 0, $10, $10)",
        )
        .bind(build.id.as_str())
        .bind(build.account.as_str())
        .bind(build.tenant.as_deref())
        .bind(BuildState::Queued.as_str())
        .bind(serde_json::to_string(&build.spec).expect("a spec is plain data"))
        .bind(build.secrets.as_slice())
        .bind(build.token.as_deref())
        .bind(serde_json::to_string(&build.metadata).expect("a map of strings is plain data"))
        .bind(column(build.deadline_ms))
        .bind(column(build.now_ms))
        .execute(&mut *transaction)
        .await?;
        for (key, value) in &build.metadata {
            sqlx::query("INSERT INTO build_metadata (build_id, key, value) VALUES ($1, $2, $3)")
                .bind(build.id.as_str())
                .bind(key)
                .bind(value)
                .execute(&mut *transaction)
                .await?;
        }
        keyed::claim(&mut transaction, claim, build.id.as_str()).await?;
        transaction.commit().await?;
        Ok(Ok(()))
    }
}
