//! `cakework key …` against a real database, with a server on it and without.

mod support;

use std::os::unix::fs::MetadataExt as _;

use cakework_testkit::server::{Options, Server};
use support::{PROGRAM, open_dir, run, stderr, stdout};

/// Runs a key command and gives its stdout.
#[track_caller]
fn key(data: &str, args: &[&str]) -> String {
    let output = run(&[&["key"], args, &["--data-dir", data]].concat());
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    assert_eq!(stderr(&output), "", "{args:?}");
    stdout(&output)
}

fn list(data: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(&key(data, &["list", "--json"])).expect("a list")
}

#[test]
fn a_key_lives_without_a_server_and_the_files_are_the_apis() {
    support::need_root();
    let dir = open_dir();
    let data_dir = dir.path().join("data");
    let data = data_dir.to_str().expect("UTF-8");

    let made = key(data, &["create", "--name", "ci", "--scope", "write", "--expires", "30d"]);
    assert_eq!(made.lines().count(), 1, "the key alone: {made:?}");
    let secret = made.trim();
    let records = list(data);
    let record = records.iter().find(|record| record["name"] == "ci").expect("it is listed");
    assert_eq!(record["scope"], "write");
    assert!(record["expiresAt"].is_string() && record["revokedAt"].is_null(), "{record}");
    assert!(!key(data, &["list"]).contains(secret), "a list shows no secret");

    let owner = data_dir.join("api").metadata().expect("made").uid();
    assert_ne!(owner, 0);
    for entry in std::fs::read_dir(data_dir.join("api")).expect("listed").flatten() {
        assert_eq!(entry.metadata().expect("there").uid(), owner, "{}", entry.path().display());
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{} holds the secret", entry.path().display());
    }

    let id = record["keyId"].as_str().expect("an id");
    key(data, &["revoke", id]);
    let records = list(data);
    assert!(records.iter().any(|record| record["keyId"] == id && record["revokedAt"].is_string()), "{records:?}");
    let purged = run(&["purge", "--data-dir", data]);
    assert!(purged.status.success(), "{}", stderr(&purged));
}

#[test]
fn what_is_wrong_is_said() {
    support::need_root();
    let dir = open_dir();
    let data = dir.path().join("data").display().to_string();
    for (args, said) in [
        (&["list"] as &[_], "has no server's data"),
        (&["revoke", "nonsense"], "cakework key list"),
        (&["create", "--expires", "soon"], "12h or 30d"),
    ] {
        let output = run(&[&["key"], args, &["--data-dir", &data]].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(stdout(&output), "");
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
    assert!(!dir.path().join("data").exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_takes_a_new_key_at_once_and_drops_a_revoked_one() {
    support::need_root();
    let server = Server::start(Options::new(PROGRAM)).await.expect("a server");
    let data_dir = server.data_dir();
    let data = data_dir.to_str().expect("UTF-8");
    let first = server.log().lines().filter(|line| line.starts_with("key: ")).count();
    assert_eq!(first, 1, "the first start prints a key once: {}", server.log());

    let secret = key(data, &["create", "--name", "second"]).trim().to_owned();
    let asked = || server.call_as(&secret, "GET".parse().expect("a method"), "/v1/vms", None);
    assert_eq!(asked().await.expect("an answer").status, 200);
    let records = list(data);
    let record = records.iter().find(|record| record["name"] == "second").expect("it is listed");
    key(data, &["revoke", record["keyId"].as_str().expect("an id")]);
    assert_eq!(asked().await.expect("an answer").status, 401);
}
