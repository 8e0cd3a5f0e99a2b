//! What an endpoint is sent of an event: the body, made anew for each attempt and the same in all of them.

use cakework_api::time::rfc3339;
use cakework_api::webhook::{BuildEvent, BuildEventError, Event, EventData, PingEvent, VmEvent};

use crate::store::deliveries::Claim;
use crate::store::events::Payload;

/// The body of an event, in JSON.
pub(crate) fn body(claim: &Claim, base_domain: &str) -> Vec<u8> {
    let (build_id, image_id) = match &claim.payload {
        Payload::Build { build, image, .. } => (Some(build.to_string()), image.as_ref().map(ToString::to_string)),
        Payload::Vm { .. } | Payload::Ping { .. } => (None, None),
    };
    let event = Event {
        kind: claim.kind,
        timestamp: rfc3339(claim.happened_ms),
        build_id,
        image_id,
        data: data(claim.payload.clone(), base_domain),
    };
    serde_json::to_vec(&event).expect("an event is plain data")
}

fn data(payload: Payload, base_domain: &str) -> EventData {
    match payload {
        Payload::Vm { vm, image, label, state, exit, metadata, tenant } => EventData::Vm(VmEvent {
            vm_id: vm.to_string(),
            image_id: image.to_string(),
            hostname: format!("{label}.{base_domain}"),
            state: state.into(),
            exit: exit.map(Into::into),
            metadata,
            tenant,
        }),
        Payload::Build { build, image, error, metadata, tenant } => EventData::Build(BuildEvent {
            build_id: build.to_string(),
            image_id: image.map(|image| image.to_string()),
            error: error.map(|error| BuildEventError {
                code: error.code,
                message: error.message,
                instruction: error.instruction,
                line: error.line,
            }),
            metadata,
            tenant,
        }),
        Payload::Ping { webhook } => EventData::Ping(PingEvent { webhook_id: webhook.to_string() }),
    }
}
