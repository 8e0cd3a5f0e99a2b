//! What changes a build's record. Each is one transaction and a compare-and-set: whoever comes late changes nothing.
//!
//! A build's state changes in [`apply_build_to`] alone, and what it becomes is [`transition`]'s decision. What an end
//! brings with it (the image, the event for webhooks, the erasing of secrets) commits with it.

use cakework_core::build::{BuildErrorCode, BuildEvent, BuildState, transition};
use cakework_core::fairness::{Served, Waiting, pick};
use cakework_core::id::{BuildId, Generation, HostId, ImageId, Incarnation};
use cakework_wire::build::{BuildPhase, BuildProblem};
use sqlx::{Sqlite, Transaction};

use super::builds::{Build, Row};
use super::events::{BuildEnd, record_build};
use super::{Store, StoreError, column, number};

/// Time that counts for whose turn it is.
const TURNS_MS: u64 = 24 * 3600 * 1000;

/// What is known with an event.
#[derive(Debug, Clone, Default)]
pub(crate) struct BuildFacts {
    /// Why it failed.
    pub(crate) problem: Option<BuildProblem>,
    /// Its image.
    pub(crate) image: Option<BuiltImage>,
    /// Its host has to be told that it is over.
    pub(crate) tell_host: bool,
}

/// An image that a host has built.
#[derive(Debug, Clone)]
pub(crate) struct BuiltImage {
    pub(crate) id: ImageId,
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
}

impl BuildFacts {
    /// Only a problem, which its host knows of.
    pub(crate) fn problem(problem: BuildProblem) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }
}

impl Store {
    /// Applies an event to a build if it is still in this generation. Answers the state it went to, `None` where the
    /// event said nothing new.
    pub(crate) async fn apply_build(
        &self,
        id: &BuildId,
        generation: Generation,
        event: BuildEvent,
        facts: &BuildFacts,
        now_ms: u64,
    ) -> Result<Option<BuildState>, StoreError> {
        let mut transaction = self.begin().await?;
        let row: Option<Row> = sqlx::query_as("SELECT * FROM builds WHERE id = $1 AND generation = $2")
            .bind(id.as_str())
            .bind(column(generation.0))
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(build) = row.map(Build::try_from).transpose()? else { return Ok(None) };
        let next = apply_build_to(&mut transaction, &build, event, facts, now_ms).await?;
        transaction.commit().await?;
        Ok(next)
    }

    /// Gives the next build its turn at a host that does fewer than `parallel`. Answers whether one had it.
    pub(crate) async fn place_next_build(
        &self,
        host: &HostId,
        parallel: u64,
        deadline_ms: u64,
        now_ms: u64,
    ) -> Result<Option<BuildId>, StoreError> {
        let mut transaction = self.begin().await?;
        let busy: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM builds WHERE host_id = $1 AND state = 'building'")
            .bind(host.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        if number(busy) >= parallel {
            return Ok(None);
        }
        let Some(id) = next_in_turn(&mut transaction, now_ms).await? else { return Ok(None) };
        let row: Row =
            sqlx::query_as("SELECT * FROM builds WHERE id = $1").bind(&id).fetch_one(&mut *transaction).await?;
        let build = Build::try_from(row)?;
        if apply_build_to(&mut transaction, &build, BuildEvent::Placed, &BuildFacts::default(), now_ms).await?.is_none()
        {
            return Ok(None);
        }
        sqlx::query(
            "UPDATE builds SET host_id = $1, generation = generation + 1, placed_ms = $2, deadline_ms = $3, due_ms = $2 \
             WHERE id = $4",
        )
        .bind(host.as_str())
        .bind(column(now_ms))
        .bind(column(deadline_ms))
        .bind(&id)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Some(build.id))
    }

    /// Records that a host in this life has a build. Nothing changes where the host's life on record is another.
    pub(crate) async fn confirm_build(
        &self,
        id: &BuildId,
        generation: Generation,
        host: &HostId,
        incarnation: &Incarnation,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE builds SET incarnation = $1, attempts = 0, due_ms = deadline_ms WHERE id = $2 AND generation = $3 \
             AND host_id = $4 AND state = 'building' AND incarnation IS NULL \
             AND EXISTS (SELECT 1 FROM hosts WHERE hosts.id = $4 AND hosts.incarnation = $1)",
        )
        .bind(incarnation.as_str())
        .bind(id.as_str())
        .bind(column(generation.0))
        .bind(host.as_str())
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets that a host has a build, which the host in the same life does not know: it is asked again.
    pub(crate) async fn unconfirm_build(&self, build: &Build, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE builds SET incarnation = NULL, due_ms = $3 WHERE id = $1 AND generation = $2 AND state = 'building'",
        )
        .bind(build.id.as_str())
        .bind(column(build.generation.0))
        .bind(column(now_ms))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Notes how far a build is. Once its files are there, the token that fetched them is erased.
    pub(crate) async fn build_progress(
        &self,
        build: &Build,
        phase: BuildPhase,
        (step, steps): (u32, u32),
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let word = serde_json::to_value(phase).expect("a phase is a word");
        sqlx::query(
            "UPDATE builds SET phase = $1, step = $2, steps = $3, updated_ms = $4, token = CASE WHEN $1 = 'fetching' \
             THEN token ELSE NULL END WHERE id = $5 AND generation = $6 AND state = 'building' \
             AND (phase IS NULL OR phase <> $1 OR step <> $2 OR steps <> $3)",
        )
        .bind(word.as_str())
        .bind(i64::from(step))
        .bind(i64::from(steps))
        .bind(column(now_ms))
        .bind(build.id.as_str())
        .bind(column(build.generation.0))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Claims a due build until `until_ms`. `false`: another process has it.
    pub(crate) async fn claim_build(&self, build: &Build, until_ms: u64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE builds SET due_ms = $1, attempts = attempts + 1 WHERE id = $2 AND due_ms = $3 AND generation = $4 \
             AND state = $5",
        )
        .bind(column(until_ms))
        .bind(build.id.as_str())
        .bind(build.due_ms.map(column))
        .bind(column(build.generation.0))
        .bind(build.state.as_str())
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Sets when a build is looked at next, if it is still in the state in which that was decided and nobody
    /// confirmed it meanwhile.
    pub(crate) async fn build_due(&self, build: &Build, due_ms: Option<u64>) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE builds SET due_ms = $1 WHERE id = $2 AND state = $3 AND incarnation IS NOT DISTINCT FROM $4",
        )
        .bind(due_ms.map(column))
        .bind(build.id.as_str())
        .bind(build.state.as_str())
        .bind(build.incarnation.as_ref().map(Incarnation::as_str))
        .execute(&self.writer)
        .await?;
        Ok(())
    }
}

#[cfg(test)]
impl Store {
    /// Makes a build's deadline pass, which a test can't wait for.
    pub(crate) async fn set_deadline_for_test(&self, build: &Build) {
        sqlx::query("UPDATE builds SET deadline_ms = $1, due_ms = $1 WHERE id = $2")
            .bind(column(build.deadline_ms))
            .bind(build.id.as_str())
            .execute(&self.writer)
            .await
            .expect("the database is there");
    }
}

/// Whose turn it is.
async fn next_in_turn(
    transaction: &mut Transaction<'static, Sqlite>,
    now_ms: u64,
) -> Result<Option<String>, StoreError> {
    let queue: Vec<(String, String, Option<String>, i64)> = sqlx::query_as(
        "SELECT id, account_id, tenant, created_ms FROM builds WHERE state = 'queued' ORDER BY created_ms, id",
    )
    .fetch_all(&mut **transaction)
    .await?;
    if queue.is_empty() {
        return Ok(None);
    }
    let served: Vec<(String, Option<String>, i64, i64)> = sqlx::query_as(
        "SELECT account_id, tenant, SUM(CASE WHEN state = 'building' THEN 1 ELSE 0 END), MAX(placed_ms) FROM builds \
         WHERE placed_ms >= $1 GROUP BY account_id, tenant",
    )
    .bind(column(now_ms.saturating_sub(TURNS_MS)))
    .fetch_all(&mut **transaction)
    .await?;
    let waiting: Vec<_> = queue
        .iter()
        .map(|(_, account, tenant, since)| Waiting { account, tenant: tenant.as_deref(), since_ms: number(*since) })
        .collect();
    let served: Vec<_> = served
        .iter()
        .map(|(account, tenant, running, last)| Served {
            account,
            tenant: tenant.as_deref(),
            running: number(*running),
            last_ms: number(*last),
        })
        .collect();
    Ok(pick(&waiting, &served).map(|index| queue[index].0.clone()))
}

/// The builds that a life of a host took with it are over.
pub(super) async fn lose_builds(
    transaction: &mut Transaction<'static, Sqlite>,
    host: &HostId,
    old: &Incarnation,
    now_ms: u64,
) -> Result<usize, StoreError> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT * FROM builds WHERE host_id = $1 AND incarnation = $2 AND state = 'building'")
            .bind(host.as_str())
            .bind(old.as_str())
            .fetch_all(&mut **transaction)
            .await?;
    let lost = rows.len();
    for row in rows {
        let problem = BuildProblem::new(BuildErrorCode::HostLost, "The host restarted while it built the image.");
        let facts = BuildFacts::problem(problem);
        apply_build_to(transaction, &Build::try_from(row)?, BuildEvent::HostLost, &facts, now_ms).await?;
    }
    Ok(lost)
}

/// The one place where a build's state changes.
async fn apply_build_to(
    transaction: &mut Transaction<'static, Sqlite>,
    build: &Build,
    event: BuildEvent,
    facts: &BuildFacts,
    now_ms: u64,
) -> Result<Option<BuildState>, StoreError> {
    let Some(next) = transition(build.state, event) else { return Ok(None) };
    let problem = facts.problem.as_ref().filter(|_| next == BuildState::Failed);
    let image = facts.image.as_ref().filter(|_| next == BuildState::Succeeded);
    if let Some(image) = image {
        insert_image(transaction, build, image, now_ms).await?;
    }
    let due_ms = match next {
        BuildState::Queued | BuildState::Building => Some(now_ms),
        BuildState::Succeeded | BuildState::Failed => (facts.tell_host && build.host.is_some()).then_some(now_ms),
    };
    let done = sqlx::query(
        "UPDATE builds SET state = $1, error = $2, image_id = $3, due_ms = $4, attempts = 0, updated_ms = $5, \
         secrets = CASE WHEN $6 = 1 THEN NULL ELSE secrets END, token = CASE WHEN $6 = 1 THEN NULL ELSE token END \
         WHERE id = $7 AND state = $8 AND generation = $9",
    )
    .bind(next.as_str())
    .bind(problem.map(|problem| serde_json::to_string(problem).expect("a problem is plain data")))
    .bind(image.map(|image| image.id.as_str()))
    .bind(due_ms.map(column))
    .bind(column(now_ms))
    .bind(i64::from(next.is_over()))
    .bind(build.id.as_str())
    .bind(build.state.as_str())
    .bind(column(build.generation.0))
    .execute(&mut **transaction)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    let outcome = match (image, problem) {
        (Some(image), _) => Some(Ok(&image.id)),
        (None, Some(problem)) => Some(Err(problem)),
        (None, None) => None,
    };
    if let Some(outcome) = outcome {
        let (account, tenant) = (&build.account, build.tenant.as_deref());
        let end = BuildEnd { account, tenant, build: &build.id, outcome, metadata: &build.metadata };
        record_build(transaction, &end, now_ms).await?;
    }
    Ok(Some(next))
}

/// The image of a build, under the name by which other Dockerfiles find it.
async fn insert_image(
    transaction: &mut Transaction<'static, Sqlite>,
    build: &Build,
    image: &BuiltImage,
    now_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO images (id, account_id, tenant, reference, digest, size_bytes, state, done_bytes, attempts, \
         build_id, created_ms, updated_ms) VALUES ($1, $2, $3, $4, $5, $6, 'ready', $6, 0, $7, $8, $8)",
    )
    .bind(image.id.as_str())
    .bind(build.account.as_str())
    .bind(build.tenant.as_deref())
    .bind(format!("cakework/{}", image.id))
    .bind(&image.digest)
    .bind(column(image.size_bytes))
    .bind(build.id.as_str())
    .bind(column(now_ms))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
