//! How a build ends before it is done, and that nothing of it is left.

use std::time::Duration;

use cakework_core::build::BuildErrorCode;
use cakework_testkit::images::Entry;
use cakework_testkit::kernel::Census;
use cakework_wire::build::{BuildObservation, BuildPhase};

use crate::builder::{Builds, Recipe, assert_problem, gzipped};

const SLEEPS: &str = "FROM $BASE\nRUN echo asleep; sleep 1000\n";

fn problem(observation: &BuildObservation) -> BuildErrorCode {
    match observation {
        BuildObservation::Failed { problem } => problem.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_command_may_use_so_much_and_no_more() {
    let builds = Builds::started().await;
    let before = Census::take(&builds.host.scope()).expect("a census");
    let memory = Recipe::new("FROM $BASE\nRUN tail -c 600m /dev/zero\n");
    assert_problem(&builds.bad(&memory).await, BuildErrorCode::OutOfMemory, 2, "256 MiB");
    let disk = Recipe::new("FROM $BASE\nRUN head -c 600000000 /dev/zero > /big\n");
    assert_problem(&builds.bad(&disk).await, BuildErrorCode::DiskFull, 2, "full");
    // Whatever becomes of it, it ends with its build.
    builds.build(&Recipe::new("FROM $BASE\nRUN f() { f | f & }; f; sleep 3\n")).await;
    let outcome = builds.good(&Recipe::new("FROM $BASE\nRUN sleep 1000 & echo left behind\n")).await;
    assert!(outcome.says("left behind"));
    builds.host.assert_nothing_since(&before);
    // The host builds on.
    builds.good(&Recipe::new("FROM $BASE\nRUN echo fine > /fine\n")).await;
}

#[tokio::test]
async fn copies_that_do_not_fit_are_said_to_fill_the_disk() {
    let builds = Builds::started().await;
    let before = Census::take(&builds.host.scope()).expect("a census");
    // Each fits into 256 MiB, and with the context beside it no more.
    let recipe = Recipe::new(
        "FROM $BASE AS made
         RUN yes | head -c 120000000 > /one
         RUN cp /one /two
         FROM $BASE
         COPY --from=made /one /two /x/",
    )
    .entry(Entry::file("large", vec![7; 80_000_000]));
    assert_problem(&builds.bad(&recipe).await, BuildErrorCode::DiskFull, 5, "build's disk");
    let archive = Recipe::new("FROM $BASE\nADD a.tgz /x/\n")
        .entry(Entry::file("large", vec![7; 80_000_000]))
        .entry(Entry::file("a.tgz", gzipped(&[Entry::file("zeros", vec![0; 240_000_000])])));
    assert_problem(&builds.bad(&archive).await, BuildErrorCode::DiskFull, 2, "build's disk");
    builds.host.assert_nothing_since(&before);
    let found = builds.good(&recipe.replace("COPY --from=made /one /two /x/", "COPY --from=made /one /x/")).await;
    assert_eq!(found.steps().1, [2, 3], "{}", found.text());
}

#[tokio::test]
async fn a_disk_without_room_for_another_name_is_full() {
    let builds = Builds::with(|config| config["builds"]["diskMib"] = serde_json::json!(32)).await;
    let many =
        "FROM $BASE\nRUN for i in $(seq 99); do mkdir /d$i && for j in $(seq 99); do : > /d$i/$j || exit; done; done\n";
    assert_problem(&builds.bad(&Recipe::new(many)).await, BuildErrorCode::DiskFull, 2, "full");
    builds.good(&Recipe::new("FROM $BASE\nRUN echo fine > /fine\n")).await;
}

#[tokio::test]
async fn a_build_ends_at_its_deadline() {
    let builds = Builds::started().await;
    let before = Census::take(&builds.host.scope()).expect("a census");
    let outcome = builds.build(&Recipe::new(SLEEPS).with(|put| put.remaining_ms = 3000)).await;
    assert_eq!(problem(&outcome.observation), BuildErrorCode::Timeout, "{}", outcome.text());
    assert!(outcome.says("asleep"), "{}", outcome.text());
    builds.host.assert_nothing_since(&before);
}

#[tokio::test]
async fn a_build_ends_when_its_owner_wants_it() {
    let builds = Builds::started().await;
    let before = Census::take(&builds.host.scope()).expect("a census");
    for pause_ms in [0, 20, 60, 150, 300] {
        let build = builds.begin(&Recipe::new(SLEEPS)).await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        builds.cancel(&build, 1).await;
        let outcome = builds.outcome(build).await;
        assert_eq!(problem(&outcome.observation), BuildErrorCode::Cancelled, "after {pause_ms} ms: {}", outcome.text());
        builds.host.assert_nothing_since(&before);
    }
    let build = builds.begin(&Recipe::new(SLEEPS)).await;
    builds.says(&build, "asleep").await;
    let report = builds.report(&build).await.expect("a report");
    assert_eq!(report.observation, BuildObservation::Running { phase: BuildPhase::Building, step: 2, steps: 2 });
    builds.cancel(&build, 1).await;
    let outcome = builds.outcome(build).await;
    assert_eq!(problem(&outcome.observation), BuildErrorCode::Cancelled);
    builds.host.assert_nothing_since(&before);
}

#[tokio::test]
async fn a_build_whose_agent_is_killed_has_failed_and_leaves_nothing() {
    let mut builds = Builds::started().await;
    // The base's layers stay; everything else has to go.
    builds.good(&Recipe::new("FROM $BASE\nRUN echo x > /x\n")).await;
    let before = Census::take(&builds.host.scope()).expect("a census");
    let recipe = Recipe::new("FROM $BASE\nRUN echo asleep; sleep 1000\n").replace(
        "RUN echo",
        "RUN --mount=type=cache,target=/c --mount=type=secret,id=s --mount=type=bind,target=/b echo",
    );
    for pause_ms in [0, 15, 30, 45, 60, 90, 130, 200, 350, 600] {
        let build = builds.begin(&recipe).await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        builds.host.kill();
        builds.host.start().await;
        let outcome = builds.outcome(build.clone()).await;
        assert_eq!(problem(&outcome.observation), BuildErrorCode::HostLost, "after {pause_ms} ms");
        builds.host.assert_nothing_since(&before);
        let left: Vec<_> = std::fs::read_dir(builds.file(&build, "")).expect("its directory").flatten().collect();
        let names: Vec<_> = left.iter().map(|entry| entry.file_name()).collect();
        assert!(names.iter().all(|name| name == "logs" || name == "outcome.json"), "after {pause_ms} ms: {names:?}");
    }
    builds.good(&Recipe::new("FROM $BASE\nRUN echo still > /works\n")).await;
}

#[tokio::test]
async fn a_build_ends_with_its_agent_and_a_killed_monitor_fails_it() {
    let mut builds = Builds::started().await;
    builds.good(&Recipe::new("FROM $BASE\nRUN echo x > /x\n")).await;
    let before = Census::take(&builds.host.scope()).expect("a census");
    let build = builds.begin(&Recipe::new(SLEEPS)).await;
    builds.says(&build, "asleep").await;
    builds.host.terminate();
    builds.host.start().await;
    assert_eq!(problem(&builds.outcome(build).await.observation), BuildErrorCode::HostLost);
    builds.host.assert_nothing_since(&before);

    let build = builds.begin(&Recipe::new(SLEEPS)).await;
    builds.says(&build, "asleep").await;
    for process in std::fs::read_dir("/proc").expect("processes").flatten() {
        let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        if words.contains("monitor") && words.contains(build.as_str()) {
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).expect("a process id");
            let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
        }
    }
    assert_eq!(problem(&builds.outcome(build).await.observation), BuildErrorCode::Internal);
    builds.host.assert_nothing_since(&before);
}
