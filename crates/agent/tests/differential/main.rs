//! The same Dockerfiles built by this executor and by buildah of Debian 13, both in gVisor, from the same bytes: the file
//! trees and the configurations of the two images are compared. They need root.
//!
//! `make differential` builds all and writes the table of `docs/dockerfile-differential.md`; everyday Dockerfiles are
//! built in each run of the tests.

#[path = "../builds/builder.rs"]
#[allow(dead_code, reason = "what only builds need")]
mod builder;
mod cases;
mod compare;
#[path = "../vms/host.rs"]
#[allow(dead_code, reason = "what only VMs need")]
mod host;
mod oracle;
mod table;
mod tree;

use cakework_image::rootfs;
use cakework_wire::build::BuildObservation;

use self::builder::Builds;
use self::cases::Case;
use self::compare::{Image, Verdict};
use self::oracle::Oracle;

/// Builds the cases on both sides.
async fn compare(cases: &[Case]) -> (String, Vec<Verdict>) {
    // Two sandboxes, as builders take their time in them.
    let theirs: Vec<_> = cases
        .chunks(cases.len().div_ceil(2))
        .map(|part| {
            let part = part.to_vec();
            tokio::task::spawn_blocking(move || Oracle::run(&host::shell().build(), &part))
        })
        .collect();
    let builds = Builds::started().await;
    let mut ours = Vec::new();
    for case in cases {
        let outcome = builds.build(&case.recipe).await;
        ours.push(match &outcome.observation {
            BuildObservation::Succeeded { .. } => Ok(image(&builds, outcome.digest())),
            _ => Err(outcome.text()),
        });
    }
    let mut oracles = Vec::new();
    for built in theirs {
        oracles.push(built.await.expect("the other side builds"));
    }
    let theirs = |case: &Case| oracles.iter().find_map(|oracle| oracle.image(case)).expect("it has every case");
    let verdicts = cases.iter().zip(ours).map(|(case, ours)| Verdict::of(case, ours, theirs(case))).collect();
    (oracles[0].version.clone(), verdicts)
}

/// An image of the host's store.
fn image(builds: &Builds, digest: &str) -> Image {
    let config = builds.config(digest);
    let layers = config["rootfs"]["diff_ids"].as_array().expect("layers").iter();
    let hex = |layer: &serde_json::Value| layer.as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
    let layers: Vec<_> = layers.map(|layer| builds.host.dir.join("layers").join(hex(layer))).collect();
    let root = tempfile::tempdir().expect("a directory");
    rootfs::mount_layers(&layers, root.path()).expect("mounted");
    let tree = tree::of_dir(root.path());
    rootfs::unmount(root.path()).expect("unmounted");
    Image { tree: tree::without_scenery(tree), config: config["config"].clone() }
}

fn assert_all(verdicts: &[Verdict]) {
    let wrong: Vec<String> = verdicts.iter().filter_map(Verdict::complaint).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), verdicts.len(), wrong.join("\n"));
}

#[tokio::test]
async fn everyday_dockerfiles_build_as_elsewhere() {
    let everyday: Vec<Case> = cases::all().into_iter().filter(|case| case.is_everyday).collect();
    assert_eq!(everyday.len(), 10);
    assert_all(&compare(&everyday).await.1);
}

#[tokio::test]
#[ignore = "make differential runs it"]
async fn every_dockerfile_builds_as_elsewhere() {
    let cases = cases::all();
    let (version, verdicts) = compare(&cases).await;
    assert_all(&verdicts);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        table::write(&version, &cases, &verdicts);
    }
}

#[test]
fn the_table_is_of_these_dockerfiles() {
    let cases = cases::all();
    assert!(cases.len() >= 60, "{}", cases.len());
    assert!(table::is_of(&cases), "run `make differential` and commit {}", table::PATH);
}
