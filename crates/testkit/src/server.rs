//! A real `cakework serve` under test, with a fresh data directory and free ports, and the API's verbs.
//!
//! Dropped it is stopped and its instance purged, so that a failed test leaves nothing either.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, Method, header};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http;
use crate::kernel::Scope;
use crate::process::{POLL, Process, run};

/// How long a server may take until it answers, and until it has drained.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The binary: in the tests of its own crate `env!("CARGO_BIN_EXE_cakework")`.
    pub program: PathBuf,
    /// More words for `serve`.
    pub args: Vec<String>,
    /// More environment.
    pub env: Vec<(String, String)>,
    /// The content of a configuration file.
    pub config: Option<String>,
    /// The data directory; without one it is below the server's own temporary directory.
    pub data_dir: Option<PathBuf>,
}

impl Options {
    /// The defaults.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), config: None, data_dir: None }
    }
}

/// A running server.
pub struct Server {
    options: Options,
    process: Option<Process>,
    client: Client,
    listen: String,
    edge: String,
    key: String,
    dir: TempDir,
}

/// An answer of the API or of an app behind the edge.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub text: String,
    /// The body as JSON; null where it is none.
    pub json: Value,
    /// The header fields.
    pub headers: header::HeaderMap,
}

impl Answer {
    /// The JSON of a success; anything else panics with the whole answer.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "status {}: {}", self.status, self.text);
        self.json
    }

    /// The JSON of a refusal with this status and problem code; anything else panics with the whole answer.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        let seen = (self.status, self.json["code"].as_str().unwrap_or_default());
        assert_eq!(seen, (status, code), "{}", self.text);
        self.json
    }
}

impl Server {
    /// Starts a server and waits until it answers; makes a key.
    pub async fn start(options: Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("cakework-test-").tempdir()?;
        // Unprivileged roles must be able to reach what is theirs below.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let (listen, edge) = (http::free_port()?, http::free_port()?);
        let mut server = Self {
            options,
            process: None,
            client: http::client(),
            listen: format!("127.0.0.1:{listen}"),
            edge: format!("127.0.0.1:{edge}"),
            key: String::new(),
            dir,
        };
        server.launch().await?;
        server.key = server.create_key(&[])?;
        Ok(server)
    }

    /// The API's base, such as `http://127.0.0.1:40001`.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// The edge's address, such as `127.0.0.1:40002`.
    pub fn edge(&self) -> &str {
        &self.edge
    }

    /// A key of the first account, with all scopes.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.options.data_dir.clone().unwrap_or_else(|| self.dir.path().join("data"))
    }

    /// Whose objects a census counts for this server.
    pub fn scope(&self) -> Result<Scope> {
        Scope::of_data_dir(&self.data_dir())
    }

    /// What all roles have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The supervisor's process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The process id of a role that the supervisor started, such as `agent` or `api`.
    pub fn role_pid(&self, role: &str) -> Result<u32> {
        let parent = self.pid().context("the server does not run")?;
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        for pid in children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()) {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if words.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes()) {
                return Ok(pid);
            }
        }
        bail!("process {parent} has no child with the role {role}")
    }

    /// A new key through the command line; `args` as in `key create`.
    pub fn create_key(&self, args: &[&str]) -> Result<String> {
        let output = run(self.command("key").arg("create").arg("--data-dir").arg(self.data_dir()).args(args))?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// The binary with a subcommand, for what has no verb here.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.options.program);
        command.arg(subcommand).envs(self.options.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Sends SIGTERM and waits for the end; VMs keep running.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::TERM)?;
            process.wait(STOP_TIMEOUT)?;
        }
        Ok(())
    }

    /// Lets the host take no new VMs, and keep nothing ready for any.
    pub async fn drain(&self) -> Result<()> {
        let client = Client::builder().unix_socket(self.data_dir().join("run/agent.sock")).build()?;
        let request = client.put("http://agent/v1/host/drain").header("cakework-protocol", "1");
        let answer = request.json(&json!({"draining": true})).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        Ok(())
    }

    /// Kills the supervisor without a warning.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the server again on the same data directory and ports, and waits until it answers.
    pub async fn launch(&mut self) -> Result<()> {
        let mut args = vec!["serve".to_owned()];
        for (name, value) in [
            ("--data-dir", self.data_dir().display().to_string()),
            ("--listen", self.listen.clone()),
            ("--edge-listen", self.edge.clone()),
        ] {
            args.extend([name.to_owned(), value]);
        }
        if let Some(text) = &self.options.config {
            let path = self.dir.path().join("cakework.toml");
            std::fs::write(&path, text)?;
            args.extend(["--config".to_owned(), path.display().to_string()]);
        }
        args.extend(self.options.args.iter().cloned());
        let logged = self.log().len();
        self.process =
            Some(Process::start_with_env(&self.options.program, &args, &self.options.env, &self.log_path())?);
        self.wait_until_ready(logged).await
    }

    /// POST /v1/image/import.
    pub async fn import(&self, image_uri: &str, password: &str) -> Result<Answer> {
        self.post("/v1/image/import", json!({"imageUri": image_uri, "password": password})).await
    }

    /// POST /v1/vm/start.
    pub async fn start_vm(&self, body: Value) -> Result<Answer> {
        self.post("/v1/vm/start", body).await
    }

    /// GET /v1/vm/{id}/wait: until the VM is in `state`, at most 30 s.
    pub async fn wait_vm(&self, id: &str, state: &str) -> Result<Answer> {
        self.get(&format!("/v1/vm/{id}/wait?state={state}&timeout=30")).await
    }

    /// POST /v1/vm/{id}/stop.
    pub async fn stop_vm(&self, id: &str) -> Result<Answer> {
        self.call(Method::POST, &format!("/v1/vm/{id}/stop"), None).await
    }

    /// GET /v1/vm/{id}/logs; `query` without its question mark.
    pub async fn logs(&self, id: &str, query: &str) -> Result<Answer> {
        self.get(&format!("/v1/vm/{id}/logs?{query}")).await
    }

    /// GET of any path of the API.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.call(Method::GET, path, None).await
    }

    /// POST of JSON to any path of the API.
    pub async fn post(&self, path: &str, body: Value) -> Result<Answer> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Any call of the API with the first key.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        self.call_as(&self.key, method, path, body).await
    }

    /// Any call of the API with another key.
    pub async fn call_as(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let mut request = self.client.request(method, format!("{}{path}", self.url())).header("X-Api-Key", key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        read_answer(request.send().await?).await
    }

    /// GET of a path of an app through the edge, by hostname.
    pub async fn fetch(&self, hostname: &str, path: &str) -> Result<Answer> {
        let request = self.client.get(format!("http://{}{path}", self.edge)).header(header::HOST, hostname);
        read_answer(request.send().await?).await
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    async fn wait_until_ready(&mut self, logged: usize) -> Result<()> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            let process = self.process.as_mut().context("the server does not run")?;
            if let Some(status) = process.ended()? {
                bail!("cakework serve ended with {status}:\n{}", self.log());
            }
            if self.log()[logged..].contains("ready: ") {
                return Ok(());
            }
            ensure!(Instant::now() < end, "cakework serve does not answer:\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Server {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server wrote:\n{}", self.log());
        }
        if self.stop().is_err() {
            self.kill();
        }
        purge(&self.options.program, &self.data_dir());
    }
}

/// Takes everything of an instance away. It runs on drop, where a failure can only be said.
#[allow(clippy::print_stderr)]
fn purge(program: &Path, data_dir: &Path) {
    if data_dir.join("instance.json").exists()
        && let Err(error) = run(Command::new(program).args(["purge", "--yes", "--data-dir"]).arg(data_dir))
    {
        eprintln!("purging after a test: {error:#}");
    }
}

async fn read_answer(response: reqwest::Response) -> Result<Answer> {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await?;
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answer { status, text, json, headers })
}
