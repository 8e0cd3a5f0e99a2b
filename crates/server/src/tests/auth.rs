//! Who may do what: one table over every operation of the document.

use axum::http::Method;

use super::TestApp;
use super::openapi::operations;
use crate::clock::now_ms;
use crate::keys::Scope;

#[tokio::test]
async fn every_operation_wants_a_good_key() {
    let api = TestApp::new().await;
    let good = api.key(Scope::Admin).await;
    let revoked = api.key_with(|key| key.revoked_ms = Some(now_ms())).await;
    let expired = api.key_with(|key| key.expires_ms = Some(now_ms() - 1)).await;
    let flipped = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    let cases = [
        (None, "missing_key"),
        (Some(""), "invalid_key"),
        (Some("cw_nonsense"), "invalid_key"),
        (Some(flipped.as_str()), "invalid_key"),
        (Some(revoked.as_str()), "revoked_key"),
        (Some(expired.as_str()), "expired_key"),
    ];
    for (method, path, id, secured) in operations() {
        for (key, code) in cases {
            let answer = api.send(method.clone(), &path, key, None).await;
            if secured {
                assert_eq!((answer.status.as_u16(), answer.code()), (401, code), "{id}");
            } else {
                assert_eq!(answer.status, 200, "{id}");
            }
        }
    }
}

#[tokio::test]
async fn a_read_key_changes_nothing() {
    let api = TestApp::new().await;
    let (read, write) = (api.key(Scope::Read).await, api.key(Scope::Write).await);
    for (method, path, id, secured) in operations().into_iter().filter(|operation| operation.3) {
        assert!(secured);
        let refused = api.send(method.clone(), &path, Some(&read), None).await.code() == "scope";
        // The one POST that only looks is the other form of getBuild; two GETs do more: they start something in a VM.
        let changes =
            (method != Method::GET && id != "getBuildByPost") || ["openExec", "readFile"].contains(&id.as_str());
        assert_eq!(refused, changes, "{id}");
        assert_ne!(api.send(method, &path, Some(&write), None).await.code(), "scope", "{id}");
    }
}

#[tokio::test]
async fn what_belongs_to_another_does_not_exist() {
    let api = TestApp::new().await;
    let (mine, other) = (api.key(Scope::Admin).await, api.stranger().await);
    let image = api.ready_image().await;
    let vm = api.post("/v1/vm/start", &mine, serde_json::json!({"imageId": image})).await.expect(201);
    let vm = vm["id"].as_str().unwrap();
    let files = serde_json::json!({"dockerfile": "FROM scratch", "files": []});
    let build = api.post("/v1/image/build/files", &mine, files).await.expect(201);
    let build = build["buildId"].as_str().unwrap();
    let hook = api.post("/v1/webhook", &mine, serde_json::json!({"url": "https://example.com/"})).await.expect(201);
    let hook = hook["webhookId"].as_str().unwrap();
    let ping = api.send(Method::POST, &format!("/v1/webhook/{hook}/test"), Some(&mine), None).await.expect(202);
    let event = ping["eventId"].as_str().unwrap();
    for (method, path, id, _) in operations().into_iter().filter(|operation| operation.3) {
        let path = path.replace("00000000000000", vm).replace("01GV2ZFBT345TRTRDK6VHBECCZ", image.as_str());
        let path = path.replace("7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d", build);
        let path = path.replace("01GV2ZFBT345TRTRDK6VHBEHHK", hook).replace("01GV2ZFBT345TRTRDK6VHBEVEN", event);
        if ![vm, image.as_str(), build, hook].iter().any(|object| path.contains(object)) {
            continue;
        }
        let path = if id == "waitVm" { format!("{path}?state=created") } else { path };
        let answer = api.send(method.clone(), &path, Some(&other), None).await;
        if answer.code() == "not_implemented" {
            continue;
        }
        let codes = [
            (vm, "unknown_vm"),
            (image.as_str(), "unknown_image"),
            (build, "unknown_build"),
            (hook, "unknown_webhook"),
        ];
        let code = codes.iter().find(|(object, _)| path.contains(object)).unwrap().1;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, code), "{id}");
        if !["stopVM", "deleteWebhook"].contains(&id.as_str()) {
            let own = api.send(method, &path, Some(&mine), None).await;
            // It is seen, and wants a state or a body that it has not.
            let is_seen = ["vm_not_cached", "upgrade_required", "invalid_json", "missing_field"].contains(&own.code());
            assert!(own.status.is_success() || is_seen, "{id}: {own:?}");
        }
    }
    for path in ["/v1/vms", "/vms", "/v1/images", "/v1/builds", "/v1/webhook"] {
        let (theirs, ours) = (api.get(path, &other).await.expect(200), api.get(path, &mine).await.expect(200));
        let count = |list: &serde_json::Value| {
            ["vms", "images", "builds", "webhooks"].iter().find_map(|name| list[name].as_array()).unwrap().len()
        };
        assert_eq!((count(&theirs), count(&ours)), (0, 1), "{path}");
    }
    let started = api.post("/v1/vm/start", &other, serde_json::json!({"imageId": image})).await;
    started.expect_code(404, "unknown_image");
}

#[tokio::test]
async fn a_key_bound_to_a_tenant_sees_only_that_tenants() {
    let api = TestApp::new().await;
    let builder = api.key(Scope::Admin).await;
    let bound = api.key_with(|key| key.tenant = Some("ann".into())).await;
    let image = api.ready_image().await;
    let anns = api.image_with(|image| image.tenant = Some("ann".into())).await;
    api.post("/v1/vm/start", &bound, serde_json::json!({"imageId": image})).await.expect_code(404, "unknown_image");
    let start = |tenant: &str| serde_json::json!({"imageId": anns, "tenant": tenant});
    api.post("/v1/vm/start", &bound, start("bob")).await.expect_code(400, "invalid_tenant");
    let bobs = api.post("/v1/vm/start", &builder, start("bob")).await.expect(201);
    let own = api.post("/v1/vm/start", &bound, serde_json::json!({"imageId": anns})).await.expect(201);
    assert_eq!(own["tenant"], "ann");
    api.get(&format!("/v1/vm/{}", bobs["id"].as_str().unwrap()), &bound).await.expect_code(404, "unknown_vm");
    let list = api.get("/v1/vms", &bound).await.expect(200);
    assert_eq!(list["vms"].as_array().unwrap().len(), 1);
    assert_eq!(api.get("/v1/vms", &builder).await.expect(200)["vms"].as_array().unwrap().len(), 2);
    let bobs_list = api.get("/v1/vms?tenant=bob", &builder).await.expect(200);
    assert_eq!(bobs_list["vms"][0]["id"], bobs["id"]);
}
