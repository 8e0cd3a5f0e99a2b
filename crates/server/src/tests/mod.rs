//! Tests at the HTTP boundary: the real router over a real database in a temporary directory.
//!
//! Where a test needs no host there is none: nothing listens on the agent's socket. The tests of reconciling use
//! [`script::Host`].

mod auth;
mod authorization;
mod bad_files;
mod bad_input;
mod browser;
mod builds;
mod cached;
mod cached_edge;
mod exec_ticket;
mod follow;
mod images;
mod keys;
mod metrics;
mod once;
mod openapi;
mod reconcile;
mod registries;
mod rotation;
mod script;
mod stories;
mod vms;
mod webhooks;
mod webhooks_send;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use cakework_core::build::BuildErrorCode;
use cakework_core::id::{AccountId, ImageId, KeyId};
use cakework_core::registry::host_of;
use cakework_dockerfile::Inputs;
use cakework_wire::build::BuildProblem;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::app::{App, Shared};
use crate::clock::now_ms;
use crate::config::ServerConfig;
use crate::keys::{Scope, secret};
use crate::ops::builds::plan::Needs;
use crate::seal::Sealer;
use crate::store::Store;
use crate::store::images::{Image, ImageState};
use crate::store::keys::StoredKey;
use crate::{reconcile as reconcilers, routes};

/// Longest time that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// An API over its own directory.
struct TestApp {
    dir: TempDir,
    app: Shared,
    account: AccountId,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Value,
}

impl Answer {
    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("")
    }

    #[track_caller]
    fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        self.body
    }

    #[track_caller]
    fn expect_code(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status.as_u16(), self.code()), (status, code), "{:#}", self.body);
        self.body
    }
}

impl TestApp {
    /// An API with no host: nothing listens on the agent's socket.
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig {
            dir: dir.path().to_owned(),
            agent_socket: dir.path().join("agent.sock"),
            ..ServerConfig::default()
        };
        change(&mut config);
        let store = Store::open(dir.path()).await.unwrap();
        let account = AccountId::mint(now_ms(), &mut rand::rng());
        store.make_first_account(&account, "first", now_ms()).await.unwrap();
        Self::on(dir, config, store, account)
    }

    fn on(dir: TempDir, config: ServerConfig, store: Store, account: AccountId) -> Self {
        let sealer = Sealer::open(dir.path()).unwrap();
        let mut app = App::new(config, store, sealer, Duration::from_millis(300)).unwrap();
        Arc::get_mut(&mut app).expect("nobody else has it yet").planner = planner;
        Self { dir, app, account, shutdown: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    /// Starts the reconcilers.
    async fn reconcile(&self) {
        let seq = reconcilers::follow::fill(&self.app).await.unwrap();
        let token = || self.shutdown.clone();
        self.tasks.spawn(reconcilers::follow::run(Arc::clone(&self.app), seq, token()));
        self.tasks.spawn(reconcilers::watch::run(Arc::clone(&self.app), token()));
        self.tasks.spawn(reconcilers::vms::run(Arc::clone(&self.app), token()));
        self.tasks.spawn(reconcilers::idle::run(Arc::clone(&self.app), token()));
        self.tasks.spawn(reconcilers::images::run(Arc::clone(&self.app), token()));
        self.tasks.spawn(reconcilers::builds::run(Arc::clone(&self.app), token()));
        self.tasks.spawn(reconcilers::webhooks::run(Arc::clone(&self.app), token()));
    }

    /// Ends the process that this stands for; the directory stays.
    async fn crash(self) -> (TempDir, ServerConfig, AccountId) {
        self.shutdown.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.expect("the reconcilers end");
        self.app.store.close().await;
        (self.dir, self.app.config.clone(), self.account)
    }

    /// A key of the first account.
    async fn key(&self, scope: Scope) -> String {
        self.key_with(|key| key.scope = scope).await
    }

    async fn key_with(&self, change: impl FnOnce(&mut StoredKey)) -> String {
        let id = KeyId::mint(now_ms(), &mut rand::rng());
        let (text, secret_hash) = secret::make(&id);
        let mut key = StoredKey {
            id,
            account: self.account.clone(),
            tenant: None,
            name: "test".into(),
            scope: Scope::Admin,
            secret_hash,
            created_ms: now_ms(),
            expires_ms: None,
            last_used_ms: None,
            revoked_ms: None,
        };
        change(&mut key);
        self.app.store.insert_key(&key).await.unwrap();
        text
    }

    /// A key of another account.
    async fn stranger(&self) -> String {
        let account = AccountId::mint(now_ms(), &mut rand::rng());
        self.app.store.make_account(&account, "other", now_ms()).await.unwrap();
        self.key_with(|key| key.account = account).await
    }

    /// An image whose layers are there, without a registry.
    async fn ready_image(&self) -> ImageId {
        self.image_with(|_| {}).await
    }

    async fn image_with(&self, change: impl FnOnce(&mut Image)) -> ImageId {
        let now_ms = now_ms();
        let mut image = Image {
            id: ImageId::mint(now_ms, &mut rand::rng()),
            account: self.account.clone(),
            tenant: None,
            reference: "registry.test/app:1".into(),
            digest: format!("sha256:{}", "0".repeat(64)),
            size_bytes: 1000,
            state: ImageState::Ready,
            done_bytes: 1000,
            error: None,
            credential: None,
            due_ms: None,
            attempts: 0,
            created_ms: now_ms,
            updated_ms: now_ms,
        };
        change(&mut image);
        assert!(self.app.store.insert_image(&image, u64::MAX, None).await.unwrap());
        image.id
    }

    /// Sends a request; `body` is JSON unless it is a string, which is sent as it is.
    async fn send(&self, method: Method, path: &str, key: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("X-Api-Key", key);
        }
        let body = match body {
            None => Body::empty(),
            Some(Value::String(text)) => Body::from(text),
            Some(json) => Body::from(json.to_string()),
        };
        read(routes::router(Arc::clone(&self.app)).oneshot(request.body(body).unwrap()).await.unwrap()).await
    }

    async fn get(&self, path: &str, key: &str) -> Answer {
        self.send(Method::GET, path, Some(key), None).await
    }

    async fn post(&self, path: &str, key: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(key), Some(body)).await
    }
}

/// Reads an answer to its end.
async fn read(response: axum::response::Response) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Stands in for the reader of Dockerfiles, which has tests of its own: a line `FROM x` needs x, a line `WRONG` is.
fn planner(dockerfile: &str, _: &Inputs) -> Result<Needs, BuildProblem> {
    let mut needs = Needs::default();
    for (at, line) in dockerfile.lines().enumerate() {
        if line == "WRONG" {
            let mut problem = BuildProblem::new(BuildErrorCode::DockerfileInvalid, "There is no such instruction.");
            (problem.instruction, problem.line) = (Some(line.to_owned()), Some(at as u32 + 1));
            return Err(problem);
        }
        match line.strip_prefix("FROM ").map(|name| (name, name.strip_prefix("cakework/"))) {
            Some((_, Some(own))) => needs.own.insert(own.to_owned()),
            Some((name, None)) => needs.registries.insert(host_of(name).to_owned()),
            None => continue,
        };
    }
    Ok(needs)
}

/// Waits, bounded, until `condition` holds.
async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
