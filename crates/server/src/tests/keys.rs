//! The life of a key: offline, through the admin socket, at the first start.

use axum::http::Method;

use super::TestApp;
use crate::keys::{self, KeyCommand, KeyError, Scope};

fn create(name: &str, scope: Scope) -> KeyCommand {
    KeyCommand::Create { name: name.into(), scope, expires_in_secs: None, account: None }
}

#[tokio::test]
async fn a_key_made_offline_works_until_it_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let made = keys::execute(dir.path(), create("laptop", Scope::Read)).await.unwrap();
    let (text, id) = (made.secret.unwrap(), made.keys[0].key_id.clone());
    let database = std::fs::read(dir.path().join("cakework.db")).unwrap();
    let secret = text.rsplit('_').next().unwrap().as_bytes();
    assert!(!database.windows(secret.len()).any(|window| window == secret), "only its hash is stored");

    let api = TestApp::new().await;
    let made = keys::carry_out(&api.app.store, create("laptop", Scope::Read)).await.unwrap();
    let (text, served_id) = (made.secret.unwrap(), made.keys[0].key_id.clone());
    api.get("/v1/vms", &text).await.expect(200);
    let listed = keys::carry_out(&api.app.store, KeyCommand::List).await.unwrap();
    let listed = listed.keys.iter().find(|key| key.key_id == served_id).unwrap();
    assert!(listed.last_used_at.is_some());
    keys::carry_out(&api.app.store, KeyCommand::Revoke { key_id: served_id }).await.unwrap();
    api.get("/v1/vms", &text).await.expect_code(401, "revoked_key");

    let revoked = keys::offline(dir.path(), KeyCommand::Revoke { key_id: id }).await.unwrap();
    assert!(revoked.keys[0].revoked_at.is_some());
    let unknown = KeyCommand::Revoke { key_id: "01GV2ZFBT345TRTRDK6VHBECCZ".parse().unwrap() };
    assert!(matches!(keys::offline(dir.path(), unknown).await, Err(KeyError::Unknown("key"))));
    assert!(matches!(keys::offline(dir.path(), create("", Scope::Read)).await, Err(KeyError::Invalid(_))));
}

#[tokio::test]
async fn the_last_use_is_written_at_most_once_a_minute() {
    let api = TestApp::new().await;
    let recently = crate::clock::now_ms() - 30_000;
    let text = api.key_with(|key| key.last_used_ms = Some(recently)).await;
    api.get("/v1/vms", &text).await.expect(200);
    let keys = api.app.store.keys().await.unwrap();
    assert_eq!(keys[0].last_used_ms, Some(recently));
}

#[tokio::test]
async fn a_server_answers_key_commands_and_keeps_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let config = crate::ServerConfig {
        dir: dir.path().join("api"),
        listen: ([127, 0, 0, 1], 0).into(),
        edge_listen: ([127, 0, 0, 1], 0).into(),
        agent_socket: dir.path().join("agent.sock"),
        print_first_key: true,
        ..crate::ServerConfig::default()
    };
    let api_dir = config.dir.clone();
    let server = tokio::spawn(crate::run(config, shutdown.clone()));
    let socket = api_dir.join("admin.sock");
    super::eventually("the admin socket", || async { tokio::net::UnixStream::connect(&socket).await.is_ok() }).await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let listed = keys::execute(&api_dir, KeyCommand::List).await.unwrap();
    assert_eq!(listed.keys.len(), 1, "the first start made one");
    assert_eq!(listed.keys[0].scope, Scope::Admin);
    assert!(matches!(keys::offline(&api_dir, KeyCommand::List).await, Err(KeyError::Served)));
    let made = keys::execute(&api_dir, create("ci", Scope::Write)).await.unwrap();
    assert!(made.secret.unwrap().starts_with("cw_"));
    let refused = keys::execute(&api_dir, create("a\nb", Scope::Write)).await;
    assert!(matches!(refused, Err(KeyError::Invalid(_))), "{refused:?}");
    let copy = crate::snapshot::snapshot(&api_dir).await.unwrap();
    assert!(std::fs::read(&copy).unwrap().starts_with(b"SQLite format 3"));

    shutdown.cancel();
    tokio::time::timeout(super::PATIENCE, server).await.expect("it drains").unwrap().unwrap();
    let listed = keys::execute(&api_dir, KeyCommand::List).await.unwrap();
    assert_eq!(listed.keys.len(), 2, "offline again, and a second start makes no second first key");
    let other = crate::snapshot::snapshot(&api_dir).await.unwrap();
    assert_ne!(other, copy);
    crate::snapshot::sweep(&api_dir).unwrap();
    assert!(!copy.exists() && !other.exists(), "what nobody took goes");
}

#[tokio::test]
async fn health_needs_no_key() {
    let api = TestApp::new().await;
    assert_eq!(api.send(Method::GET, "/healthz", None, None).await.expect(200)["status"], "ok");
}
