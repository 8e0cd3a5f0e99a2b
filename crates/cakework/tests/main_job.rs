//! The main job, end to end: the real program, a private registry, a real app; nothing stands in for anything.

mod support;

use std::time::Duration;

use cakework_testkit::images::{Compression, Format, python_app};
use cakework_testkit::kernel::Census;
use cakework_testkit::server::Options;
use cakework_testkit::{Auth, Registry, Server};
use serde_json::{Value, json};
use support::{PROGRAM, need_root};

const SETTLE: Duration = Duration::from_secs(10);

/// A server with the app's image imported.
async fn server_with_app() -> (Server, Registry, String) {
    need_root();
    let registry = Registry::start(Auth::Basic).await.expect("a registry");
    let image = python_app(Format::Oci, Compression::Gzip).expect("an image").build();
    registry.push("team/app", "v1", &image).await.expect("pushed");
    let server = Server::start(Options::new(PROGRAM)).await.expect("a server");
    let reference = registry.reference("team/app", "v1");
    let imported = server.import(&reference, registry.password()).await.expect("an answer").ok();
    let image_id = text(&imported["imageId"]).to_owned();
    (server, registry, image_id)
}

/// A started VM of the app.
async fn start_app(server: &Server, image_id: &str, token: &str) -> Value {
    let body = json!({"imageId": image_id, "port": 8080, "envVars": {"TOKEN": token}});
    let vm = server.start_vm(body).await.expect("an answer").ok();
    server.wait_vm(text(&vm["id"]), "started").await.expect("an answer").ok()
}

async fn messages(server: &Server, id: &str) -> Vec<String> {
    let page = server.logs(id, "batch=1000").await.expect("an answer").ok();
    let lines = page["lines"].as_array().expect("lines").iter();
    lines.map(|line| text(&line["message"]).to_owned()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a string, not {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_private_image_to_a_called_logged_and_ended_vm() {
    let (server, registry, image_id) = server_with_app().await;
    let reference = registry.reference("team/app", "v1");
    server.import(&reference, "wrong").await.expect("an answer").refused(400, "registry_unauthorized");
    let before = Census::take(&server.scope().expect("an instance")).expect("a count");

    let vm = start_app(&server, &image_id, "t0k3n").await;
    let (id, hostname) = (text(&vm["id"]).to_owned(), text(&vm["hostname"]).to_owned());
    assert_eq!((text(&vm["state"]), text(&vm["isolation"])), ("started", "gvisor"));

    let page = server.fetch(&hostname, "/").await.expect("an answer");
    assert_eq!((page.status, page.text.as_str()), (200, "Hello from Cakework! token=t0k3n\n"));
    let nobody = server.fetch(&hostname.replacen(&hostname[..4], "0000", 1), "/").await.expect("an answer");
    assert_eq!(nobody.status, 404, "{}", nobody.text);

    let end = std::time::Instant::now() + SETTLE;
    loop {
        let lines = messages(&server, &id).await;
        if lines.iter().any(|line| line == "greeting someone, token=t0k3n") {
            break;
        }
        assert!(std::time::Instant::now() < end, "the line does not come: {lines:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let listed = server.get(&format!("/v1/vms?imageId={image_id}")).await.expect("an answer").ok();
    let ids: Vec<&str> = listed["vms"].as_array().expect("VMs").iter().map(|vm| text(&vm["id"])).collect();
    assert_eq!(ids, [id.as_str()]);

    let stopped = server.stop_vm(&id).await.expect("an answer");
    assert!((200..300).contains(&stopped.status), "{}", stopped.text);
    let ended = server.wait_vm(&id, "destroyed").await.expect("an answer").ok();
    assert_eq!((text(&ended["state"]), text(&ended["exit"]["reason"])), ("destroyed", "stopped"));
    assert_eq!(server.fetch(&hostname, "/").await.expect("an answer").status, 503);
    let lines = messages(&server, &id).await;
    assert!(lines.iter().any(|line| line == "greeting someone, token=t0k3n"), "logs stay: {lines:?}");

    let left = Census::leftovers(&server.scope().expect("an instance"), &before, SETTLE).expect("a count");
    assert!(left.is_empty(), "{}", left.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    let log = server.log();
    assert!(!log.contains(registry.password()) && !log.contains("t0k3n"), "no secret is in the server's own log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_outlives_the_whole_server() {
    let (mut server, _registry, image_id) = server_with_app().await;
    let vm = start_app(&server, &image_id, "x").await;
    let (id, hostname) = (text(&vm["id"]).to_owned(), text(&vm["hostname"]).to_owned());
    let started = server.fetch(&hostname, "/started").await.expect("an answer").ok();

    server.stop().expect("a clean end");
    server.launch().await.expect("a new start");
    assert_same_app(&server, &hostname, &started).await;

    server.kill();
    server.launch().await.expect("a new start");
    assert_same_app(&server, &hostname, &started).await;

    server.stop_vm(&id).await.expect("an answer");
    let ended = server.wait_vm(&id, "destroyed").await.expect("an answer").ok();
    assert_eq!(text(&ended["exit"]["reason"]), "stopped");
}

/// The edge leads to the very same process; right after a start it may have to learn the way first.
async fn assert_same_app(server: &Server, hostname: &str, started: &Value) {
    let end = std::time::Instant::now() + SETTLE;
    loop {
        let answer = server.fetch(hostname, "/started").await.expect("an answer");
        if answer.status == 200 {
            assert_eq!(&answer.json, started, "the app was restarted");
            return;
        }
        assert!(std::time::Instant::now() < end, "{}: {}\n{}", answer.status, answer.text, server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_ends_running_vms_and_leaves_nothing() {
    let (mut server, _registry, image_id) = server_with_app().await;
    start_app(&server, &image_id, "x").await;
    let scope = server.scope().expect("an instance");
    server.stop().expect("a clean end");
    let running = Census::take(&scope).expect("a count");
    assert!(!running.is_empty(), "the VM runs on");
    let data = server.data_dir().display().to_string();
    let purged = support::run(&["purge", "--data-dir", &data]);
    assert!(purged.status.success(), "{}", support::stderr(&purged));
    let nothing = Census::take(&cakework_testkit::kernel::Scope::new("zzzz", None)).expect("a count");
    let left = Census::leftovers(&scope, &nothing, SETTLE).expect("a count");
    assert!(left.is_empty(), "{}", left.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    assert!(!server.data_dir().exists());
}
