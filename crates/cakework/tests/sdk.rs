//! The SDKs, against the real program: their own suites, run as their users' tools run them.
//!
//! What the suites need is in their environment; `scripts/sdk.sh` makes ready what they are run with.

mod support;

use std::path::Path;

use cakework_testkit::images::{Compression, Format, python_app};
use cakework_testkit::server::Options;
use cakework_testkit::{Auth, Registry, Server};
use support::{PROGRAM, need_root};

/// Whose pages and receivers are this machine's.
const CONFIG: &str = "cors_origins = [\"*\"]\n[webhooks]\nallow = [\"127.0.0.0/8\", \"::1/128\"]\n";

/// A server with an image, and the registry that it came from.
struct Stage {
    server: Server,
    registry: Registry,
    image: String,
    uri: String,
}

impl Stage {
    async fn set() -> Self {
        need_root();
        let registry = Registry::start(Auth::Basic).await.expect("a registry");
        let image = python_app(Format::Oci, Compression::Gzip).expect("an image").build();
        registry.push("team/app", "v1", &image).await.expect("pushed");
        let options = Options { config: Some(CONFIG.to_owned()), ..Options::new(PROGRAM) };
        let server = Server::start(options).await.expect("a server");
        let uri = registry.reference("team/app", "v1");
        let imported = server.import(&uri, registry.password()).await.expect("an answer").ok();
        let image = imported["imageId"].as_str().expect("an id").to_owned();
        Self { server, registry, image, uri }
    }

    /// Runs a suite to its end; shows all that it said where it fails.
    async fn play(&self, directory: &str, program: &str, words: &[&str]) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let ready = tokio::process::Command::new(root.join("scripts/sdk.sh")).arg(directory).output().await;
        let ready = ready.expect("scripts/sdk.sh");
        assert!(ready.status.success(), "{}{}", support::stdout(&ready), support::stderr(&ready));
        let output = tokio::process::Command::new(program)
            .args(words)
            .current_dir(root.join("sdk").join(directory))
            .env("NO_COLOR", "1")
            .env("CAKEWORK_URL", self.server.url())
            .env("CAKEWORK_API_KEY", self.server.key())
            .env("CAKEWORK_TEST_IMAGE", &self.image)
            .env("CAKEWORK_TEST_IMAGE_URI", &self.uri)
            .env("CAKEWORK_TEST_IMAGE_PASSWORD", self.registry.password())
            .kill_on_drop(true)
            .output()
            .await
            .expect("the suite starts");
        let said = format!("{}{}", support::stdout(&output), support::stderr(&output));
        assert!(output.status.success(), "{said}\nthe server said:\n{}", self.server.log());
    }
}

/// Types, drift from the document, and what the package would hold.
#[tokio::test(flavor = "multi_thread")]
async fn sdk_typescript_is_whole() {
    Stage::set().await.play("typescript", "npm", &["run", "--silent", "check"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_typescript_does_the_main_job() {
    let suites = ["vms", "builds", "webhooks"].map(|name| format!("test/{name}.test.mjs"));
    let words: Vec<_> = std::iter::once("--test").chain(suites.iter().map(String::as_str)).collect();
    Stage::set().await.play("typescript", "node", &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_typescript_keeps_its_word_over_bad_lines() {
    Stage::set().await.play("typescript", "node", &["--test", "test/calls.test.mjs", "test/logs.test.mjs"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_typescript_runs_in_every_runtime() {
    Stage::set().await.play("typescript", "node", &["--test", "test/runtimes.test.mjs"]).await;
}

/// The client that the original published, unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn sdk_of_the_original_still_works() {
    Stage::set().await.play("typescript", "node", &["--test", "test/original.test.mjs"]).await;
}

/// Types, drift from the document, style, and the wheel.
#[tokio::test(flavor = "multi_thread")]
async fn sdk_python_is_whole() {
    let check = "export PATH=$PWD/.venv/bin:$PATH && python scripts/generate.py --check && mypy && ruff check . && \
                 ruff format --check . && python -m build --wheel --outdir \"$(mktemp -d)\" .";
    Stage::set().await.play("python", "bash", &["-c", check]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_python_does_the_main_job() {
    Stage::set().await.play("python", ".venv/bin/python", &["-m", "pytest", "-q", "-p", "no:cacheprovider"]).await;
}

/// Thousands of requests that are made from the document, right and wrong ones: the server fails at none (503 is a host that is
/// full), answers what the document says it does, and is there afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_keeps_to_its_document() {
    let stage = Stage::set().await;
    let key = format!("X-Api-Key: {}", stage.server.key());
    let words = [
        "--config-file=tests/schemathesis.toml",
        "run",
        "../../docs/openapi.json",
        "--url",
        &stage.server.url(),
        "--header",
        &key,
    ];
    stage.play("python", ".venv/bin/schemathesis", &words).await;
    stage.server.get("/v1/vms").await.expect("an answer").ok();
}
