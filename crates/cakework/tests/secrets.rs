//! Secrets of every kind are given to a server, which then is searched for them: its files, databases, layers and logs,
//! the arguments and environments of its processes, and everything that it answered.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cakework_testkit::images::{Compression, Format, busybox};
use cakework_testkit::server::Options;
use cakework_testkit::{Auth, Registry, Server};
use serde_json::{Value, json};
use support::{PROGRAM, need_root};

const LIMIT: Duration = Duration::from_secs(60);
/// What is no secret, and found: else a search that finds nothing would mean nothing.
const MARK: &str = "plainly-visible-5d1f";
const OF_A_REGISTRY: &str = "kept-registry-secret-90ab";
const OF_A_BUILD: &str = "build-mount-secret-77c2";
const OF_A_REPOSITORY: &str = "forge_token_secret_31e4";

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a string, not {value}")).to_owned()
}

/// Each place below a directory, and in `/proc`, where one of `words` stands.
struct Search<'a> {
    words: &'a [String],
    found: Vec<String>,
}

impl Search<'_> {
    fn bytes(&mut self, place: &str, bytes: &[u8]) {
        for word in self.words {
            if memchr::memmem::find(bytes, word.as_bytes()).is_some() {
                self.found.push(format!("{word} in {place}"));
            }
        }
    }

    fn files(&mut self, dir: &Path) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
            if kind.is_dir() {
                self.files(&path);
            } else if let Ok(bytes) = std::fs::read(&path)
                && kind.is_file()
            {
                self.bytes(&path.display().to_string(), &bytes);
            }
        }
    }

    /// What any local user, or `ps`, may read of processes that are the server's own.
    fn processes(&mut self, server: &Server) {
        let (parent, dir) = (server.pid().expect("it runs"), server.data_dir().display().to_string());
        for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let (words, status) = (read("cmdline"), String::from_utf8_lossy(&read("status")).into_owned());
            let is_child = status.lines().any(|line| line == format!("PPid:\t{parent}"));
            if is_child || memchr::memmem::find(&words, dir.as_bytes()).is_some() {
                let name = entry.file_name().display().to_string();
                self.bytes(&format!("the arguments of process {name}"), &words);
                self.bytes(&format!("the environment of process {name}"), &read("environ"));
            }
        }
    }
}

/// Waits for a build's end; looks at processes while it goes on.
async fn built(server: &Server, id: &str, search: &mut Search<'_>) -> Value {
    let end = Instant::now() + LIMIT;
    loop {
        search.processes(server);
        let build = server.get(&format!("/v1/image/build/{id}")).await.expect("an answer").ok();
        if build["status"] != "created" {
            return build;
        }
        assert!(Instant::now() < end, "{build}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_anywhere_it_could_be_read() {
    need_root();
    let registry = Registry::start(Auth::Basic).await.expect("a registry");
    let image = busybox(Format::Oci, Compression::Gzip).expect("busybox is installed").build();
    registry.push("box", "v1", &image).await.expect("pushed");
    // Nothing listens there: a fetch fails, and its error is one more place to look at.
    let config = "[git]\nbase_url = \"http://127.0.0.1:9\"\n".to_owned();
    let server = Server::start(Options { config: Some(config), ..Options::new(PROGRAM) }).await.expect("a server");
    let key = server.create_key(&["--name", MARK]).expect("a key");

    let hook = server.post("/v1/webhook", json!({"url": "https://hooks.example/x"})).await.expect("an answer").ok();
    let pair = format!("AWS:{}", registry.password());
    let secrets = [
        OF_A_REGISTRY.to_owned(),
        OF_A_BUILD.to_owned(),
        OF_A_REPOSITORY.to_owned(),
        registry.password().to_owned(),
        STANDARD.encode(pair),
        STANDARD.encode(format!("x-access-token:{OF_A_REPOSITORY}")),
        key.rsplit('_').next().expect("a secret part").to_owned(),
        text(&hook["secret"]).trim_start_matches("whsec_").to_owned(),
    ];
    let mut search = Search { words: &secrets, found: Vec::new() };
    let mut answers = Vec::new();

    let imported = server.import(&registry.reference("box", "v1"), registry.password()).await.expect("an answer");
    let image = text(&imported.json["imageId"]);
    answers.push(imported.text);
    let path = format!("/v1/image/{image}");
    let end = Instant::now() + LIMIT;
    while server.get(&path).await.expect("an answer").json["state"] != "ready" {
        assert!(Instant::now() < end, "the image does not come\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // One that the registry refuses: its error names no password either.
    answers.push(server.import(&registry.reference("box", "none"), registry.password()).await.expect("an answer").text);
    let credential = json!({"host": "registry.example", "username": MARK, "password": OF_A_REGISTRY});
    answers.push(server.post("/v1/registry", credential).await.expect("an answer").text);
    // A body with a secret and a mistake.
    let wrong = json!({"host": "registry.example", "user": "x", "password": OF_A_REGISTRY});
    let refused = server.post("/v1/registry", wrong).await.expect("an answer");
    assert_eq!(refused.status, 400);
    answers.push(refused.text);

    let run = "RUN --mount=type=secret,id=t sha256sum /run/secrets/t; sleep 1";
    let fails = "RUN --mount=type=secret,id=t test ! -s /run/secrets/t";
    for (step, status) in [(run, "succeeded"), (fails, "failed")] {
        let dockerfile = format!("FROM cakework/{image}\nLABEL mark={MARK}\n{step}\n");
        let body = json!({"dockerfile": dockerfile, "files": [], "secrets": {"t": OF_A_BUILD}});
        let id = text(&server.post("/v1/image/build/files", body).await.expect("an answer").ok()["buildId"]);
        let build = built(&server, &id, &mut search).await;
        assert_eq!(build["status"], status, "{build}");
        answers.push(build.to_string());
        answers.push(server.get(&format!("/v1/image/build/{id}/logs")).await.expect("an answer").text);
    }
    let body = json!({"dockerfile": "FROM scratch", "repository": "org/repo", "branch": "main",
                      "token": OF_A_REPOSITORY, "secrets": {"t": OF_A_BUILD}});
    let id = text(&server.post("/v1/image/build/github", body).await.expect("an answer").ok()["buildId"]);
    let build = built(&server, &id, &mut search).await;
    assert_eq!(build["status"], "failed", "{build}");
    answers.push(build.to_string());
    for path in ["/v1/webhook", "/v1/registry", "/v1/builds", "/v1/images", "/openapi.json"] {
        answers.push(server.get(path).await.expect("an answer").text);
    }
    // A key that is nearly right is not said again.
    let nearly = format!("{key}x");
    let refused = server.call_as(&nearly, reqwest::Method::GET, "/v1/vms", None).await.expect("an answer");
    assert_eq!(refused.status, 401);
    answers.push(refused.text);

    search.files(&server.data_dir());
    search.processes(&server);
    search.bytes("the server's log", server.log().as_bytes());
    for answer in &answers {
        search.bytes(&format!("the answer {answer}"), answer.as_bytes());
    }
    assert!(search.found.is_empty(), "{:#?}", search.found);

    let mut control = Search { words: &[MARK.to_owned()], found: Vec::new() };
    control.files(&server.data_dir());
    assert!(control.found.iter().any(|place| place.contains("cakework.db")), "{:?}", control.found);
    control.found.clear();
    control.bytes("answers", answers.concat().as_bytes());
    assert!(!control.found.is_empty(), "the search sees answers");

    // Nor would a crash write them: a core dump holds whatever the process knew.
    for role in ["api", "agent", "dns"] {
        let pid = server.role_pid(role).expect("it runs");
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit of core dumps");
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{role}: {core}");
    }
}
