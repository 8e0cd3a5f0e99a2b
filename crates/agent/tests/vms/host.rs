//! A host under test: a real agent in a process of its own, with an instance id, a directory and a registry of its own.
//! When it is dropped, also by a panic, everything of the instance is purged.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cakework_core::id::{Generation, InstanceId, VmId};
use cakework_core::lifecycle::Exit;
use cakework_core::logquery::{LogQuery, Order};
use cakework_core::spec::VmSpec;
use cakework_testkit::images::{Builder, Compression, Format, Image, busybox};
use cakework_testkit::kernel::{Census, Scope};
use cakework_testkit::{Auth, Registry};
use cakework_wire::host::{
    LogPage, LogRequest, PROTOCOL_HEADER, PullImage, PutVm, PutVmAnswer, Reply, VmObservation, VmReport, WatchPage,
};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longest wait for anything: this machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// The example that dispatches to the agent's roles, beside this test's own directory.
fn roles() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let roles = own.ancestors().nth(2).expect("deps is in the profile's directory").join("examples/agent-roles");
    assert!(roles.exists(), "run `cargo build -p cakework-agent --examples` first: {} is missing", roles.display());
    roles
}

/// A host under test.
pub struct Host {
    pub instance: InstanceId,
    pub dir: PathBuf,
    config: Value,
    agent: Option<Child>,
    registry: Registry,
    temporary: tempfile::TempDir,
    _turf: Turf,
}

/// A network and a port that no other test on this machine has: routes to the pools of two tests must not meet. Beyond
/// those that a server chooses for itself.
struct Turf {
    number: u8,
    _lock: std::fs::File,
}

impl Turf {
    const FIRST: u8 = 128;
    const COUNT: u8 = 120;

    fn take() -> Self {
        let dir = std::env::temp_dir().join("cakework-test-turfs");
        std::fs::create_dir_all(&dir).expect("a directory");
        let begin = rand::random_range(0..Self::COUNT);
        let mut numbers = (0..Self::COUNT).map(|step| Self::FIRST + (begin + step) % Self::COUNT);
        numbers
            .find_map(|number| {
                let file = std::fs::File::create(dir.join(number.to_string())).expect("a file");
                file.try_lock().is_ok().then_some(Self { number, _lock: file })
            })
            .expect("fewer tests than networks at a time")
    }
}

/// An answer of the agent: status and body.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Host {
    /// A host without an agent, of the given capacity.
    pub async fn new(capacity: Value) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make sandboxes, mounts and networks: run them as root"
        );
        let temporary = tempfile::Builder::new().prefix("cakework-agent-").tempdir().expect("a directory");
        let instance = InstanceId::mint(&mut rand::rng());
        let dir = temporary.path().join("agent");
        let turf = Turf::take();
        let config = json!({
            "instance": instance,
            "dir": dir,
            "socket": temporary.path().join("agent.sock"),
            "socketGid": null,
            "program": roles(),
            // The roles are not linked statically.
            "guest": std::env::var_os("CAKEWORK_TEST_GUEST").map(PathBuf::from),
            "runsc": "/usr/bin/runsc",
            "capacity": capacity,
            // The registry of a test is on loopback.
            "images": {"egress": {"allow": ["127.0.0.1/32"]}},
            "network": {
                "instance": instance,
                "pool": format!("10.{}.0.0/16", turf.number),
                "dnsPort": 20_000 + u16::from(turf.number),
                "edgeUid": 0,
            },
        });
        let registry = Registry::start(Auth::Anonymous).await.expect("a registry");
        Self { instance, dir, config, agent: None, registry, temporary, _turf: turf }
    }

    /// A host whose agent runs.
    pub async fn started() -> Self {
        let mut host = Self::new(json!({"cpuFactor": 64})).await;
        host.start().await;
        host
    }

    /// Changes what the next agent is told.
    #[allow(dead_code, reason = "builds need it")]
    pub fn configure(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
    }

    /// Pushes an image to the registry; gives its reference.
    pub async fn push(&self, name: &str, tag: &str, image: &Image) -> String {
        self.registry.push(name, tag, image).await.expect("the registry takes it");
        self.registry.reference(name, tag)
    }

    /// Starts the agent and waits until it answers.
    pub async fn start(&mut self) {
        self.spawn();
        let end = Instant::now() + LIMIT;
        while self.try_call("GET", "/v1/host", None).await.is_none() {
            let ended = self.agent.as_mut().and_then(|agent| agent.try_wait().expect("its own child"));
            assert!(ended.is_none() && Instant::now() < end, "no agent ({ended:?}): {}", self.said());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts the agent; it may not answer yet.
    pub fn spawn(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a log file");
        let mut agent = Command::new(roles())
            .arg("agent")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        self.write_config(&mut agent);
        self.agent = Some(agent);
    }

    /// Kills the agent.
    pub fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().expect("its own child");
            agent.wait().expect("its own child");
        }
    }

    /// Asks the agent to end, and waits until it has.
    #[allow(dead_code, reason = "builds need it")]
    pub fn terminate(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let pid = i32::try_from(agent.id()).expect("a process id");
            let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("its own child");
            agent.wait().expect("its own child");
        }
    }

    /// Removes everything of the instance.
    pub fn purge(&mut self) {
        self.kill();
        let mut purge = Command::new(roles()).arg("purge").stdin(Stdio::piped()).spawn().expect("purge starts");
        self.write_config(&mut purge);
        assert!(purge.wait().expect("its own child").success(), "purge failed");
    }

    /// Runs a role that answers on standard output.
    pub fn role(&self, role: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut config = self.config.clone();
        change(&mut config);
        std::fs::create_dir_all(&self.dir).expect("a directory");
        let mut child =
            Command::new(roles()).arg(role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        child.stdin.take().expect("piped").write_all(config.to_string().as_bytes()).expect("it reads");
        serde_json::from_slice(&child.wait_with_output().expect("its own child").stdout).expect("JSON")
    }

    /// Makes an image ready on the host; gives its digest.
    pub async fn image(&self, name: &str, image: Image) -> String {
        let digest = image.digest().to_owned();
        let pull = PullImage { reference: self.push(name, "1", &image).await, credential: None };
        let answer = self.call("PUT", &format!("/v1/images/{digest}"), Some(json!(pull))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let path = format!("/v1/images/{digest}");
        self.until("the image is ready", async || {
            let report = self.call("GET", &path, None).await.body;
            assert_ne!(report["body"]["state"], "failed", "{report}");
            (report["body"]["state"] == "ready").then_some(())
        })
        .await;
        digest
    }

    /// Busybox, ready on the host.
    pub async fn busybox(&self) -> String {
        self.image("busybox", shell().build()).await
    }

    /// Puts a VM's first placement, which must be admitted.
    pub async fn admit(&self, spec: VmSpec, timeout_ms: Option<u64>) -> VmId {
        let vm = VmId::mint(&mut rand::rng());
        let put = PutVm { timeout_ms, ..put(1, spec) };
        assert_eq!(self.put(&vm, &put).await, PutVmAnswer::Admitted { now: None });
        vm
    }

    /// Puts a placement.
    pub async fn put(&self, vm: &VmId, put: &PutVm) -> PutVmAnswer {
        let answer = self.call("PUT", &format!("/v1/vms/{vm}"), Some(json!(put))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        body(answer)
    }

    /// Asks for a VM's end with grace.
    pub async fn stop(&self, vm: &VmId) {
        let answer = self.call("POST", &format!("/v1/vms/{vm}/stop"), Some(json!({"generation": 1}))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// Asks for a VM's end now.
    pub async fn delete(&self, vm: &VmId, generation: u64) {
        let answer = self.call("DELETE", &format!("/v1/vms/{vm}?generation={generation}"), None).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// All reports.
    pub async fn watch(&self, after: u64, wait_ms: u64) -> WatchPage {
        body(self.call("GET", &format!("/v1/watch?after={after}&wait_ms={wait_ms}"), None).await)
    }

    /// What the host says about a VM.
    pub async fn report(&self, vm: &VmId) -> Option<VmReport> {
        self.watch(0, 0).await.vms.into_iter().find(|report| report.vm_id == *vm)
    }

    /// Waits until a VM runs; gives its address.
    pub async fn running(&self, vm: &VmId) -> Ipv4Addr {
        self.until("the VM runs", async || match self.report(vm).await?.observation {
            VmObservation::Running { address, .. } => Some(address),
            VmObservation::Ended { exit } => panic!("it ended: {exit:?}"),
            VmObservation::Starting
            | VmObservation::Asleep { .. }
            | VmObservation::Stopped { .. }
            | VmObservation::Ending => None,
        })
        .await
    }

    /// Waits until a VM is over; says how.
    pub async fn ended(&self, vm: &VmId) -> Exit {
        self.until("the VM is over", async || match self.report(vm).await?.observation {
            VmObservation::Ended { exit } => Some(exit),
            _ => None,
        })
        .await
    }

    /// The lines of a VM's log.
    pub async fn lines(&self, vm: &VmId) -> Vec<String> {
        let query = LogQuery {
            contains: String::new(),
            batch: 1000,
            order: Order::OldestFirst,
            from_ms: None,
            to_ms: None,
            after: None,
        };
        let answer = self.call("POST", &format!("/v1/vms/{vm}/logs"), Some(json!(LogRequest { query }))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        body::<LogPage>(answer).lines.into_iter().map(|line| line.message).collect()
    }

    /// Waits for a line in a VM's log.
    pub async fn says(&self, vm: &VmId, wanted: &str) {
        self.until(wanted, async || self.lines(vm).await.iter().any(|line| line == wanted).then_some(())).await;
    }

    /// Waits for something, not longer than [`LIMIT`].
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < end, "waited too long until {what}: {}", self.said());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Calls the agent.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.try_call(method, path, body).await.unwrap_or_else(|| panic!("no answer: {}", self.said()))
    }

    async fn try_call(&self, method: &str, path: &str, body: Option<Value>) -> Option<Answer> {
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "agent")
            .header(PROTOCOL_HEADER, "1")
            .header("content-type", "application/json");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.send(request.body(Full::from(body)).expect("a request")).await
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: hyper::Request<Full<bytes::Bytes>>) -> Option<Answer> {
        let socket = self.config["socket"].as_str().expect("a path");
        let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some(Answer { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
    }

    /// Sends a request with a body of any kind; status, and the body as far as it came, with whether that is all.
    #[allow(dead_code, reason = "files need it")]
    pub async fn send_bytes(&self, path: &str, body: bytes::Bytes) -> (u16, Vec<u8>, bool) {
        let request = hyper::Request::post(path).header("host", "agent").header(PROTOCOL_HEADER, "1");
        let request = request.body(Full::new(body)).expect("a request");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.connect().await)).await.expect("HTTP");
        tokio::spawn(connection);
        let mut answer = sender.send_request(request).await.expect("an answer");
        let (status, mut all) = (answer.status().as_u16(), Vec::new());
        while let Some(frame) = answer.frame().await {
            let Ok(frame) = frame else { return (status, all, false) };
            all.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
        (status, all, true)
    }

    /// A connection to the agent's socket.
    #[allow(dead_code, reason = "commands need it")]
    pub async fn connect(&self) -> tokio::net::UnixStream {
        let socket = self.config["socket"].as_str().expect("a path");
        tokio::net::UnixStream::connect(socket).await.expect("the agent listens")
    }

    /// What the kernel holds for this instance.
    pub fn scope(&self) -> Scope {
        Scope::new(self.instance.as_str(), Some(&self.dir))
    }

    /// Fails if the kernel holds what it did not hold `before`.
    pub fn assert_nothing_since(&self, before: &Census) {
        let left = Census::leftovers(&self.scope(), before, Duration::from_secs(10)).expect("a census");
        let left: Vec<String> = left.iter().map(ToString::to_string).collect();
        assert!(left.is_empty(), "left over: {left:#?}\n{}", self.said());
    }

    /// A file in a VM's directory.
    pub fn file(&self, vm: &VmId, name: &str) -> PathBuf {
        self.dir.join("vms").join(vm.as_str()).join(name)
    }

    /// What the agent wrote to its log.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.temporary.path().join("agent.log")
    }

    fn write_config(&self, child: &mut Child) {
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(self.config.to_string().as_bytes()).expect("the role reads its configuration");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What can't be shown does not change the failure.
            let _ = std::io::stderr().write_all(self.said().as_bytes());
        }
        self.purge();
    }
}

/// A shell, for commands of tests.
pub fn shell() -> Builder {
    busybox(Format::Oci, Compression::Gzip).expect("busybox is installed").entrypoint(&["/bin/sh", "-c"]).cmd(&["true"])
}

/// A small VM that runs `script`.
pub fn spec(digest: &str, script: &str) -> VmSpec {
    VmSpec {
        image_digest: digest.into(),
        cpu: 1,
        memory_mib: 256,
        disk_mib: 256,
        volume_gb: None,
        port: None,
        env: std::collections::BTreeMap::new(),
        command: Some(vec![script.into()]),
        stop_grace_ms: 30_000,
    }
}

/// A placement without an end.
pub fn put(generation: u64, spec: VmSpec) -> PutVm {
    let start_remaining_ms = 60_000;
    PutVm {
        generation: Generation(generation),
        scope: "a".into(),
        spec,
        timeout_ms: None,
        start_remaining_ms,
        wait_ms: 0,
        cached: None,
    }
}

/// The body of an answer.
pub fn body<T: DeserializeOwned>(answer: Answer) -> T {
    let text = answer.body.to_string();
    let reply: Reply<T> = serde_json::from_value(answer.body).unwrap_or_else(|error| panic!("{error}: {text}"));
    reply.body
}

/// Asks a VM for `/`; `None` until it answers.
pub async fn http(address: Ipv4Addr, port: u16) -> Option<String> {
    // A connection that was taken and is never answered must not hide that the next one is.
    tokio::time::timeout(Duration::from_secs(5), ask(address, port)).await.ok()?
}

async fn ask(address: Ipv4Addr, port: u16) -> Option<String> {
    let stream = tokio::net::TcpStream::connect((address, port)).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = hyper::Request::builder().uri("/").header("host", "vm").body(Full::<bytes::Bytes>::default());
    let answer = sender.send_request(request.expect("a request")).await.ok()?;
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    Some(String::from_utf8_lossy(&body).trim().to_owned())
}

/// A recorded process id.
pub fn recorded(path: &Path, who: &str) -> Option<i32> {
    let record: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    record[who]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
}
