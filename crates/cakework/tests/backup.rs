//! Backups: a server's knowledge is saved while it serves, and another one begins with it.

mod support;

use std::os::unix::fs::PermissionsExt as _;

use cakework_testkit::images::{Compression, Format, busybox};
use cakework_testkit::server::Options;
use cakework_testkit::{Auth, Registry, Server};
use reqwest::Method;
use serde_json::{Value, json};
use support::{PROGRAM, need_root, open_dir, run, stderr, stdout};

const SECRET: &str = "s3cr3t-of-a-vm";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a string, not {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_is_there_on_another_server_and_its_vms_are_over() {
    need_root();
    let registry = Registry::start(Auth::Basic).await.expect("a registry");
    let image = busybox(Format::Oci, Compression::Gzip).expect("an image").build();
    registry.push("team/app", "v1", &image).await.expect("pushed");
    let server = Server::start(Options::new(PROGRAM)).await.expect("a server");
    let reference = registry.reference("team/app", "v1");
    let imported = server.import(&reference, registry.password()).await.expect("an answer").ok();
    let image_id = text(&imported["imageId"]).to_owned();
    let hook = server.post("/v1/webhook", json!({"url": "https://example.com/hook"})).await.expect("an answer").ok();
    let credential = json!({"host": "registry.example.com", "username": "ada", "password": "kept"});
    server.post("/v1/registry", credential).await.expect("an answer").ok();
    let start = json!({"imageId": image_id, "command": ["sleep", "1000"], "envVars": {"TOKEN": SECRET}});
    let vm = server.start_vm(start.clone()).await.expect("an answer").ok();
    let vm = text(&vm["id"]).to_owned();
    server.wait_vm(&vm, "started").await.expect("an answer").ok();

    let ground = open_dir();
    let at = |name: &str| ground.path().join(name).display().to_string();
    let (file, small) = (at("all.tar"), at("small.tar"));
    let data = server.data_dir().display().to_string();
    // As if one had been killed.
    let left = server.data_dir().join("run/backup-left");
    std::fs::create_dir(&left).expect("a directory");
    let saved = run(&["backup", "--data-dir", &data, &file]);
    assert!(saved.status.success(), "{}", stderr(&saved));
    assert!(stdout(&saved).contains("with every key and secret in it"), "{}", stdout(&saved));
    let found = std::fs::metadata(&file).expect("a file");
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert!(!left.exists());
    // Nothing is written over, and nothing is left behind.
    let again = run(&["backup", "--data-dir", &data, &file]);
    assert!(stderr(&again).contains("is there already"), "{}", stderr(&again));
    let left = std::fs::read_dir(server.data_dir().join("api")).expect("its directory").flatten();
    assert!(!left.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("snapshot-")));
    let lean = run(&["backup", "--without-images", "--data-dir", &data, &small]);
    assert!(lean.status.success(), "{}", stderr(&lean));
    assert!(std::fs::metadata(&small).expect("a file").len() < found.len());
    // A secret is sealed there as it is in the database.
    let bytes = std::fs::read(&file).expect("its bytes");
    assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    // The first one goes on.
    assert_eq!(text(&server.get(&format!("/v1/vm/{vm}")).await.expect("an answer").ok()["state"]), "started");

    // Neither the registry nor the first server is needed.
    drop(registry);
    let second = at("second");
    let restored = run(&["restore", "--data-dir", &second, &file]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    let other = Server::start(Options { data_dir: Some(second.clone().into()), ..Options::new(PROGRAM) }).await;
    let other = other.expect("a server");
    let key = server.key();
    let get = async |path: &str| other.call_as(key, Method::GET, path, None).await.expect("an answer").ok();
    assert_eq!(
        text(&get(&format!("/v1/webhook/{}", text(&hook["webhookId"]))).await["url"]),
        "https://example.com/hook"
    );
    assert_eq!(text(&get("/v1/registry").await["registries"][0]["username"]), "ada");
    let over = other.wait_vm(&vm, "destroyed").await.expect("an answer").ok();
    assert_eq!(text(&over["exit"]["reason"]), "host_lost");
    let started = other.start_vm(start).await.expect("an answer").ok();
    let started = text(&started["id"]).to_owned();
    other.wait_vm(&started, "started").await.expect("an answer").ok();
    let said = json!({"command": ["sh", "-c", "echo $TOKEN"]});
    let said = other.post(&format!("/v1/vm/{started}/exec"), said).await.expect("an answer").ok();
    assert_eq!(text(&said["stdout"]), format!("{SECRET}\n"));

    let taken = run(&["restore", "--data-dir", &second, &file]);
    assert!(stderr(&taken).contains("is not empty"), "{}", stderr(&taken));
}

#[test]
fn what_is_no_whole_backup_leaves_nothing() {
    need_root();
    let ground = open_dir();
    let at = |name: &str| ground.path().join(name).display().to_string();
    let data = at("data");
    let made = run(&["key", "create", "--data-dir", &data]);
    assert!(made.status.success(), "{}", stderr(&made));
    // Nothing has served yet: there is no host to speak of.
    let early = run(&["backup", "--data-dir", &data, &at("early.tar")]);
    assert!(stderr(&early).contains("no server has run on"), "{}", stderr(&early));
    assert!(!std::path::Path::new(&at("early.tar")).exists());
    // As if one had been killed.
    std::fs::create_dir(at(".new.restore")).expect("a directory");
    std::fs::write(at("text.tar"), "no archive at all").expect("a file");
    std::fs::write(at("empty.tar"), vec![0; 10240]).expect("a file");
    for (name, why) in
        [("text.tar", "no whole backup"), ("empty.tar", "no backup of Cakework"), ("absent.tar", "can't be opened")]
    {
        let restored = run(&["restore", "--data-dir", &at("new"), &at(name)]);
        assert!(!restored.status.success());
        assert!(stderr(&restored).contains(why), "{name}: {}", stderr(&restored));
        assert!(!std::path::Path::new(&at("new")).exists());
    }
    let names = std::fs::read_dir(ground.path()).expect("a directory").flatten().map(|entry| entry.file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().ends_with(".restore")), "half of one is left");
    let purged = run(&["purge", "--data-dir", &data]);
    assert!(purged.status.success(), "{}", stderr(&purged));
}
