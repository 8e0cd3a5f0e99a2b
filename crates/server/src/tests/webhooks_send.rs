//! Deliveries, to a real receiver on the loopback: retries, redirects, refused addresses, crashes, slow receivers.
//! Time is an argument: nothing waits for a pause.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::serve::Listener;
use cakework_core::webhook::ATTEMPTS_MAX;
use cakework_testkit::certificate;
use http::StatusCode;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use standardwebhooks::Webhook as Verifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{TestApp, eventually};
use crate::app::Shared;
use crate::clock::now_ms;
use crate::keys::Scope;
use crate::reconcile::webhooks::{LEASE_MS, Work};
use crate::reconcile::webhooks_send::Courier;
use crate::store::Store;

pub(super) const HOUR_MS: u64 = 3600 * 1000;

/// What a receiver got.
pub(super) struct Message {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Message {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn id(&self) -> &str {
        self.headers["webhook-id"].to_str().unwrap()
    }

    pub(super) fn signatures(&self) -> Vec<&str> {
        self.headers["webhook-signature"].to_str().unwrap().split(' ').collect()
    }

    /// What a signature with this secret is, whatever the clock says.
    pub(super) fn signed_by(&self, secret: &str) -> String {
        let timestamp = self.headers["webhook-timestamp"].to_str().unwrap().parse().unwrap();
        Verifier::new(secret).unwrap().sign(self.id(), timestamp, &self.body).unwrap()
    }
}

/// How it answers.
#[derive(Clone)]
enum Answer {
    Plain(u16, Vec<(&'static str, String)>),
    /// 200 with a body that has no end.
    Endless,
    Never,
}

/// A receiver on the loopback; it ends with its value.
pub(super) struct Receiver {
    pub(super) url: String,
    port: u16,
    shared: Arc<Desk>,
    server: JoinHandle<()>,
}

struct Desk {
    seen: Mutex<Vec<Message>>,
    next: Mutex<VecDeque<Answer>>,
    otherwise: Mutex<Answer>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Receiver {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::on(listener, port, "http")
    }

    /// One that speaks TLS, with a certificate of the authority in `dir`.
    async fn with_tls(dir: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(dir.join("receiver.pem")).unwrap().collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.join("receiver.key")).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = tcp.local_addr().unwrap().port();
        Self::on(Tls { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) }, port, "https")
    }

    fn on<L: Listener<Addr: fmt::Debug>>(listener: L, port: u16, scheme: &str) -> Self {
        let otherwise = Mutex::new(Answer::Plain(204, Vec::new()));
        let shared = Arc::new(Desk { seen: Mutex::default(), next: Mutex::default(), otherwise });
        let router = Router::new().fallback(receive).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url: format!("{scheme}://127.0.0.1:{port}/"), port, shared, server }
    }

    /// One that never answers.
    pub(super) async fn silent() -> Self {
        let receiver = Self::new().await;
        *receiver.shared.otherwise.lock().unwrap() = Answer::Never;
        receiver
    }

    pub(super) fn always(&self, status: u16) {
        *self.shared.otherwise.lock().unwrap() = Answer::Plain(status, Vec::new());
    }

    fn next(&self, status: u16, headers: &[(&'static str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.shared.next.lock().unwrap().push_back(Answer::Plain(status, headers));
    }

    pub(super) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    pub(super) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }
}

/// Accepts TLS; who does not shake hands is not there.
struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.tcp.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

async fn receive(State(desk): State<Arc<Desk>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(method, Method::POST);
    desk.seen.lock().unwrap().push(Message { path: uri.path().to_owned(), headers, body });
    let answer = desk.next.lock().unwrap().pop_front();
    let answer = answer.unwrap_or_else(|| desk.otherwise.lock().unwrap().clone());
    match answer {
        Answer::Plain(status, headers) => {
            let mut response = StatusCode::from_u16(status).unwrap().into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Answer::Endless => {
            let chunk = || Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 65_536]));
            Body::from_stream(futures_util::stream::repeat_with(chunk)).into_response()
        }
        Answer::Never => std::future::pending().await,
    }
}

/// An API that may send to the loopback, a key and a receiver.
pub(super) async fn api() -> (TestApp, String, Receiver) {
    let allow = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap());
    let api = TestApp::with(|config| config.webhook_allow = allow.to_vec()).await;
    let key = api.key(Scope::Write).await;
    (api, key, Receiver::new().await)
}

/// Makes an endpoint; answers its id and secret.
pub(super) async fn endpoint(api: &TestApp, key: &str, body: Value) -> (String, String) {
    let made = api.post("/v1/webhook", key, body).await.expect(201);
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    (text("webhookId"), text("secret"))
}

/// Asks for a ping; answers its event.
pub(super) async fn ping(api: &TestApp, key: &str, id: &str) -> String {
    let path = format!("/v1/webhook/{id}/test");
    let delivery = api.send(Method::POST, &path, Some(key), None).await.expect(202);
    assert_eq!(delivery["type"], "ping");
    delivery["eventId"].as_str().unwrap().to_owned()
}

/// Makes the attempts that are due, and waits for their ends.
pub(super) async fn deliver(api: &TestApp, now_ms: u64) {
    deliver_from(&api.app, now_ms).await;
}

async fn deliver_from(app: &Shared, now_ms: u64) {
    let mut work = Work::default();
    work.start(app, now_ms).await.unwrap();
    work.finish().await;
}

/// The delivery log, the newest first.
pub(super) async fn log(api: &TestApp, key: &str, id: &str) -> Vec<Value> {
    let page = api.get(&format!("/v1/webhook/{id}/deliveries"), key).await.expect(200);
    page["deliveries"].as_array().unwrap().clone()
}

/// When the only delivery is tried next.
async fn due_ms(api: &TestApp, id: &str) -> Option<u64> {
    let page = api.app.store.deliveries(&id.parse().unwrap(), None, 10).await.unwrap();
    assert_eq!(page.items.len(), 1);
    page.items[0].due_ms
}

#[tokio::test]
async fn a_delivery_is_tried_again_with_the_same_id_and_body() {
    let (api, key, receiver) = api().await;
    let (id, secret) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    let event = ping(&api, &key, &id).await;
    receiver.next(500, &[]);
    receiver.next(404, &[]);
    let mut at_ms = now_ms();
    deliver(&api, at_ms).await;
    let entry = &log(&api, &key, &id).await[0];
    assert_eq!((&entry["state"], &entry["attempt"], &entry["statusCode"]), (&json!("pending"), &json!(1), &json!(500)));
    assert_eq!(entry["error"], "the receiver answered 500");
    assert!(entry["durationMs"].is_u64() && entry["nextAttemptAt"].is_string(), "{entry}");
    deliver(&api, at_ms + 4_000).await;
    assert_eq!(receiver.count(), 1, "not before its time");
    for least_ms in [5_000, 300_000] {
        let due_ms = due_ms(&api, &id).await.unwrap();
        assert!(due_ms >= at_ms + least_ms && due_ms <= at_ms + least_ms * 6 / 5 + 10_000, "{}", due_ms - at_ms);
        at_ms = due_ms;
        deliver(&api, at_ms).await;
    }
    let seen = receiver.take();
    assert_eq!(seen.len(), 3);
    for message in &seen {
        assert_eq!((message.id(), &message.body), (event.as_str(), &seen[0].body));
        assert_eq!(message.signatures(), [message.signed_by(&secret)]);
    }
    let timestamps: HashSet<_> = seen.iter().map(|message| &message.headers["webhook-timestamp"]).collect();
    assert_eq!(timestamps.len(), 3, "each attempt has its own");
    let entry = &log(&api, &key, &id).await[0];
    assert_eq!((&entry["state"], &entry["attempt"]), (&json!("delivered"), &json!(3)));
    assert_eq!((&entry["error"], &entry["nextAttemptAt"]), (&Value::Null, &Value::Null));
    let hook = api.get(&format!("/v1/webhook/{id}"), &key).await.expect(200);
    assert_eq!(hook["failingSince"], Value::Null, "a success ends the failing");
}

#[tokio::test]
async fn ten_attempts_end_a_delivery_and_a_replay_begins_anew() {
    let (api, key, receiver) = api().await;
    receiver.always(503);
    let (id, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    let event = ping(&api, &key, &id).await;
    let mut attempts = 0;
    while let Some(due_ms) = due_ms(&api, &id).await {
        deliver(&api, due_ms).await;
        attempts += 1;
        assert!(attempts <= ATTEMPTS_MAX);
    }
    assert_eq!(receiver.take().len() as u64, ATTEMPTS_MAX);
    let entry = &log(&api, &key, &id).await[0];
    assert_eq!((&entry["state"], &entry["attempt"]), (&json!("failed"), &json!(ATTEMPTS_MAX)));
    receiver.always(200);
    let path = format!("/v1/webhook/{id}/deliveries/{event}/replay");
    let replayed = api.send(Method::POST, &path, Some(&key), None).await.expect(202);
    assert_eq!((&replayed["state"], &replayed["attempt"]), (&json!("pending"), &json!(0)));
    deliver(&api, now_ms()).await;
    assert_eq!(receiver.take()[0].id(), event);
    assert_eq!(log(&api, &key, &id).await[0]["state"], "delivered");
    let absent = path.replace(&event, "01GV2ZFBT345TRTRDK6VHBEVEN");
    api.send(Method::POST, &absent, Some(&key), None).await.expect_code(404, "unknown_delivery");
    let nonsense = path.replace(&event, "nonsense");
    api.send(Method::POST, &nonsense, Some(&key), None).await.expect_code(404, "unknown_delivery");
}

#[tokio::test]
async fn a_receiver_may_ask_for_time() {
    let (api, key, receiver) = api().await;
    let (id, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    ping(&api, &key, &id).await;
    receiver.next(429, &[("retry-after", "3600")]);
    let at_ms = now_ms();
    deliver(&api, at_ms).await;
    let first_ms = due_ms(&api, &id).await.unwrap();
    assert!((HOUR_MS..HOUR_MS + 20_000).contains(&(first_ms - at_ms)), "{}", first_ms - at_ms);
    receiver.next(503, &[("retry-after", "99999999999")]);
    deliver(&api, first_ms).await;
    let second_ms = due_ms(&api, &id).await.unwrap();
    assert!((24 * HOUR_MS..24 * HOUR_MS + 20_000).contains(&(second_ms - first_ms)), "{}", second_ms - first_ms);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled_at_once() {
    let (api, key, receiver) = api().await;
    let (id, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    ping(&api, &key, &id).await;
    receiver.next(410, &[]);
    deliver(&api, now_ms()).await;
    let hook = api.get(&format!("/v1/webhook/{id}"), &key).await.expect(200);
    assert_eq!((&hook["enabled"], &hook["disabled"]["reason"]), (&json!(false), &json!("gone")));
    assert_eq!(log(&api, &key, &id).await[0]["state"], "failed");
    deliver(&api, now_ms() + 100 * HOUR_MS).await;
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (api, key, receiver) = api().await;
    let elsewhere = Receiver::new().await;
    let (id, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    for status in [301, 302, 307, 308] {
        ping(&api, &key, &id).await;
        receiver.next(status, &[("location", &elsewhere.url)]);
        deliver(&api, now_ms()).await;
        let entry = &log(&api, &key, &id).await[0];
        assert_eq!((&entry["state"], &entry["statusCode"]), (&json!("pending"), &json!(status)));
        assert!(entry["error"].as_str().unwrap().contains("not followed"), "{entry}");
    }
    assert_eq!((receiver.count(), elsewhere.count()), (4, 0));
}

#[tokio::test]
async fn what_is_not_public_is_not_reached_by_name_either() {
    let (open, open_key, receiver) = api().await;
    let url = format!("http://localhost:{}/", receiver.port);
    let (id, _) = endpoint(&open, &open_key, json!({"url": url})).await;
    ping(&open, &open_key, &id).await;
    deliver(&open, now_ms()).await;
    assert_eq!(receiver.take().len(), 1, "the name leads there where the operator allows it");

    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let (id, _) = endpoint(&api, &key, json!({"url": url})).await;
    ping(&api, &key, &id).await;
    deliver(&api, now_ms()).await;
    let entry = &log(&api, &key, &id).await[0];
    assert_eq!((&entry["error"], &entry["statusCode"]), (&json!("the address is not public"), &Value::Null));
    // An address that was allowed when the endpoint was made, and is not any more.
    let (dir, config, account) = open.crash().await;
    let store = Store::open(dir.path()).await.unwrap();
    let closed = TestApp::on(dir, crate::ServerConfig { webhook_allow: Vec::new(), ..config }, store, account);
    let key = closed.key(Scope::Write).await;
    let hook = {
        let mut hook = closed.app.store.webhooks(&closed.account, None).await.unwrap().remove(0);
        hook.id = cakework_core::id::WebhookId::mint(now_ms(), &mut rand::rng());
        hook.url.clone_from(&receiver.url);
        hook.secret = closed.app.sealer.seal(&crate::reconcile::webhooks::secret_place(&hook.id), b"key");
        hook
    };
    assert!(closed.app.store.insert_webhook(&hook, 20, None).await.unwrap());
    ping(&closed, &key, hook.id.as_str()).await;
    deliver(&closed, now_ms()).await;
    assert_eq!(log(&closed, &key, hook.id.as_str()).await[0]["error"], "the address is not public");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn no_answer_no_name_and_no_tls_are_told_apart() {
    let (api, key, receiver) = api().await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    for (url, words) in [
        (format!("http://127.0.0.1:{closed}/"), "the connection failed"),
        (format!("https://127.0.0.1:{}/", receiver.port), "TLS failed"),
        ("http://nothing.invalid/".to_owned(), "the name has no address"),
    ] {
        let (id, _) = endpoint(&api, &key, json!({"url": url})).await;
        ping(&api, &key, &id).await;
        deliver(&api, now_ms()).await;
        let entry = &log(&api, &key, &id).await[0];
        assert!(entry["error"].as_str().unwrap().starts_with(words), "{entry}");
        assert_eq!(entry["state"], "pending");
    }
}

#[tokio::test]
async fn an_answers_body_is_not_read() {
    let (api, key, receiver) = api().await;
    *receiver.shared.otherwise.lock().unwrap() = Answer::Endless;
    let (id, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    ping(&api, &key, &id).await;
    tokio::time::timeout(Duration::from_secs(5), deliver(&api, now_ms())).await.expect("at once");
    assert_eq!(log(&api, &key, &id).await[0]["state"], "delivered");
}

#[tokio::test]
async fn a_process_that_dies_in_an_attempt_loses_nothing() {
    let (api, key, receiver) = api().await;
    let (id, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    let event = ping(&api, &key, &id).await;
    let silent = Receiver::silent().await;
    let (lost, _) = endpoint(&api, &key, json!({"url": silent.url})).await;
    let lost_event = ping(&api, &key, &lost).await;
    let at_ms = now_ms();
    // It claims, and one receiver has the message already when the process dies.
    let mut work = Work::default();
    work.start(&api.app, at_ms).await.unwrap();
    eventually("both were sent", || async { receiver.count() + silent.count() == 2 }).await;
    drop(work);
    let (dir, config, account) = api.crash().await;
    let store = Store::open(dir.path()).await.unwrap();
    let api = TestApp::on(dir, config, store, account);

    silent.always(200);
    deliver(&api, at_ms + LEASE_MS - 1).await;
    assert_eq!(silent.take().len(), 1, "the claim still holds");
    deliver(&api, at_ms + LEASE_MS).await;
    let again = silent.take();
    assert_eq!((again.len(), again[0].id()), (1, lost_event.as_str()), "the same id");
    let entry = &log(&api, &key, &lost).await[0];
    assert_eq!((&entry["state"], &entry["attempt"]), (&json!("delivered"), &json!(2)));
    assert!(receiver.take().iter().all(|message| message.id() == event));
}

#[tokio::test]
async fn two_processes_share_the_work() {
    let (api, key, receiver) = api().await;
    let mut events = HashSet::new();
    for _ in 0..3 {
        let (id, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
        for _ in 0..5 {
            events.insert(ping(&api, &key, &id).await);
        }
    }
    let store = Store::open(api.dir.path()).await.unwrap();
    let sealer = crate::seal::Sealer::open(api.dir.path()).unwrap();
    let other = crate::app::App::new(api.app.config.clone(), store, sealer, Duration::from_millis(1)).unwrap();
    let at_ms = now_ms();
    for _ in 0..2 {
        tokio::join!(deliver_from(&api.app, at_ms), deliver_from(&other, at_ms));
    }
    let seen = receiver.take();
    let ids: HashSet<_> = seen.iter().map(|message| message.id().to_owned()).collect();
    assert_eq!((seen.len(), ids), (15, events), "each once");
}

#[tokio::test]
async fn a_slow_endpoint_holds_up_nobody_else() {
    let (api, key, receiver) = api().await;
    let silent = Receiver::silent().await;
    for _ in 0..3 {
        let (slow, _) = endpoint(&api, &key, json!({"url": silent.url})).await;
        for _ in 0..10 {
            ping(&api, &key, &slow).await;
        }
    }
    let mut work = Work::default();
    work.start(&api.app, now_ms()).await.unwrap();
    eventually("the slow one has its share", || async { silent.count() == 12 }).await;
    // A second search leaves it out, and finds the other.
    let (quick, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
    ping(&api, &key, &quick).await;
    work.start(&api.app, now_ms()).await.unwrap();
    eventually("the quick one is told", || async { receiver.count() == 1 }).await;
    assert_eq!(silent.count(), 12);
    // One account has at most its share; another's endpoints are told all the same.
    let (slow, _) = endpoint(&api, &key, json!({"url": silent.url})).await;
    for _ in 0..10 {
        ping(&api, &key, &slow).await;
    }
    work.start(&api.app, now_ms()).await.unwrap();
    eventually("the account's share", || async { silent.count() >= 15 }).await;
    let other = api.stranger().await;
    let (theirs, _) = endpoint(&api, &other, json!({"url": receiver.url})).await;
    ping(&api, &other, &theirs).await;
    work.start(&api.app, now_ms()).await.unwrap();
    eventually("the other account is told", || async { receiver.count() == 2 }).await;
    assert!(silent.count() <= 16, "{}", silent.count());
}

#[tokio::test]
async fn an_operators_authority_is_trusted_and_an_unknown_one_is_not() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    certificate::write(dir.path(), "receiver").unwrap();
    let receiver = Receiver::with_tls(dir.path()).await;
    for (ca_file, state, got) in [(None, "pending", 0), (Some(dir.path().join("ca.pem")), "delivered", 1)] {
        let api = TestApp::with(|config| {
            config.webhook_allow = vec!["127.0.0.0/8".parse().unwrap()];
            config.webhook_ca_file = ca_file;
        })
        .await;
        let key = api.key(Scope::Write).await;
        let (id, _) = endpoint(&api, &key, json!({"url": receiver.url})).await;
        ping(&api, &key, &id).await;
        deliver(&api, now_ms()).await;
        let entry = &log(&api, &key, &id).await[0];
        assert_eq!((entry["state"].as_str(), receiver.count()), (Some(state), got), "{entry}");
        let refused = entry["error"].as_str().is_some_and(|error| error.contains("certificate"));
        assert_eq!(refused, got == 0, "{entry}");
    }
}

#[test]
fn an_authority_that_is_none_is_named_at_the_start() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let words = || Courier::new(&[], Some(&file)).err().unwrap().to_string();
    assert!(words().contains("can't be read"), "{}", words());
    for content in ["", "nothing"] {
        std::fs::write(&file, content).unwrap();
        let words = words();
        assert!(words.starts_with("webhooks.ca_file") && words.contains("no certificate"), "{content:?}: {words}");
    }
}
