//! Webhook endpoints: what may be made, what events there are and for whom, secrets, and what is kept.

use axum::http::Method;
use cakework_core::build::BuildErrorCode;
use cakework_core::id::{BuildId, Generation, ImageId, VmId};
use cakework_core::lifecycle::{Exit, ExitReason, VmEvent};
use cakework_core::webhook::FAILING_MAX_MS;
use cakework_wire::build::BuildProblem;
use serde_json::{Value, json};
use standardwebhooks::Webhook as Verifier;

use super::script::Host;
use super::webhooks_send::{HOUR_MS, api, deliver, endpoint, log, ping};
use super::{TestApp, eventually};
use crate::clock::now_ms;
use crate::keys::Scope;
use crate::reconcile::webhooks::{KEPT_MS, sweep};
use crate::store::events::{BuildEnd, PENDING_MAX};
use crate::store::vm_changes::Facts;

const GENERATION: Generation = Generation(0);

async fn vm(api: &TestApp, key: &str, tenant: Option<&str>) -> VmId {
    let image = api.ready_image().await;
    let body = json!({"imageId": image, "metadata": {"job": "7"}, "tenant": tenant});
    let vm = api.post("/v1/vm/start", key, body).await.expect(201);
    vm["id"].as_str().unwrap().parse().unwrap()
}

/// The life of a VM that no host has, told by hand.
async fn live_and_end(api: &TestApp, id: &VmId) {
    // The start may have counted the placement up, if there were a host.
    let generation = api.app.store.any_vm(id).await.unwrap().unwrap().generation;
    assert_eq!(generation, GENERATION);
    let facts = Facts { address: Some([10, 0, 0, 2].into()), ..Facts::default() };
    assert!(api.app.apply(id, generation, VmEvent::HostStarted, facts).await.unwrap().is_some());
    let exit = Exit { code: Some(3), ..Exit::only(ExitReason::Exited) };
    assert!(api.app.apply(id, generation, VmEvent::HostEnded, Facts::exit(exit)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_vms_life_is_told_and_signed() {
    let (api, key, receiver) = api().await;
    let (_, secret) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    let id = vm(&api, &key, Some("ann")).await;
    live_and_end(&api, &id).await;
    // What says nothing new is not told again.
    let again = api.app.apply(&id, GENERATION, VmEvent::HostEnded, Facts::default()).await.unwrap();
    assert!(again.is_none());
    deliver(&api, now_ms()).await;

    let mut seen = receiver.take();
    assert_eq!(seen.len(), 2);
    seen.sort_by_key(|message| message.json()["type"].to_string());
    for message in &seen {
        Verifier::new(&secret).unwrap().verify(&message.body, &message.headers).unwrap();
        assert!(Verifier::new("whsec_AAAA").unwrap().verify(&message.body, &message.headers).is_err());
        assert_eq!(message.headers["content-type"], "application/json");
    }
    assert_ne!(seen[0].id(), seen[1].id());
    let [destroyed, started] = [seen[0].json(), seen[1].json()];
    let record = api.app.store.any_vm(&id).await.unwrap().unwrap();
    let hostname = format!("{}.localhost", record.label);
    assert_eq!(
        destroyed,
        json!({
            "type": "vm.destroyed", "timestamp": destroyed["timestamp"], "data": {
                "vmId": id, "imageId": record.image, "hostname": hostname, "state": "destroyed",
                "exit": {"code": 3, "oom": false, "reason": "exited"}, "metadata": {"job": "7"}, "tenant": "ann",
            },
        })
    );
    assert_eq!((&started["type"], &started["data"]["state"]), (&json!("vm.started"), &json!("started")));
    assert_eq!(started["data"]["exit"], Value::Null);
}

#[tokio::test]
async fn a_real_start_is_told_by_the_reconciler() {
    let (api, key, receiver) = api().await;
    let host = Host::listen(&api.app.config.agent_socket);
    api.reconcile().await;
    endpoint(&api, &key, json!({"url": receiver.url, "events": ["vm.started"]})).await;
    let id = vm(&api, &key, None).await;
    eventually("the event", || async { receiver.count() == 1 }).await;
    assert_eq!(receiver.take()[0].json()["data"]["vmId"], json!(id));
    // A host that restarts ends what it had: the same transaction tells of it.
    let (hook, _) = endpoint(&api, &key, json!({"url": receiver.url, "events": ["vm.destroyed"]})).await;
    host.restart();
    eventually("the end", || async { receiver.count() == 1 }).await;
    assert_eq!(receiver.take()[0].json()["data"]["exit"]["reason"], "host_lost");
    eventually("the log", || async { log(&api, &key, &hook).await[0]["state"] == "delivered" }).await;
}

#[tokio::test]
async fn builds_are_told_as_the_original_did_and_more() {
    let (api, key, receiver) = api().await;
    endpoint(&api, &key, json!({"url": receiver.url})).await;
    let (build, image) = (BuildId::mint(&mut rand::rng()), ImageId::mint(1, &mut rand::rng()));
    let metadata = [("job".to_owned(), "7".to_owned())].into();
    let problem = BuildProblem {
        instruction: Some("RUN false".into()),
        line: Some(3),
        ..BuildProblem::new(BuildErrorCode::CommandFailed, "é".repeat(3_000))
    };
    for outcome in [Ok(&image), Err(&problem)] {
        let end = BuildEnd { account: &api.account, tenant: None, build: &build, outcome, metadata: &metadata };
        api.app.store.tell_build(&end, now_ms()).await.unwrap();
        deliver(&api, now_ms()).await;
    }
    let seen = receiver.take();
    let [done, failed] = [seen[0].json(), seen[1].json()];
    assert_eq!(
        done,
        json!({
            "type": "build.succeeded", "timestamp": done["timestamp"], "buildId": build, "imageId": image,
            "data": {"buildId": build, "imageId": image, "metadata": {"job": "7"}},
        })
    );
    assert_eq!((&failed["type"], &failed["buildId"]), (&json!("build.failed"), &json!(build)));
    assert!(failed.get("imageId").is_none() && failed["data"].get("imageId").is_none(), "{failed}");
    let error = &failed["data"]["error"];
    assert_eq!((&error["code"], &error["line"]), (&json!("command_failed"), &json!(3)));
    assert_eq!(error["message"].as_str().unwrap().len(), 2_048, "long words are cut");
}

#[tokio::test]
async fn endpoints_are_told_what_they_chose_and_of_their_tenant() {
    let (api, key, receiver) = api().await;
    let with = |path: &str, rest: Value| {
        let mut body = json!({"url": format!("{}{path}", receiver.url)});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        body
    };
    endpoint(&api, &key, with("all", json!({}))).await;
    endpoint(&api, &key, with("ends", json!({"events": ["vm.destroyed"]}))).await;
    endpoint(&api, &key, with("ann", json!({"tenant": "ann"}))).await;
    endpoint(&api, &key, with("builds", json!({"events": ["build.succeeded", "build.failed"]}))).await;
    let other = api.stranger().await;
    endpoint(&api, &other, with("stranger", json!({}))).await;
    for tenant in [None, Some("ann"), Some("bob")] {
        let id = vm(&api, &key, tenant).await;
        live_and_end(&api, &id).await;
    }
    // One endpoint's bound is smaller than what waits.
    deliver(&api, now_ms()).await;
    deliver(&api, now_ms()).await;
    let seen = receiver.take();
    let count = |path: &str| seen.iter().filter(|message| message.path == format!("/{path}")).count();
    assert_eq!(["all", "ends", "ann", "builds", "stranger"].map(count), [6, 3, 2, 0, 0]);
}

#[tokio::test]
async fn a_key_of_a_tenant_sees_only_that_tenants_endpoints() {
    let (api, key, receiver) = api().await;
    let bound = api.key_with(|key| key.tenant = Some("ann".into())).await;
    let (builders, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    let (anns, _) = endpoint(&api, &bound, json!({"url": receiver.url})).await;
    let list = api.get("/v1/webhook", &bound).await.expect(200);
    assert_eq!((list["webhooks"].as_array().unwrap().len(), &list["webhooks"][0]["tenant"]), (1, &json!("ann")));
    assert_eq!(list["webhooks"][0]["webhookId"], anns.as_str());
    api.get(&format!("/v1/webhook/{builders}"), &bound).await.expect_code(404, "unknown_webhook");
    let delete = api.send(Method::DELETE, &format!("/v1/webhook/{builders}"), Some(&bound), None).await;
    delete.expect_code(404, "unknown_webhook");
    let bobs = api.post("/v1/webhook", &bound, json!({"url": receiver.url, "tenant": "bob"})).await;
    bobs.expect_code(400, "invalid_tenant");
    assert_eq!(api.get("/v1/webhook", &key).await.expect(200)["webhooks"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_endpoint_that_is_wrong_says_what_is() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let ok = "https://example.com/hook";
    for (body, code, field) in [
        (json!({}), "missing_field", "url"),
        (json!({"url": 1}), "wrong_type", "url"),
        (json!({"url": ""}), "invalid_value", "url"),
        (json!({"url": "example.com"}), "invalid_value", "url"),
        (json!({"url": "ftp://example.com/"}), "invalid_value", "url"),
        (json!({"url": "file:///etc/passwd"}), "invalid_value", "url"),
        (json!({"url": "http://"}), "invalid_value", "url"),
        (json!({"url": "https://u:p@example.com/"}), "invalid_value", "url"),
        (json!({"url": "https://u@example.com/"}), "invalid_value", "url"),
        (json!({"url": "https://example.com/\n"}), "invalid_value", "url"),
        (json!({"url": "http://127.0.0.1:8081/"}), "invalid_value", "url"),
        (json!({"url": "http://2130706433/"}), "invalid_value", "url"),
        (json!({"url": "http://[::ffff:10.0.0.1]/"}), "invalid_value", "url"),
        (json!({"url": "http://169.254.169.254/latest/meta-data/"}), "invalid_value", "url"),
        (json!({"url": format!("{ok}?{}", "x".repeat(2048))}), "too_long", "url"),
        (json!({"url": ok, "events": []}), "invalid_value", "events"),
        (json!({"url": ok, "events": ["vm.started", "vm.started"]}), "invalid_value", "events[1]"),
        (json!({"url": ok, "events": ["ping"]}), "invalid_value", "events[0]"),
        (json!({"url": ok, "events": vec!["x"; 1000]}), "invalid_value", "events"),
        (json!({"url": ok, "description": "x".repeat(257)}), "too_long", "description"),
        (json!({"url": ok, "tenant": ""}), "invalid_tenant", "tenant"),
        (json!({"url": ok, "secret": "whsec_mine"}), "unknown_field", "secret"),
    ] {
        let answer = api.post("/v1/webhook", &key, body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{body}: {:#}", answer.body);
        assert_eq!(answer.body["field"], field, "{body}");
    }
    for n in 0..20 {
        let made = api.post("/v1/webhook", &key, json!({"url": format!("{ok}/{n}")})).await.expect(201);
        assert_eq!(made["enabled"], true);
    }
    api.post("/v1/webhook", &key, json!({"url": ok})).await.expect_code(403, "quota_exceeded");
    assert_eq!(api.get("/v1/webhook", &key).await.expect(200)["webhooks"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn a_secret_is_shown_once_and_rests_sealed() {
    let (api, key, receiver) = api().await;
    let (id, first) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    let path = format!("/v1/webhook/{id}");
    let rotated = api.send(Method::POST, &format!("{path}/rotate"), Some(&key), None).await.expect(200);
    let second = rotated["secret"].as_str().unwrap();
    for body in [api.get(&path, &key).await.expect(200), api.get("/v1/webhook", &key).await.expect(200)] {
        assert!(!body.to_string().contains("whsec_"), "{body}");
    }
    use base64::Engine as _;
    for secret in [first.as_str(), second] {
        let text = secret.strip_prefix("whsec_").unwrap();
        let key = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        assert_eq!(key.len(), 32);
        for entry in std::fs::read_dir(api.dir.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
            for needle in [text.as_bytes(), &key, hex::encode(&key).as_bytes()] {
                assert!(!bytes.windows(needle.len()).any(|window| window == needle));
            }
        }
    }
}

#[tokio::test]
async fn a_rotation_signs_with_both_secrets_for_a_while() {
    let (api, key, receiver) = api().await;
    let (id, first) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    let rotate = format!("/v1/webhook/{id}/rotate");
    api.send(Method::POST, &format!("{rotate}?graceSeconds=604801"), Some(&key), None)
        .await
        .expect_code(400, "out_of_range");
    let rotated = api.send(Method::POST, &format!("{rotate}?graceSeconds=3600"), Some(&key), None).await.expect(200);
    assert!(rotated["previousSecretUntil"].is_string());
    let second = rotated["secret"].as_str().unwrap();
    assert_ne!(first, second);
    ping(&api, &key, &id).await;
    deliver(&api, now_ms()).await;
    let message = receiver.take().remove(0);
    for secret in [&first, second] {
        Verifier::new(secret).unwrap().verify(&message.body, &message.headers).unwrap();
    }
    assert_eq!(message.signatures().len(), 2);
    // Later the first one signs no more, whether or not it was swept away.
    ping(&api, &key, &id).await;
    let later_ms = now_ms() + HOUR_MS + 1_000;
    deliver(&api, later_ms).await;
    let message = receiver.take().remove(0);
    assert_eq!(message.signatures(), [message.signed_by(second)]);
    sweep(&api.app, later_ms).await.unwrap();
    let hook = api.app.store.webhook(&api.account, &id.parse().unwrap()).await.unwrap().unwrap();
    assert!(hook.old_secret.is_none(), "it is erased");
    // A leaked secret can be ended at once.
    let rotated = api.send(Method::POST, &format!("{rotate}?graceSeconds=0"), Some(&key), None).await.expect(200);
    assert_eq!(rotated["previousSecretUntil"], Value::Null);
    ping(&api, &key, &id).await;
    deliver(&api, now_ms()).await;
    let message = receiver.take().remove(0);
    assert_eq!(message.signatures(), [message.signed_by(rotated["secret"].as_str().unwrap())]);
}

#[tokio::test]
async fn days_of_failure_disable_an_endpoint_and_its_owner_enables_it() {
    let (api, key, receiver) = api().await;
    receiver.always(500);
    let (id, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    let path = format!("/v1/webhook/{id}");
    let start_ms = now_ms();
    let mut at_ms = start_ms;
    ping(&api, &key, &id).await;
    deliver(&api, at_ms + 1_000).await;
    let failing = api.get(&path, &key).await.expect(200);
    assert_eq!((&failing["enabled"], failing["failingSince"].is_string()), (&json!(true), true));
    while at_ms < start_ms + FAILING_MAX_MS {
        assert_eq!(api.get(&path, &key).await.expect(200)["enabled"], true);
        at_ms += 12 * HOUR_MS;
        ping(&api, &key, &id).await;
        deliver(&api, at_ms + 60_000).await;
    }
    let disabled = api.get(&path, &key).await.expect(200);
    assert_eq!((&disabled["enabled"], &disabled["disabled"]["reason"]), (&json!(false), &json!("failing")));
    assert!(log(&api, &key, &id).await.iter().all(|delivery| delivery["state"] == "failed"), "nothing waits");
    let test = format!("{path}/test");
    api.send(Method::POST, &test, Some(&key), None).await.expect_code(409, "webhook_disabled");
    let event = log(&api, &key, &id).await[0]["eventId"].as_str().unwrap().to_owned();
    let replay = format!("{path}/deliveries/{event}/replay");
    api.send(Method::POST, &replay, Some(&key), None).await.expect_code(409, "webhook_disabled");
    // Events are not kept for it meanwhile.
    let vm = vm(&api, &key, None).await;
    live_and_end(&api, &vm).await;

    receiver.take();
    receiver.always(200);
    let enabled = api.send(Method::POST, &format!("{path}/enable"), Some(&key), None).await.expect(200);
    assert_eq!((&enabled["enabled"], &enabled["failingSince"]), (&json!(true), &Value::Null));
    deliver(&api, at_ms + HOUR_MS).await;
    assert_eq!(receiver.count(), 0);
    api.send(Method::POST, &replay, Some(&key), None).await.expect(202);
    deliver(&api, now_ms()).await;
    assert_eq!(receiver.take()[0].id(), event);
}

#[tokio::test]
async fn what_waits_for_an_endpoint_is_bounded_and_old_events_are_forgotten() {
    let (api, key, receiver) = api().await;
    let (id, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    let mut last = String::new();
    for _ in 0..=PENDING_MAX {
        last = ping(&api, &key, &id).await;
    }
    let newest = &log(&api, &key, &id).await[0];
    assert_eq!((&newest["eventId"], &newest["state"]), (&json!(last), &json!("failed")));
    assert!(newest["error"].as_str().unwrap().contains("too many"), "{newest}");
    let replay = format!("/v1/webhook/{id}/deliveries/{last}/replay");
    api.send(Method::POST, &replay, Some(&key), None).await.expect_code(403, "quota_exceeded");

    // The pages of the log neither skip nor repeat.
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/v1/webhook/{id}/deliveries?limit=7{token}"), &key).await.expect(200);
        ids.extend(page["deliveries"].as_array().unwrap().iter().map(|one| one["eventId"].to_string()));
        let Some(next) = page["pagination"].as_str() else { break };
        token = format!("&pagination={next}");
    }
    assert_eq!(ids.len() as u64, PENDING_MAX + 1);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len() as u64, PENDING_MAX + 1);

    sweep(&api.app, now_ms() + KEPT_MS - HOUR_MS).await.unwrap();
    assert_eq!(log(&api, &key, &id).await.len() as u64, PENDING_MAX + 1);
    sweep(&api.app, now_ms() + KEPT_MS + 1_000).await.unwrap();
    assert_eq!(log(&api, &key, &id).await, [] as [Value; 0]);
    api.send(Method::POST, &replay, Some(&key), None).await.expect_code(404, "unknown_delivery");
}

#[tokio::test]
async fn an_endpoint_that_is_removed_is_sent_nothing_more() {
    let (api, key, receiver) = api().await;
    let (id, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    ping(&api, &key, &id).await;
    let path = format!("/v1/webhook/{id}");
    assert_eq!(api.send(Method::DELETE, &path, Some(&key), None).await.status, 204);
    deliver(&api, now_ms()).await;
    assert_eq!(receiver.count(), 0);
    api.send(Method::DELETE, &path, Some(&key), None).await.expect_code(404, "unknown_webhook");
    api.get(&format!("{path}/deliveries"), &key).await.expect_code(404, "unknown_webhook");
}
