//! A running edge, origins that stand for VMs, and a connection that reads and writes HTTP by hand, so that a test
//! sees what is on the wire.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cakework_core::id::{Generation, HostLabel, VmId};
use cakework_edge::{EdgeConfig, EdgeLimits, EdgeMetrics, Route, RouteTable, Target, WakeFailure, Waker, Waking};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Bound of every wait.
const WAIT: Duration = Duration::from_secs(20);

pub const DOMAIN: &str = "apps.example.com";

/// The label of the VM with this number.
pub fn label(number: u8) -> HostLabel {
    format!("01{number:024}").parse().unwrap()
}

pub fn vm_id(number: u8) -> VmId {
    format!("e784996f3463{number:02x}").parse().unwrap()
}

/// The hostname of the VM with this number.
pub fn host(number: u8) -> String {
    format!("{}.{DOMAIN}", label(number))
}

/// Limits that make failures quick to see.
pub fn limits() -> EdgeLimits {
    EdgeLimits { hold_ms: 10_000, drain_ms: 200, ..EdgeLimits::default() }
}

pub struct Edge {
    pub address: SocketAddr,
    pub routes: RouteTable,
    pub shutdown: CancellationToken,
    pub served: AbortOnDropHandle<std::io::Result<()>>,
}

/// Wakes nothing: for VMs that are not dormant.
struct NoWaker;

impl Waker for NoWaker {
    fn wake(&self, _: &VmId) -> Waking {
        Box::pin(async { Err(WakeFailure::Failed) })
    }
}

impl Edge {
    pub async fn start(limits: EdgeLimits) -> Self {
        Self::start_with(limits, RouteTable::new(), Arc::new(NoWaker)).await
    }

    pub async fn start_with(limits: EdgeLimits, routes: RouteTable, waker: Arc<dyn Waker>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let config = EdgeConfig { base_domain: DOMAIN.to_owned(), limits };
        let metrics = EdgeMetrics::new(&mut Registry::default());
        let serving = cakework_edge::serve(listener, routes.clone(), config, metrics, waker, shutdown.clone());
        let served = tokio::spawn(serving);
        Self { address, routes, shutdown, served: AbortOnDropHandle::new(served) }
    }

    /// An edge whose VM 1 is at `origin`.
    pub async fn before(origin: &Origin) -> Self {
        let edge = Self::start(limits()).await;
        edge.apply(1, 1, 1, Target::Ready(origin.address));
        edge
    }

    pub fn apply(&self, number: u8, generation: u64, seq: u64, target: Target) {
        let route = Route { vm_id: vm_id(number), generation: Generation(generation), seq, target };
        self.routes.apply(label(number), route);
    }

    pub async fn connect(&self) -> Conn {
        Conn::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends the bytes on a connection of their own and reads one response.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        let mut conn = self.connect().await;
        conn.write(request).await;
        conn.response().await
    }

    /// GETs `/` of the VM with this number.
    pub async fn get(&self, number: u8) -> Response {
        self.ask(get(number, "/")).await
    }
}

pub fn get(number: u8, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", host(number))
}

/// A listener whose connections a test serves. Dropping it fails the test if one of its handlers has failed.
pub struct Origin {
    pub address: SocketAddr,
    failed: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Origin {
    /// Serves each connection with `handler`.
    pub async fn serve<F>(handler: impl Fn(Conn) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::on("127.0.0.1:0".parse().unwrap(), handler).await
    }

    pub async fn on<F>(address: SocketAddr, handler: impl Fn(Conn) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let failed = Arc::new(AtomicBool::new(false));
        let (count, failure) = (Arc::clone(&accepted), Arc::clone(&failed));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (handled, failure) = (tokio::spawn(handler(Conn::new(stream))), Arc::clone(&failure));
                tokio::spawn(async move {
                    failure.fetch_or(handled.await.is_err_and(|error| error.is_panic()), Ordering::SeqCst);
                });
            }
        });
        Self { address, failed, accepted, _task: AbortOnDropHandle::new(task) }
    }

    /// Answers every request on every connection with `response`.
    pub async fn fixed(response: &'static str) -> Self {
        Self::serve(move |mut conn| async move {
            while let Some(head) = conn.head().await {
                conn.take(content_length(&head).unwrap_or(0)).await;
                conn.write(response).await;
            }
        })
        .await
    }

    /// Answers every request with its own head as the body.
    pub async fn mirror() -> Self {
        Self::serve(|mut conn| async move {
            while let Some(head) = conn.head().await {
                conn.take(content_length(&head).unwrap_or(0)).await;
                conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len())).await;
            }
        })
        .await
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        assert!(std::thread::panicking() || !self.failed.load(Ordering::SeqCst), "an origin failed; see above");
    }
}

pub fn content_length(head: &str) -> Option<usize> {
    field(head, "content-length").map(|text| text.parse().unwrap())
}

/// A header field of a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

pub struct Response {
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The code of a problem, once its form is checked.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{}", self.head);
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["status"], self.status());
        assert_eq!(body["requestId"].as_str(), self.field("x-request-id"));
        for field in ["type", "title", "detail"] {
            assert!(body[field].is_string(), "{field}");
        }
        (self.status(), body["code"].as_str().unwrap().to_owned())
    }
}

/// One side of a connection.
pub struct Conn {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Conn {
    fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Writes, where the other side still listens.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(WAIT, self.stream.write_all(bytes.as_ref())).await.expect("the other side reads");
    }

    /// More bytes in the buffer; false at the end.
    async fn fill(&mut self) -> bool {
        let read = timeout(WAIT, self.stream.read_buf(&mut self.buffer)).await.expect("the other side writes");
        matches!(read, Ok(1..))
    }

    /// The next head with its empty line; `None` at the end.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                return Some(String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next `count` bytes, or fewer at the end.
    pub async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.fill().await {}
        self.buffer.drain(..count.min(self.buffer.len())).collect()
    }

    /// Everything until the other side ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// A chunk; empty for the last one. What follows the last one is left to read.
    pub async fn chunk(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let byte = self.take(1).await;
            assert!(!byte.is_empty(), "the chunks broke off");
            line.extend(byte);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let data = self.take(size).await;
        if size > 0 {
            assert_eq!(self.take(2).await, b"\r\n");
        }
        data
    }

    /// The response to anything but HEAD.
    pub async fn response(&mut self) -> Response {
        let head = self.head().await.expect("a response");
        let body = match content_length(&head) {
            Some(length) => self.take(length).await,
            None if field(&head, "transfer-encoding") == Some("chunked") => {
                let mut body = Vec::new();
                loop {
                    let chunk = self.chunk().await;
                    if chunk.is_empty() {
                        assert_eq!(self.take(2).await, b"\r\n");
                        break body;
                    }
                    body.extend(chunk);
                }
            }
            None => Vec::new(),
        };
        Response { head, body }
    }
}

/// Waits until the condition holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(WAIT, wait).await.unwrap_or_else(|_| panic!("{what}"));
}
