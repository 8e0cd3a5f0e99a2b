//! The server that is measured: a given one, or one that is started for the run and ends with it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cakework_testkit::server::Options;
use cakework_testkit::{Server, http};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for anything that is measured.
pub const WAIT: Duration = Duration::from_secs(120);
/// How long a number has to stay the same.
const STEADY: Duration = Duration::from_secs(1);
/// Time between the end of one sandbox and the start of the next that is measured.
const SETTLE: Duration = Duration::from_millis(300);
/// How often a state is asked for.
const POLL: Duration = Duration::from_millis(10);

/// How to get to a server.
#[derive(Args, Debug)]
pub struct Access {
    /// The release binary, to start a server of.
    #[arg(long, global = true, default_value = "target/release/cakework")]
    program: PathBuf,
    /// A running server's API, such as `http://127.0.0.1:8081`.
    #[arg(long, global = true, requires = "edge", requires = "key", requires = "data_dir")]
    url: Option<String>,
    /// Its edge, such as `127.0.0.1:8080`.
    #[arg(long, global = true)]
    edge: Option<String>,
    /// A key of its first account.
    #[arg(long, global = true, env = "CAKEWORK_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Its data directory.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
}

impl Access {
    /// The server that is given, or a new one.
    pub async fn open(&self) -> Result<Subject> {
        match (&self.url, &self.edge, &self.key, &self.data_dir) {
            (Some(url), Some(edge), Some(key), Some(data_dir)) => Ok(Subject {
                url: url.clone(),
                edge: edge.clone(),
                key: key.clone(),
                data_dir: data_dir.canonicalize().context("finding the data directory")?,
                client: http::client(),
                _server: None,
            }),
            _ => self.start().await,
        }
    }

    /// The binary.
    pub fn program(&self) -> Result<PathBuf> {
        self.program
            .canonicalize()
            .with_context(|| format!("finding {}: make it with `make build`, or give --url", self.program.display()))
    }

    /// A new server in an empty data directory.
    pub async fn start(&self) -> Result<Subject> {
        // Builds take their base image from a registry on this machine.
        self.start_with("[builds]\nallow = [\"127.0.0.0/8\", \"::1/128\"]\n").await
    }

    /// The same with a configuration.
    pub async fn start_with(&self, config: &str) -> Result<Subject> {
        let program = self.program()?;
        // What asks as fast as it can is measured, not held back.
        let config = format!("{config}[requests]\nper_second_of_key = 1000000\nper_second_of_account = 1000000\n");
        let server = Server::start(Options { config: Some(config), ..Options::new(program) }).await?;
        Ok(Subject {
            url: server.url(),
            edge: server.edge().to_owned(),
            key: server.key().to_owned(),
            data_dir: server.data_dir().canonicalize()?,
            client: http::client(),
            _server: Some(server),
        })
    }
}

/// A server under measurement.
pub struct Subject {
    pub url: String,
    pub edge: String,
    pub data_dir: PathBuf,
    key: String,
    client: reqwest::Client,
    /// Ends, with all that it made, when the measurement does.
    _server: Option<Server>,
}

impl Subject {
    /// The key, for programs that are measured.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// GET of a path of the API; a refusal is an error.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let request = self.client.get(format!("{}{path}", self.url)).header("X-Api-Key", &self.key);
        read(request.send().await?).await
    }

    /// POST to a path of the API; a refusal is an error.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        let request = self.client.post(format!("{}{path}", self.url)).header("X-Api-Key", &self.key).json(&body);
        read(request.send().await?).await
    }

    /// Imports an image and waits until its layers are there; gives its id.
    pub async fn import(&self, reference: &str, password: &str) -> Result<String> {
        let answer = self.post("/v1/image/import", json!({"imageUri": reference, "password": password})).await?;
        let id = answer["imageId"].as_str().context("importImage answers an imageId")?.to_owned();
        let end = Instant::now() + WAIT;
        loop {
            let image = self.get(&format!("/v1/image/{id}")).await?;
            match image["state"].as_str() {
                Some("ready") => return Ok(id),
                Some("failed") => bail!("the image failed: {image}"),
                _ => ensure!(Instant::now() < end, "the image does not get ready: {image}"),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A verb of the host protocol: the body of its answer.
    pub async fn ask_agent(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let client = reqwest::Client::builder().unix_socket(self.data_dir.join("run/agent.sock")).build()?;
        let request = client.request(method, format!("http://agent/v1/{path}")).header("cakework-protocol", "1");
        let mut answer = read(request.json(&body).send().await?).await?;
        Ok(answer["body"].take())
    }

    /// Waits until so many sandboxes of this kind wait on the host.
    pub async fn until_waiting(&self, kind: &str, count: u64) -> Result<()> {
        let end = Instant::now() + WAIT;
        loop {
            let status = self.ask_agent(Method::GET, "host/cached", Value::Null).await?;
            if status[kind]["count"].as_u64() >= Some(count) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "none is {kind}: {status}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until something of a kind waits on the host, and their number has not changed for a while.
    pub async fn until_steady(&self, kind: &str) -> Result<()> {
        let end = Instant::now() + WAIT;
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let count = self.ask_agent(Method::GET, "host/cached", Value::Null).await?[kind]["count"].as_u64();
            let count = count.context("the host says how many wait")?;
            if count != last {
                (last, since) = (count, Instant::now());
            }
            if count > 0 && since.elapsed() >= STEADY {
                return Ok(());
            }
            ensure!(Instant::now() < end, "the number of {kind} ones goes on changing");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops a VM and waits until it is gone.
    pub async fn stop(&self, id: &str) -> Result<()> {
        self.post(&format!("/v1/vm/{id}/stop"), json!({})).await?;
        let end = Instant::now() + WAIT;
        loop {
            let vm = self.get(&format!("/v1/vm/{id}/wait?state=destroyed&timeout=30")).await?;
            if vm["state"] == "destroyed" {
                return Ok(());
            }
            ensure!(Instant::now() < end, "the VM does not end: {vm}");
        }
    }
}

async fn read(response: reqwest::Response) -> Result<Value> {
    let (status, url) = (response.status(), response.url().path().to_owned());
    let text = response.text().await?;
    ensure!(status.is_success(), "{url}: {status}: {text}");
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// Waits until the kernel has taken away what is left of the sandbox that was measured last.
pub async fn settle() {
    tokio::time::sleep(SETTLE).await;
}

/// GETs `/` by hand on a connection of its own; returns at the first byte of an answer, which has to be a 200.
pub async fn first_byte(address: &str, host: &str) -> Result<()> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await?;
        Ok::<_, std::io::Error>(start)
    };
    let start = timeout(WAIT, exchange).await.context("no answer")??;
    ensure!(&start == b"HTTP/1.1 200" || &start == b"HTTP/1.0 200", "{}", String::from_utf8_lossy(&start));
    Ok(())
}

/// GETs an echo of `nonce` on a connection of its own; the time until the first byte of the body, which has to be it.
pub async fn echo(address: &str, host: &str, nonce: &str) -> Result<Duration> {
    let began = Instant::now();
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /echo?text={nonce} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let (mut answer, mut first) = (Vec::new(), None);
        while stream.read_buf(&mut answer).await? > 0 {
            let body = answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
            if first.is_none() && body.is_some_and(|at| answer.len() > at) {
                first = Some(began.elapsed());
            }
        }
        Ok::<_, std::io::Error>((answer, first))
    };
    let (answer, first) = timeout(WAIT, exchange).await.context("no answer")??;
    let text = String::from_utf8_lossy(&answer);
    ensure!(text.starts_with("HTTP/1.") && text.contains(" 200 ") && text.ends_with(nonce), "{text}");
    first.context("an answer has a body")
}
