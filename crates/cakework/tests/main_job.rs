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

/// Answers as the contract's published client would: it throws where a required field is missing, a date is not RFC 3339
/// or a void call has a body that is no JSON. It knows no additive field and no additive call.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_only_the_contract_does_the_main_job() {
    let (server, registry, image_id) = server_with_app().await;
    // `localhost` leads to ::1 first, and some clients try no other address.
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let address = server.url().replace("http://127.0.0.1", "[::1]");
        std::net::TcpStream::connect(&address).unwrap_or_else(|error| panic!("{address}: {error}"));
    }
    assert!(image_id.len() == 26 && image_id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()));
    let body = json!({"imageId": image_id, "cpu": 1, "memory": 256, "port": 8080, "envVars": {"TOKEN": "kn0wn"}});
    let vm = contract_vm(&server.start_vm(body).await.expect("an answer").ok());
    let path = format!("/v1/vm/{}", vm.id);
    let end = std::time::Instant::now() + SETTLE;
    while contract_vm(&server.get(&path).await.expect("an answer").ok()).state != "started" {
        assert!(std::time::Instant::now() < end, "it does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(server.fetch(&vm.hostname, "/").await.expect("an answer").text.contains("token=kn0wn"));

    let printed = server.fetch(&vm.hostname, "/log?lines=120&prefix=page").await.expect("an answer");
    assert_eq!(printed.status, 200);
    let (mut lines, mut query) = (Vec::new(), "query=PAGE&batch=50&from=2022-07-19T13:32:56%2B0000".to_owned());
    while std::time::Instant::now() < end && lines.len() < 120 {
        let page = server.logs(&vm.id, &query).await.expect("an answer").ok();
        for line in page["lines"].as_array().expect("lines") {
            assert!(line["timestamp"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000), "{line}");
            assert_eq!(line["level"], "info");
            lines.push(text(&line["message"]).to_owned());
        }
        // The app's own word about the request has the word in it, too.
        lines.retain(|line| line.starts_with("page "));
        match page["pagination"].as_str() {
            // The client passes all three back where the answer has them.
            Some(token) => query = format!("query=PAGE&batch=50&pagination={token}&from={}", text(&page["from"])),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        if page["pagination"].is_null() && lines.len() < 120 {
            lines.clear();
            query = "query=PAGE&batch=50&from=2022-07-19T13:32:56%2B0000".to_owned();
        }
    }
    let expected: Vec<String> = (1..=120).map(|number| format!("page {number}")).collect();
    assert_eq!(lines, expected, "three pages, no line twice and none missing");

    for path in ["/v1/vms", "/vms"] {
        let list = server.get(&format!("{path}?imageId={image_id}&status=started")).await.expect("an answer").ok();
        let ids: Vec<String> = list["vms"].as_array().expect("VMs").iter().map(|vm| contract_vm(vm).id).collect();
        assert_eq!(ids, [vm.id.as_str()], "{path}");
    }
    let stopped = server.stop_vm(&vm.id).await.expect("an answer");
    assert_eq!((stopped.status, stopped.text.as_str()), (204, ""));
    let end = std::time::Instant::now() + 2 * SETTLE;
    while contract_vm(&server.get(&path).await.expect("an answer").ok()).state != "destroyed" {
        assert!(std::time::Instant::now() < end, "it does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(registry);
}

/// What the contract says of a VM.
struct ContractVm {
    id: String,
    hostname: String,
    state: String,
}

#[track_caller]
fn contract_vm(vm: &Value) -> ContractVm {
    let state = text(&vm["state"]).to_owned();
    assert!(["created", "started", "stopped", "destroyed"].contains(&state.as_str()), "{vm}");
    assert!(vm["cpu"].is_u64() && vm["memory"].is_u64() && vm["imageId"].is_string() && vm["port"] == 8080, "{vm}");
    for field in ["createdAt", "updatedAt"] {
        let date = text(&vm[field]).as_bytes();
        assert!(date.len() == 24 && date[10] == b'T' && date.ends_with(b"Z"), "RFC 3339 with milliseconds: {vm}");
    }
    let id = text(&vm["id"]).to_owned();
    assert!(id.len() == 14 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{vm}");
    let hostname = text(&vm["hostname"]).to_owned();
    assert!(hostname.strip_suffix(".localhost").is_some_and(|label| label.len() == 26), "{vm}");
    ContractVm { id, hostname, state }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_run_vms_side_by_side() {
    let (one, _registry, first) = server_with_app().await;
    let (other, _other_registry, second) = server_with_app().await;
    let (here, there) = tokio::join!(start_app(&one, &first, "here"), start_app(&other, &second, "there"));
    for (server, own, foreign, token) in [(&one, &here, &there, "here"), (&other, &there, &here, "there")] {
        let page = server.fetch(text(&own["hostname"]), "/").await.expect("an answer");
        assert_eq!(page.text, format!("Hello from Cakework! token={token}\n"));
        assert_eq!(server.fetch(text(&foreign["hostname"]), "/").await.expect("an answer").status, 404);
        server.get(&format!("/v1/vm/{}", text(&foreign["id"]))).await.expect("an answer").refused(404, "unknown_vm");
    }
    // The end of one is none of the other's business.
    let scope = other.scope().expect("an instance");
    drop(other);
    let nothing = Census::take(&cakework_testkit::kernel::Scope::new("zzzz", None)).expect("a count");
    let left = Census::leftovers(&scope, &nothing, SETTLE).expect("a count");
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(one.fetch(text(&here["hostname"]), "/").await.expect("an answer").status, 200);
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
