//! Builds: from a call to an image, and every way in which one can end, each as a forced order of events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use cakework_core::build::{BuildErrorCode, BuildState};
use cakework_core::id::BuildId;
use cakework_wire::build::{BuildObservation, BuildPhase, BuildProblem, BuildSource, Token};
use cakework_wire::host::ImageObservation;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::script::{FETCHING, Host, Loss};
use super::{TestApp, eventually};
use crate::app::App;
use crate::config::ServerConfig;
use crate::keys::Scope;
use crate::reconcile;
use crate::seal::Sealer;
use crate::store::Store;
use crate::store::builds::Build;
use crate::store::images::ImageState;

/// An API with a scripted host and a key.
async fn with_host(change: impl FnOnce(&mut ServerConfig)) -> (TestApp, Host, String) {
    let api = TestApp::with(change).await;
    let host = Host::listen(&api.app.config.agent_socket);
    api.reconcile().await;
    let key = api.key(Scope::Write).await;
    (api, host, key)
}

fn files(dockerfile: &str) -> Value {
    json!({"dockerfile": dockerfile, "files": [{"dir": ".", "name": "a.js", "content": "1"}]})
}

fn github() -> Value {
    json!({"dockerfile": "FROM scratch", "repository": "org/repo", "branch": "main", "path": "./app/",
           "token": "geheim-token", "secrets": {"npm": "geheim-npm"}, "buildArgs": {"A": "geheim-arg"}})
}

async fn build(api: &TestApp, key: &str, kind: &str, body: Value) -> BuildId {
    let build = api.post(&format!("/v1/image/build/{kind}"), key, body).await.expect(201);
    assert_eq!(build["status"], "created");
    build["buildId"].as_str().unwrap().parse().unwrap()
}

async fn record(api: &TestApp, id: &BuildId) -> Build {
    api.app.store.any_build(id).await.unwrap().unwrap()
}

async fn shown(api: &TestApp, key: &str, id: &BuildId) -> Value {
    api.get(&format!("/v1/image/build/{id}"), key).await.expect(200)
}

async fn until(api: &TestApp, id: &BuildId, wanted: BuildState) {
    eventually(wanted.as_str(), || async { record(api, id).await.state == wanted }).await;
}

/// Waits until the host has a build and the record says so.
async fn taken(api: &TestApp, host: &Host, id: &BuildId) {
    eventually("the host has it", || async {
        host.world().builds.contains_key(id) && record(api, id).await.incarnation.is_some()
    })
    .await;
}

fn running(phase: BuildPhase, step: u32, steps: u32) -> BuildObservation {
    BuildObservation::Running { phase, step, steps }
}

fn succeeded(digit: &str) -> BuildObservation {
    BuildObservation::Succeeded { digest: format!("sha256:{}", digit.repeat(64)), size_bytes: 4711 }
}

async fn cancel(api: &TestApp, key: &str, id: &BuildId) -> super::Answer {
    api.send(Method::POST, &format!("/v1/image/build/{id}/cancel"), Some(key), None).await
}

fn contexts(api: &TestApp) -> usize {
    std::fs::read_dir(api.dir.path().join("contexts")).unwrap().count()
}

#[tokio::test]
async fn a_build_from_files_becomes_an_image_that_a_vm_starts_from() {
    let (api, host, key) = with_host(|_| {}).await;
    let mut body = files("FROM python:3.12-slim");
    body["tenant"] = json!("ann");
    body["metadata"] = json!({"app": "x"});
    body["target"] = json!("final");
    body["noCache"] = json!(true);
    body["dockerignore"] = json!("*.md");
    let id = build(&api, &key, "files", body).await;
    taken(&api, &host, &id).await;
    {
        let world = host.world();
        let put = &world.builds[&id].put;
        let BuildSource::Context { digest } = &put.source else { panic!("{:?}", put.source) };
        let mut tar = tar::Archive::new(world.contexts[digest].as_slice());
        let names: Vec<_> = tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names, [std::path::Path::new("a.js")]);
        assert_eq!((put.target.as_deref(), put.no_cache), (Some("final"), true));
        assert_eq!(put.dockerignore.as_deref(), Some("*.md"));
        assert_eq!(put.scope, api.account.to_string());
        assert!((3_590_000..=3_600_000).contains(&put.remaining_ms), "{}", put.remaining_ms);
    }
    host.observe_build(&id, running(BuildPhase::Building, 2, 6));
    eventually("progress", || async { shown(&api, &key, &id).await["phase"] == "building" }).await;
    let build = shown(&api, &key, &id).await;
    assert_eq!((&build["status"], &build["progress"]), (&json!("created"), &json!({"step": 2, "steps": 6})));
    assert_eq!(contexts(&api), 1);
    host.observe_build(&id, succeeded("b"));
    until(&api, &id, BuildState::Succeeded).await;
    let build = api.post(&format!("/v1/image/build/{id}"), &key, json!({})).await.expect(200);
    assert_eq!((&build["status"], &build["phase"], &build["error"]), (&json!("succeeded"), &json!(null), &json!(null)));
    assert_eq!((&build["tenant"], &build["metadata"]), (&json!("ann"), &json!({"app": "x"})));
    let image_id = build["imageId"].as_str().unwrap();
    let image = api.get(&format!("/v1/image/{image_id}"), &key).await.expect(200);
    assert_eq!(
        (&image["state"], &image["tenant"], &image["sizeBytes"]),
        (&json!("ready"), &json!("ann"), &json!(4711))
    );
    assert_eq!(image["name"], format!("cakework/{image_id}"));
    let vm = api.post("/v1/vm/start", &key, json!({"imageId": image_id})).await.expect(201);
    assert_eq!(vm["state"], "started");
    eventually("the context is gone", || async { contexts(&api) == 0 }).await;
    // A report that comes again makes no second image.
    host.observe_build(&id, succeeded("c"));
    let other = self::build(&api, &key, "files", files("FROM a")).await;
    taken(&api, &host, &other).await;
    assert_eq!(shown(&api, &key, &id).await["imageId"], image_id);
    assert_eq!(api.get("/v1/images", &key).await.expect(200)["images"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_failure_is_told_with_its_instruction_and_line() {
    let (api, host, key) = with_host(|_| {}).await;
    let early = build(&api, &key, "files", files("FROM a\nWRONG")).await;
    until(&api, &early, BuildState::Failed).await;
    let error = shown(&api, &key, &early).await["error"].clone();
    assert_eq!((&error["code"], &error["line"]), (&json!("dockerfile_invalid"), &json!(2)));
    assert_eq!(error["instruction"], "WRONG");
    assert!(host.world().admitted.is_empty(), "no host is asked");
    let logs = api.get(&format!("/v1/image/build/{early}/logs"), &key).await.expect(200);
    assert_eq!(logs["lines"][0]["level"], "error");
    assert_eq!(logs["lines"][0]["message"], "Dockerfile line 2: There is no such instruction.");
    let filtered = api.get(&format!("/v1/function/build/{early}/logs?query=absent"), &key).await.expect(200);
    assert_eq!(filtered["lines"], json!([]));

    let late = build(&api, &key, "files", files("FROM a")).await;
    taken(&api, &host, &late).await;
    host.log(&late, &["[1/1] RUN false"]);
    let mut problem = BuildProblem::new(BuildErrorCode::CommandFailed, "The command ended with 1.");
    (problem.instruction, problem.line) = (Some("RUN false".into()), Some(3));
    host.observe_build(&late, BuildObservation::Failed { problem });
    until(&api, &late, BuildState::Failed).await;
    let build = shown(&api, &key, &late).await;
    assert_eq!((&build["status"], &build["imageId"]), (&json!("failed"), &json!(null)));
    assert_eq!(
        build["error"],
        json!({"code": "command_failed", "message": "The command ended with 1.", "instruction": "RUN false", "line": 3})
    );
    let logs = api.get(&format!("/v1/image/build/{late}/logs"), &key).await.expect(200);
    assert_eq!(logs["lines"][0]["message"], "[1/1] RUN false");
}

#[tokio::test]
async fn secrets_reach_the_host_rest_sealed_and_are_erased() {
    let (api, host, key) = with_host(|config| config.builds.parallel = 1).await;
    let registry = json!({"host": "registry.test", "username": "robot", "password": "geheim-password"});
    api.post("/v1/registry", &key, registry).await.expect(200);
    host.world().full = true;
    let mut body = github();
    body["dockerfile"] = json!("FROM registry.test/base\nFROM other.test/base");
    let id = build(&api, &key, "github", body).await;
    until(&api, &id, BuildState::Building).await;
    let stored = |text: &str| database(&api).windows(text.len()).any(|window| window == text.as_bytes());
    assert!(stored("org/repo"), "the record is there");
    assert!(!stored("geheim"), "and nothing secret of it in clear");
    host.world().full = false;
    taken(&api, &host, &id).await;
    {
        let world = host.world();
        let put = &world.builds[&id].put;
        let BuildSource::Git { repository, reference, path, token } = &put.source else { panic!("{:?}", put.source) };
        assert_eq!(
            (repository.as_str(), reference.as_deref(), path.as_deref()),
            ("org/repo", Some("main"), Some("app"))
        );
        assert_eq!(token, &Some(Token("geheim-token".into())));
        assert_eq!(put.secrets.get("npm"), Some("geheim-npm"));
        assert_eq!(put.build_args["A"], "geheim-arg");
        let credentials: Vec<_> = put.registries.iter().map(|(host, one)| (host.as_str(), &*one.password)).collect();
        assert_eq!(credentials, [("registry.test", "geheim-password")]);
    }
    host.observe_build(&id, running(BuildPhase::Fetching, 0, 3));
    eventually("progress", || async { record(&api, &id).await.steps == 3 }).await;
    assert!(record(&api, &id).await.token.is_some());
    host.observe_build(&id, running(BuildPhase::Pulling, 0, 3));
    eventually("the token is erased", || async { record(&api, &id).await.token.is_none() }).await;
    assert!(record(&api, &id).await.secrets.is_some());
    // From here on the host can't be asked again: it does not know the build any more.
    host.world().builds.clear();
    host.world().empty_list = true;
    host.poke();
    until(&api, &id, BuildState::Failed).await;
    assert_eq!(shown(&api, &key, &id).await["error"]["code"], "host_lost");
    let build = record(&api, &id).await;
    assert_eq!((build.token, build.secrets), (None, None));
    assert!(!stored("geheim"));
}

/// Every byte of the database, the write-ahead log included.
fn database(api: &TestApp) -> Vec<u8> {
    let entries = std::fs::read_dir(api.dir.path()).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("cakework.db"));
    files.flat_map(|entry| std::fs::read(entry.path()).unwrap()).collect()
}

#[tokio::test]
async fn lost_calls_build_once() {
    let (api, host, key) = with_host(|_| {}).await;
    host.world().losses.extend([Loss::Reply, Loss::Request, Loss::Reply, Loss::Reply, Loss::Request]);
    let id = build(&api, &key, "files", files("FROM a")).await;
    taken(&api, &host, &id).await;
    host.observe_build(&id, succeeded("b"));
    until(&api, &id, BuildState::Succeeded).await;
    assert_eq!(host.world().admitted, [id]);
}

#[tokio::test]
async fn a_host_without_room_is_asked_again_and_one_that_drains_is_not_asked() {
    let (api, host, key) = with_host(|_| {}).await;
    host.world().draining = true;
    let id = build(&api, &key, "files", files("FROM a")).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(record(&api, &id).await.state, BuildState::Queued);
    assert_eq!(shown(&api, &key, &id).await["phase"], "queued");
    host.world().draining = false;
    host.world().full = true;
    until(&api, &id, BuildState::Building).await;
    assert_eq!(shown(&api, &key, &id).await["phase"], "queued");
    host.world().full = false;
    taken(&api, &host, &id).await;
}

#[tokio::test]
async fn a_host_that_can_not_build_fails_it_with_the_reason() {
    let (api, host, key) = with_host(|_| {}).await;
    host.world().refusal = Some("runsc is missing: install it".into());
    let id = build(&api, &key, "files", files("FROM a")).await;
    until(&api, &id, BuildState::Failed).await;
    let error = shown(&api, &key, &id).await["error"].clone();
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("isolation_unavailable"), &json!("runsc is missing: install it"))
    );
}

#[tokio::test]
async fn a_cancelled_build_ends_on_both_sides() {
    let (api, host, key) = with_host(|config| config.builds.parallel = 1).await;
    let (runs, waits) =
        (build(&api, &key, "files", files("FROM a")).await, build(&api, &key, "files", files("FROM a")).await);
    taken(&api, &host, &runs).await;
    for id in [&waits, &runs] {
        let cancelled = cancel(&api, &key, id).await.expect(200);
        assert_eq!((&cancelled["status"], &cancelled["error"]["code"]), (&json!("failed"), &json!("cancelled")));
        assert_eq!(cancel(&api, &key, id).await.expect(200)["status"], "failed", "once more changes nothing");
    }
    eventually("the host is told", || async { host.world().deleted_builds.contains(&runs) }).await;
    eventually("nothing is due", || async { record(&api, &runs).await.due_ms.is_none() }).await;
    assert!(!host.world().deleted_builds.contains(&waits), "no host had it");
    let done = build(&api, &key, "files", files("FROM a")).await;
    taken(&api, &host, &done).await;
    host.observe_build(&done, succeeded("b"));
    until(&api, &done, BuildState::Succeeded).await;
    cancel(&api, &key, &done).await.expect_code(409, "build_over");
    // One that goes on at the host nevertheless is ended again.
    host.world().deleted_builds.clear();
    host.observe_build(&runs, FETCHING);
    eventually("it is ended again", || async { host.world().deleted_builds.contains(&runs) }).await;
}

#[tokio::test]
async fn a_cancel_reaches_a_host_that_was_away() {
    let (api, host, key) = with_host(|_| {}).await;
    let id = build(&api, &key, "files", files("FROM a")).await;
    taken(&api, &host, &id).await;
    host.world().losses.extend([Loss::Request, Loss::Request]);
    cancel(&api, &key, &id).await.expect(200);
    eventually("the host is told", || async { host.world().deleted_builds.contains(&id) }).await;
}

#[tokio::test]
async fn deadlines_end_what_waits_and_what_runs() {
    let (api, host, key) = with_host(|config| {
        (config.builds.parallel, config.builds.queue_timeout_secs, config.builds.timeout_secs) = (1, 2, 3600);
    })
    .await;
    let runs = build(&api, &key, "files", files("FROM a")).await;
    taken(&api, &host, &runs).await;
    let waits = build(&api, &key, "files", files("FROM a")).await;
    until(&api, &waits, BuildState::Failed).await;
    let error = shown(&api, &key, &waits).await["error"].clone();
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("timeout"), &json!("The build did not have its turn within 2 s."))
    );
    // The host's own deadline comes first; should it not report, the api's does.
    let mut late = record(&api, &runs).await;
    late.deadline_ms = 1;
    api.app.store.set_deadline_for_test(&late).await;
    until(&api, &runs, BuildState::Failed).await;
    assert_eq!(shown(&api, &key, &runs).await["error"]["code"], "timeout");
    eventually("the host is told", || async { host.world().deleted_builds.contains(&runs) }).await;
}

#[tokio::test]
async fn a_host_that_restarts_loses_its_builds_and_the_queue_goes_on() {
    let (api, host, key) = with_host(|config| config.builds.parallel = 1).await;
    let (first, second) =
        (build(&api, &key, "files", files("FROM a")).await, build(&api, &key, "files", files("FROM a")).await);
    taken(&api, &host, &first).await;
    host.restart();
    until(&api, &first, BuildState::Failed).await;
    assert_eq!(shown(&api, &key, &first).await["error"]["code"], "host_lost");
    taken(&api, &host, &second).await;
}

#[tokio::test]
async fn a_list_that_lacks_a_build_lets_it_be_asked_for_again() {
    let (api, host, key) = with_host(|_| {}).await;
    let id = build(&api, &key, "files", files("FROM a")).await;
    taken(&api, &host, &id).await;
    host.world().builds.clear();
    host.world().contexts.clear();
    host.world().empty_list = true;
    host.poke();
    eventually("it is admitted again", || async { host.world().admitted == [id.clone(), id.clone()] }).await;
    taken(&api, &host, &id).await;
    assert_eq!(record(&api, &id).await.state, BuildState::Building);
}

#[tokio::test]
async fn an_api_that_crashes_goes_on_where_it_was() {
    let (api, host, key) = with_host(|_| {}).await;
    host.world().losses.extend([Loss::Reply; 1]);
    let id = build(&api, &key, "files", files("FROM a")).await;
    until(&api, &id, BuildState::Building).await;
    let (dir, config, account) = api.crash().await;
    let store = Store::open(dir.path()).await.unwrap();
    let api = TestApp::on(dir, config, store, account);
    api.reconcile().await;
    taken(&api, &host, &id).await;
    host.observe_build(&id, succeeded("b"));
    until(&api, &id, BuildState::Succeeded).await;
    assert_eq!(host.world().admitted, [id]);
}

#[tokio::test]
async fn two_api_processes_share_one_queue() {
    let (api, host, key) = with_host(|config| config.builds.parallel = 2).await;
    let store = Store::open(api.dir.path()).await.unwrap();
    let sealer = Sealer::open(api.dir.path()).unwrap();
    let mut other = App::new(api.app.config.clone(), store, sealer, Duration::from_millis(300)).unwrap();
    Arc::get_mut(&mut other).expect("nobody else has it yet").planner = super::planner;
    api.tasks.spawn(reconcile::builds::run(Arc::clone(&other), api.shutdown.clone()));
    api.tasks.spawn(reconcile::watch::run(Arc::clone(&other), api.shutdown.clone()));
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(build(&api, &key, "files", files("FROM a")).await);
    }
    for id in &ids {
        eventually("it has its turn", || async { host.world().builds.contains_key(id) }).await;
        let going = host.world().builds.values().filter(|held| held.report.observation == FETCHING).count();
        assert!(going <= 2, "{going} at once");
        host.observe_build(id, succeeded("b"));
    }
    for id in &ids {
        until(&api, id, BuildState::Succeeded).await;
    }
    let (mut admitted, mut ids) = (host.world().admitted.clone(), ids);
    admitted.sort();
    ids.sort();
    assert_eq!(admitted, ids, "each was built once");
}

#[tokio::test]
async fn accounts_and_tenants_have_turns() {
    let (api, host, key) = with_host(|config| config.builds.parallel = 1).await;
    let other = api.stranger().await;
    host.world().draining = true;
    let mut body = files("FROM a");
    let mut names = std::collections::BTreeMap::new();
    for (name, key, tenant) in [
        ("a1", &key, "ann"),
        ("a2", &key, "ann"),
        ("a3", &key, "ann"),
        ("b1", &key, "bob"),
        ("x1", &other, "ann"),
        ("x2", &other, "ann"),
    ] {
        body["tenant"] = json!(tenant);
        names.insert(build(&api, key, "files", body.clone()).await, name);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    host.world().draining = false;
    for done in 0..names.len() {
        eventually("the next one has its turn", || async { host.world().admitted.len() == done + 1 }).await;
        let id = host.world().admitted[done].clone();
        host.observe_build(&id, succeeded("b"));
    }
    let order: Vec<_> = host.world().admitted.iter().map(|id| names[id]).collect();
    assert_eq!(order, ["a1", "x1", "b1", "x2", "a2", "a3"]);
}

#[tokio::test]
async fn a_queue_has_an_end() {
    let api = TestApp::with(|config| (config.limits.queued_builds, config.builds.queued) = (2, 3)).await;
    let (key, other) = (api.key(Scope::Write).await, api.stranger().await);
    let call = |key: String| {
        let api = &api;
        async move { api.post("/v1/image/build/files", &key, files("FROM a")).await }
    };
    call(key.clone()).await.expect(201);
    call(key.clone()).await.expect(201);
    let refused = call(key.clone()).await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.expect_code(429, "queue_full");
    call(other.clone()).await.expect(201);
    call(other.clone()).await.expect_code(429, "queue_full");
    assert_eq!(contexts(&api), 3, "what was refused left nothing");
    let few = TestApp::with(|config| config.limits.images = 1).await;
    let key = few.key(Scope::Write).await;
    few.post("/v1/image/build/files", &key, files("FROM a")).await.expect(201);
    few.post("/v1/image/build/files", &key, files("FROM a")).await.expect_code(403, "quota_exceeded");
}

/// A request whose body never ends holds its place for as long as it is sent.
#[tokio::test]
async fn an_account_takes_some_of_the_places_for_uploads_and_never_all() {
    const PLACES: usize = 4;
    let (api, _host, key) = with_host(|_| {}).await;
    let stranger = api.stranger().await;
    let mut held = Vec::new();
    for _ in 0..PLACES {
        let (sent, chunks) = tokio::sync::mpsc::channel::<Result<axum::body::Bytes, std::io::Error>>(1);
        let chunks = futures_util::stream::unfold(chunks, async |mut chunks| Some((chunks.recv().await?, chunks)));
        let request = Request::post("/v1/image/build/files").header("X-Api-Key", &key);
        let request = request.body(Body::from_stream(Box::pin(chunks))).unwrap();
        let answer = tokio::spawn(crate::routes::router(Arc::clone(&api.app)).oneshot(request));
        // The second chunk is taken once the first one was: then the body arrives.
        for _ in 0..2 {
            sent.send(Ok(" ".into())).await.unwrap();
        }
        held.push((sent, answer));
    }
    let body = || files("FROM scratch");
    let refused = api.post("/v1/image/build/files", &key, body()).await;
    assert_eq!(refused.headers["retry-after"], "5");
    refused.expect_code(503, "overloaded");
    api.post("/v1/image/build/github", &key, github()).await.expect_code(503, "overloaded");
    build(&api, &stranger, "files", body()).await;

    // A body that ends, also one that is wrong, and one that is given up make room.
    let (sent, answer) = held.pop().unwrap();
    drop(sent);
    assert_eq!(answer.await.unwrap().unwrap().status(), 400);
    build(&api, &key, "files", body()).await;
    let (_sent, answer) = held.pop().unwrap();
    answer.abort();
    assert!(answer.await.unwrap_err().is_cancelled());
    build(&api, &key, "files", body()).await;
}

#[tokio::test]
async fn own_images_are_found_and_others_are_not() {
    let (api, host, key) = with_host(|_| {}).await;
    let bound = api.key_with(|key| key.tenant = Some("ann".into())).await;
    let digest = format!("sha256:{}", "d".repeat(64));
    // What a host lists is there: an image that its first list lacked would be lost.
    host.set_image(&digest, ImageObservation::Ready);
    let of = async |tenant: Option<&str>| {
        let (digest, tenant) = (digest.clone(), tenant.map(str::to_owned));
        api.image_with(|image| (image.digest, image.tenant) = (digest, tenant)).await
    };
    let (own, anns, bobs) = (of(None).await, of(Some("ann")).await, of(Some("bob")).await);
    let arriving = format!("sha256:{}", "e".repeat(64));
    host.set_image(&arriving, ImageObservation::Pulling { done_bytes: 1, total_bytes: 2 });
    let pulling = api.image_with(|image| (image.digest, image.state) = (arriving.clone(), ImageState::Pulling)).await;
    let stranger = api.stranger().await;
    let from = |image: &str| files(&format!("FROM cakework/{image}"));
    let id = build(&api, &key, "files", from(own.as_str())).await;
    taken(&api, &host, &id).await;
    assert_eq!(host.world().builds[&id].put.own_images, [(own.to_string(), digest.clone())].into());
    for (key, image, tenant, fails) in [
        (&key, own.as_str(), Some("ann"), false),
        (&key, bobs.as_str(), Some("ann"), true),
        (&key, "01GV2ZFBT345TRTRDK6VHBECCZ", None, true),
        (&key, "nonsense", None, true),
        (&stranger, own.as_str(), None, true),
        (&bound, own.as_str(), None, true),
        (&bound, bobs.as_str(), None, true),
        (&bound, anns.as_str(), None, false),
    ] {
        let mut body = from(image);
        body["tenant"] = json!(tenant);
        let id = build(&api, key, "files", body).await;
        if fails {
            until(&api, &id, BuildState::Failed).await;
            assert_eq!(shown(&api, key, &id).await["error"]["code"], "base_image", "{image}");
        } else {
            eventually("it is taken", || async { host.world().builds.contains_key(&id) }).await;
            host.observe_build(&id, succeeded("b"));
            until(&api, &id, BuildState::Succeeded).await;
        }
    }
    // One that is still arriving is waited for.
    host.observe_build(&id, succeeded("b"));
    until(&api, &id, BuildState::Succeeded).await;
    let waits = build(&api, &key, "files", from(pulling.as_str())).await;
    until(&api, &waits, BuildState::Building).await;
    assert!(!host.world().builds.contains_key(&waits));
    host.set_image(&arriving, ImageObservation::Ready);
    host.poke();
    taken(&api, &host, &waits).await;
    assert_eq!(host.world().builds[&waits].put.own_images, [(pulling.to_string(), arriving)].into());
}

#[tokio::test]
async fn an_image_that_its_host_lost_is_not_looked_for_in_a_registry() {
    let (api, host, key) = with_host(|_| {}).await;
    let id = build(&api, &key, "files", files("FROM a")).await;
    taken(&api, &host, &id).await;
    host.observe_build(&id, succeeded("b"));
    until(&api, &id, BuildState::Succeeded).await;
    let image = shown(&api, &key, &id).await["imageId"].as_str().unwrap().to_owned();
    host.world().empty_list = true;
    host.poke();
    let path = format!("/v1/image/{image}");
    eventually("it failed", || async { api.get(&path, &key).await.expect(200)["state"] == "failed" }).await;
    assert!(host.world().pulls.is_empty());
    api.post("/v1/vm/start", &key, json!({"imageId": image})).await.expect_code(409, "image_failed");
}

#[tokio::test]
async fn builds_are_listed_newest_first_and_filtered() {
    let (api, host, key) = with_host(|_| {}).await;
    host.world().draining = true;
    let mut ids = Vec::new();
    for (tenant, app) in [("ann", "x"), ("bob", "x"), ("bob", "y")] {
        let mut body = files("FROM a");
        (body["tenant"], body["metadata"]) = (json!(tenant), json!({"app": app}));
        ids.push(build(&api, &key, "files", body).await.to_string());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let list = |query: &'static str| {
        let (api, key) = (&api, &key);
        async move {
            let list = api.get(&format!("/v1/builds{query}"), key).await.expect(200);
            let ids =
                list["builds"].as_array().unwrap().iter().map(|build| build["buildId"].as_str().unwrap().to_owned());
            (ids.collect::<Vec<_>>(), list["pagination"].as_str().map(str::to_owned))
        }
    };
    assert_eq!(list("").await.0, [ids[2].clone(), ids[1].clone(), ids[0].clone()]);
    assert_eq!(list("?tenant=ann").await.0, [ids[0].clone()]);
    assert_eq!(list("?metadata.app=x&tenant=bob").await.0, [ids[1].clone()]);
    assert_eq!(list("?status=succeeded").await.0, Vec::<String>::new());
    assert_eq!(list("?status=created&limit=2").await.0, [ids[2].clone(), ids[1].clone()]);
    let token = list("?limit=2").await.1.unwrap();
    let rest = api.get(&format!("/v1/builds?pagination={token}"), &key).await.expect(200);
    assert_eq!((&rest["builds"][0]["buildId"], &rest["pagination"]), (&json!(ids[0]), &json!(null)));
    host.world().draining = false;
    let id: BuildId = ids[0].parse().unwrap();
    taken(&api, &host, &id).await;
    host.observe_build(&id, succeeded("b"));
    until(&api, &id, BuildState::Succeeded).await;
    let image = shown(&api, &key, &id).await["imageId"].as_str().unwrap().to_owned();
    let found = api.get(&format!("/v1/builds?imageId={image}"), &key).await.expect(200);
    assert_eq!(found["builds"][0]["buildId"], ids[0]);
    let bound = api.key_with(|key| key.tenant = Some("bob".into())).await;
    assert_eq!(api.get("/v1/builds", &bound).await.expect(200)["builds"].as_array().unwrap().len(), 2);
    api.get(&format!("/v1/image/build/{id}"), &bound).await.expect_code(404, "unknown_build");
}
