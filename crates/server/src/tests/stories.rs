//! Stories: any order of starts, stops, exits, losses, restarts and late reports ends with record and host agreed.

use std::collections::BTreeSet;

use cakework_core::id::{ImageId, VmId};
use cakework_core::lifecycle::{Exit, ExitReason, VmEvent, VmState};
use cakework_wire::host::VmObservation;
use proptest::prelude::*;
use serde_json::json;

use super::script::{Host, Loss, RUNNING};
use super::{TestApp, eventually};
use crate::keys::Scope;
use crate::store::Store;
use crate::store::vm_changes::Facts;

#[derive(Debug, Clone, Copy)]
enum Step {
    Start,
    Stop(usize),
    Exit(usize),
    LoseRequest,
    LoseReply,
    LateReport(usize),
    EmptyList,
    HostRestarts,
    ApiRestarts,
    Full(bool),
    Pause,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Start),
        3 => (0..8usize).prop_map(Step::Stop),
        2 => (0..8usize).prop_map(Step::Exit),
        2 => Just(Step::LoseRequest),
        2 => Just(Step::LoseReply),
        2 => (0..8usize).prop_map(Step::LateReport),
        1 => Just(Step::EmptyList),
        1 => Just(Step::HostRestarts),
        1 => Just(Step::ApiRestarts),
        1 => any::<bool>().prop_map(Step::Full),
        2 => Just(Step::Pause),
    ]
}

/// What has to be over at the end.
#[derive(Default)]
struct Told {
    vms: Vec<VmId>,
    over: BTreeSet<VmId>,
}

async fn tell(steps: &[Step]) {
    let mut api = TestApp::new().await;
    let host = Host::listen(&api.app.config.agent_socket);
    api.reconcile().await;
    let key = api.key(Scope::Write).await;
    let image = api.ready_image().await;
    let mut told = Told::default();
    for step in steps {
        let picked = |at: usize| told.vms.get(at % told.vms.len().max(1)).cloned();
        match *step {
            Step::Start => told.vms.extend(start(&api, &key, &image).await),
            Step::Stop(at) => {
                if let Some(id) = picked(at) {
                    stop(&api, &id).await;
                    told.over.insert(id);
                }
            }
            Step::Exit(at) => {
                // An end that nobody was told of before the host restarts never was: the VM starts again.
                if let Some(id) = picked(at)
                    && api.app.store.any_vm(&id).await.unwrap().unwrap().incarnation.is_some()
                    && host.world().vms.contains_key(&id)
                {
                    host.observe(&id, VmObservation::Ended { exit: Exit::only(ExitReason::Exited) });
                    told.over.insert(id);
                }
            }
            Step::LoseRequest => host.world().losses.push_back(Loss::Request),
            Step::LoseReply => host.world().losses.push_back(Loss::Reply),
            Step::LateReport(at) => {
                let late = picked(at).and_then(|id| host.world().vms.get(&id).map(|held| held.report.clone()));
                host.world().ghosts.extend(late.map(|mut report| {
                    report.observation = RUNNING;
                    report
                }));
                host.poke();
            }
            Step::EmptyList => {
                host.world().empty_list = true;
                host.poke();
            }
            Step::HostRestarts => host.restart(),
            Step::ApiRestarts => {
                let (dir, config, account) = api.crash().await;
                let store = Store::open(dir.path()).await.unwrap();
                api = TestApp::on(dir, config, store, account);
                api.reconcile().await;
            }
            Step::Full(full) => host.world().full = full,
            Step::Pause => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
    host.world().losses.clear();
    host.world().full = false;
    let (api, host, told) = (&api, &host, &told);
    eventually("record and host agree", || agreed(api, host, told)).await;
    api.shutdown.cancel();
}

async fn start(api: &TestApp, key: &str, image: &ImageId) -> Option<VmId> {
    let answer = api.post("/v1/vm/start", key, json!({"imageId": image})).await;
    match answer.status.as_u16() {
        201 => Some(answer.body["id"].as_str().unwrap().parse().unwrap()),
        503 => {
            assert_eq!(answer.code(), "host_full", "{:#}", answer.body);
            None
        }
        other => panic!("{other}: {:#}", answer.body),
    }
}

async fn stop(api: &TestApp, id: &VmId) {
    loop {
        let vm = api.app.store.any_vm(id).await.unwrap().unwrap();
        if !matches!(vm.state, VmState::Created | VmState::Started) {
            return;
        }
        let facts = Facts::exit(Exit::only(ExitReason::Stopped));
        api.app.apply(id, vm.generation, VmEvent::StopAsked, facts).await.unwrap();
    }
}

/// Whether every VM on record either runs on the host in its generation or is over on both sides, and what was to end
/// has ended.
async fn agreed(api: &TestApp, host: &Host, told: &Told) -> bool {
    for id in &told.vms {
        let vm = api.app.store.any_vm(id).await.unwrap().expect("who was told of a VM finds it");
        let world = host.world();
        let held = world.vms.get(id);
        let runs = held.is_some_and(|held| held.report.observation == RUNNING);
        let fits = match vm.state {
            VmState::Started => runs && held.is_some_and(|held| held.report.generation == vm.generation),
            VmState::Destroyed => !runs && vm.exit.is_some() && vm.env.is_none(),
            VmState::Created | VmState::Stopping | VmState::Stopped | VmState::Destroying => false,
        };
        if !fits || (told.over.contains(id) && vm.state != VmState::Destroyed) {
            return false;
        }
    }
    let wanted = |id: &VmId| told.vms.contains(id);
    host.world().vms.iter().all(|(id, held)| wanted(id) || held.report.observation != RUNNING)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 8, ..ProptestConfig::default() })]
    #[test]
    fn every_story_ends_right(steps in proptest::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(tell(&steps));
    }
}
