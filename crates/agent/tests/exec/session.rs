//! A client of one command.

use std::time::Duration;

use cakework_core::exec::{ExecExit, ExecInput, ExecSpec, STDERR, STDIN, STDOUT};
use cakework_core::id::{Generation, HostId, VmId};
use cakework_wire::exec::{ExecNews, StartExec};
use cakework_wire::host::{AgentProblem, PROTOCOL_HEADER, ProblemCode};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::host::{Host, LIMIT};

/// What `sh -c` is to run.
pub fn sh(script: &str) -> ExecSpec {
    words(&["sh", "-c", script])
}

/// A command.
pub fn words(words: &[&str]) -> ExecSpec {
    ExecSpec {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        cwd: None,
        env: std::collections::BTreeMap::new(),
        user: None,
        tty: None,
        timeout_ms: 30_000,
    }
}

/// An open command.
pub struct Session {
    socket: WebSocketStream<UnixStream>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    last: Option<ExecNews>,
}

impl Session {
    /// Asks for a command in a VM's first placement.
    pub async fn open(host: &Host, vm: &VmId, spec: ExecSpec) -> Self {
        Self::open_in(host, vm, 1, spec).await
    }

    pub async fn open_in(host: &Host, vm: &VmId, generation: u64, spec: ExecSpec) -> Self {
        let mut session = Self::connect(host, vm).await;
        let host_id = host.call("GET", "/v1/host", None).await.body["hostId"].clone();
        let host_id: HostId = serde_json::from_value(host_id).expect("an id");
        let wish = StartExec { host_id, generation: Generation(generation), spec };
        session.say(Message::text(serde_json::to_string(&wish).expect("plain data"))).await;
        session
    }

    /// A connection that has not said anything.
    pub async fn connect(host: &Host, vm: &VmId) -> Self {
        let mut request = format!("ws://agent/v1/vms/{vm}/exec").into_client_request().expect("a request");
        request.headers_mut().insert(PROTOCOL_HEADER, "1".parse().expect("a value"));
        let (socket, _) = tokio_tungstenite::client_async(request, host.connect().await).await.expect("a WebSocket");
        Self { socket, stdout: Vec::new(), stderr: Vec::new(), last: None }
    }

    pub async fn say(&mut self, message: Message) {
        self.socket.send(message).await.expect("it listens");
    }

    pub async fn input(&mut self, input: &ExecInput) {
        self.say(Message::text(serde_json::to_string(input).expect("plain data"))).await;
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.say(Message::binary([&[STDIN], bytes].concat())).await;
    }

    /// Hears one message; false at the end.
    pub async fn hear(&mut self) -> bool {
        let message = tokio::time::timeout(LIMIT, self.socket.next()).await.expect("it says something");
        match message {
            Some(Ok(Message::Binary(bytes))) => match bytes.split_first() {
                Some((&STDOUT, bytes)) => self.stdout.extend_from_slice(bytes),
                Some((&STDERR, bytes)) => self.stderr.extend_from_slice(bytes),
                other => panic!("no stream: {other:?}"),
            },
            Some(Ok(Message::Text(text))) => {
                let news = serde_json::from_str(&text).expect("news");
                assert!(self.last.is_none() || self.last == Some(ExecNews::Started), "{:?}, then {news:?}", self.last);
                self.last = Some(news);
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
            Some(Ok(_)) => {}
        }
        true
    }

    /// Hears until its output has `text`.
    pub async fn until(&mut self, text: &str) {
        while !self.out().contains(text) {
            assert!(self.hear().await, "it ended: {:?} {:?}", self.out(), self.last);
        }
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Hears all; how it ended.
    pub async fn end(&mut self) -> ExecExit {
        while self.hear().await {}
        match self.last.take() {
            Some(ExecNews::Exit(exit)) => exit,
            other => panic!("no end: {other:?}, {:?}", self.out()),
        }
    }

    /// Hears why it was refused.
    pub async fn refusal(&mut self) -> AgentProblem {
        while self.hear().await {}
        match self.last.take() {
            Some(ExecNews::Refused(problem)) => problem,
            other => panic!("not refused: {other:?}, {:?}", self.out()),
        }
    }

    /// Goes without a word.
    pub fn hang_up(self) {
        drop(self);
    }
}

/// Runs a command; exit code, output and error output.
pub async fn run(host: &Host, vm: &VmId, spec: ExecSpec) -> (Option<i32>, String, String) {
    let mut session = Session::open(host, vm, spec).await;
    let exit = session.end().await;
    (exit.code, session.out(), String::from_utf8_lossy(&session.stderr).into_owned())
}

pub async fn refused(host: &Host, vm: &VmId, spec: ExecSpec) -> (ProblemCode, String) {
    let problem = Session::open(host, vm, spec).await.refusal().await;
    (problem.code, problem.message)
}

/// The VM's processes whose command line has a word, as it sees them itself.
pub async fn count(host: &Host, vm: &VmId, word: &str) -> usize {
    let script = format!(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done | grep -c '[{}]{}'",
        &word[..1],
        &word[1..]
    );
    let (_, out, _) = run(host, vm, sh(&script)).await;
    out.trim().parse().expect("a number")
}

/// Waits until none of them is left.
pub async fn gone(host: &Host, vm: &VmId, word: &str) {
    host.until("it is gone", async || (count(host, vm, word).await == 0).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(count(host, vm, word).await, 0);
}
