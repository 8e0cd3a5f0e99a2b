//! Requests with an idempotency key.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Answer, TestApp};
use crate::clock::now_ms;
use crate::keys::Scope;
use crate::ops::once::KEPT_MS;
use crate::reconcile::webhooks::sweep;
use crate::routes;

const HOOK: &str = "/v1/webhook";

fn hook() -> Value {
    json!({"url": "https://example.com/hook"})
}

impl TestApp {
    pub(super) async fn post_keyed(&self, path: &str, key: &str, keys: &[&[u8]], body: &Value) -> Answer {
        let mut request = Request::builder().method(Method::POST).uri(path).header("X-Api-Key", key);
        for once in keys {
            request = request.header("Idempotency-Key", *once);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = routes::router(Arc::clone(&self.app)).oneshot(request).await.unwrap();
        super::read(response).await
    }

    async fn hooks(&self, key: &str) -> usize {
        self.get(HOOK, key).await.expect(200)["webhooks"].as_array().unwrap().len()
    }
}

fn is_replay(answer: &Answer) -> bool {
    answer.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
}

#[tokio::test]
async fn what_is_sent_again_is_made_once_and_answered_as_before() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let send = async |body: Value| api.post_keyed(HOOK, &key, &[b"one"], &body).await;
    let first = send(hook()).await;
    assert!(!is_replay(&first));
    let first = first.expect(201);
    let again = send(hook()).await;
    assert!(is_replay(&again));
    assert_eq!(again.headers["content-type"], "application/json");
    assert_eq!(again.expect(201), first, "the secret, too");
    assert_eq!(api.hooks(&key).await, 1);
    let other = send(json!({"url": "https://example.com/other"})).await;
    let problem = other.expect_code(409, "idempotency_conflict");
    assert!(problem["detail"].as_str().unwrap().contains(first["webhookId"].as_str().unwrap()));
    // The same key for another operation is another request, too.
    let image = api.post_keyed("/v1/image/import", &key, &[b"one"], &hook()).await;
    assert_eq!(image.status, 400);
    assert_eq!(api.hooks(&key).await, 1);
    // Another key makes another one.
    let second = api.post_keyed(HOOK, &key, &[b"two"], &hook()).await.expect(201);
    assert_ne!(second["webhookId"], first["webhookId"]);
    // What is at rest tells nothing: neither of body nor of answer.
    api.app.store.close().await;
    let secret = first["secret"].as_str().unwrap().to_owned();
    for file in ["cakework.db", "cakework.db-wal"] {
        let bytes = std::fs::read(api.dir.path().join(file)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{file}");
    }
}

#[tokio::test]
async fn a_key_is_its_callers_own() {
    let api = TestApp::new().await;
    let all = api.key(Scope::Write).await;
    let bound = api.key_with(|key| key.tenant = Some("ada".into())).await;
    let stranger = api.stranger().await;
    let mut made = Vec::new();
    for key in [&all, &bound, &stranger] {
        let answer = api.post_keyed(HOOK, key, &[b"same"], &hook()).await;
        assert!(!is_replay(&answer));
        made.push(answer.expect(201)["webhookId"].clone());
    }
    made.dedup();
    assert_eq!(made.len(), 3);
    // Another key of the same account is the same caller.
    let other = api.key(Scope::Write).await;
    assert_eq!(api.post_keyed(HOOK, &other, &[b"same"], &hook()).await.expect(201)["webhookId"], made[0]);
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_made_of_what_was_made() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let first = api.post_keyed(HOOK, &key, &[b"one"], &hook()).await.expect(201);
    api.app.store.forget_answers().await;
    let again = api.post_keyed(HOOK, &key, &[b"one"], &hook()).await;
    assert!(is_replay(&again));
    assert_eq!(again.expect(201), first);
    let files = json!({"dockerfile": "FROM cakework/x", "files": []});
    let build = api.post_keyed("/v1/image/build/files", &key, &[b"two"], &files).await.expect(201);
    api.app.store.forget_answers().await;
    let again = api.post_keyed("/v1/image/build/files", &key, &[b"two"], &files).await.expect(201);
    assert_eq!(again["buildId"], build["buildId"]);
}

#[tokio::test]
async fn what_failed_is_tried_again() {
    let api = TestApp::new().await;
    let (key, image) = (api.key(Scope::Write).await, api.ready_image().await);
    let bad = json!({"imageId": image.to_string(), "cpu": 0});
    api.post_keyed("/v1/vm/start", &key, &[b"one"], &bad).await.expect_code(400, "out_of_range");
    // Nothing was made, so that the key is free for another body.
    let start = json!({"imageId": image.to_string(), "cpu": 1, "memory": 256});
    let first = api.post_keyed("/v1/vm/start", &key, &[b"one"], &start).await.expect(201);
    let again = api.post_keyed("/v1/vm/start", &key, &[b"one"], &start).await.expect(201);
    assert_eq!(again["id"], first["id"]);
    let vms = api.get("/v1/vms", &key).await.expect(200);
    assert_eq!(vms["vms"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn of_two_at_once_one_makes_it() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let body = hook();
    let answers = futures_util::future::join_all((0..8).map(|_| api.post_keyed(HOOK, &key, &[b"one"], &body))).await;
    for answer in &answers {
        match answer.status.as_u16() {
            201 => {}
            409 => assert_eq!(
                (answer.code(), &answer.headers["retry-after"]),
                ("request_in_progress", &"1".parse().unwrap())
            ),
            other => panic!("{other}: {:?}", answer.body),
        }
    }
    assert!(answers.iter().any(|answer| answer.status == 201));
    assert_eq!(api.hooks(&key).await, 1);
    api.post_keyed(HOOK, &key, &[b"one"], &body).await.expect(201);
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let first = api.post_keyed(HOOK, &key, &[b"one"], &hook()).await.expect(201);
    sweep(&api.app, now_ms() + KEPT_MS - 10_000).await.unwrap();
    assert!(is_replay(&api.post_keyed(HOOK, &key, &[b"one"], &hook()).await));
    sweep(&api.app, now_ms() + KEPT_MS + 10_000).await.unwrap();
    let second = api.post_keyed(HOOK, &key, &[b"one"], &hook()).await;
    assert!(!is_replay(&second));
    assert_ne!(second.expect(201)["webhookId"], first["webhookId"]);
}

#[tokio::test]
async fn a_bad_key_is_named() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let long = [b'x'; 256];
    let (first, second): (&[u8], &[u8]) = (b"a", b"b");
    for keys in [&[b"".as_slice()] as &[&[u8]], &[b"two words"], &[&long], &["é".as_bytes()], &[first, second]] {
        let problem = api.post_keyed(HOOK, &key, keys, &hook()).await.expect_code(400, "invalid_value");
        assert_eq!(problem["field"], "Idempotency-Key");
    }
    assert_eq!(api.hooks(&key).await, 0);
    api.post_keyed(HOOK, &key, &[&long[..255]], &hook()).await.expect(201);
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let rate = |per_second| std::num::NonZeroU32::new(per_second).unwrap();
    let api = TestApp::with(|config| (config.rates.of_key, config.rates.of_account) = (rate(1), rate(2))).await;
    let (key, other) = (api.key(Scope::Read).await, api.key(Scope::Read).await);
    let mut refused = None;
    for _ in 0..20 {
        let answer = api.get("/v1/vms", &key).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a rate of one in a second");
    assert_eq!(refused.headers["retry-after"], "1");
    refused.expect_code(429, "rate_limited");
    api.get("/v1/vms", &other).await.expect(200);
    // Who has no key is not counted as somebody who has.
    api.get("/v1/vms", "cake_wrong").await.expect_code(401, "invalid_key");
}
