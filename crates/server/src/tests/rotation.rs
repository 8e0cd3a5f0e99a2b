//! The sealing key is replaced, and everything opens as before.

use serde_json::json;

use super::TestApp;
use crate::keys::{KeyError, Scope};
use crate::rotate_sealing_key;
use crate::seal::Sealer;
use crate::store::Store;

#[tokio::test]
async fn all_that_was_sealed_opens_with_the_new_key_alone() {
    let api = TestApp::new().await;
    let (key, image) = (api.key(Scope::Write).await, api.ready_image().await);
    let hook = api.post("/v1/webhook", &key, json!({"url": "https://example.com/hook"})).await.expect(201);
    let hook_path = format!("/v1/webhook/{}", hook["webhookId"].as_str().unwrap());
    api.post(&format!("{hook_path}/rotate"), &key, json!({})).await.expect(200);
    api.post("/v1/registry", &key, json!({"host": "registry.test", "username": "ada", "password": "p"}))
        .await
        .expect(200);
    let start = json!({"imageId": image.to_string(), "envVars": {"A": "b"}});
    api.post("/v1/vm/start", &key, start).await.expect(201);
    let two = json!({"url": "https://example.com/two"});
    let keyed = api.post_keyed("/v1/webhook", &key, &[b"one"], &two).await.expect(201);
    let files = json!({"dockerfile": "FROM cakework/x", "files": [], "secrets": {"S": "t"}});
    api.post("/v1/image/build/files", &key, files).await.expect(201);
    let (dir, config, account) = api.crash().await;
    let old = Sealer::open(dir.path()).unwrap();
    let count = rotate_sealing_key(dir.path()).await.unwrap();
    // Three secrets of webhooks, a password, an environment, a request with its answer, a build's secrets.
    assert_eq!(count, 8);
    let is_there = |name: &str| dir.path().join(name).exists();
    assert!(is_there("sealing.key") && !is_there("sealing.key.old") && !is_there("sealing.key.next"));
    let (store, now) = (Store::open(dir.path()).await.unwrap(), Sealer::open(dir.path()).unwrap());
    let opened = store.reseal(|place, sealed| {
        assert!(old.open_sealed(place, sealed).is_err(), "{place} is still sealed with the old key");
        now.reseal(place, sealed)
    });
    assert_eq!(opened.await.unwrap(), 8);
    let api = TestApp::on(dir, config, store, account);
    let again = api.post_keyed("/v1/webhook", &key, &[b"one"], &two).await;
    assert_eq!(again.expect(201), keyed, "what was answered is known, its secret included");
}

#[tokio::test]
async fn a_value_that_does_not_open_stops_it_and_loses_nothing() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    for host in ["one.test", "two.test"] {
        let credential = json!({"host": host, "username": "ada", "password": "p"});
        api.post("/v1/registry", &key, credential).await.expect(200);
    }
    api.app.store.spoil_registry("two.test").await;
    let (dir, ..) = api.crash().await;
    for _ in 0..2 {
        let error = rotate_sealing_key(dir.path()).await.unwrap_err();
        assert!(matches!(&error, KeyError::Io(cause) if format!("{cause:#}").contains("two.test")), "{error:?}");
    }
    // Nothing was changed, and both keys are there: the other secret opens.
    let (store, sealer) = (Store::open(dir.path()).await.unwrap(), Sealer::open(dir.path()).unwrap());
    assert!(sealer.is_turning());
    let opened = std::sync::Mutex::new(Vec::new());
    let done = store.reseal(|place, sealed| {
        let again = sealer.reseal(place, sealed);
        opened.lock().unwrap().push((place.to_owned(), again.is_ok()));
        again
    });
    assert!(done.await.is_err());
    let opened = opened.into_inner().unwrap();
    assert!(opened.iter().any(|(place, is_open)| place.ends_with("one.test") && *is_open), "{opened:?}");
}
