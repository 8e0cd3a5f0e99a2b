//! The verbs of the host protocol about builds.

use cakework_core::admission::Shortage;
use cakework_core::build::BuildErrorCode;
use cakework_core::id::{BuildId, Generation};
use cakework_testkit::images::{digest, tar};
use cakework_wire::build::{BuildObservation, PutBuildAnswer};
use serde_json::json;

use crate::builder::{Builds, Recipe};

fn id() -> BuildId {
    BuildId::mint(&mut rand::rng())
}

#[tokio::test]
async fn a_context_is_what_its_digest_says_or_nothing() {
    let builds = Builds::started().await;
    let (build, bytes) = (id(), tar(&[]));
    let name = digest(&bytes);
    let missing = builds.put_only(&build, &Recipe::new("FROM x\n").put(&name)).await;
    assert_eq!(missing, PutBuildAnswer::NoContext);
    let other = builds.put_context(&build, &digest(b"other"), bytes.clone()).await;
    assert_eq!(other.status, 400, "{}", other.body);
    let odd = builds.put_context(&build, "sha256:../../x", bytes.clone()).await;
    assert_eq!(odd.status, 400, "{}", odd.body);
    for _ in 0..2 {
        let kept = builds.put_context(&build, &name, bytes.clone()).await;
        assert_eq!((kept.status, &kept.body["body"]["sizeBytes"]), (200, &json!(bytes.len())), "{}", kept.body);
    }
    let left: Vec<_> = std::fs::read_dir(builds.file(&build, "")).expect("its directory").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn a_placement_is_taken_once_and_a_cancelled_one_never() {
    let builds = Builds::started().await;
    let (recipe, build) = (Recipe::new("FROM $BASE\nRUN sleep 1000\n"), id());
    assert_eq!(builds.put(&build, &recipe).await, PutBuildAnswer::Admitted);
    assert_eq!(builds.put_only(&build, &recipe.put(&digest(&tar(&[])))).await, PutBuildAnswer::Already);
    builds.cancel(&build, 1).await;
    let outcome = builds.outcome(build.clone()).await;
    assert!(matches!(outcome.observation, BuildObservation::Failed { .. }));
    assert_eq!(builds.put_only(&build, &recipe.put(&digest(&tar(&[])))).await, PutBuildAnswer::Already);

    let never = id();
    builds.cancel(&never, 3).await;
    let report = builds.report(&never).await.expect("a report");
    assert!(
        matches!(&report.observation, BuildObservation::Failed { problem } if problem.code == BuildErrorCode::Cancelled)
    );
    let stale = PutBuildAnswer::StaleGeneration { highest: Generation(3) };
    assert_eq!(builds.put(&never, &recipe).await, stale);
    let later = recipe.clone().with(|put| put.generation = Generation(4));
    assert_eq!(builds.put(&never, &later).await, PutBuildAnswer::Admitted);
    builds.cancel(&never, 4).await;
    builds.outcome(never).await;
}

#[tokio::test]
async fn what_does_not_fit_waits_and_what_can_not_be_built_is_refused() {
    let builds = Builds::with(|config| config["builds"]["parallel"] = json!(1)).await;
    let recipe = Recipe::new("FROM $BASE\nRUN sleep 1000\n");
    let first = builds.begin(&recipe).await;
    let (_, reserved) = amounts(&builds).await;
    assert_eq!((reserved["memoryMib"].as_u64(), reserved["slots"].as_u64()), (Some(256), Some(1)));
    let second = id();
    let answer = builds.put(&second, &recipe).await;
    assert!(matches!(answer, PutBuildAnswer::NoCapacity { shortage: Shortage::Slots, .. }), "{answer:?}");
    builds.cancel(&first, 1).await;
    builds.outcome(first).await;
    assert_eq!(amounts(&builds).await.1["slots"], 0);
    assert_eq!(builds.put(&second, &recipe).await, PutBuildAnswer::Admitted);
    builds.cancel(&second, 1).await;
    builds.outcome(second).await;

    let odd = recipe.clone().with(|put| put.scope = "../x".into());
    assert!(matches!(builds.put(&id(), &odd).await, PutBuildAnswer::Unsupported { .. }));
    builds.host.call("PUT", "/v1/host/drain", Some(json!({"draining": true}))).await;
    assert_eq!(builds.put(&id(), &recipe).await, PutBuildAnswer::Draining);
}

async fn amounts(builds: &Builds) -> (serde_json::Value, serde_json::Value) {
    let status = builds.host.call("GET", "/v1/host", None).await.body;
    (status["body"]["capacity"].clone(), status["body"]["reserved"].clone())
}
