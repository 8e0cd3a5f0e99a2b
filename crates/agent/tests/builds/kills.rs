//! The agent is killed, or the build is cancelled, where it is busiest: nothing of it is left, and the next build of the
//! same makes what it would have made.

use std::path::Path;
use std::time::Duration;

use cakework_core::build::BuildErrorCode;
use cakework_core::id::BuildId;
use cakework_testkit::GitServer;
use cakework_testkit::git::{Access, Trouble};
use cakework_testkit::kernel::Census;
use cakework_wire::build::{BuildObservation, BuildPhase};
use serde_json::json;

use crate::builder::{Builds, Outcome, Recipe};

/// A step whose layer takes a while to be made, and one that counts what is in it.
const LARGE: &str = "FROM $BASE
RUN mkdir /many && cd /many && for i in $(seq 2000); do echo $i > $i; done && \
    yes strangers | head -c 150000000 > /large && echo written
RUN test $(ls /many | wc -l) = 2000 && test $(stat -c %s /large) = 150000000 && echo whole
";

fn failed(observation: &BuildObservation) -> Option<BuildErrorCode> {
    match observation {
        BuildObservation::Failed { problem } => Some(problem.code),
        BuildObservation::Succeeded { .. } => None,
        BuildObservation::Running { .. } => panic!("it goes on"),
    }
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).expect("a directory").count()
}

/// Kills the agent, starts the next one, and says how the build ended. Nothing of it may be left.
async fn killed(builds: &mut Builds, build: BuildId, before: &Census) -> Outcome {
    builds.host.kill();
    builds.host.start().await;
    let outcome = builds.outcome(build.clone()).await;
    builds.host.assert_nothing_since(before);
    assert_eq!(entries(&builds.host.dir.join("tmp")), 0, "half of a layer or an image is left");
    let left = std::fs::read_dir(builds.file(&build, "")).expect("its directory").flatten();
    let names: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert!(names.iter().all(|name| name == "logs" || name == "outcome.json"), "{names:?}");
    outcome
}

#[tokio::test]
async fn a_kill_while_a_layer_is_made_leaves_no_half_of_it() {
    let mut builds = Builds::started().await;
    builds.good(&Recipe::new("FROM $BASE\nRUN echo x > /x\n")).await;
    let before = Census::take(&builds.host.scope()).expect("a census");
    let (tmp, layers) = (builds.host.dir.join("tmp"), builds.host.dir.join("layers"));
    let there = entries(&layers);
    for pause_ms in [0, 40] {
        let build = builds.begin(&Recipe::new(LARGE)).await;
        builds.says(&build, "written").await;
        builds.host.until("a layer is made", async || (entries(&tmp) > 0).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        assert_eq!(entries(&layers), there, "it was made before it could be killed");
        let outcome = killed(&mut builds, build, &before).await;
        assert_eq!(failed(&outcome.observation), Some(BuildErrorCode::HostLost), "after {pause_ms} ms");
        assert_eq!(entries(&layers), there, "after {pause_ms} ms");
    }
    let outcome = builds.good(&Recipe::new(LARGE)).await;
    assert_eq!(outcome.steps(), (vec![1, 2, 3], vec![]), "{}", outcome.text());
    assert!(outcome.says("whole"));
}

/// Wherever it is killed between the last step and the end, there is a whole image or none.
#[tokio::test]
async fn a_kill_while_the_image_is_put_together_leaves_all_of_it_or_nothing() {
    let mut builds = Builds::started().await;
    let recipe = Recipe::new("FROM $BASE\nRUN echo one > /one\nRUN echo two > /two\nENV LEVEL=1\n");
    let first = builds.good(&recipe).await;
    let (images, before) = (builds.host.dir.join("images"), Census::take(&builds.host.scope()).expect("a census"));
    let mut ends = Vec::new();
    for level in 2..10 {
        // Its steps are found, so that little but the putting together is left to do.
        let recipe = recipe.clone().replace("LEVEL=1", &format!("LEVEL={level}"));
        let there = entries(&images);
        let build = builds.begin(&recipe).await;
        let is_exporting = async || {
            let observation = builds.report(&build).await?.observation;
            let far = matches!(&observation, BuildObservation::Running { phase: BuildPhase::Exporting, .. });
            (far || !matches!(observation, BuildObservation::Running { .. })).then_some(())
        };
        builds.host.until("it is put together", is_exporting).await;
        let outcome = killed(&mut builds, build, &before).await;
        let end = failed(&outcome.observation);
        assert!(matches!(end, None | Some(BuildErrorCode::HostLost)), "{end:?}");
        let again = builds.good(&recipe).await;
        assert_eq!((again.steps().1, entries(&images)), (vec![2, 3], there + 1), "{}", again.text());
        if end.is_none() {
            assert_eq!(again.digest(), outcome.digest());
        }
        assert_eq!(builds.config(again.digest())["config"]["Env"][1], format!("LEVEL={level}"));
        ends.push(end);
    }
    assert_eq!(builds.good(&recipe).await.digest(), first.digest(), "after {ends:?}");
}

#[tokio::test]
async fn a_cancel_ends_a_long_copy_and_nothing_after_it_is_begun() {
    let builds = Builds::started().await;
    let recipe = Recipe::new(
        "FROM $BASE AS made
         RUN yes strangers | head -c 150000000 > /large
         FROM $BASE
         COPY --from=made /large /large
         RUN echo never",
    );
    builds
        .good(&recipe.clone().replace("COPY --from=made /large /large\nRUN echo never", "COPY --from=made /bin /b"))
        .await;
    let before = Census::take(&builds.host.scope()).expect("a census");
    let build = builds.begin(&recipe).await;
    builds.says(&build, "[4/5] COPY --from=made /large /large").await;
    builds.cancel(&build, 1).await;
    let outcome = builds.outcome(build).await;
    assert_eq!(failed(&outcome.observation), Some(BuildErrorCode::Cancelled));
    assert!(!outcome.text().contains("[5/5]") && !outcome.text().contains("DONE"), "{}", outcome.text());
    builds.host.assert_nothing_since(&before);
    let outcome = builds.good(&recipe).await;
    assert_eq!(outcome.steps(), (vec![1, 3, 4, 5], vec![2]), "the copy is not in the cache: {}", outcome.text());
}

/// What waits for others is given up at once, with their processes.
#[tokio::test]
async fn a_fetch_that_hangs_ends_with_its_build_or_its_agent() {
    let forge = GitServer::start().await.expect("a forge");
    forge.create("acme/app", Access::Public).expect("a repository");
    forge.trouble(Some(Trouble::Silent));
    let mut builds = Builds::with(|config| {
        config["git"] = json!({"baseUrl": forge.base_url(), "caFile": forge.ca_file()});
    })
    .await;
    builds.good(&Recipe::new("FROM $BASE\nRUN echo x > /x\n")).await;
    let before = Census::take(&builds.host.scope()).expect("a census");
    for is_killed in [false, true] {
        let asked = forge.seen().len();
        let build = builds.begin(&Recipe::new("FROM $BASE\n").git("acme/app", None, None, None)).await;
        builds.host.until("git asks", async || (forge.seen().len() > asked).then_some(())).await;
        let (outcome, wanted) = if is_killed {
            (killed(&mut builds, build, &before).await, BuildErrorCode::HostLost)
        } else {
            builds.cancel(&build, 1).await;
            (builds.outcome(build).await, BuildErrorCode::Cancelled)
        };
        assert_eq!(failed(&outcome.observation), Some(wanted));
        builds.host.assert_nothing_since(&before);
    }
    builds.good(&Recipe::new("FROM $BASE\nRUN echo y > /y\n")).await;
}
