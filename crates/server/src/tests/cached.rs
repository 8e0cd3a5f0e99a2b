//! Cached VMs: every call in every state, one forced order of events each, and both sides agreed after each loss.

use std::sync::Arc;

use axum::http::Method;
use cakework_core::cached::{Prewarm, Sleep};
use cakework_core::id::{Generation, VmId};
use cakework_core::lifecycle::{Exit, ExitReason, VmEvent, VmState};
use cakework_wire::host::{VmObservation, VmReport};
use serde_json::{Value, json};

use super::script::{Host, Loss, started};
use super::{Answer, PATIENCE, TestApp, eventually};
use crate::keys::Scope;
use crate::ops::cached::run::{By, NotRun, run};
use crate::reconcile as reconcilers;
use crate::store::Store;
use crate::store::vm_changes::Facts;
use crate::store::vms::Vm;

/// An API with a scripted host and a key.
pub(super) async fn with_host() -> (TestApp, Host, String) {
    let api = TestApp::new().await;
    let host = Host::listen(&api.app.config.agent_socket);
    api.reconcile().await;
    let key = api.key(Scope::Write).await;
    (api, host, key)
}

/// A cached VM that its host holds.
pub(super) async fn cache(api: &TestApp, key: &str, more: Value) -> (VmId, Value) {
    let image = api.ready_image().await;
    let mut body = json!({"imageId": image, "port": 80, "envVars": {"A": "b"}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let vm = api.post("/v1/vm/cache", key, body).await.expect(201);
    (vm["id"].as_str().unwrap().parse().unwrap(), vm)
}

pub(super) async fn call(api: &TestApp, key: &str, id: &VmId, call: &str) -> Answer {
    let path = match call {
        "suspend" => format!("/v1/vm/{id}/suspend"),
        call => format!("/v1/vm/cached/{id}/{call}"),
    };
    api.send(Method::POST, &path, Some(key), None).await
}

pub(super) async fn record(api: &TestApp, id: &VmId) -> Vm {
    api.app.store.any_vm(id).await.unwrap().unwrap()
}

/// The state, with `asleep` for one that sleeps.
pub(super) async fn state(api: &TestApp, id: &VmId) -> &'static str {
    let vm = record(api, id).await;
    if vm.state == VmState::Started && !vm.is_awake() { "asleep" } else { vm.state.as_str() }
}

pub(super) async fn until(api: &TestApp, id: &VmId, wanted: &str) {
    eventually(wanted, || async { state(api, id).await == wanted }).await;
}

/// Its host holds it, as the record knows.
async fn held(api: &TestApp, host: &Host, id: &VmId) {
    eventually("it is held", || async {
        let vm = record(api, id).await;
        let generation = host.world().vms.get(id).map(|held| held.report.generation);
        vm.incarnation.is_some() && generation == Some(vm.generation) && vm.due_ms.is_none()
    })
    .await;
}

fn exited(code: i32) -> VmObservation {
    VmObservation::Stopped { exit: Some(Exit { code: Some(code), ..Exit::only(ExitReason::Exited) }) }
}

#[tokio::test]
async fn a_cached_vm_is_held_then_runs_as_often_as_it_is_started() {
    let (api, host, key) = with_host().await;
    let hook = json!({"url": "https://example.com/"});
    let admin = api.key(Scope::Admin).await;
    let hook = api.post("/v1/webhook", &admin, hook).await.expect(201)["webhookId"].as_str().unwrap().to_owned();
    let more = json!({"volumeGB": 3, "idleTimeoutSeconds": 90, "prewarm": "create", "tenant": "ann",
        "metadata": {"job": "7"}, "timeoutSeconds": 9});
    let (id, vm) = cache(&api, &key, more).await;
    assert_eq!((&vm["state"], &vm["volumeGB"], &vm["isolation"]), (&json!("stopped"), &json!(3), &json!("gvisor")));
    assert_eq!((&vm["idleTimeoutSeconds"], &vm["autoStart"]), (&json!(90), &json!(true)));
    assert_eq!((&vm["prewarm"], &vm["tenant"], &vm["metadata"]["job"]), (&json!("create"), &json!("ann"), &json!("7")));
    {
        let world = host.world();
        let put = &world.vms[&id].put;
        let cached = put.cached.as_ref().unwrap();
        assert_eq!((put.generation, put.spec.env["A"].as_str()), (Generation::FIRST, "b"));
        assert_eq!((cached.run, cached.spec.prewarm), (false, Prewarm::Create));
        assert_eq!(put.scope, api.account.to_string());
        assert!(put.start_remaining_ms > 0);
    }
    let mut hostnames = vec![vm["hostname"].clone()];
    for generation in [2, 3] {
        let vm = call(&api, &key, &id, "start").await.expect(200);
        assert_eq!(vm, api.get(&format!("/v1/vm/{id}"), &key).await.expect(200));
        assert_eq!(vm["state"], "started");
        assert_eq!(vm["start"], json!({"tier": "paused", "durationMs": 7}));
        hostnames.push(vm["hostname"].clone());
        {
            let world = host.world();
            let put = &world.vms[&id].put;
            let cached = put.cached.as_ref().unwrap();
            assert_eq!((put.generation, put.timeout_ms, cached.run), (Generation(generation), Some(9000), true));
            assert!(put.wait_ms > 0, "the answer comes in the same message");
        }
        call(&api, &key, &id, "stop").await.expect(204);
        let vm = api.get(&format!("/v1/vm/{id}"), &key).await.expect(200);
        assert_eq!((&vm["state"], &vm["exit"]["reason"]), (&json!("stopped"), &json!("stopped")));
    }
    hostnames.dedup();
    assert_eq!(hostnames.len(), 1, "the same name over its life");
    assert_eq!(host.world().calls, ["hold", "run", "stop", "run", "stop"]);
    // It is a VM like others.
    let list = api.get("/v1/vms?status=stopped", &key).await.expect(200);
    assert_eq!(list["vms"][0]["id"], json!(id.to_string()));
    // Its log goes over all of its runs, in their order.
    let (mut lines, mut token) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/v1/vm/cached/{id}/logs?batch=50{token}"), &key).await.expect(200);
        lines.extend(page["lines"].as_array().unwrap().iter().map(|line| line["message"].clone()));
        let Some(next) = page["pagination"].as_str() else { break };
        token = format!("&pagination={next}");
    }
    assert_eq!(lines, ["run 1", "run 2", "run 3"]);
    call(&api, &key, &id, "destroy").await.expect(204);
    assert_eq!(state(&api, &id).await, "destroyed");
    assert!(record(&api, &id).await.env.is_none(), "its environment is erased");
    let deliveries = api.get(&format!("/v1/webhook/{hook}/deliveries?limit=50"), &admin).await.expect(200);
    let mut kinds: Vec<_> =
        deliveries["deliveries"].as_array().unwrap().iter().map(|one| one["type"].clone()).collect();
    kinds.sort_by_key(ToString::to_string);
    assert_eq!(kinds, ["vm.destroyed", "vm.started", "vm.started", "vm.stopped", "vm.stopped"]);
}

#[tokio::test]
async fn what_a_cached_vm_is_to_be_is_checked() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let image = api.ready_image().await;
    for (more, code, field) in [
        (json!({"idleTimeoutSeconds": 0}), "out_of_range", "idleTimeoutSeconds"),
        (json!({"idleTimeoutSeconds": 2_592_001}), "out_of_range", "idleTimeoutSeconds"),
        (json!({"diskSize": 501}), "out_of_range", "diskSize"),
        (json!({"volumeGB": 0}), "out_of_range", "volumeGB"),
        (json!({"volumeGB": 2, "diskSize": 3}), "invalid_value", "diskSize"),
        (json!({"autoStart": "yes"}), "wrong_type", "autoStart"),
        (json!({"prewarm": "warm"}), "unknown_field", "prewarm"),
        (json!({"cpu": 9}), "out_of_range", "cpu"),
        (json!({"idleTimeout": 3}), "unknown_field", "idleTimeout"),
    ] {
        let mut body = json!({"imageId": image});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let problem = api.post("/v1/vm/cache", &key, body).await.expect_code(400, code);
        assert_eq!(problem["field"], field, "{more}");
    }
    let unknown = json!({"imageId": "01GV2ZFBT345TRTRDK6VHBECCZ"});
    api.post("/v1/vm/cache", &key, unknown).await.expect_code(404, "unknown_image");
    for (sizes, volume) in [(json!({"diskSize": 3}), json!(3)), (json!({"diskSize": 3, "volumeGB": 3}), json!(3))] {
        let (_, vm) = cache(&api, &key, sizes).await;
        assert_eq!((&vm["volumeGB"], &vm["state"]), (&volume, &json!("stopped")), "also where no host answers yet");
    }
}

/// Brings a new VM to a state.
async fn bring(api: &TestApp, host: &Host, key: &str, wanted: &str) -> VmId {
    let (id, _) = cache(api, key, json!({})).await;
    match wanted {
        "stopped" => {}
        "created" => {
            host.world().runs = false;
            assert_eq!(call(api, key, &id, "start").await.status, 202);
            host.world().runs = true;
        }
        "destroyed" => drop(call(api, key, &id, "destroy").await.expect(204)),
        _ => {
            call(api, key, &id, "start").await.expect(200);
            match wanted {
                "asleep" => drop(call(api, key, &id, "suspend").await.expect(204)),
                "stopping" => {
                    host.world().stops = false;
                    let vm = record(api, &id).await;
                    api.app.apply(&id, vm.generation, VmEvent::StopAsked, Facts::default()).await.unwrap();
                    let stops = host.count("stop");
                    eventually("it is asked for", || async { host.count("stop") > stops }).await;
                }
                "started" => {}
                other => panic!("{other}"),
            }
        }
    }
    assert_eq!(state(api, &id).await, wanted);
    id
}

#[tokio::test]
async fn every_call_in_every_state() {
    let (api, host, key) = with_host().await;
    for (from, name, status, code, to) in [
        ("stopped", "start", 200, "", "started"),
        ("stopped", "stop", 204, "", "stopped"),
        ("stopped", "suspend", 409, "vm_not_running", "stopped"),
        ("stopped", "destroy", 204, "", "destroyed"),
        ("created", "start", 202, "", "created"),
        ("created", "stop", 204, "", "stopped"),
        ("created", "suspend", 409, "vm_not_running", "created"),
        ("created", "destroy", 204, "", "destroyed"),
        ("started", "start", 200, "", "started"),
        ("started", "stop", 204, "", "stopped"),
        ("started", "suspend", 204, "", "asleep"),
        ("started", "destroy", 204, "", "destroyed"),
        ("asleep", "start", 200, "", "started"),
        ("asleep", "stop", 204, "", "stopped"),
        ("asleep", "suspend", 204, "", "asleep"),
        ("asleep", "destroy", 204, "", "destroyed"),
        ("stopping", "start", 409, "vm_stopping", "stopping"),
        ("stopping", "stop", 204, "", "stopped"),
        ("stopping", "suspend", 409, "vm_not_running", "stopping"),
        ("stopping", "destroy", 204, "", "destroyed"),
        ("destroyed", "start", 409, "vm_over", "destroyed"),
        ("destroyed", "stop", 409, "vm_over", "destroyed"),
        ("destroyed", "suspend", 409, "vm_over", "destroyed"),
        ("destroyed", "destroy", 204, "", "destroyed"),
    ] {
        let id = bring(&api, &host, &key, from).await;
        let made = async {
            // An end that is waited for comes.
            if (from, name) == ("stopping", "stop") {
                host.observe(&id, exited(0));
            }
        };
        let (answer, ()) = tokio::join!(call(&api, &key, &id, name), made);
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{name} in {from}: {answer:?}");
        assert_eq!(state(&api, &id).await, to, "{name} in {from}");
        let shown = api.get(&format!("/v1/vm/{id}"), &key).await.expect(200);
        let word = match to {
            "asleep" => "started",
            "stopping" => "stopped",
            other => other,
        };
        assert_eq!(shown["state"], word);
        assert_eq!(shown["sleep"], if to == "asleep" { json!("paused") } else { Value::Null });
        api.get(&format!("/v1/vm/cached/{id}/logs"), &key).await.expect(200);
        host.world().stops = true;
    }
    // While it is being destroyed.
    let id = bring(&api, &host, &key, "started").await;
    host.world().losses.extend([Loss::Request; 64]);
    let generation = record(&api, &id).await.generation;
    api.app.apply(&id, generation, VmEvent::DestroyAsked, Facts::default()).await.unwrap();
    for name in ["start", "stop", "suspend"] {
        call(&api, &key, &id, name).await.expect_code(409, "vm_over");
    }
    host.world().losses.clear();
    call(&api, &key, &id, "destroy").await.expect(204);
    assert_eq!(state(&api, &id).await, "destroyed");
}

#[tokio::test]
async fn a_one_time_vm_has_no_runs_and_the_calls_of_both_kinds_fit() {
    let (api, host, key) = with_host().await;
    let image = api.ready_image().await;
    let vm = api.post("/v1/vm/start", &key, json!({"imageId": image})).await.expect(201);
    let once: VmId = vm["id"].as_str().unwrap().parse().unwrap();
    for name in ["start", "stop", "suspend"] {
        call(&api, &key, &once, name).await.expect_code(409, "vm_not_cached");
    }
    for field in ["autoStart", "start", "sleep", "prewarm", "idleTimeoutSeconds"] {
        assert_eq!(vm[field], Value::Null);
    }
    call(&api, &key, &once, "destroy").await.expect(204);
    assert_eq!(state(&api, &once).await, "destroyed");
    // stopVM ends a cached one's run; the other form of destroy ends all of it.
    let id = bring(&api, &host, &key, "started").await;
    api.send(Method::POST, &format!("/v1/vm/{id}/stop"), Some(&key), None).await.expect(204);
    assert_eq!(state(&api, &id).await, "stopped");
    api.send(Method::POST, &format!("/v1/vm/{id}/destroy"), Some(&key), None).await.expect(204);
    assert_eq!(state(&api, &id).await, "destroyed");
}

#[tokio::test]
async fn a_wait_is_for_the_state_itself() {
    let (api, host, key) = with_host().await;
    let (id, _) = cache(&api, &key, json!({})).await;
    let path = |state| format!("/v1/vm/{id}/wait?timeout=20&state={state}");
    let started_at = path("started");
    let (waited, _) = tokio::join!(api.get(&started_at, &key), call(&api, &key, &id, "start"));
    assert_eq!(waited.expect(200)["state"], "started", "stopped is not beyond it");
    let stopped_at = path("stopped");
    let (waited, ()) = tokio::join!(api.get(&stopped_at, &key), async { host.observe(&id, exited(3)) });
    let vm = waited.expect(200);
    assert_eq!((&vm["state"], &vm["exit"]["code"]), (&json!("stopped"), &json!(3)));
}

#[tokio::test]
async fn starts_at_once_are_one_run_also_by_two_processes() {
    let (api, host, key) = with_host().await;
    let (id, _) = cache(&api, &key, json!({})).await;
    let store = Store::open(api.dir.path()).await.unwrap();
    let sealer = crate::seal::Sealer::open(api.dir.path()).unwrap();
    let second = crate::app::App::new(api.app.config.clone(), store, sealer, PATIENCE).unwrap();
    let seq = reconcilers::follow::fill(&second).await.unwrap();
    api.tasks.spawn(reconcilers::follow::run(Arc::clone(&second), seq, api.shutdown.clone()));
    let here = futures_util::future::join_all((0..25).map(|_| call(&api, &key, &id, "start")));
    let run_there = async || {
        let vm = second.store.any_vm(&id).await.unwrap().unwrap();
        run(&second, vm, By::Owner, PATIENCE).await
    };
    let there = futures_util::future::join_all((0..5).map(|_| run_there()));
    let (here, there) = tokio::join!(here, there);
    for answer in here {
        assert!([202, 200].contains(&answer.status.as_u16()), "{answer:?}");
    }
    for answer in there {
        assert!(answer.unwrap().is_awake());
    }
    assert_eq!(host.world().calls, ["hold", "run"]);
    // So are wakes, as far as the host is concerned; and what one process does, the other sees.
    call(&api, &key, &id, "suspend").await.expect(204);
    let awake = run_there().await.unwrap();
    assert_eq!(awake.cached.unwrap().sleep, None);
    assert_eq!(state(&api, &id).await, "started");
}

#[tokio::test]
async fn lost_messages_lose_and_double_nothing() {
    let (api, host, key) = with_host().await;
    for losses in [vec![Loss::Reply], vec![Loss::Request], vec![Loss::Reply, Loss::Request, Loss::Reply]] {
        host.world().calls.clear();
        host.world().losses.extend(losses.clone());
        let (id, _) = cache(&api, &key, json!({})).await;
        held(&api, &host, &id).await;
        host.world().losses.extend(losses.clone());
        call(&api, &key, &id, "start").await;
        until(&api, &id, "started").await;
        assert_eq!(host.world().calls, ["hold", "run"], "{losses:?}");
        host.world().losses.extend(losses.clone());
        call(&api, &key, &id, "stop").await.expect(204);
        until(&api, &id, "stopped").await;
        call(&api, &key, &id, "start").await.expect(200);
        host.world().losses.extend(losses.clone());
        // What the caller does not learn, the host's report tells.
        call(&api, &key, &id, "suspend").await;
        eventually("it sleeps", || async {
            state(&api, &id).await == "asleep" || call(&api, &key, &id, "suspend").await.status == 204
        })
        .await;
        host.world().losses.extend(losses.clone());
        eventually("it wakes", || async { call(&api, &key, &id, "start").await.status == 200 }).await;
        host.world().losses.extend(losses);
        call(&api, &key, &id, "destroy").await.expect(204);
        until(&api, &id, "destroyed").await;
        assert_eq!(host.count("run"), 2);
    }
}

#[tokio::test]
async fn a_start_without_room_is_refused_and_the_vm_stays() {
    let (api, host, key) = with_host().await;
    let (id, _) = cache(&api, &key, json!({})).await;
    host.world().full = true;
    call(&api, &key, &id, "start").await.expect_code(503, "host_full");
    assert_eq!(state(&api, &id).await, "stopped");
    assert_eq!(record(&api, &id).await.exit.unwrap().reason, ExitReason::StartFailed);
    // The message that asked for the run may still arrive: what holds the VM is asked for after it.
    held(&api, &host, &id).await;
    host.world().full = false;
    call(&api, &key, &id, "start").await.expect(200);
    assert!(record(&api, &id).await.exit.is_none());
    // One that no host would hold is not even on record.
    host.world().refusal = Some("runsc is missing".into());
    let image = api.ready_image().await;
    api.post("/v1/vm/cache", &key, json!({"imageId": image})).await.expect_code(503, "isolation_unavailable");
    assert_eq!(api.get("/v1/vms", &key).await.expect(200)["vms"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let (api, host, key) = with_host().await;
    let (id, _) = cache(&api, &key, json!({})).await;
    host.world().runs = false;
    let failed = VmObservation::Stopped { exit: Some(Exit::start_failed("there is no such command")) };
    let failing = async {
        eventually("it is asked for", || async { host.count("run") == 1 }).await;
        host.observe(&id, failed);
    };
    let (answer, ()) = tokio::join!(call(&api, &key, &id, "start"), failing);
    let body = answer.expect_code(409, "start_failed");
    assert!(body["detail"].as_str().unwrap().contains("there is no such command"), "{body}");
    assert_eq!(state(&api, &id).await, "stopped");
}

#[tokio::test]
async fn a_new_incarnation_ends_runs_and_has_all_made_ready_anew() {
    let (api, host, key) = with_host().await;
    let mut vms = Vec::new();
    for from in ["started", "stopped", "asleep", "created"] {
        let id = bring(&api, &host, &key, from).await;
        vms.push((from, id.clone(), record(&api, &id).await.generation));
    }
    host.restart();
    for (from, id, before) in vms {
        held(&api, &host, &id).await;
        let vm = record(&api, &id).await;
        assert_eq!((vm.state, vm.generation), (VmState::Stopped, before.next()), "{from}");
        assert!(!host.world().vms[&id].put.cached.as_ref().unwrap().run);
        let lost = vm.exit.is_some_and(|exit| exit.reason == ExitReason::HostLost);
        assert_eq!(lost, from != "stopped", "{from}");
        call(&api, &key, &id, "start").await.expect(200);
    }
}

#[tokio::test]
async fn a_vm_that_its_host_forgot_is_held_anew() {
    let (api, host, key) = with_host().await;
    let stopped = bring(&api, &host, &key, "stopped").await;
    let asleep = bring(&api, &host, &key, "asleep").await;
    {
        let mut world = host.world();
        world.vms.clear();
        world.empty_list = true;
    }
    host.poke();
    held(&api, &host, &stopped).await;
    assert_eq!(record(&api, &stopped).await.generation, Generation(2));
    // A list ends nothing; the host's own word does.
    assert_eq!(state(&api, &asleep).await, "asleep");
    call(&api, &key, &asleep, "start").await.expect(200);
    assert!(host.world().vms[&asleep].put.cached.as_ref().unwrap().run);
    assert_eq!(host.count("delete"), 0, "its volume is nobody's to remove");
}

/// A host that comes back may have a VM held anew between a start's reading of the record and its first change.
#[tokio::test]
async fn a_start_beside_a_vm_that_is_held_anew_still_starts_it() {
    let (api, host, key) = with_host().await;
    let id = bring(&api, &host, &key, "stopped").await;
    let read = record(&api, &id).await;
    api.app.store.hold_anew(&read, crate::clock::now_ms()).await.unwrap();
    let vm = run(&api.app, read.clone(), By::Owner, PATIENCE).await.unwrap();
    assert_eq!(vm.state, VmState::Started);
    // A run that somebody else began since is joined, also where it is over.
    call(&api, &key, &id, "stop").await.expect(204);
    until(&api, &id, "stopped").await;
    let ended = run(&api.app, read, By::Owner, PATIENCE).await;
    assert!(matches!(ended, Err(NotRun::Ended(Some(_)))), "{ended:?}");
}

#[tokio::test]
async fn an_earlier_placement_of_a_cached_vm_is_never_destroyed() {
    let (api, host, key) = with_host().await;
    let id = bring(&api, &host, &key, "started").await;
    let ghost = |observation| VmReport { vm_id: id.clone(), generation: Generation::FIRST, observation, seq: 0 };
    host.world().ghosts =
        vec![ghost(started()), ghost(exited(1)), ghost(VmObservation::Ended { exit: Exit::only(ExitReason::Unknown) })];
    host.poke();
    eventually("they are taken", || async { host.world().ghosts.is_empty() }).await;
    let other = bring(&api, &host, &key, "started").await;
    assert_eq!((state(&api, &id).await, state(&api, &other).await), ("started", "started"));
    assert_eq!(host.count("delete"), 0);
    // What is over stays over.
    call(&api, &key, &id, "destroy").await.expect(204);
    host.observe(&id, started());
    eventually("it is destroyed again", || async { host.count("delete") == 2 }).await;
}

#[tokio::test]
async fn a_run_that_does_not_end_is_killed_and_the_vm_stays() {
    let (api, host, key) = with_host().await;
    let id = bring(&api, &host, &key, "stopping").await;
    api.app.store.pass_deadline(&id).await.unwrap();
    until(&api, &id, "stopped").await;
    assert_eq!((host.count("kill"), host.count("delete")), (1, 0));
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_stopped() {
    let (api, host, key) = with_host().await;
    let id = bring(&api, &host, &key, "created").await;
    api.app.store.pass_deadline(&id).await.unwrap();
    until(&api, &id, "stopped").await;
    assert_eq!(host.count("stop"), 1);
    call(&api, &key, &id, "start").await.expect(200);
}

#[tokio::test]
async fn a_restarted_api_goes_on_in_each_state() {
    for (from, to) in [
        ("stopped", "stopped"),
        ("created", "started"),
        ("started", "started"),
        ("asleep", "asleep"),
        ("stopping", "stopped"),
        ("destroying", "destroyed"),
        ("unheld", "stopped"),
    ] {
        let (api, host, key) = with_host().await;
        let id = match from {
            "destroying" | "unheld" => bring(&api, &host, &key, "started").await,
            from => bring(&api, &host, &key, from).await,
        };
        match from {
            "destroying" => {
                host.world().losses.extend([Loss::Request; 8]);
                let generation = record(&api, &id).await.generation;
                api.app.apply(&id, generation, VmEvent::DestroyAsked, Facts::default()).await.unwrap();
            }
            "unheld" => {
                host.world().losses.extend([Loss::Request; 8]);
                host.restart();
                until(&api, &id, "stopped").await;
            }
            _ => {}
        }
        let (dir, config, account) = api.crash().await;
        match from {
            "created" => host.observe(&id, started()),
            "stopping" => host.observe(&id, exited(0)),
            _ => host.world().losses.clear(),
        }
        let store = Store::open(dir.path()).await.unwrap();
        let api = TestApp::on(dir, config, store, account);
        api.reconcile().await;
        until(&api, &id, to).await;
        if to != "destroyed" {
            held(&api, &host, &id).await;
            assert_eq!(call(&api, &key, &id, "start").await.status, 200, "{from}");
        }
    }
}

#[tokio::test]
async fn a_wake_that_does_not_come_is_waited_for_and_tried_again() {
    let (api, host, key) = with_host().await;
    let id = bring(&api, &host, &key, "asleep").await;
    host.world().wakes = false;
    assert_eq!(call(&api, &key, &id, "start").await.status, 202);
    assert!(host.count("wake") > 0);
    host.world().wakes = true;
    call(&api, &key, &id, "start").await.expect(200);
    // Its host spills it by itself, and says so.
    host.observe(&id, VmObservation::Asleep { spilled: true });
    eventually("it is known", || async { record(&api, &id).await.cached.unwrap().sleep == Some(Sleep::Spilled) }).await;
    let shown = api.get(&format!("/v1/vm/{id}"), &key).await.expect(200);
    assert_eq!((&shown["state"], &shown["sleep"]), (&json!("started"), &json!("spilled")));
    host.world().busy = Some("it computes".into());
    call(&api, &key, &id, "start").await.expect(200);
    let body = call(&api, &key, &id, "suspend").await.expect_code(409, "vm_busy");
    assert!(body["detail"].as_str().unwrap().contains("it computes"), "{body}");
}
