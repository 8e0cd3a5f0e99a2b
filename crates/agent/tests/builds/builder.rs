//! A host that builds, and recipes for it.

use std::collections::BTreeMap;

use cakework_core::build::BuildErrorCode;
use cakework_core::id::{BuildId, Generation};
use cakework_core::logquery::{LogQuery, Order};
use cakework_testkit::images::{Builder, Compression, Entry, Format, Layer, digest, tar};
use cakework_wire::build::{
    BuildObservation, BuildProblem, BuildReport, BuildSource, PutBuild, PutBuildAnswer, Secrets, Token,
};
use cakework_wire::host::{LogLine, LogPage, LogRequest, PROTOCOL_HEADER};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::host::{Answer, Host, body, shell};

/// Ample for the small things that tests build.
const REMAINING_MS: u64 = 120_000;

/// A host with a base image, `$BASE` in Dockerfiles: busybox with a user `app`, 1000:1000.
pub struct Builds {
    pub host: Host,
    pub base: String,
}

/// What is to be built.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub dockerfile: String,
    pub files: Vec<Entry>,
    pub put: PutBuild,
}

/// How a build ended.
#[derive(Debug)]
pub struct Outcome {
    pub build: BuildId,
    pub observation: BuildObservation,
    pub lines: Vec<LogLine>,
}

impl Builds {
    /// A host whose agent runs.
    pub async fn started() -> Self {
        Self::with(|_| ()).await
    }

    /// The same, told something else.
    pub async fn with(change: impl FnOnce(&mut Value)) -> Self {
        let mut host = Host::new(json!({"cpuFactor": 64})).await;
        host.configure(|config| {
            config["builds"] = json!({"memoryMib": 256, "cpu": 1, "diskMib": 256, "cacheMountMib": 64});
            change(config);
        });
        host.start().await;
        let base = host.push("base", "1", &shell().build()).await;
        Self { host, base }
    }

    /// Builds; waits for the end.
    pub async fn build(&self, recipe: &Recipe) -> Outcome {
        let build = self.begin(recipe).await;
        self.outcome(build).await
    }

    /// Builds what must succeed; gives the image's digest and the steps as the log tells them.
    pub async fn good(&self, recipe: &Recipe) -> Outcome {
        let outcome = self.build(recipe).await;
        assert!(
            matches!(outcome.observation, BuildObservation::Succeeded { .. }),
            "{:?}\n{}\n{}",
            outcome.observation,
            outcome.text(),
            self.host.said()
        );
        outcome
    }

    /// Builds what must fail.
    pub async fn bad(&self, recipe: &Recipe) -> BuildProblem {
        let outcome = self.build(recipe).await;
        match outcome.observation {
            BuildObservation::Failed { ref problem } => problem.clone(),
            _ => panic!("{:?}\n{}", outcome.observation, outcome.text()),
        }
    }

    /// Puts context and build, which must be admitted.
    pub async fn begin(&self, recipe: &Recipe) -> BuildId {
        let build = BuildId::mint(&mut rand::rng());
        let answer = self.put(&build, recipe).await;
        assert_eq!(answer, PutBuildAnswer::Admitted);
        build
    }

    /// Puts the build, and before it the context, unless the files come from a repository.
    pub async fn put(&self, build: &BuildId, recipe: &Recipe) -> PutBuildAnswer {
        let source = match &recipe.put.source {
            BuildSource::Context { .. } => {
                let tar = tar(&recipe.files);
                let name = digest(&tar);
                let answer = self.put_context(build, &name, tar).await;
                assert_eq!(answer.status, 200, "{}", answer.body);
                BuildSource::Context { digest: name }
            }
            git @ BuildSource::Git { .. } => git.clone(),
        };
        let dockerfile = recipe.dockerfile.replace("$BASE", &self.base);
        self.put_only(build, &PutBuild { dockerfile, source, ..recipe.put.clone() }).await
    }

    /// Puts a build as it is.
    pub async fn put_only(&self, build: &BuildId, put: &PutBuild) -> PutBuildAnswer {
        let answer = self.host.call("PUT", &format!("/v1/builds/{build}"), Some(json!(put))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        body(answer)
    }

    /// Puts a context as it is.
    pub async fn put_context(&self, build: &BuildId, digest: &str, bytes: Vec<u8>) -> Answer {
        let request = hyper::Request::builder()
            .method("PUT")
            .uri(format!("/v1/builds/{build}/context?digest={digest}"))
            .header("host", "agent")
            .header(PROTOCOL_HEADER, "1")
            .body(Full::from(bytes));
        self.host.send(request.expect("a request")).await.expect("an answer")
    }

    /// Waits for a build's end.
    pub async fn outcome(&self, build: BuildId) -> Outcome {
        let observation = self
            .host
            .until("the build is over", async || match self.report(&build).await?.observation {
                BuildObservation::Running { .. } => None,
                over => Some(over),
            })
            .await;
        let lines = self.lines(&build).await;
        Outcome { build, observation, lines }
    }

    /// What the host says about a build.
    pub async fn report(&self, build: &BuildId) -> Option<BuildReport> {
        self.host.watch(0, 0).await.builds.into_iter().find(|report| report.build_id == *build)
    }

    /// Wants a build to end.
    pub async fn cancel(&self, build: &BuildId, generation: u64) {
        let path = format!("/v1/builds/{build}?generation={generation}");
        let answer = self.host.call("DELETE", &path, None).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// A build's log.
    pub async fn lines(&self, build: &BuildId) -> Vec<LogLine> {
        let query = LogQuery {
            contains: String::new(),
            batch: 1000,
            order: Order::OldestFirst,
            from_ms: None,
            to_ms: None,
            after: None,
        };
        let answer =
            self.host.call("POST", &format!("/v1/builds/{build}/logs"), Some(json!(LogRequest { query }))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        body::<LogPage>(answer).lines
    }

    /// The configuration of an image that was built.
    pub fn config(&self, digest: &str) -> Value {
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        let file = self.host.dir.join("images").join(hex).join("config.json");
        serde_json::from_slice(&std::fs::read(file).expect("it is kept")).expect("JSON")
    }

    /// A file in a build's directory.
    pub fn file(&self, build: &BuildId, name: &str) -> std::path::PathBuf {
        self.host.dir.join("builds").join(build.as_str()).join(name)
    }

    /// Waits for a line in a build's log.
    pub async fn says(&self, build: &BuildId, wanted: &str) {
        let says = async || self.lines(build).await.iter().any(|line| line.message == wanted).then_some(());
        self.host.until(wanted, says).await;
    }
}

impl Recipe {
    /// A Dockerfile without files; lines lose their indentation.
    pub fn new(dockerfile: &str) -> Self {
        let dockerfile = dockerfile.lines().map(|line| format!("{}\n", line.trim_start())).collect();
        let put = PutBuild {
            generation: Generation::FIRST,
            scope: "A".into(),
            dockerfile: String::new(),
            dockerignore: None,
            source: BuildSource::Context { digest: String::new() },
            build_args: BTreeMap::new(),
            target: None,
            no_cache: false,
            secrets: Secrets::default(),
            own_images: BTreeMap::new(),
            registries: BTreeMap::new(),
            remaining_ms: REMAINING_MS,
        };
        Self { dockerfile, files: Vec::new(), put }
    }

    /// More of the Dockerfile.
    pub fn line(mut self, line: &str) -> Self {
        self.dockerfile.push_str(line);
        self
    }

    /// A file of the context.
    pub fn file(self, path: &str, content: &str) -> Self {
        self.entry(Entry::file(path, content))
    }

    /// Anything of the context.
    pub fn entry(mut self, entry: Entry) -> Self {
        self.files.push(entry);
        self
    }

    /// Something else in a file's place.
    pub fn with_file(mut self, path: &str, entry: Entry) -> Self {
        let at = self.files.iter().position(|old| matches!(old, Entry::File { path: old, .. } if old == path));
        self.files[at.expect("it is there")] = entry;
        self
    }

    /// Changes the Dockerfile.
    pub fn replace(mut self, old: &str, new: &str) -> Self {
        assert!(self.dockerfile.contains(old), "{old}");
        self.dockerfile = self.dockerfile.replace(old, new);
        self
    }

    /// A build argument.
    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.put.build_args.insert(name.into(), value.into());
        self
    }

    /// Files from a repository of the forge.
    pub fn git(self, repository: &str, reference: Option<&str>, path: Option<&str>, token: Option<&str>) -> Self {
        let [reference, path, token] = [reference, path, token].map(|text| text.map(str::to_owned));
        let source = BuildSource::Git { repository: repository.into(), reference, path, token: token.map(Token) };
        self.with(|put| put.source = source)
    }

    /// Changes what is asked for.
    pub fn with(mut self, change: impl FnOnce(&mut PutBuild)) -> Self {
        change(&mut self.put);
        self
    }

    /// A placement of it whose context is `digest`.
    pub fn put(&self, digest: &str) -> PutBuild {
        let source = BuildSource::Context { digest: digest.to_owned() };
        PutBuild { dockerfile: self.dockerfile.clone(), source, ..self.put.clone() }
    }
}

impl Outcome {
    /// The image's digest.
    pub fn digest(&self) -> &str {
        match &self.observation {
            BuildObservation::Succeeded { digest, .. } => digest,
            other => panic!("{other:?}"),
        }
    }

    /// The whole log.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{} {}\n", line.level, line.message)).collect()
    }

    /// Whether the log has a line.
    pub fn says(&self, wanted: &str) -> bool {
        self.lines.iter().any(|line| line.message == wanted)
    }

    /// The numbers of the steps that were executed, and of those that the cache had.
    pub fn steps(&self) -> (Vec<u32>, Vec<u32>) {
        let number = |line: &str| line.strip_prefix('[')?.split_once('/')?.0.parse().ok();
        let lines = || self.lines.iter().map(|line| line.message.as_str());
        let executed = lines().filter_map(number).collect();
        let cached = lines().filter_map(|line| number(line.strip_prefix("CACHED ")?)).collect();
        (executed, cached)
    }
}

/// Fails unless a problem is of this code, and names this line.
pub fn assert_problem(problem: &BuildProblem, code: BuildErrorCode, line: u32, says: &str) {
    assert_eq!((problem.code, problem.line), (code, Some(line)), "{problem:?}");
    assert!(problem.message.contains(says), "{problem:?}");
    assert!(problem.instruction.is_some(), "{problem:?}");
}

/// A tar of these entries, packed.
pub fn gzipped(entries: &[Entry]) -> Vec<u8> {
    let image = Builder::new(Format::Oci).layer(Layer::new(entries, Compression::Gzip)).build();
    image.layers()[0].read().expect("it is in memory").to_vec()
}
