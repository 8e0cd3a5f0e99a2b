//! Registries: credentials are kept per account, sealed, and never shown.

use axum::http::Method;
use serde_json::{Value, json};

use super::TestApp;
use crate::keys::Scope;

fn registry(host: &str, password: &str) -> Value {
    json!({"host": host, "username": "robot", "password": password})
}

#[tokio::test]
async fn credentials_are_kept_replaced_listed_and_erased() {
    let api = TestApp::new().await;
    let (key, other) = (api.key(Scope::Write).await, api.stranger().await);
    let kept = api.post("/v1/registry", &key, registry("https://Registry.Test:5000/", "geheim")).await.expect(200);
    assert_eq!((&kept["host"], &kept["username"]), (&json!("registry.test:5000"), &json!("robot")));
    api.post("/v1/registry", &key, registry("registry.test:5000", "geheim2")).await.expect(200);
    api.post("/v1/registry", &key, registry("a.test", "geheim3")).await.expect(200);
    let list = api.get("/v1/registry", &key).await.expect(200);
    let hosts: Vec<_> = list["registries"].as_array().unwrap().iter().map(|entry| &entry["host"]).collect();
    assert_eq!(hosts, ["a.test", "registry.test:5000"]);
    assert!(!list.to_string().contains("geheim") && !list.to_string().contains("password"), "{list}");
    assert_eq!(api.get("/v1/registry", &other).await.expect(200)["registries"], json!([]));
    let delete = |key: String| {
        let api = &api;
        async move { api.send(Method::DELETE, "/v1/registry?host=A.TEST", Some(&key), None).await }
    };
    delete(other).await.expect_code(404, "unknown_registry");
    assert_eq!(delete(key.clone()).await.status, 204);
    delete(key.clone()).await.expect_code(404, "unknown_registry");
    api.send(Method::DELETE, "/v1/registry", Some(&key), None).await.expect_code(400, "missing_field");
}

#[tokio::test]
async fn bad_credentials_are_refused() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let long = "x".repeat(20_000);
    for (body, code, field) in [
        (json!({"host": "a.test", "username": "u"}), "missing_field", "password"),
        (registry("", "p"), "invalid_value", "host"),
        (registry("a b", "p"), "invalid_value", "host"),
        (registry("a.test/team", "p"), "invalid_value", "host"),
        (registry("a.test", ""), "invalid_value", "password"),
        (registry("a.test", "a\nb"), "invalid_value", "password"),
        (registry("a.test", &long), "too_long", "password"),
        (json!({"host": "a.test", "username": "u:v", "password": "p"}), "invalid_value", "username"),
        (json!({"host": "a.test", "username": "u", "password": 471_147_114_711_u64}), "wrong_type", "password"),
    ] {
        let answer = api.post("/v1/registry", &key, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{field}: {:#}", answer.body);
        assert_eq!(answer.body["field"], field);
        assert!(!answer.body.to_string().contains("471147114711"));
    }
    for n in 0..100 {
        api.post("/v1/registry", &key, registry(&format!("r{n}.test"), "p")).await.expect(200);
    }
    api.post("/v1/registry", &key, registry("r7.test", "q")).await.expect(200);
    api.post("/v1/registry", &key, registry("one-more.test", "p")).await.expect_code(403, "quota_exceeded");
}

#[tokio::test]
async fn a_key_bound_to_a_tenant_has_no_registries() {
    let api = TestApp::new().await;
    let bound = api.key_with(|key| key.tenant = Some("ann".into())).await;
    api.post("/v1/registry", &bound, registry("a.test", "p")).await.expect_code(403, "scope");
    api.get("/v1/registry", &bound).await.expect_code(403, "scope");
    let delete = api.send(Method::DELETE, "/v1/registry?host=a.test", Some(&bound), None).await;
    delete.expect_code(403, "scope");
}
