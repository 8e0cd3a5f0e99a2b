//! Webhooks: endpoints, their deliveries, and the bodies that they are sent.

use std::collections::BTreeMap;

use cakework_core::build::BuildErrorCode;
use cakework_core::webhook::EventKind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::vm::{Exit, VmState};

/// Makes an endpoint.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "url": "https://example.com/hooks/cakework", "events": ["build.succeeded", "build.failed"], "tenant": "ann",
}))]
pub struct CreateWebhook {
    /// Where events are sent: http or https, without a user or password in it.
    #[schema(max_length = 2048, example = "https://example.com/hooks/cakework")]
    pub url: String,
    /// The events that it is told of; all, and all that there will be, where it names none.
    #[serde(default)]
    #[schema(example = json!(["build.succeeded", "build.failed"]))]
    pub events: Option<Vec<String>>,
    /// The builder's own words.
    #[serde(default)]
    #[schema(max_length = 256)]
    pub description: Option<String>,
    /// Only events of this end user.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub tenant: Option<String>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "webhookId": "01GV2ZFBT345TRTRDK6VHBECCZ", "url": "https://example.com/hooks/cakework",
    "events": ["build.succeeded", "build.failed"], "enabled": true, "tenant": "ann",
    "createdAt": "2026-01-05T14:00:00Z", "updatedAt": "2026-01-05T14:00:00Z",
}))]
pub struct Webhook {
    /// The endpoint.
    #[schema(example = "01GV2ZFBT345TRTRDK6VHBECCZ")]
    pub webhook_id: String,
    /// Where events are sent.
    pub url: String,
    /// The events that it is told of; all where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub events: Option<Vec<EventKind>>,
    /// The builder's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Only events of this end user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Whether events are sent to it.
    pub enabled: bool,
    /// Why none are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
    /// Since when every attempt failed, where the last one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub failing_since: Option<String>,
    /// Until then deliveries are signed with the secret before, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub previous_secret_until: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it last changed.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// That an endpoint is disabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disabled {
    /// Why.
    pub reason: DisabledReason,
    /// A sentence.
    pub message: String,
    /// Since when.
    #[schema(format = DateTime)]
    pub at: String,
}

/// Why an endpoint is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DisabledReason {
    /// It answered 410.
    Gone,
    /// It failed for days.
    Failing,
}

/// An endpoint with its new secret, which is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "webhookId": "01GV2ZFBT345TRTRDK6VHBECCZ", "url": "https://example.com/hooks/cakework", "enabled": true,
    "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "createdAt": "2026-01-05T14:00:00Z", "updatedAt": "2026-01-05T14:00:00Z",
}))]
pub struct WebhookSecret {
    /// The endpoint.
    #[serde(flatten)]
    pub webhook: Webhook,
    /// The key of its signatures.
    pub secret: Secret,
}

/// `whsec_` and the key in base64. It is erased when it is dropped and never shown by a log.
#[derive(Serialize, Zeroize, ZeroizeOnDrop, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
pub struct Secret(pub String);

/// The endpoints, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookList {
    /// The endpoints.
    pub webhooks: Vec<Webhook>,
}

/// An event on its way to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "eventId": "01GV2ZG0000000000000000000", "type": "build.succeeded", "state": "delivered", "attempt": 1,
    "statusCode": 204, "durationMs": 38, "createdAt": "2026-01-05T14:00:00Z", "updatedAt": "2026-01-05T14:00:01Z",
}))]
pub struct Delivery {
    /// The event: `webhook-id` of every attempt.
    pub event_id: String,
    /// What it tells of.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "build.succeeded")]
    pub kind: EventKind,
    /// Where it is.
    pub state: DeliveryState,
    /// Attempts so far, or since the last replay.
    pub attempt: u64,
    /// HTTP status of the last attempt's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// What was wrong with the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long the last attempt took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// When it is tried next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub next_attempt_at: Option<String>,
    /// When the event happened.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When the delivery last changed.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It is tried, or will be.
    Pending,
    /// The endpoint answered 2xx.
    Delivered,
    /// It was given up; it can be replayed.
    Failed,
}

/// A page of deliveries, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryList {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// Token of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "the next page's token")]
    pub pagination: Option<String>,
}

/// The body that an endpoint is sent. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// What it tells of.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "build.succeeded")]
    pub kind: EventKind,
    /// When it happened.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// Of a build event: the build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// Of `build.succeeded`: the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// The rest.
    pub data: EventData,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum EventData {
    /// Of a build.
    Build(BuildEvent),
    /// Of a VM.
    Vm(VmEvent),
    /// That somebody tries the endpoint.
    Ping(PingEvent),
}

/// A build that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildEvent {
    /// The build.
    pub build_id: String,
    /// The image, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Why it failed, as in getBuild.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<BuildEventError>,
    /// The builder's own marks.
    pub metadata: BTreeMap<String, String>,
    /// The end user whose build it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// Why a build failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildEventError {
    /// The word that programs branch on.
    #[schema(value_type = String, example = "command_failed")]
    pub code: BuildErrorCode,
    /// A sentence.
    pub message: String,
    /// The Dockerfile's instruction, as it is written there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// The instruction's first line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// A VM in its new state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VmEvent {
    /// The VM.
    pub vm_id: String,
    /// The image that it runs.
    pub image_id: String,
    /// The name that it is reached by.
    pub hostname: String,
    /// Where it is.
    pub state: VmState,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// The builder's own marks.
    pub metadata: BTreeMap<String, String>,
    /// The end user whose VM it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// A try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PingEvent {
    /// The endpoint that is tried.
    pub webhook_id: String,
}
