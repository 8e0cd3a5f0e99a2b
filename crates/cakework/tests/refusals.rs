//! What a real server refuses under pressure: each is a problem with its own code, and nothing of it stays.

mod support;

use std::time::Duration;

use cakework_testkit::images::{Builder, Compression, Entry, Format, Layer, busybox};
use cakework_testkit::kernel::{Census, Kind};
use cakework_testkit::scarce::Disk;
use cakework_testkit::server::Options;
use cakework_testkit::{Auth, Registry, Server};
use serde_json::{Value, json};
use support::{PROGRAM, need_root, open_dir};

const SETTLE: Duration = Duration::from_secs(10);
/// Longest time until a host has found an engine that came later.
const ENGINE: Duration = Duration::from_secs(60);

/// A busybox that is there, and its id.
async fn import(server: &Server, registry: &Registry) -> String {
    let image = busybox(Format::Oci, Compression::Gzip).expect("busybox is installed").cmd(&["/bin/sleep", "600"]);
    registry.push("box", "v1", &image.build()).await.expect("pushed");
    let imported = server.import(&registry.reference("box", "v1"), registry.password()).await.expect("an answer").ok();
    let id = text(&imported["imageId"]).to_owned();
    assert_eq!(settled(server, &id).await["state"], "ready");
    id
}

/// An image once its layers do not arrive any more.
async fn settled(server: &Server, id: &str) -> Value {
    let end = std::time::Instant::now() + SETTLE;
    loop {
        let image = server.get(&format!("/v1/image/{id}")).await.expect("an answer").ok();
        if image["state"] != "pulling" {
            return image;
        }
        assert!(std::time::Instant::now() < end, "{image}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a string, not {value}"))
}

async fn server_with(config: &str) -> Server {
    need_root();
    Server::start(Options { config: Some(config.to_owned()), ..Options::new(PROGRAM) }).await.expect("a server")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_starts_of_the_last_memory_one_is_refused() {
    let server = server_with("[capacity]\nmemory_mib = 512\n[cached]\nwaiting_mib = 0\n").await;
    let registry = Registry::start(Auth::Basic).await.expect("a registry");
    let image = import(&server, &registry).await;
    let start = || async { server.start_vm(json!({"imageId": image})).await.expect("an answer") };
    let first = start().await.ok();
    let before = Census::take(&server.scope().expect("an instance")).expect("a count");

    let (one, other) = tokio::join!(start(), start());
    let (taken, refused) = if one.status == 201 { (one, other) } else { (other, one) };
    let taken = taken.ok();
    assert!(refused.headers.contains_key("retry-after"), "{}", refused.text);
    let problem = refused.refused(503, "host_full");
    assert!(text(&problem["detail"]).contains("Not enough memory: 0 MB"), "{problem}");
    let listed = server.get("/v1/vms").await.expect("an answer").ok();
    assert_eq!(listed["vms"].as_array().expect("VMs").len(), 2, "nothing is left of the third: {listed}");

    server.stop_vm(text(&taken["id"])).await.expect("an answer").ok();
    let left = Census::leftovers(&server.scope().expect("an instance"), &before, SETTLE).expect("a count");
    assert!(left.is_empty(), "{left:?}");
    start().await.ok();
    server.stop_vm(text(&first["id"])).await.expect("an answer").ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_proven_engine_no_vm_starts_and_the_reason_is_said() {
    let server = server_with("[isolation]\nrunsc = \"/bin/false\"\n").await;
    let registry = Registry::start(Auth::Basic).await.expect("a registry");
    let image = import(&server, &registry).await;
    assert!(server.log().lines().any(|line| line.starts_with("ready: ") && line.contains("no VMs: /bin/false")));
    let problem = server.start_vm(json!({"imageId": image})).await.expect("an answer");
    let problem = problem.refused(503, "isolation_unavailable");
    assert!(text(&problem["detail"]).contains("/bin/false does not tell its version"), "{problem}");
    assert!(text(&problem["fix"]).contains("cakework doctor"), "{problem}");
    assert_eq!(server.get("/v1/vms").await.expect("an answer").ok()["vms"], json!([]));
    let census = Census::take(&server.scope().expect("an instance")).expect("a count");
    assert_eq!((census.count(Kind::Netns), census.count(Kind::Loop)), (0, 0));
}

/// Whoever installs the engine after the server, or makes room for it, does not have to start anything again.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_comes_later_is_found() {
    let dir = open_dir();
    let runsc = dir.path().join("runsc");
    let server = server_with(&format!("[isolation]\nrunsc = \"{}\"\n", runsc.display())).await;
    let registry = Registry::start(Auth::Basic).await.expect("a registry");
    let image = import(&server, &registry).await;
    let refused = server.start_vm(json!({"imageId": image})).await.expect("an answer");
    let problem = refused.refused(503, "isolation_unavailable");
    assert!(text(&problem["detail"]).contains("was not found at"), "{problem}");
    let out = std::process::Command::new("sh").args(["-c", "command -v runsc"]).output().expect("a shell");
    let installed = String::from_utf8(out.stdout).expect("a path");
    std::os::unix::fs::symlink(installed.trim(), &runsc).expect("made");
    let end = std::time::Instant::now() + ENGINE;
    loop {
        let vm = server.start_vm(json!({"imageId": image})).await.expect("an answer");
        if vm.status == 201 {
            server.stop_vm(text(&vm.json["id"])).await.expect("an answer").ok();
            return;
        }
        assert!(std::time::Instant::now() < end, "{}", vm.text);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_fails_the_image_and_no_vm_starts_from_it() {
    let server = server_with("").await;
    let registry = Registry::start(Auth::Basic).await.expect("a registry");
    let layer = Layer::new(&[Entry::file("large", vec![5; 1 << 20])], Compression::None);
    let image = Builder::new(Format::Oci).layer(layer).cmd(&["/large"]).build();
    registry.push("bent", "v1", &image).await.expect("pushed");
    let path = registry.blob_path(image.layers()[0].digest());
    let mut bytes = std::fs::read(&path).expect("a blob");
    bytes[500_000] ^= 1;
    std::fs::write(&path, bytes).expect("written");

    let imported = server.import(&registry.reference("bent", "v1"), registry.password()).await.expect("an answer").ok();
    let id = text(&imported["imageId"]);
    // The layer may still be on its way: then the VM is taken, and ends with its image.
    let early = server.start_vm(json!({"imageId": id})).await.expect("an answer");
    let image = settled(&server, id).await;
    assert_eq!((text(&image["state"]), text(&image["error"]["code"])), ("failed", "image_invalid"), "{image}");
    if early.status == 201 {
        let over = server.wait_vm(text(&early.json["id"]), "destroyed").await.expect("an answer").ok();
        assert_eq!((text(&over["state"]), text(&over["exit"]["reason"])), ("destroyed", "start_failed"), "{over}");
    }
    server.start_vm(json!({"imageId": id})).await.expect("an answer").refused(409, "image_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_nothing_is_half_done() {
    need_root();
    let dir = open_dir();
    let disk = Disk::mount(&dir.path().join("disk"), 64, None).expect("a tmpfs");
    let options = Options {
        data_dir: Some(disk.path().join("data")),
        // The host would refuse for its capacity, before anything is written.
        config: Some("[capacity]\ndisk_mib = 1000000\n".to_owned()),
        ..Options::new(PROGRAM)
    };
    let server = Server::start(options).await.expect("a server");
    let registry = Registry::start(Auth::Basic).await.expect("a registry");
    let image = import(&server, &registry).await;
    let large = Layer::new(&[Entry::file("large", vec![7; 8 << 20])], Compression::Gzip);
    registry.push("large", "v1", &Builder::new(Format::Oci).layer(large).build()).await.expect("pushed");
    let kept = server.start_vm(json!({"imageId": image})).await.expect("an answer").ok();
    let before = Census::take(&server.scope().expect("an instance")).expect("a count");

    let ballast = disk.fill().expect("filled");
    let refused = server.start_vm(json!({"imageId": image})).await.expect("an answer");
    refused.refused(503, "disk_full");
    // An import is refused, or fails where its first layer finds no room.
    let import = server.import(&registry.reference("large", "v1"), registry.password()).await.expect("an answer");
    if import.status == 201 {
        let image = settled(&server, text(&import.json["imageId"])).await;
        assert_eq!((text(&image["state"]), text(&image["error"]["code"])), ("failed", "disk_full"), "{image}");
    } else {
        import.refused(503, "disk_full");
    }
    let listed = server.get("/v1/vms").await.expect("an answer").ok();
    let ids: Vec<&str> = listed["vms"].as_array().expect("VMs").iter().map(|vm| text(&vm["id"])).collect();
    assert_eq!(ids, [text(&kept["id"])], "nothing is left of the refused start");
    let left = Census::leftovers(&server.scope().expect("an instance"), &before, SETTLE).expect("a count");
    assert!(left.is_empty(), "{left:?}");

    drop(ballast);
    let again = server.start_vm(json!({"imageId": image})).await.expect("an answer").ok();
    assert_eq!(again["state"], "started");
    for vm in [&kept, &again] {
        server.stop_vm(text(&vm["id"])).await.expect("an answer").ok();
        let over = server.wait_vm(text(&vm["id"]), "destroyed").await.expect("an answer").ok();
        assert_eq!((text(&over["state"]), text(&over["exit"]["reason"])), ("destroyed", "stopped"));
    }
}

/// The API has the edge's door, whose tests try slow heads and many connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused_by_the_api() {
    let server = server_with("").await;
    for (name, value, count) in [("x-large", "x".repeat(40_000), 1), ("x-many", "1".to_owned(), 200)] {
        let mut request = reqwest::Client::new().get(format!("{}/healthz", server.url()));
        for _ in 0..count {
            request = request.header(name, &value);
        }
        assert_eq!(request.send().await.expect("an answer").status(), 431, "{name}");
    }
}
