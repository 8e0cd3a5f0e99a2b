//! Events, carried to the endpoints that want them: signed, and tried again as the Standard Webhooks specification
//! says.
//!
//! A delivery is claimed in the database, so that several processes share the work and one that is killed loses
//! nothing: its deliveries come due again, with the same id. What is sent at once is bounded in all, per account and
//! per endpoint; an endpoint at its bound is left out of the search, so that a slow one holds up nobody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cakework_core::id::{AccountId, WebhookId};
use cakework_core::webhook;
use standardwebhooks::Webhook as Signer;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::TICK;
use super::webhooks_body::body;
use super::webhooks_send::{ATTEMPT_TIMEOUT, Message, Sent};
use crate::app::{App, Shared};
use crate::clock::now_ms;
use crate::ops::once;
use crate::store::deliveries::{Attempt, Claim};
use crate::store::webhooks::Webhook;

/// Attempts at once, in all.
const AT_ONCE: usize = 128;
/// Attempts at once for one account's endpoints.
const PER_ACCOUNT: usize = 16;
/// Attempts at once for one endpoint.
const PER_ENDPOINT: usize = 4;
/// Time that a claim holds: an attempt and a slow database.
pub(crate) const LEASE_MS: u64 = ATTEMPT_TIMEOUT.as_millis() as u64 + 15_000;
/// Time that events and their deliveries are kept.
pub(crate) const KEPT_MS: u64 = 30 * 24 * 3600 * 1000;
const SWEEP: Duration = Duration::from_secs(600);
/// Events that are forgotten in one transaction.
const FORGET_BATCH: u32 = 500;

/// Where an endpoint's secrets are sealed to.
pub(crate) fn secret_place(id: &WebhookId) -> String {
    format!("webhooks.secret/{id}")
}

/// Runs until `shutdown`; what is being sent then is waited for.
pub(crate) async fn run(app: Shared, shutdown: CancellationToken) {
    let mut work = Work::default();
    let mut sweep_at = Instant::now();
    while !shutdown.is_cancelled() {
        if let Err(error) = work.start(&app, now_ms()).await {
            tracing::error!(error = ?error, "webhooks could not be sent");
        }
        if Instant::now() >= sweep_at {
            sweep_at = Instant::now() + SWEEP;
            if let Err(error) = sweep(&app, now_ms()).await {
                tracing::error!(error = ?error, "old events could not be forgotten");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = app.pokes.webhooks.notified() => {}
            () = work.ended(), if !work.tasks.is_empty() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
    work.finish().await;
}

/// The attempts that this process makes.
#[derive(Default)]
pub(crate) struct Work {
    tasks: JoinSet<()>,
    /// For whom each is.
    whose: HashMap<Id, (WebhookId, AccountId)>,
}

impl Work {
    /// Claims what is due, as far as there is room, and begins to send it.
    pub(crate) async fn start(&mut self, app: &Shared, now_ms: u64) -> anyhow::Result<()> {
        let room = AT_ONCE.saturating_sub(self.tasks.len());
        if room == 0 {
            return Ok(());
        }
        let busy = self.full(|(webhook, _)| webhook, PER_ENDPOINT);
        let busy_accounts = self.full(|(_, account)| account, PER_ACCOUNT);
        let due = app.store.webhooks_due(now_ms, &busy, &busy_accounts, room as u32).await?;
        for webhook in due {
            let taken = |is: &dyn Fn(&(WebhookId, AccountId)) -> bool| self.whose.values().filter(|of| is(of)).count();
            let most = PER_ENDPOINT
                .saturating_sub(taken(&|of| of.0 == webhook.id))
                .min(PER_ACCOUNT.saturating_sub(taken(&|of| of.1 == webhook.account)))
                .min(AT_ONCE.saturating_sub(self.tasks.len()));
            if most == 0 {
                continue;
            }
            let claims = app.store.claim_deliveries(&webhook.id, now_ms, now_ms + LEASE_MS, most as u32).await?;
            let webhook = Arc::new(webhook);
            for claim in claims {
                let (app, webhook) = (Arc::clone(app), Arc::clone(&webhook));
                let of = (webhook.id.clone(), webhook.account.clone());
                let task = self.tasks.spawn(async move { attempt(&app, &webhook, &claim, now_ms).await });
                self.whose.insert(task.id(), of);
            }
        }
        Ok(())
    }

    /// Waits for the next attempt's end.
    async fn ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            None => {}
            Some(Ok((id, ()))) => {
                self.whose.remove(&id);
            }
            Some(Err(error)) => {
                // Its claim runs out, and the delivery comes due again.
                tracing::error!(error = %error, "an attempt to send a webhook broke off");
                self.whose.remove(&error.id());
            }
        }
    }

    /// Waits for the end of all attempts.
    pub(crate) async fn finish(&mut self) {
        while !self.tasks.is_empty() {
            self.ended().await;
        }
    }

    /// Who has as many attempts as may be.
    fn full<T: Clone + Eq + std::hash::Hash>(
        &self,
        key: impl Fn(&(WebhookId, AccountId)) -> &T,
        most: usize,
    ) -> Vec<T> {
        let mut counts: HashMap<&T, usize> = HashMap::new();
        for of in self.whose.values() {
            *counts.entry(key(of)).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| *count >= most).map(|(key, _)| key.clone()).collect()
    }
}

/// Makes an attempt and writes down what it came to.
async fn attempt(app: &App, webhook: &Webhook, claim: &Claim, now_ms: u64) {
    let started = Instant::now();
    let sent = match message(app, webhook, claim, now_ms) {
        Ok(message) => app.courier.send(message, now_ms).await,
        Err(error) => {
            // Nothing that the receiver could mend; it stays due and is told to the operator.
            tracing::error!(webhook = %webhook.id, error = ?error, "a webhook could not be signed");
            return;
        }
    };
    let Sent { answer, error } = sent;
    let duration_ms = started.elapsed().as_millis() as u64;
    let next = webhook::next(claim.attempt, answer, &mut rand::rng());
    tracing::debug!(webhook = %webhook.id, event = %claim.event, attempt = claim.attempt, status = answer.status, duration_ms, "sent");
    let done = Attempt { status_code: answer.status, error, duration_ms, next };
    match app.store.attempted(claim, &done, now_ms + duration_ms).await {
        Ok(None) => {}
        Ok(Some(why)) => tracing::info!(webhook = %webhook.id, why = ?why, "a webhook endpoint is disabled"),
        Err(error) => {
            tracing::error!(webhook = %webhook.id, error = ?error, "a webhook's attempt was not written down")
        }
    }
}

/// The message of an attempt, signed with the endpoint's secret, and with the one before while that holds.
fn message(app: &App, webhook: &Webhook, claim: &Claim, now_ms: u64) -> anyhow::Result<Message> {
    let body = body(claim, &app.config.base_domain);
    let timestamp_secs = now_ms / 1000;
    let old = webhook.old_secret.as_ref().filter(|(_, until_ms)| *until_ms > now_ms).map(|(secret, _)| secret);
    let mut signatures = Vec::new();
    for sealed in std::iter::once(&webhook.secret).chain(old) {
        let secret = app.sealer.open_sealed(&secret_place(&webhook.id), sealed)?;
        let signer = Signer::from_bytes(secret.to_vec())?;
        signatures.push(signer.sign(claim.event.as_str(), i64::try_from(timestamp_secs)?, &body)?);
    }
    let url = webhook.url.parse()?;
    Ok(Message { url, id: claim.event.to_string(), timestamp_secs, signatures: signatures.join(" "), body })
}

/// Forgets what is over for long: events, requests with a key, and secrets that sign no more.
pub(crate) async fn sweep(app: &App, now_ms: u64) -> anyhow::Result<()> {
    app.store.erase_old_secrets(now_ms).await?;
    let unkept_ms = now_ms.saturating_sub(once::KEPT_MS);
    while app.store.forget_requests(unkept_ms, FORGET_BATCH).await? == u64::from(FORGET_BATCH) {}
    while app.store.forget_events(now_ms.saturating_sub(KEPT_MS), FORGET_BATCH).await? == u64::from(FORGET_BATCH) {}
    Ok(())
}
