//! The record follows the host, and the host the record: one forced order of events each.

use axum::http::Method;
use cakework_core::id::{Generation, VmId};
use cakework_core::lifecycle::{Exit, ExitReason, VmState};
use cakework_edge::RouteTable;
use cakework_wire::host::{AgentProblem, ImageObservation, ProblemCode, VmObservation, VmReport};
use serde_json::{Value, json};

use super::script::{Host, Loss, RUNNING};
use super::{TestApp, eventually};
use crate::keys::Scope;

/// An API with a scripted host and a key.
async fn with_host() -> (TestApp, Host, String) {
    let api = TestApp::new().await;
    let host = Host::listen(&api.app.config.agent_socket);
    api.reconcile().await;
    let key = api.key(Scope::Write).await;
    (api, host, key)
}

async fn start(api: &TestApp, key: &str) -> (VmId, Value) {
    let image = api.ready_image().await;
    let body = json!({"imageId": image, "port": 80, "envVars": {"A": "b"}, "timeoutSeconds": 9});
    let vm = api.post("/v1/vm/start", key, body).await.expect(201);
    (vm["id"].as_str().unwrap().parse().unwrap(), vm)
}

async fn state(api: &TestApp, id: &VmId) -> VmState {
    api.app.store.any_vm(id).await.unwrap().unwrap().state
}

async fn until(api: &TestApp, id: &VmId, wanted: VmState) {
    eventually(wanted.as_str(), || async { state(api, id).await == wanted }).await;
}

fn ended(code: i32) -> VmObservation {
    VmObservation::Ended { exit: Exit { code: Some(code), ..Exit::only(ExitReason::Exited) } }
}

#[tokio::test]
async fn a_vm_starts_runs_and_ends_as_its_host_says() {
    let (api, host, key) = with_host().await;
    let (id, vm) = start(&api, &key).await;
    assert_eq!((&vm["state"], &vm["isolation"]), (&json!("started"), &json!("gvisor")));
    {
        let world = host.world();
        let put = &world.vms[&id].put;
        assert_eq!((put.generation, put.timeout_ms), (Generation::FIRST, Some(9000)));
        assert_eq!(put.spec.env["A"], "b");
        assert!((500_000..=600_000).contains(&put.start_remaining_ms), "{}", put.start_remaining_ms);
    }
    let wait = format!("/v1/vm/{id}/wait?state=destroyed&timeout=20");
    let (waited, ()) = tokio::join!(api.get(&wait, &key), async { host.observe(&id, ended(3)) });
    let vm = waited.expect(200);
    assert_eq!(
        (&vm["state"], &vm["exit"]),
        (&json!("destroyed"), &json!({"code": 3, "oom": false, "reason": "exited"}))
    );
    let record = api.app.store.any_vm(&id).await.unwrap().unwrap();
    assert_eq!((record.env, record.address), (None, None), "its environment is erased");
}

#[tokio::test]
async fn a_stop_is_carried_to_the_host() {
    let (api, host, key) = with_host().await;
    let (id, _) = start(&api, &key).await;
    let stopped = api.send(Method::POST, &format!("/v1/vm/{id}/stop"), Some(&key), None).await;
    assert_eq!(stopped.status, 204);
    assert_eq!(state(&api, &id).await, VmState::Destroyed);
    assert!(matches!(host.world().vms[&id].report.observation, VmObservation::Ended { .. }));
}

#[tokio::test]
async fn a_lost_reply_starts_a_vm_once() {
    let (api, host, key) = with_host().await;
    host.world().losses.extend([Loss::Reply, Loss::Request, Loss::Reply]);
    let (id, _) = start(&api, &key).await;
    until(&api, &id, VmState::Started).await;
    assert_eq!(host.world().vms[&id].report.generation, Generation::FIRST);
}

#[tokio::test]
async fn a_full_host_leaves_nothing_behind() {
    let (api, host, key) = with_host().await;
    host.world().full = true;
    let image = api.ready_image().await;
    let answer = api.post("/v1/vm/start", &key, json!({"imageId": image})).await;
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    answer.expect_code(503, "host_full");
    assert_eq!(api.get("/v1/vms", &key).await.expect(200)["vms"], json!([]));
    assert_eq!(api.app.routes.len(), 0);
}

#[tokio::test]
async fn a_host_without_isolation_starts_nothing_and_says_why() {
    let (api, host, key) = with_host().await;
    host.world().refusal = Some("runsc is missing: install it".into());
    let image = api.ready_image().await;
    let answer = api.post("/v1/vm/start", &key, json!({"imageId": image})).await;
    let body = answer.expect_code(503, "isolation_unavailable");
    assert!(body["detail"].as_str().unwrap().contains("runsc is missing"), "{body}");
    assert_eq!(api.get("/v1/vms", &key).await.expect(200)["vms"], json!([]));
}

#[tokio::test]
async fn silence_and_empty_lists_end_nothing() {
    let (api, host, key) = with_host().await;
    let (id, _) = start(&api, &key).await;
    host.world().empty_list = true;
    host.poke();
    eventually("the list is taken", || async { !host.world().empty_list }).await;
    // Another change comes through: the empty list was applied before it.
    let (other, _) = start(&api, &key).await;
    until(&api, &other, VmState::Started).await;
    assert_eq!(state(&api, &id).await, VmState::Started);
    drop(host);
    let other = api.get(&format!("/v1/vm/{id}/wait?state=destroyed&timeout=1"), &key).await.expect(200);
    assert_eq!(other["state"], "started");
}

#[tokio::test]
async fn a_new_incarnation_ends_what_the_old_one_had() {
    let (api, host, key) = with_host().await;
    let (id, _) = start(&api, &key).await;
    host.restart();
    until(&api, &id, VmState::Destroyed).await;
    let vm = api.get(&format!("/v1/vm/{id}"), &key).await.expect(200);
    assert_eq!(vm["exit"]["reason"], "host_lost");
    let (again, _) = start(&api, &key).await;
    until(&api, &again, VmState::Started).await;
}

#[tokio::test]
async fn late_reports_change_nothing_and_what_is_not_wanted_is_destroyed() {
    let (api, host, key) = with_host().await;
    let (id, _) = start(&api, &key).await;
    let report = |generation, observation| VmReport { vm_id: id.clone(), generation, observation, seq: 0 };
    // An end of a placement that is not this one.
    host.world().ghosts = vec![report(Generation(0), ended(1)), report(Generation(7), ended(1))];
    host.poke();
    eventually("the reports are taken", || async { host.world().ghosts.is_empty() }).await;
    let (other, _) = start(&api, &key).await;
    assert_eq!(state(&api, &other).await, VmState::Started);
    assert_eq!(state(&api, &id).await, VmState::Started);
    // A VM that is over comes back to life on its host.
    host.observe(&id, ended(0));
    until(&api, &id, VmState::Destroyed).await;
    host.observe(&id, RUNNING);
    eventually("it is destroyed again", || async {
        matches!(host.world().vms[&id].report.observation, VmObservation::Ended { .. })
    })
    .await;
    assert_eq!(state(&api, &id).await, VmState::Destroyed);
}

#[tokio::test]
async fn a_vm_that_no_record_names_is_left_alone() {
    let (api, host, key) = with_host().await;
    let (id, _) = start(&api, &key).await;
    let unknown: VmId = "00000000000000".parse().unwrap();
    host.world().ghosts =
        vec![VmReport { vm_id: unknown.clone(), generation: Generation(1), observation: RUNNING, seq: 0 }];
    host.observe(&id, ended(0));
    until(&api, &id, VmState::Destroyed).await;
    assert!(!host.world().vms.contains_key(&unknown));
}

#[tokio::test]
async fn a_restarted_api_goes_on_from_the_record() {
    let (api, host, key) = with_host().await;
    host.world().runs = false;
    let (id, vm) = start(&api, &key).await;
    assert_eq!(vm["state"], "created");
    let label = api.app.store.any_vm(&id).await.unwrap().unwrap().label;
    let (dir, config, account) = api.crash().await;
    host.observe(&id, RUNNING);
    let store = crate::store::Store::open(dir.path()).await.unwrap();
    let api = TestApp::on(dir, config, store, account);
    api.reconcile().await;
    until(&api, &id, VmState::Started).await;
    eventually("its route", || async { leads(&api.app.routes) == 1 }).await;
    assert_eq!(api.app.store.any_vm(&id).await.unwrap().unwrap().label, label);
}

fn leads(routes: &RouteTable) -> usize {
    routes.len()
}

#[tokio::test]
async fn changes_of_another_api_process_are_followed() {
    let (api, host, key) = with_host().await;
    let store = crate::store::Store::open(api.dir.path()).await.unwrap();
    let sealer = crate::seal::Sealer::open(api.dir.path()).unwrap();
    let second = crate::app::App::new(api.app.config.clone(), store, sealer, std::time::Duration::ZERO).unwrap();
    let seq = crate::reconcile::follow::fill(&second).await.unwrap();
    let follower = tokio::spawn(crate::reconcile::follow::run(second.clone(), seq, api.shutdown.clone()));
    let (id, _) = start(&api, &key).await;
    eventually("the other's route", || async { second.routes.len() == 1 }).await;
    let waiting = second.wait_vm(&id, super::PATIENCE, |vm| vm.state == VmState::Destroyed);
    let (seen, ()) = tokio::join!(waiting, async { host.observe(&id, ended(0)) });
    assert_eq!(seen.unwrap().unwrap().state, VmState::Destroyed);
    api.shutdown.cancel();
    follower.await.unwrap();
}

#[tokio::test]
async fn an_image_is_imported_pulled_and_ready() {
    let (api, host, key) = with_host().await;
    let body = json!({"imageUri": "1.dkr.ecr.eu-west-1.amazonaws.com/app:1", "password": "geheim"});
    let image = api.post("/v1/image/import", &key, body).await.expect(201);
    let path = format!("/v1/image/{}", image["imageId"].as_str().unwrap());
    eventually("the pull", || async { !host.world().pulls.is_empty() }).await;
    let credential = host.world().pulls[0].credential.clone().unwrap();
    assert_eq!((credential.username.as_str(), credential.password.as_str()), ("AWS", "geheim"));
    host.set_image("sha256:a", ImageObservation::Pulling { done_bytes: 500, total_bytes: 1000 });
    let shown = |field: &'static str, value: Value| {
        let (api, path, key) = (&api, &path, &key);
        eventually(field, move || {
            let value = value.clone();
            async move { api.get(path, key).await.expect(200)[field] == value }
        })
    };
    shown("progress", json!(0.5)).await;
    host.set_image("sha256:a", ImageObservation::Ready);
    shown("state", json!("ready")).await;
    // A host that lost its layers is asked again, now without the credential.
    host.world().images.clear();
    host.restart();
    eventually("the second pull", || async { host.world().pulls.len() == 2 }).await;
    assert!(host.world().pulls[1].credential.is_none());
    let problem = AgentProblem { code: ProblemCode::ImageInvalid, message: "a layer is wrong".into() };
    host.set_image("sha256:a", ImageObservation::Failed { problem });
    shown("state", json!("failed")).await;
    assert_eq!(api.get(&path, &key).await.expect(200)["error"]["code"], "image_invalid");
}

#[tokio::test]
async fn a_credential_is_a_token_a_pair_or_a_user_and_a_password() {
    let (api, host, key) = with_host().await;
    for (number, (body, user, password)) in [
        (json!({"imageUri": "a", "password": "token=="}), "AWS", "token=="),
        (json!({"imageUri": "a", "password": "ann:geheim:nis"}), "ann", "geheim:nis"),
        (json!({"imageUri": "a", "username": "ann", "password": "ge:heim"}), "ann", "ge:heim"),
    ]
    .into_iter()
    .enumerate()
    {
        api.post("/v1/image/import", &key, body).await.expect(201);
        eventually("the pull", || async { host.world().pulls.len() > number }).await;
        let credential = host.world().pulls[number].credential.clone().unwrap();
        assert_eq!((credential.username.as_str(), credential.password.as_str()), (user, password));
    }
    api.post("/v1/image/import", &key, json!({"imageUri": "a", "password": ""})).await.expect(201);
    eventually("the pull", || async { host.world().pulls.len() == 4 }).await;
    assert!(host.world().pulls[3].credential.is_none(), "everyone's images need none");
}

#[tokio::test]
async fn a_vm_follows_the_wish_for_its_image() {
    let (api, host, key) = with_host().await;
    let image = api.image_with(|image| {
        (image.state, image.digest) = (crate::store::images::ImageState::Pulling, "sha256:b".into());
    });
    let image = image.await;
    let vm = api.post("/v1/vm/start", &key, json!({"imageId": image})).await.expect(201);
    let id: VmId = vm["id"].as_str().unwrap().parse().unwrap();
    assert!(!host.world().vms.contains_key(&id), "the host would not know the image");
    host.set_image("sha256:b", ImageObservation::Pulling { done_bytes: 0, total_bytes: 1 });
    until(&api, &id, VmState::Started).await;
}

#[tokio::test]
async fn a_refused_import_keeps_nothing() {
    let (api, host, key) = with_host().await;
    for (code, word) in [
        (ProblemCode::RegistryUnauthorized, "registry_unauthorized"),
        (ProblemCode::ImageNotFound, "image_not_found"),
        (ProblemCode::ImageArchitecture, "image_architecture"),
        (ProblemCode::ImageInvalid, "image_invalid"),
        (ProblemCode::ImageTooLarge, "image_too_large"),
        (ProblemCode::ImageReference, "image_reference"),
        (ProblemCode::RegistryUnavailable, "registry_unavailable"),
    ] {
        host.world().resolve = Err(AgentProblem { code, message: "because".into() });
        let answer = api.post("/v1/image/import", &key, json!({"imageUri": "a", "password": "geheim"})).await;
        let body = answer.expect_code(400, word);
        assert_eq!(body["detail"], "because");
    }
    host.world().resolve = Err(AgentProblem { code: ProblemCode::DiskFull, message: "full".into() });
    api.post("/v1/image/import", &key, json!({"imageUri": "a"})).await.expect_code(503, "disk_full");
    assert_eq!(api.get("/v1/images", &key).await.expect(200)["images"], json!([]));
}

#[tokio::test]
async fn pages_of_a_log_are_passed_on_with_their_range() {
    let (api, _host, key) = with_host().await;
    let (id, _) = start(&api, &key).await;
    let (mut lines, mut split, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let path = format!("/v1/vm/{id}/logs?query=x&from=2022-07-19T13:32:56Z{token}");
        let page = api.get(&path, &key).await.expect(200);
        lines.extend(page["lines"].as_array().unwrap().iter().map(|line| line["message"].clone()));
        split.extend(page["lines"].as_array().unwrap().iter().map(|line| line["continues"].clone()));
        assert_eq!(page["from"], "2022-07-19T13:32:56.000Z");
        match page["pagination"].as_str() {
            Some(next) => token = format!("&pagination={next}"),
            None => break,
        }
    }
    assert_eq!(lines, ["x 0", "x 1", "x 2"]);
    assert_eq!(split, [Value::Null, json!(true), Value::Null], "only a line that goes on says so");
}

#[tokio::test]
async fn a_search_goes_through_the_logs_that_the_filters_leave() {
    let (api, host, key) = with_host().await;
    let image = api.ready_image().await;
    let begin = async |tenant: &str| {
        let asked = json!({"imageId": image, "tenant": tenant, "metadata": {"job": tenant}});
        let vm = api.post("/v1/vm/start", &key, asked).await.expect(201);
        vm["id"].as_str().unwrap().to_owned()
    };
    let (a, b, c) = (begin("ann").await, begin("bob").await, begin("ann").await);
    let found = async |key: &str, filter: &str| {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("/v1/logs?query=x{filter}{token}"), key).await.expect(200);
            for line in page["lines"].as_array().unwrap() {
                assert_eq!(line["message"], format!("x of {}", line["vmId"].as_str().unwrap()));
                assert_eq!(line["timestamp"], 7);
                found.push((line["vmId"].as_str().unwrap().to_owned(), line["tenant"].as_str().unwrap().to_owned()));
            }
            match page["pagination"].as_str() {
                Some(next) => token = format!("&pagination={next}"),
                None => return found,
            }
        }
    };
    let sorted = |vms: &[(&str, &str)]| {
        let mut vms: Vec<_> = vms.iter().map(|(vm, tenant)| ((*vm).to_owned(), (*tenant).to_owned())).collect();
        vms.sort();
        vms
    };
    let anns = sorted(&[(&a, "ann"), (&c, "ann")]);
    assert_eq!(found(&key, "").await, sorted(&[(&a, "ann"), (&b, "bob"), (&c, "ann")]));
    assert_eq!(found(&key, "&tenant=ann").await, anns);
    assert_eq!(found(&key, "&metadata.job=bob").await, sorted(&[(&b, "bob")]));
    assert_eq!(found(&key, &format!("&imageId={image}")).await.len(), 3);
    // A time in which no VM was there asks no host.
    host.world().searches.clear();
    assert_eq!(found(&key, "&to=2020-01-01T00:00:00Z").await, []);
    assert_eq!(found(&key, "&tenant=carl").await, []);
    assert_eq!(host.world().searches, []);
    // A tenant's own key sees that tenant's, whatever it asks for; another account nothing.
    let bound = api.key_with(|key| key.tenant = Some("ann".into())).await;
    assert_eq!(found(&bound, "").await, anns);
    api.get("/v1/logs?tenant=bob", &bound).await.expect_code(400, "invalid_tenant");
    let stranger = api.stranger().await;
    assert_eq!(found(&stranger, "").await, []);
}
