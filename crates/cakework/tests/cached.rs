//! Cached VMs, end to end: the real program, a real app, the hostname that leads to it over starts and sleeps.

mod support;

use std::time::{Duration, Instant};

use cakework_testkit::images::{Compression, Format, python_app};
use cakework_testkit::kernel::Census;
use cakework_testkit::server::Options;
use cakework_testkit::{Auth, Registry, Server};
use serde_json::{Value, json};
use support::{PROGRAM, need_root};

const LIMIT: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// A server with the app's image imported.
async fn server_with_app(config: &str) -> (Server, Registry, String) {
    need_root();
    let registry = Registry::start(Auth::Basic).await.expect("a registry");
    let image = python_app(Format::Oci, Compression::Gzip).expect("an image").build();
    registry.push("team/app", "v1", &image).await.expect("pushed");
    let options = Options { config: Some(config.to_owned()), ..Options::new(PROGRAM) };
    let server = Server::start(options).await.expect("a server");
    let reference = registry.reference("team/app", "v1");
    let imported = server.import(&reference, registry.password()).await.expect("an answer").ok();
    let image_id = text(&imported["imageId"]).to_owned();
    (server, registry, image_id)
}

/// A cached VM of the app: its id and its hostname.
async fn cache(server: &Server, image_id: &str, more: Value) -> (String, String) {
    let mut body = json!({"imageId": image_id, "port": 8080, "envVars": {"TOKEN": "t0k3n"}});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let vm = server.post("/v1/vm/cache", body).await.expect("an answer").ok();
    assert_eq!(vm["state"], "stopped", "{vm}");
    (text(&vm["id"]).to_owned(), text(&vm["hostname"]).to_owned())
}

/// What the host says of what waits there.
async fn waiting(server: &Server) -> Value {
    let socket = server.data_dir().join("run/agent.sock");
    let client = reqwest::Client::builder().unix_socket(socket).build().expect("a client");
    let request = client.get("http://agent/v1/host/cached").header("cakework-protocol", "1");
    let answer = request.send().await.expect("the agent answers").bytes().await.expect("a body");
    serde_json::from_slice(&answer).expect("JSON")
}

async fn eventually(server: &Server, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so().await {
        assert!(Instant::now() < end, "waited {LIMIT:?} until {what}\n{}", server.log());
        tokio::time::sleep(POLL).await;
    }
}

async fn until_ready(server: &Server) {
    eventually(server, "an instance waits", async || waiting(server).await["body"]["paused"]["count"] == 1).await;
}

async fn vm(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/vm/{id}")).await.expect("an answer").ok()
}

async fn call(server: &Server, id: &str, name: &str) -> Value {
    server.post(&format!("/v1/vm/cached/{id}/{name}"), json!({})).await.expect("an answer").ok()
}

/// When the app's process began: its memory says so.
async fn began(server: &Server, hostname: &str) -> Value {
    let page = server.fetch(hostname, "/started").await.expect("an answer");
    assert_eq!(page.status, 200, "{}\n{}", page.text, server.log());
    page.json
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a string, not {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_vm_starts_sleeps_and_wakes_by_requests() {
    let (mut server, _registry, image_id) = server_with_app("").await;
    let before = Census::take(&server.scope().expect("an instance")).expect("a count");
    let (id, hostname) = cache(&server, &image_id, json!({})).await;
    until_ready(&server).await;

    // By the API, from the instance that waits.
    let started = call(&server, &id, "start").await;
    assert_eq!((text(&started["state"]), text(&started["hostname"])), ("started", hostname.as_str()));
    assert_eq!(started["start"]["tier"], "paused", "{started}\n{}", server.log());
    let prepared = began(&server, &hostname).await;
    let page = server.fetch(&hostname, "/").await.expect("an answer");
    assert_eq!((page.status, page.text.as_str()), (200, "Hello from Cakework! token=t0k3n\n"));

    // Asleep it is the same VM, and a request wakes it.
    let slept = server.post(&format!("/v1/vm/{id}/suspend"), json!({})).await.expect("an answer");
    assert_eq!((slept.status, slept.text.as_str()), (204, ""), "{}", server.log());
    let asleep = vm(&server, &id).await;
    assert_eq!((&asleep["state"], &asleep["sleep"]), (&json!("started"), &json!("paused")));
    let (one, other) = tokio::join!(began(&server, &hostname), began(&server, &hostname));
    assert_eq!((&one, &other), (&prepared, &prepared), "the process went on");
    assert!(vm(&server, &id).await["sleep"].is_null());

    // Stopped, a request starts it from the prepared state.
    call(&server, &id, "stop").await;
    assert_eq!(vm(&server, &id).await["state"], "stopped");
    until_ready(&server).await;
    assert_eq!(began(&server, &hostname).await, prepared, "memory of the prepared state");
    let again = vm(&server, &id).await;
    assert_eq!((&again["state"], &again["start"]["tier"]), (&json!("started"), &json!("paused")), "{again}");

    // Over a new start of everything it sleeps on, and is woken.
    server.post(&format!("/v1/vm/{id}/suspend"), json!({})).await.expect("an answer").ok();
    server.kill();
    server.launch().await.expect("a new start");
    assert_eq!(vm(&server, &id).await["sleep"], "paused");
    assert_eq!(began(&server, &hostname).await, prepared);

    // Its process ends by itself: it is stopped, and starts again.
    // The answer may break off with the process.
    let _ = server.fetch(&hostname, "/exit?code=3").await;
    eventually(&server, "the VM is stopped", async || vm(&server, &id).await["state"] == "stopped").await;
    assert_eq!(vm(&server, &id).await["exit"]["code"], 3);
    assert_eq!(began(&server, &hostname).await, prepared);

    let logs = server.get(&format!("/v1/vm/cached/{id}/logs?batch=1000")).await.expect("an answer").ok();
    let lines: Vec<&str> = logs["lines"].as_array().expect("lines").iter().map(|line| text(&line["message"])).collect();
    assert!(lines.contains(&"greeting someone, token=t0k3n"), "{lines:?}");

    server.post(&format!("/v1/vm/{id}/destroy"), json!({})).await.expect("an answer").ok();
    assert_eq!(vm(&server, &id).await["state"], "destroyed");
    assert_eq!(server.fetch(&hostname, "/").await.expect("an answer").status, 503);
    // The server itself was started anew.
    let others = |found: &str| !found.contains(" serve --data-dir");
    let left = Census::leftovers(&server.scope().expect("an instance"), &before, SETTLE).expect("a count");
    let left: Vec<_> = left.iter().map(ToString::to_string).filter(|found| others(found)).collect();
    assert!(left.is_empty(), "{}", left.join(", "));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_vm_sleeps_by_itself_and_a_cap_of_nothing_lets_none_wait() {
    let (server, _registry, image_id) = server_with_app("[cached]\nwaiting_mib = 0\n").await;
    let (id, hostname) = cache(&server, &image_id, json!({"idleTimeoutSeconds": 1})).await;
    let first = began(&server, &hostname).await;
    // What sleeps has no place in memory either: it goes to the disk.
    eventually(&server, "it sleeps", async || vm(&server, &id).await["sleep"] == "spilled").await;
    assert_eq!(began(&server, &hostname).await, first, "the process went on");
    let counts = waiting(&server).await;
    for kind in ["paused", "created", "asleep"] {
        assert_eq!(counts["body"][kind]["count"], 0, "{counts}");
    }
    call(&server, &id, "destroy").await;
}
