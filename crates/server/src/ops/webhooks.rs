//! Webhook endpoints: make, look, rotate, enable, try, remove; their deliveries, and delivering again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cakework_api::problem::ErrorCode;
use cakework_api::time::rfc3339;
use cakework_api::webhook::{
    CreateWebhook, Delivery as ApiDelivery, DeliveryList, DeliveryState as ApiDeliveryState, Disabled, DisabledReason,
    Secret, Webhook as ApiWebhook, WebhookList, WebhookSecret,
};
use cakework_core::id::{EventId, WebhookId};
use cakework_core::webhook::EventKind;
use rand::Rng as _;
use reqwest::Url;
use zeroize::Zeroizing;

use super::validate;
use crate::app::App;
use crate::caller::Caller;
use crate::clock::now_ms;
use crate::error::ApiError;
use crate::reconcile::webhooks::secret_place;
use crate::store::deliveries::{Delivery, DeliveryState, Replay};
use crate::store::keyed::Claim;
use crate::store::page::Cursor;
use crate::store::webhooks::{Webhook, Why};

/// Endpoints of one account.
const ENDPOINTS_MAX: u64 = 20;
const URL_MAX_BYTES: usize = 2048;
const DESCRIPTION_MAX_BYTES: usize = 256;
/// The specification's advice is 24 to 64.
const SECRET_BYTES: usize = 32;
const SECRET_PREFIX: &str = "whsec_";
/// Time that the secret before a rotation signs, too.
pub(crate) const GRACE_DEFAULT_SECS: u64 = 24 * 3600;
pub(crate) const GRACE_MAX_SECS: u64 = 7 * 24 * 3600;

/// Makes an endpoint. Its secret is shown this once.
pub(crate) async fn create(
    app: &App,
    caller: &Caller,
    request: CreateWebhook,
    claim: Option<&Claim>,
) -> Result<WebhookSecret, ApiError> {
    let url = url(app, &request.url)?;
    let events = request.events.map(events).transpose()?;
    if let Some(description) = &request.description {
        validate::text("description", description, DESCRIPTION_MAX_BYTES)?;
    }
    let tenant = caller.tenant_of(request.tenant.map(validate::tenant).transpose()?)?;
    let now_ms = now_ms();
    let id = WebhookId::mint(now_ms, &mut rand::rng());
    let (secret, sealed) = mint(app, &id);
    let webhook = Webhook {
        id,
        account: caller.account.clone(),
        tenant,
        url: url.to_string(),
        events,
        description: request.description,
        secret: sealed,
        old_secret: None,
        failing: None,
        disabled: None,
        created_ms: now_ms,
        updated_ms: now_ms,
    };
    if !app.store.insert_webhook(&webhook, ENDPOINTS_MAX, claim).await? {
        let detail = format!("The account may have {ENDPOINTS_MAX} webhook endpoints: remove one that is not needed.");
        return Err(ApiError::new(ErrorCode::QuotaExceeded, detail));
    }
    tracing::info!(webhook = %webhook.id, "webhook endpoint");
    Ok(WebhookSecret { webhook: view(webhook, now_ms), secret })
}

/// An endpoint and its secret, for a caller who was not told of them when they were made.
pub(crate) async fn made(app: &App, caller: &Caller, id: &WebhookId) -> Result<WebhookSecret, ApiError> {
    let webhook = find(app, caller, id).await?;
    let key = app.sealer.open_sealed(&secret_place(id), &webhook.secret).map_err(ApiError::internal)?;
    Ok(WebhookSecret { webhook: view(webhook, now_ms()), secret: shown(&key) })
}

/// One endpoint.
pub(crate) async fn get(app: &App, caller: &Caller, id: &WebhookId) -> Result<ApiWebhook, ApiError> {
    Ok(view(find(app, caller, id).await?, now_ms()))
}

/// All endpoints.
pub(crate) async fn list(app: &App, caller: &Caller, tenant: Option<String>) -> Result<WebhookList, ApiError> {
    let tenant = caller.tenant_of(tenant)?;
    let webhooks = app.store.webhooks(&caller.account, tenant.as_deref()).await?;
    let now_ms = now_ms();
    Ok(WebhookList { webhooks: webhooks.into_iter().map(|webhook| view(webhook, now_ms)).collect() })
}

/// Removes an endpoint and what is on its way to it.
pub(crate) async fn delete(app: &App, caller: &Caller, id: &WebhookId) -> Result<(), ApiError> {
    find(app, caller, id).await?;
    if !app.store.delete_webhook(&caller.account, id).await? {
        return Err(unknown(id));
    }
    tracing::info!(webhook = %id, "webhook endpoint removed");
    Ok(())
}

/// Gives an endpoint a new secret, shown this once. The one before signs, too, for `grace_secs`.
pub(crate) async fn rotate(
    app: &App,
    caller: &Caller,
    id: &WebhookId,
    grace_secs: u64,
) -> Result<WebhookSecret, ApiError> {
    find(app, caller, id).await?;
    let now_ms = now_ms();
    let (secret, sealed) = mint(app, id);
    if !app.store.rotate_webhook(&caller.account, id, &sealed, now_ms + grace_secs * 1000, now_ms).await? {
        return Err(unknown(id));
    }
    Ok(WebhookSecret { webhook: get(app, caller, id).await?, secret })
}

/// Lets an endpoint be told of events again.
pub(crate) async fn enable(app: &App, caller: &Caller, id: &WebhookId) -> Result<ApiWebhook, ApiError> {
    if find(app, caller, id).await?.disabled.is_some() {
        app.store.enable_webhook(&caller.account, id, now_ms()).await?;
    }
    get(app, caller, id).await
}

/// Sends an endpoint a `ping`.
pub(crate) async fn test(app: &App, caller: &Caller, id: &WebhookId) -> Result<ApiDelivery, ApiError> {
    find_enabled(app, caller, id).await?;
    let event = app.store.ping(&caller.account, id, now_ms()).await?;
    told(app, id, &event).await
}

/// A page of an endpoint's deliveries.
pub(crate) async fn deliveries(
    app: &App,
    caller: &Caller,
    id: &WebhookId,
    after: Option<Cursor>,
    limit: usize,
) -> Result<DeliveryList, ApiError> {
    find(app, caller, id).await?;
    let page = app.store.deliveries(id, after.as_ref(), limit).await?;
    let deliveries = page.items.into_iter().map(delivery_view).collect();
    Ok(DeliveryList { deliveries, pagination: page.next.map(|next| next.write()) })
}

/// Delivers an event again.
pub(crate) async fn replay(
    app: &App,
    caller: &Caller,
    id: &WebhookId,
    event: &EventId,
) -> Result<ApiDelivery, ApiError> {
    find(app, caller, id).await?;
    if app.store.delivery(id, event).await?.is_none() {
        return Err(unknown_delivery(event));
    }
    find_enabled(app, caller, id).await?;
    match app.store.replay(id, event, now_ms()).await? {
        Replay::Done => told(app, id, event).await,
        Replay::Unknown => Err(unknown_delivery(event)),
        Replay::Full => {
            Err(ApiError::new(ErrorCode::QuotaExceeded, "As many deliveries wait for this endpoint as may wait."))
        }
    }
}

/// That there is no such endpoint.
pub(crate) fn unknown(id: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::UnknownWebhook, format!("There is no webhook endpoint {id}."))
}

fn unknown_delivery(event: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::UnknownDelivery, format!("There is no delivery of the event {event}."))
}

/// The event that a path names, under an endpoint of the caller's.
pub(crate) fn event_of(text: &str) -> Result<EventId, ApiError> {
    let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
    text.parse().map_err(|_| unknown_delivery(shown))
}

/// An endpoint that exists for the caller.
pub(crate) async fn find(app: &App, caller: &Caller, id: &WebhookId) -> Result<Webhook, ApiError> {
    let webhook = app.store.webhook(&caller.account, id).await?;
    webhook.filter(|webhook| caller.sees(webhook.tenant.as_deref())).ok_or_else(|| unknown(id))
}

async fn find_enabled(app: &App, caller: &Caller, id: &WebhookId) -> Result<(), ApiError> {
    match find(app, caller, id).await?.disabled {
        None => Ok(()),
        Some((why, _)) => Err(ApiError::new(ErrorCode::WebhookDisabled, sentence(why))),
    }
}

/// Wakes the reconciler for a delivery and shows it.
async fn told(app: &App, id: &WebhookId, event: &EventId) -> Result<ApiDelivery, ApiError> {
    app.pokes.webhooks.notify_one();
    let delivery = app.store.delivery(id, event).await?.ok_or_else(|| unknown_delivery(event))?;
    Ok(delivery_view(delivery))
}

/// A URL that events may be sent to. A name's addresses are judged when it is connected to.
fn url(app: &App, text: &str) -> Result<Url, ApiError> {
    validate::text("url", text, URL_MAX_BYTES)?;
    let bad = |detail: &str| ApiError::field(ErrorCode::InvalidValue, "url", detail);
    let url = Url::parse(text).map_err(|_| bad("`url` is not a URL."))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad("`url` must begin with https:// or http:// and name a host."));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("`url` must not hold a user or password: check the signature instead."));
    }
    if !app.courier.goes_to(&url) {
        return Err(bad("`url` leads to an address that is not public; the operator may allow it (webhooks.allow)."));
    }
    Ok(url)
}

/// Kinds of events, each once, in their order.
fn events(words: Vec<String>) -> Result<Vec<EventKind>, ApiError> {
    let all: Vec<EventKind> = EventKind::ALL.into_iter().filter(|kind| kind.is_chosen()).collect();
    if words.is_empty() || words.len() > all.len() {
        let detail = format!("`events` names 1 to {} kinds; leave it out for all.", all.len());
        return Err(ApiError::field(ErrorCode::InvalidValue, "events", detail));
    }
    let mut chosen = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let kind = word.parse().ok().filter(|kind: &EventKind| kind.is_chosen() && !chosen.contains(kind));
        let Some(kind) = kind else {
            let words: Vec<&str> = all.iter().map(|kind| kind.as_str()).collect();
            let detail = format!("It must be one of {}, each at most once.", words.join(", "));
            return Err(ApiError::field(ErrorCode::InvalidValue, format!("events[{at}]"), detail));
        };
        chosen.push(kind);
    }
    Ok(all.into_iter().filter(|kind| chosen.contains(kind)).collect())
}

/// A new secret: for the owner's eyes, and sealed.
fn mint(app: &App, id: &WebhookId) -> (Secret, Vec<u8>) {
    let mut key = Zeroizing::new([0; SECRET_BYTES]);
    rand::rng().fill_bytes(&mut *key);
    (shown(&*key), app.sealer.seal(&secret_place(id), &*key))
}

/// A secret as its owner has it.
fn shown(key: &[u8]) -> Secret {
    let encoded = Zeroizing::new(STANDARD.encode(key));
    Secret([SECRET_PREFIX, &encoded].concat())
}

const fn sentence(why: Why) -> &'static str {
    match why {
        Why::Gone => "The endpoint answered 410: it wants no more events.",
        Why::Failing => "Every attempt failed for five days.",
    }
}

/// The API's words for an endpoint.
fn view(webhook: Webhook, now_ms: u64) -> ApiWebhook {
    let disabled = webhook.disabled.map(|(why, since_ms)| Disabled {
        reason: match why {
            Why::Gone => DisabledReason::Gone,
            Why::Failing => DisabledReason::Failing,
        },
        message: sentence(why).to_owned(),
        at: rfc3339(since_ms),
    });
    let old_until_ms = webhook.old_secret.map(|(_, until_ms)| until_ms).filter(|until_ms| *until_ms > now_ms);
    ApiWebhook {
        webhook_id: webhook.id.to_string(),
        url: webhook.url,
        events: webhook.events,
        description: webhook.description,
        tenant: webhook.tenant,
        enabled: disabled.is_none(),
        disabled,
        failing_since: webhook.failing.map(|failing| rfc3339(failing.since_ms)),
        previous_secret_until: old_until_ms.map(rfc3339),
        created_at: rfc3339(webhook.created_ms),
        updated_at: rfc3339(webhook.updated_ms),
    }
}

fn delivery_view(delivery: Delivery) -> ApiDelivery {
    ApiDelivery {
        event_id: delivery.event.to_string(),
        kind: delivery.kind,
        state: match delivery.state {
            DeliveryState::Pending => ApiDeliveryState::Pending,
            DeliveryState::Delivered => ApiDeliveryState::Delivered,
            DeliveryState::Failed => ApiDeliveryState::Failed,
        },
        attempt: delivery.attempts,
        status_code: delivery.status_code,
        error: delivery.error,
        duration_ms: delivery.duration_ms,
        next_attempt_at: delivery.due_ms.map(rfc3339),
        created_at: rfc3339(delivery.created_ms),
        updated_at: rfc3339(delivery.updated_ms),
    }
}
