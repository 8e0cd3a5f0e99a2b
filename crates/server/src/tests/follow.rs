//! Following logs: every line once and in order, also after being cut off, and an end when there is one.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use cakework_core::id::BuildId;
use cakework_core::lifecycle::{Exit, ExitReason};
use cakework_wire::build::{BuildObservation, BuildProblem};
use cakework_wire::host::VmObservation;
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::ServiceExt as _;

use super::script::Host;
use super::{PATIENCE, TestApp, eventually};
use crate::keys::Scope;
use crate::routes;

/// A stream of events, read as it comes.
struct Stream {
    body: Body,
    text: String,
}

/// Event, id and data.
type Event = (String, String, String);

impl Stream {
    async fn open(api: &TestApp, path: &str, key: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(path).header("X-Api-Key", key);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let router = routes::router(Arc::clone(&api.app));
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    line.unwrap_or_default().to_owned()
                };
                let event = (field("event"), field("id"), field("data"));
                self.text = rest.to_owned();
                return Some(event);
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("in time")?;
            self.text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
    }

    async fn messages(&mut self, count: usize) -> Vec<String> {
        let mut messages = Vec::new();
        for _ in 0..count {
            let (event, _, data) = self.next().await.expect("a line");
            assert_eq!(event, "log", "{data}");
            let line: serde_json::Value = serde_json::from_str(&data).unwrap();
            messages.push(line["message"].as_str().unwrap().to_owned());
        }
        messages
    }
}

async fn with_build() -> (TestApp, Host, String, BuildId) {
    let api = TestApp::new().await;
    let host = Host::listen(&api.app.config.agent_socket);
    api.reconcile().await;
    let key = api.key(Scope::Write).await;
    let body = json!({"dockerfile": "FROM a", "files": []});
    let build = api.post("/v1/image/build/files", &key, body).await.expect(201);
    let id: BuildId = build["buildId"].as_str().unwrap().parse().unwrap();
    eventually("the host has it", || async { host.world().builds.contains_key(&id) }).await;
    (api, host, key, id)
}

#[tokio::test]
async fn a_build_is_followed_to_its_end() {
    let (api, host, key, id) = with_build().await;
    let path = format!("/v1/image/build/{id}/logs?follow=true");
    let mut stream = Stream::open(&api, &path, &key, None).await;
    host.log(&id, &["one", "two"]);
    assert_eq!(stream.messages(2).await, ["one", "two"]);
    // More than a page.
    let many: Vec<String> = (0..130).map(|n| n.to_string()).collect();
    host.log(&id, &many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(stream.messages(130).await, many);
    host.log(&id, &["last"]);
    let digest = format!("sha256:{}", "b".repeat(64));
    host.observe_build(&id, BuildObservation::Succeeded { digest, size_bytes: 1 });
    assert_eq!(stream.messages(1).await, ["last"]);
    assert_eq!(stream.next().await, Some(("end".into(), String::new(), r#"{"status":"succeeded"}"#.into())));
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_follower_that_was_cut_off_goes_on_after_any_line() {
    let (api, host, key, id) = with_build().await;
    let all: Vec<String> = (0..120).map(|n| n.to_string()).collect();
    host.log(&id, &all.iter().map(String::as_str).collect::<Vec<_>>());
    let problem = BuildProblem::new(cakework_core::build::BuildErrorCode::CommandFailed, "no");
    host.observe_build(&id, BuildObservation::Failed { problem });
    let path = format!("/v1/function/build/{id}/logs?follow=true");
    let mut whole = Stream::open(&api, &path, &key, None).await;
    let mut places = Vec::new();
    while let Some((event, place, _)) = whole.next().await
        && event == "log"
    {
        places.push(place);
    }
    assert_eq!(places.len(), all.len());
    for at in [0, 48, 49, 50, 99, 118, 119] {
        let mut stream = Stream::open(&api, &path, &key, Some(&places[at])).await;
        assert_eq!(stream.messages(all.len() - at - 1).await, all[at + 1..], "after {at}");
        assert_eq!(stream.next().await.unwrap().0, "end");
    }
    let request = Request::get(&path).header("X-Api-Key", &key).header("Last-Event-ID", "nonsense");
    let router = routes::router(Arc::clone(&api.app));
    assert_eq!(router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_build_that_no_host_took_tells_why() {
    let (api, _host, key, _) = with_build().await;
    let body = json!({"dockerfile": "WRONG", "files": []});
    let build = api.post("/v1/image/build/files", &key, body).await.expect(201);
    let path = format!("/v1/image/build/{}/logs?follow=true", build["buildId"].as_str().unwrap());
    let mut stream = Stream::open(&api, &path, &key, None).await;
    assert_eq!(stream.messages(1).await, ["Dockerfile line 1: There is no such instruction."]);
    assert_eq!(stream.next().await.unwrap().2, r#"{"status":"failed"}"#);
}

#[tokio::test]
async fn a_vm_is_followed_too() {
    let (api, host, key, _) = with_build().await;
    let image = api.ready_image().await;
    let vm = api.post("/v1/vm/start", &key, json!({"imageId": image})).await.expect(201);
    let id = vm["id"].as_str().unwrap().parse().unwrap();
    let mut stream = Stream::open(&api, &format!("/v1/vm/{id}/logs?follow=true&query=x"), &key, None).await;
    assert_eq!(stream.messages(3).await, ["x 0", "x 1", "x 2"]);
    host.observe(&id, VmObservation::Ended { exit: Exit::only(ExitReason::Exited) });
    assert_eq!(stream.next().await.unwrap().2, r#"{"status":"destroyed"}"#);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn followers_are_bounded_and_let_go_when_the_process_ends() {
    let (api, _host, key, id) = with_build().await;
    let path = format!("/v1/image/build/{id}/logs?follow=true");
    let mut streams = Vec::new();
    for _ in 0..32 {
        streams.push(Stream::open(&api, &path, &key, None).await);
    }
    api.get(&path, &key).await.expect_code(503, "overloaded");
    drop(streams.pop());
    streams.push(Stream::open(&api, &path, &key, None).await);
    api.app.closing.cancel();
    for mut stream in streams {
        assert_eq!(stream.next().await, None);
    }
}
