//! The SDKs, against the real program: their own suites, run as their users' tools run them.
//!
//! What the suites need is in their environment; `scripts/sdk.sh` makes ready what they are run with.

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use cakework_testkit::images::{Compression, Format, python, python_app};
use cakework_testkit::server::Options;
use cakework_testkit::{Auth, Registry, Server};
use support::{PROGRAM, need_root};

/// Whose pages and receivers are this machine's.
const CONFIG: &str = "cors_origins = [\"*\"]\n[webhooks]\nallow = [\"127.0.0.0/8\", \"::1/128\"]\n";

/// A server with an image, and the registry that it came from. Docker Hub's Python is one that the test made.
struct Stage {
    server: Server,
    registry: Registry,
    _hub: Registry,
    image: String,
    uri: String,
    dir: tempfile::TempDir,
}

impl Stage {
    async fn set() -> Self {
        need_root();
        let registry = Registry::start(Auth::Basic).await.expect("a registry");
        let image = python_app(Format::Oci, Compression::Gzip).expect("an image").build();
        registry.push("team/app", "v1", &image).await.expect("pushed");
        let hub = Registry::start(Auth::Anonymous).await.expect("a registry");
        let base = python(Format::Oci, Compression::Gzip).expect("an image").build();
        hub.push("library/python", "3.12-slim", &base).await.expect("pushed");
        let config = format!("{CONFIG}[images.mirrors]\n\"docker.io\" = [\"{}\"]\n", hub.host());
        let options = Options { config: Some(config), ..Options::new(PROGRAM) };
        let server = Server::start(options).await.expect("a server");
        let uri = registry.reference("team/app", "v1");
        let imported = server.import(&uri, registry.password()).await.expect("an answer").ok();
        let image = imported["imageId"].as_str().expect("an id").to_owned();
        Self { server, registry, _hub: hub, image, uri, dir: tempfile::tempdir().expect("a directory") }
    }

    /// Runs a suite to its end; shows all that it said where it fails.
    async fn play(&self, directory: &str, program: &str, words: &[&str]) {
        let root = make_ready(directory).await;
        let output = tokio::process::Command::new(program)
            .args(words)
            .current_dir(root.join("sdk").join(directory))
            .env("NO_COLOR", "1")
            // Python's own package is the one in the folder.
            .env("PYTHONPATH", ".")
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

/// Makes an SDK, or the examples, ready; gives the root of the repository.
async fn make_ready(what: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let ready = tokio::process::Command::new(root.join("scripts/sdk.sh")).arg(what).output().await;
    let ready = ready.expect("scripts/sdk.sh");
    assert!(ready.status.success(), "{}{}", support::stdout(&ready), support::stderr(&ready));
    root
}

/// Types, drift from the document, and what the package would hold.
#[tokio::test(flavor = "multi_thread")]
async fn sdk_typescript_is_whole() {
    Stage::set().await.play("typescript", "npm", &["run", "--silent", "check"]).await;
}

/// The README's blocks, one after the other, as they stand there.
#[tokio::test(flavor = "multi_thread")]
async fn sdk_typescript_readme_runs() {
    Stage::set().await.play("typescript", "node", &["scripts/readme.mjs", "--run"]).await;
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
    let check = "export PATH=$PWD/.venv/bin:$PATH && out=$(mktemp -d) && python scripts/generate.py --check && \
                 python scripts/reference.py --check && mypy && ruff check . && ruff format --check . && python scripts/readme.py >$out/readme.py && \
                 mypy --strict $out/readme.py && python -m build --wheel --outdir $out . && rm -r $out";
    Stage::set().await.play("python", "bash", &["-c", check]).await;
}

/// The README's blocks, one after the other, as they stand there.
#[tokio::test(flavor = "multi_thread")]
async fn sdk_python_readme_runs() {
    Stage::set().await.play("python", ".venv/bin/python", &["scripts/readme.py", "--run"]).await;
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

/// A program of an example, in its folder, as its README says.
fn example(stage: &Stage, root: &Path, name: &str, words: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("node");
    command.args(words).current_dir(root.join("examples").join(name)).kill_on_drop(true);
    command.env("CAKEWORK_URL", stage.server.url()).env("CAKEWORK_API_KEY", stage.server.key());
    command.env("BASE", format!("cakework/{}", stage.image));
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", support::stdout(output), support::stderr(output))
}

#[tokio::test(flavor = "multi_thread")]
async fn example_hello_builder() {
    let (stage, root) = (Stage::set().await, make_ready("examples").await);
    let output = example(&stage, &root, "hello-builder", &["main.mjs", "you"]).output().await.expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    for word in ["built 0", "runs at http://", "says \"hello, you\\n\"", "ended"] {
        assert!(said(&output).contains(word), "no {word:?} in {}", said(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn example_eventing() {
    let (stage, root) = (Stage::set().await, make_ready("examples").await);
    let port = cakework_testkit::http::free_port().expect("a port").to_string();
    let url = format!("http://127.0.0.1:{port}");
    let mut product = example(&stage, &root, "eventing", &["server.mjs"]);
    let mut product = product.env("PORT", &port).env("PUBLIC_URL", &url).spawn().expect("it starts");
    let eventing = async |words: &[&str]| {
        let words: Vec<_> = ["cli.mjs"].iter().chain(words).copied().collect();
        // Who uses the product has neither the server's address nor its key.
        let mut command = example(&stage, &root, "eventing", &words);
        command.env_remove("CAKEWORK_URL").env_remove("CAKEWORK_API_KEY").env("EVENTING_URL", &url);
        command.output().await.expect("it runs")
    };
    let end = tokio::time::Instant::now() + support::LIMIT;
    while !reqwest::get(format!("{url}/status?user=ann")).await.is_ok_and(|answer| answer.status().is_success()) {
        assert!(tokio::time::Instant::now() < end, "the product does not come up");
        tokio::time::sleep(cakework_testkit::process::POLL).await;
    }
    let event = r#"{"customer": "Bo", "items": [{"price": 3, "count": 2}, {"price": 1, "count": 1}]}"#;
    let early = eventing(&["send", "ann", "order_created", event]).await;
    assert!(said(&early).contains("has deployed nothing yet"), "{}", said(&early));
    let deployed = eventing(&["deploy", "ann", "handlers.py"]).await;
    assert_eq!(said(&deployed), "live\n");
    assert_eq!(said(&eventing(&["send", "ann", "order_created", event]).await), "{\"total\":7}\n");
    for (handler, word) in [
        ("order_cancelled", "500: there is no order 7"),
        ("_private", "404: there is no handler"),
        ("os", "404: there is no handler"),
    ] {
        let failed = eventing(&["send", "ann", handler, r#"{"order": 7}"#]).await;
        assert!(!failed.status.success() && said(&failed).contains(word), "{handler}: {}", said(&failed));
    }
    assert!(said(&eventing(&["logs", "ann"]).await).contains("an order of Bo"));
    // Who is not the product calls no handler, and is told nothing by its webhook.
    let vms = stage.server.get("/v1/vms?tenant=ann").await.expect("an answer").ok();
    let hostname = vms["vms"][0]["hostname"].as_str().expect("a hostname");
    let forged = reqwest::Client::new()
        .post(format!("http://{}/order_created", stage.server.edge()))
        .header("host", hostname)
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", "1")
        .header("webhook-signature", "v1,AAAA")
        .body(event);
    assert_eq!(forged.send().await.expect("an answer").status(), 401);
    let forged = reqwest::Client::new().post(format!("{url}/cakework")).body("{}").send().await.expect("an answer");
    assert_eq!(forged.status(), 400);
    // Broken code is said to its author; what was live before goes on.
    let broken = stage.dir.path().join("handlers.py");
    std::fs::write(&broken, "def order_created(:\n").expect("written");
    let failed = eventing(&["deploy", "ann", broken.to_str().expect("UTF-8")]).await;
    assert!(!failed.status.success() && said(&failed).contains("eventing: "), "{}", said(&failed));
    assert_eq!(said(&eventing(&["send", "ann", "order_created", event]).await), "{\"total\":7}\n");
    let pid =
        rustix::process::Pid::from_raw(i32::try_from(product.id().expect("it runs")).expect("a pid")).expect("one");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    assert!(product.wait().await.expect("an end").success());
    let vms = stage.server.get("/v1/vms?tenant=ann&status=started").await.expect("an answer").ok();
    assert_eq!(vms["vms"], serde_json::json!([]), "it leaves nothing");
}
