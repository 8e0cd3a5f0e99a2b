//! VMs where no host answers: lists, cursors, limits, logs, and that nothing is concluded from silence.

use std::collections::HashSet;

use axum::http::Method;
use serde_json::{Value, json};

use super::TestApp;
use crate::config::AccountLimits;
use crate::keys::Scope;
use crate::store::images::ImageState;

fn ids(list: &Value) -> Vec<String> {
    list["vms"].as_array().unwrap().iter().map(|vm| vm["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_vm_waits_for_a_host_and_shows_what_was_asked() {
    let api = TestApp::with(|config| config.base_domain = "apps.test".into()).await;
    let key = api.key(Scope::Write).await;
    let image = api.ready_image().await;
    let vm = api
        .post(
            "/v1/vm/start",
            &key,
            json!({
                "imageId": image, "cpu": 2, "memory": 512, "port": 8080, "volumeGB": 3, "envVars": {"TOKEN": "geheim"},
                "metadata": {"job": "7"}, "timeoutSeconds": 60, "command": ["sleep", "9"], "tenant": "ann",
            }),
        )
        .await
        .expect(201);
    let label = vm["hostname"].as_str().unwrap().strip_suffix(".apps.test").unwrap();
    assert_eq!(label.len(), 26);
    assert_eq!(vm["url"], format!("http://{label}.apps.test:8080"));
    assert_eq!(vm["state"], "created");
    for (field, value) in [("cpu", json!(2)), ("memory", json!(512)), ("port", json!(8080)), ("volumeGB", json!(3))] {
        assert_eq!(vm[field], value);
    }
    assert_eq!(
        (&vm["metadata"], &vm["tenant"], &vm["timeoutSeconds"]),
        (&json!({"job": "7"}), &json!("ann"), &json!(60))
    );
    let path = format!("/v1/vm/{}", vm["id"].as_str().unwrap());
    assert_eq!(api.get(&path, &key).await.expect(200), vm);
    assert_eq!(api.get(&format!("{path}/logs"), &key).await.expect(200), json!({"lines": []}));
    let range = format!("{path}/logs?from=2022-07-19T13:32:56%2B0000&to=2023-03-07%2006:12:56%20UTC");
    let logs = api.get(&range, &key).await.expect(200);
    assert_eq!((&logs["from"], &logs["to"]), (&json!("2022-07-19T13:32:56.000Z"), &json!("2023-03-07T06:12:56.000Z")));
    // The environment may hold secrets: it rests sealed.
    let secret = b"geheim";
    for entry in std::fs::read_dir(api.dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[tokio::test]
async fn a_stop_without_a_host_ends_what_no_host_had() {
    let api = TestApp::new().await;
    api.reconcile().await;
    let key = api.key(Scope::Write).await;
    let image = api.ready_image().await;
    let vm = api.post("/v1/vm/start", &key, json!({"imageId": image})).await.expect(201);
    let path = format!("/v1/vm/{}", vm["id"].as_str().unwrap());
    for _ in 0..2 {
        let stopped = api.send(Method::POST, &format!("{path}/stop"), Some(&key), None).await;
        assert_eq!((stopped.status.as_u16(), stopped.body), (204, Value::Null));
    }
    let vm = api.get(&path, &key).await.expect(200);
    assert_eq!((&vm["state"], &vm["exit"]), (&json!("destroyed"), &json!({"oom": false, "reason": "stopped"})));
    let waited = api.get(&format!("{path}/wait?state=started&timeout=50"), &key).await.expect(200);
    assert_eq!(waited["state"], "destroyed", "beyond the state that was waited for");
}

#[tokio::test]
async fn a_failed_image_starts_nothing() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let image = api.image_with(|image| image.state = ImageState::Failed).await;
    api.post("/v1/vm/start", &key, json!({"imageId": image})).await.expect_code(409, "image_failed");
}

#[tokio::test]
async fn every_limit_of_an_account_holds() {
    let roomy =
        AccountLimits { vms: 100, cpu: 100, memory_mib: 100_000, volume_gb: 1000, images: 100, queued_builds: 1 };
    for limits in [
        AccountLimits { vms: 2, ..roomy },
        AccountLimits { cpu: 4, ..roomy },
        AccountLimits { memory_mib: 1024, ..roomy },
        AccountLimits { volume_gb: 6, ..roomy },
    ] {
        let api = TestApp::with(|config| config.limits = limits).await;
        let key = api.key(Scope::Write).await;
        let image = api.ready_image().await;
        let body = json!({"imageId": image, "cpu": 2, "memory": 512, "volumeGB": 3});
        let starts = (0..4).map(|_| api.post("/v1/vm/start", &key, body.clone()));
        let answers = futures_util::future::join_all(starts).await;
        let codes: Vec<_> = answers.iter().map(|answer| answer.code()).filter(|code| !code.is_empty()).collect();
        assert_eq!(codes, ["quota_exceeded"; 2], "{limits:?}");
        let other = api.stranger().await;
        assert_eq!(api.get("/v1/vms", &other).await.expect(200)["vms"], json!([]));
    }
}

#[tokio::test]
async fn a_walk_over_pages_sees_each_vm_once_while_others_come() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let image = api.ready_image().await;
    let start = || async { api.post("/v1/vm/start", &key, json!({"imageId": image})).await.expect(201) };
    let before = futures_util::future::join_all((0..7).map(|_| start())).await;
    let before: HashSet<_> = before.iter().map(|vm| vm["id"].as_str().unwrap().to_owned()).collect();
    let (mut seen, mut token) = (Vec::new(), None);
    loop {
        let next = token.map(|token: String| format!("&pagination={token}")).unwrap_or_default();
        let page = api.get(&format!("/v1/vms?limit=2{next}"), &key).await.expect(200);
        seen.extend(ids(&page));
        start().await;
        match page["pagination"].as_str() {
            Some(next) => token = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(seen.len(), 7);
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), before);
}

#[tokio::test]
async fn a_list_is_narrowed() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let (one, other) = (api.ready_image().await, api.ready_image().await);
    let start = |body: Value| async { api.post("/v1/vm/start", &key, body).await.expect(201)["id"].clone() };
    let a = start(json!({"imageId": one, "metadata": {"job": "1", "kind": "x"}})).await;
    let b = start(json!({"imageId": one, "metadata": {"job": "2", "kind": "x"}, "tenant": "ann"})).await;
    let c = start(json!({"imageId": other})).await;
    for (query, expected) in [
        (format!("imageId={one}"), vec![&b, &a]),
        (format!("imageId={other}"), vec![&c]),
        ("metadata.kind=x".into(), vec![&b, &a]),
        ("metadata.kind=x&metadata.job=2".into(), vec![&b]),
        ("metadata.kind=y".into(), vec![]),
        ("tenant=ann".into(), vec![&b]),
        ("status=created".into(), vec![&c, &b, &a]),
        ("status=started".into(), vec![]),
        ("status=".into(), vec![&c, &b, &a]),
    ] {
        for path in ["/v1/vms", "/vms"] {
            let list = api.get(&format!("{path}?{query}"), &key).await.expect(200);
            let expected: HashSet<_> = expected.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
            assert_eq!(ids(&list).into_iter().collect::<HashSet<_>>(), expected, "{path}?{query}");
        }
    }
}
