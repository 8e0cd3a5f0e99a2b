//! Contexts that no honest tool would send.

use cakework_core::build::BuildErrorCode;
use cakework_testkit::images::{Entry, digest};

use crate::builder::{Builds, Recipe};

#[tokio::test]
async fn a_hostile_context_is_refused_and_the_host_unharmed() {
    let builds = Builds::started().await;
    let canary = tempfile::tempdir().expect("a directory");
    let outside = canary.path().join("written");
    let out = outside.to_str().expect("a path");
    let up = format!("{}{out}", "../".repeat(12));
    let cases: [(&str, Vec<Entry>); 6] = [
        ("..", vec![Entry::file(&up, "x")]),
        (
            "through a link",
            vec![Entry::symlink("d", canary.path().to_str().expect("a path")), Entry::file("d/written", "x")],
        ),
        ("a hard link out", vec![Entry::Hardlink { path: "h".into(), target: "/etc/passwd".into() }]),
        ("a device", vec![Entry::CharDevice { path: "zero".into(), major: 1, minor: 5 }]),
        ("a whiteout", vec![Entry::file(".wh.etc", "")]),
        ("a file as a directory", vec![Entry::file("a", ""), Entry::file("a/b", "")]),
    ];
    for (what, entries) in cases {
        let recipe = entries.into_iter().fold(Recipe::new("FROM $BASE\nCOPY . /c\n"), Recipe::entry);
        let outcome = builds.build(&recipe).await;
        match outcome.observation {
            cakework_wire::build::BuildObservation::Failed { problem } => {
                assert_eq!(problem.code, BuildErrorCode::SourceInvalid, "{what}: {problem:?}");
            }
            // Or it was made harmless: what is named lies inside.
            other => assert!(matches!(other, cakework_wire::build::BuildObservation::Succeeded { .. }), "{what}"),
        }
        assert!(!outside.exists(), "{what}");
    }
}

#[tokio::test]
async fn what_is_no_archive_is_said_to_be_none() {
    let builds = Builds::started().await;
    let build = cakework_core::id::BuildId::mint(&mut rand::rng());
    let junk = vec![0xa5; 4096];
    let name = digest(&junk);
    assert_eq!(builds.put_context(&build, &name, junk).await.status, 200);
    let put = Recipe::new(&format!("FROM {}\n", builds.base)).put(&name);
    builds.put_only(&build, &put).await;
    let outcome = builds.outcome(build).await;
    assert!(
        matches!(&outcome.observation, cakework_wire::build::BuildObservation::Failed { problem }
                 if problem.code == BuildErrorCode::SourceInvalid),
        "{:?}",
        outcome.observation
    );
}
