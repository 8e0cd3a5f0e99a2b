//! Cached VMs behind the real edge, with a scripted host: what wakes them, and what keeps them awake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cakework_core::id::VmId;
use cakework_edge::{EdgeConfig, EdgeLimits};
use cakework_wire::host::VmObservation;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::cached::{cache, call, state, until, with_host};
use super::script::Host;
use super::{PATIENCE, TestApp, eventually};
use crate::ops::cached::run::Wakes;

/// An app on a port: it answers at once, at `/slow` when it is let, and takes WebSockets, which end when they are let.
struct Upstream {
    port: u16,
    go: Arc<Semaphore>,
    _task: AbortOnDropHandle<()>,
}

impl Upstream {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let go = Arc::new(Semaphore::new(0));
        let gate = Arc::clone(&go);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&gate)));
            }
        });
        Self { port, go, _task: AbortOnDropHandle::new(task) }
    }
}

async fn serve(mut stream: TcpStream, gate: Arc<Semaphore>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let is_socket = head.contains("upgrade: websocket");
    if is_socket {
        let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(agreed.as_bytes()).await.unwrap();
    }
    if is_socket || head.contains("/slow") {
        gate.acquire().await.unwrap().forget();
    }
    if !is_socket {
        let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

struct World {
    api: TestApp,
    host: Host,
    key: String,
    edge: SocketAddr,
    upstream: Upstream,
    _served: AbortOnDropHandle<std::io::Result<()>>,
}

impl World {
    async fn new() -> Self {
        let (api, host, key) = with_host().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let edge = listener.local_addr().unwrap();
        let config = EdgeConfig { base_domain: "localhost".into(), limits: EdgeLimits::default() };
        let waker = Arc::new(Wakes(Arc::clone(&api.app)));
        let (routes, metrics) = (api.app.routes.clone(), api.app.metrics.edge.clone());
        let serving = cakework_edge::serve(listener, routes, config, metrics, waker, api.shutdown.clone());
        let served = AbortOnDropHandle::new(tokio::spawn(serving));
        Self { api, host, key, edge, upstream: Upstream::new().await, _served: served }
    }

    async fn cache(&self, more: Value) -> (VmId, String) {
        let mut body = json!({"port": self.upstream.port});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (id, vm) = cache(&self.api, &self.key, body).await;
        eventually("its route", || async { !self.api.app.routes.is_empty() }).await;
        (id, vm["hostname"].as_str().unwrap().to_owned())
    }

    async fn send(&self, hostname: &str, path: &str, more: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.edge).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {hostname}\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Status, and the code of a problem.
    async fn get(&self, hostname: &str) -> (u16, String) {
        answer(self.send(hostname, "/", "Connection: close\r\n").await).await
    }
}

async fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let body: Value =
        text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok()).unwrap_or_default();
    (text[9..12].parse().unwrap(), body["code"].as_str().unwrap_or_default().to_owned())
}

fn ok() -> (u16, String) {
    (200, String::new())
}

#[tokio::test]
async fn two_hundred_requests_start_a_vm_once_and_wake_it_once() {
    let world = World::new().await;
    let (id, hostname) = world.cache(json!({})).await;
    for _ in 0..2 {
        let all = futures_util::future::join_all((0..200).map(|_| world.get(&hostname))).await;
        assert!(all.iter().all(|answer| *answer == ok()), "{all:?}");
        call(&world.api, &world.key, &id, "suspend").await.expect(204);
    }
    assert_eq!(world.host.world().calls, ["hold", "run", "sleep", "wake", "sleep"]);
    // Requests, and whoever asks by the API, share one way.
    let (start, answered) = tokio::join!(call(&world.api, &world.key, &id, "start"), world.get(&hostname));
    assert_eq!((start.status.as_u16(), answered), (200, ok()));
    assert_eq!(state(&world.api, &id).await, "started");
    // A request that comes while a run ends begins the next.
    let (stop, answered) = tokio::join!(call(&world.api, &world.key, &id, "stop"), async {
        until(&world.api, &id, "stopped").await;
        world.get(&hostname).await
    });
    assert_eq!((stop.status.as_u16(), answered), (204, ok()));
}

#[tokio::test]
async fn without_auto_start_a_request_wakes_nothing() {
    let world = World::new().await;
    let (id, hostname) = world.cache(json!({"autoStart": false})).await;
    assert_eq!(world.get(&hostname).await, (503, "vm_stopped".into()));
    call(&world.api, &world.key, &id, "start").await.expect(200);
    assert_eq!(world.get(&hostname).await, ok());
    call(&world.api, &world.key, &id, "suspend").await.expect(204);
    assert_eq!(world.get(&hostname).await, (503, "vm_stopped".into()));
    assert_eq!(world.host.world().calls, ["hold", "run", "sleep"]);
    call(&world.api, &world.key, &id, "destroy").await.expect(204);
    assert_eq!(world.get(&hostname).await, (503, "vm_stopped".into()));
}

#[tokio::test]
async fn a_request_that_can_not_have_its_vm_started_is_told() {
    let world = World::new().await;
    let (id, hostname) = world.cache(json!({})).await;
    world.host.world().full = true;
    assert_eq!(world.get(&hostname).await, (503, "wake_failed".into()));
    world.host.world().full = false;
    assert_eq!(world.get(&hostname).await, ok());
    // A process that ends as soon as it is started is not started without end.
    call(&world.api, &world.key, &id, "stop").await.expect(204);
    world.host.world().runs = false;
    let runs = world.host.count("run");
    let ending = async {
        eventually("it is asked for", || async { world.host.count("run") > runs }).await;
        world.host.observe(&id, VmObservation::Stopped { exit: None });
    };
    let (answered, ()) = tokio::join!(world.get(&hostname), ending);
    assert_eq!(answered, (503, "wake_failed".into()));
    world.host.world().runs = true;
    call(&world.api, &world.key, &id, "destroy").await.expect(204);
    assert_eq!(world.get(&hostname).await, (503, "vm_stopped".into()));
}

#[tokio::test]
async fn idleness_begins_after_the_last_request_and_the_last_socket() {
    let world = World::new().await;
    let (id, hostname) = world.cache(json!({"idleTimeoutSeconds": 1})).await;
    assert_eq!(world.get(&hostname).await, ok());
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                   Sec-WebSocket-Version: 13\r\n";
    for (path, more) in [("/slow", "Connection: close\r\n"), ("/", upgrade)] {
        let open = world.send(&hostname, path, more).await;
        eventually("it is open", || async { world.api.app.routes.in_flight(&id) == 1 }).await;
        let asked = world.host.count("sleep");
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(world.host.count("sleep"), asked, "nothing sleeps under {path}");
        call(&world.api, &world.key, &id, "suspend").await.expect_code(409, "vm_busy");
        world.upstream.go.add_permits(1);
        let (status, _) = answer(open).await;
        assert!([200, 101].contains(&status), "{status}");
        until(&world.api, &id, "asleep").await;
        assert_eq!(world.get(&hostname).await, ok(), "a request wakes it");
    }
    // What the host calls busy goes on, and is asked for again later.
    world.host.world().busy = Some("a command runs".into());
    let asked = world.host.count("sleep");
    eventually("it is asked for twice", || async { world.host.count("sleep") >= asked + 2 }).await;
    assert_eq!(state(&world.api, &id).await, "started");
    assert_eq!(world.get(&hostname).await, ok());
    world.host.world().busy = None;
    until(&world.api, &id, "asleep").await;
}

#[tokio::test]
async fn a_vm_without_a_port_goes_to_sleep_by_its_hosts_word() {
    let (api, host, key) = with_host().await;
    let image = api.ready_image().await;
    let body = json!({"imageId": image, "idleTimeoutSeconds": 1});
    let vm = api.post("/v1/vm/cache", &key, body).await.expect(201);
    let id: VmId = vm["id"].as_str().unwrap().parse().unwrap();
    call(&api, &key, &id, "start").await.expect(200);
    until(&api, &id, "asleep").await;
    assert_eq!(host.count("sleep"), 1);
    call(&api, &key, &id, "start").await.expect(200);
}

#[tokio::test]
async fn a_vm_that_another_process_put_to_sleep_under_a_request_is_woken() {
    let world = World::new().await;
    let (id, hostname) = world.cache(json!({})).await;
    let open = world.send(&hostname, "/slow", "Connection: close\r\n").await;
    until(&world.api, &id, "started").await;
    eventually("it is open", || async { world.api.app.routes.in_flight(&id) == 1 }).await;
    world.host.observe(&id, VmObservation::Asleep { spilled: false });
    eventually("it is woken", || async { world.host.count("wake") == 1 }).await;
    until(&world.api, &id, "started").await;
    world.upstream.go.add_permits(1);
    assert_eq!(answer(open).await, ok());
}
