//! `cakework webhook …`. A secret is printed once, alone, on stdout.

use cakework_api::webhook::{Delivery, Webhook};
use cakework_core::webhook::EventKind;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{each, items, typed};
use crate::args;
use crate::client::{Again, Client, part};
use crate::failure::{Exit, Failure, Result};
use crate::show;

pub(super) async fn run(command: &args::Webhook) -> Result<Exit> {
    match command {
        args::Webhook::Create(options) => {
            let client = Client::new(&options.to)?;
            let mut body = json!({"url": options.receiver});
            if !options.event.is_empty() {
                body["events"] = options.event.clone().into();
            }
            for (field, value) in [("tenant", &options.tenant), ("description", &options.description)] {
                if let Some(value) = value {
                    body[field] = value.as_str().into();
                }
            }
            told(client.make("/v1/webhook", &body).await?, "made", options.to.json)
        }
        args::Webhook::List(options) => list(options).await,
        args::Webhook::Delete(options) => {
            let delete = async |client: &Client, id: &str| client.delete(&format!("/v1/webhook/{id}"), &[]).await;
            each(&options.to, &options.ids, "removed", delete).await
        }
        args::Webhook::Test(options) => {
            let client = Client::new(&options.to)?;
            let said = client.post(&format!("/v1/webhook/{}/test", part(&options.id)?), Again::Never).await?;
            let delivery: Delivery = typed(said.clone())?;
            if options.to.json {
                show::json(&said)?
            } else {
                show::done("sent", &format!("ping {}", delivery.event_id))
            }
            Ok(Exit::Done)
        }
        args::Webhook::Enable(options) => {
            let enable = async |client: &Client, id: &str| {
                client.post(&format!("/v1/webhook/{id}/enable"), Again::Always).await.map(drop)
            };
            each(&options.to, std::slice::from_ref(&options.id), "enabled", enable).await
        }
        args::Webhook::Rotate(options) => {
            let client = Client::new(&options.to)?;
            let said = client.post(&format!("/v1/webhook/{}/rotate", part(&options.id)?), Again::Never).await?;
            told(said, "rotated", options.to.json)
        }
        args::Webhook::Deliveries(options) => deliveries(options).await,
    }
}

/// Says an endpoint's new secret.
fn told(said: Value, what: &str, json: bool) -> Result<Exit> {
    if json {
        show::json(&said)?;
        return Ok(Exit::Done);
    }
    let secret = said["secret"].as_str().ok_or_else(|| Failure::new(Exit::Failed, "the server said no secret"))?;
    show::done(what, said["webhookId"].as_str().unwrap_or_default());
    show::fact("the secret is shown this once; it verifies what is sent:");
    show::line(secret);
    Ok(Exit::Done)
}

async fn list(options: &args::ListOptions) -> Result<Exit> {
    let client = Client::new(&options.to)?;
    let query: Vec<_> = options.tenant.iter().map(|tenant| ("tenant", tenant.clone())).collect();
    let mut said: Value = client.get("/v1/webhook", &query).await?;
    let said = said["webhooks"].take();
    if options.to.json {
        show::json(&said)?;
        return Ok(Exit::Done);
    }
    let row = |webhook: Webhook| {
        let state = match (&webhook.disabled, &webhook.failing_since) {
            (Some(disabled), _) => format!("disabled: {}", disabled.message),
            (None, Some(since)) => format!("failing since {since}"),
            (None, None) => "enabled".to_owned(),
        };
        let events = webhook.events.unwrap_or_default();
        let events = if events.is_empty() {
            "all".to_owned()
        } else {
            events.into_iter().map(EventKind::as_str).collect::<Vec<_>>().join(", ")
        };
        vec![webhook.webhook_id, state, events, webhook.url]
    };
    let webhooks: Vec<Webhook> = typed(said)?;
    let rows = webhooks.into_iter().take(options.limit).map(row).collect();
    show::table(&["WEBHOOK ID", "STATE", "EVENTS", "URL"], rows);
    Ok(Exit::Done)
}

async fn deliveries(options: &args::WebhookDeliveries) -> Result<Exit> {
    let client = Client::new(&options.to)?;
    let path = format!("/v1/webhook/{}/deliveries", part(&options.id)?);
    let (raw, found): (_, Vec<Delivery>) = items(&client, &path, "deliveries", &[], options.limit).await?;
    if options.to.json {
        show::json(&raw)?;
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let row = |delivery: Delivery| {
        let state = serde_json::to_value(delivery.state).ok().and_then(|state| state.as_str().map(str::to_owned));
        let answer =
            delivery.status_code.map_or_else(|| delivery.error.unwrap_or_default(), |status| status.to_string());
        vec![
            delivery.event_id,
            delivery.kind.as_str().to_owned(),
            state.unwrap_or_default(),
            delivery.attempt.to_string(),
            answer,
            show::ago(&delivery.created_at, now),
        ]
    };
    let rows = found.into_iter().map(row).collect();
    show::table(&["EVENT ID", "TYPE", "STATE", "ATTEMPT", "ANSWER", "CREATED"], rows);
    Ok(Exit::Done)
}
