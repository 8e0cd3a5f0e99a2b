//! Tickets for commands: who may make one, and what it opens.

use axum::http::Method;
use serde_json::json;

use super::TestApp;
use crate::clock::now_ms;
use crate::keys::Scope;

#[tokio::test]
async fn a_ticket_opens_its_vm_for_a_minute_and_for_whom_it_was_made() {
    let api = TestApp::new().await;
    let (builder, bound) = (api.key(Scope::Write).await, api.key_with(|key| key.tenant = Some("ann".into())).await);
    let image = api.ready_image().await;
    let mut ids = Vec::new();
    for tenant in ["ann", "bob"] {
        let wish = json!({"imageId": image, "tenant": tenant});
        ids.push(api.post("/v1/vm/start", &builder, wish).await.expect(201)["id"].as_str().unwrap().to_owned());
    }
    let [anns, bobs] = &ids[..] else { panic!("two") };
    let make = async |id: &str, key: &str| api.post(&format!("/v1/vm/{id}/exec/ticket"), key, json!({})).await;
    let made = make(anns, &bound).await.expect(201);
    make(bobs, &bound).await.expect_code(404, "unknown_vm");
    let ticket = made["ticket"].as_str().unwrap().to_owned();
    let open = async |id: &str, ticket: &str| {
        api.send(Method::GET, &format!("/v1/vm/{id}/exec?ticket={ticket}"), None, None).await
    };
    // It is good, and the request is no WebSocket.
    open(anns, &ticket).await.expect_code(426, "upgrade_required");
    open(anns, &ticket).await.expect_code(426, "upgrade_required");
    open(bobs, &ticket).await.expect_code(401, "invalid_ticket");
    let flipped = format!("{}{}", if ticket.starts_with('A') { 'B' } else { 'A' }, &ticket[1..]);
    for bad in [flipped.as_str(), "x", "%00", &"A".repeat(5000), &builder] {
        open(anns, bad).await.expect_code(401, "invalid_ticket");
    }
    // It opens commands, and nothing else.
    let path = format!("/v1/vm/{anns}?ticket={ticket}");
    api.send(Method::GET, &path, None, None).await.expect_code(401, "missing_key");
    // One that is too old, and one for a VM of another tenant.
    let sealed = |id: &str, tenant: &str, expires_ms: u64| {
        let account = api.account.as_str();
        let text = json!({"account": account, "tenant": tenant, "expires_ms": expires_ms}).to_string();
        let sealed = api.app.sealer.seal(&format!("exec-tickets/{id}"), text.as_bytes());
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, sealed)
    };
    open(anns, &sealed(anns, "ann", now_ms() + 5000)).await.expect_code(426, "upgrade_required");
    open(anns, &sealed(anns, "ann", now_ms() - 1)).await.expect_code(401, "invalid_ticket");
    open(bobs, &sealed(bobs, "ann", now_ms() + 5000)).await.expect_code(404, "unknown_vm");
}
