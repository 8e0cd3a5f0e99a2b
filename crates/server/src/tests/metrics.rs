//! `/metrics`: what happened is counted, how things stand is shown, and the dashboard asks for nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::TestApp;
use super::cached::{cache, call, until, with_host};
use crate::keys::Scope;
use crate::metrics::serve::router;

async fn read(api: &TestApp) -> String {
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let response = router(Arc::clone(&api.app)).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The series of a text, each with its value.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn starts_sleeps_and_wakes_are_counted_and_shown() {
    let (api, _host, key) = with_host().await;
    let text = read(&api).await;
    assert_eq!(value(&text, r#"cakework_vm_start_seconds_count{tier="paused"}"#), 0.0);
    assert_eq!(value(&text, r#"cakework_vms{kind="cached",state="started"}"#), 0.0);
    assert!(text.ends_with("# EOF\n"));

    let (id, _) = cache(&api, &key, json!({"port": 8080})).await;
    call(&api, &key, &id, "start").await.expect(200);
    call(&api, &key, &id, "suspend").await.expect(204);
    let text = read(&api).await;
    assert_eq!(value(&text, r#"cakework_vm_start_seconds_count{tier="paused"}"#), 1.0);
    assert_eq!(value(&text, r#"cakework_vm_start_seconds_sum{tier="paused"}"#), 0.007);
    assert_eq!(value(&text, r#"cakework_vms{kind="cached",state="asleep"}"#), 1.0);
    assert_eq!(value(&text, r#"cakework_waiting_vms{kind="asleep"}"#), 1.0);
    assert_eq!(value(&text, r#"cakework_waiting_memory_bytes{kind="asleep"}"#), f64::from(25 << 20));
    assert_eq!(value(&text, r#"cakework_waiting_memory_cap_bytes{of="account"}"#), 2_147_483_648.0);
    assert_eq!(value(&text, "cakework_restores_failed_total"), 3.0);

    call(&api, &key, &id, "start").await.expect(200);
    call(&api, &key, &id, "stop").await.expect(204);
    until(&api, &id, "stopped").await;
    api.get("/nothing/here", &key).await.expect(404);
    let text = read(&api).await;
    assert_eq!(value(&text, r#"cakework_vm_wake_seconds_count{from="paused"}"#), 1.0);
    assert_eq!(value(&text, r#"cakework_vms{kind="cached",state="stopped"}"#), 1.0);
    let start = r#"cakework_api_request_seconds_count{route="/v1/vm/cached/{vmId}/start"}"#;
    assert_eq!(value(&text, start), 2.0);
    assert_eq!(value(&text, r#"cakework_api_request_seconds_count{route="none"}"#), 1.0);
    assert_eq!(value(&text, r#"cakework_api_responses_total{status="404"}"#), 1.0);
    // No series tells of somebody's VM.
    assert!(!text.contains(id.as_str()));
}

#[tokio::test]
async fn without_a_host_the_rest_is_shown() {
    let api = TestApp::new().await;
    let text = read(&api).await;
    assert_eq!(value(&text, "cakework_host_up"), 0.0);
    assert_eq!(value(&text, r#"cakework_builds{state="queued"}"#), 0.0);
    assert!(!text.contains("cakework_host_memory_bytes{"), "what is unknown is no number");
    // The metrics are the operator's: no key of an account leads to them.
    let key = api.key(Scope::Admin).await;
    api.get("/metrics", &key).await.expect(404);
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_word(c)).filter(|word| word.starts_with("cakework_"));
    words.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_dashboard_and_the_documentation_name_what_there_is() {
    let (api, _host, key) = with_host().await;
    // The series of routes and statuses begin with a call.
    api.get("/v1/vms", &key).await.expect(200);
    let text = read(&api).await;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let there: BTreeSet<String> = samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect();

    let dashboard: Value = serde_json::from_str(include_str!("../../../../deploy/grafana/cakework.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut asked = BTreeSet::new();
    for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
        let named = names(target["expr"].as_str().unwrap());
        assert!(!named.is_empty(), "{target}");
        asked.extend(named);
    }
    assert!(asked.is_subset(&there), "{:?}", asked.difference(&there).collect::<Vec<_>>());

    // The page names each family once, by the name of its samples.
    let page = include_str!("../../../../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<String> = rows.map(|row| row.split('{').next().unwrap().to_owned()).collect();
    let families: BTreeSet<String> = there
        .iter()
        .filter(|name| !name.ends_with("_bucket") && !name.ends_with("_sum"))
        .map(|name| name.strip_suffix("_count").unwrap_or(name).to_owned())
        .collect();
    assert_eq!(documented, families);
}
