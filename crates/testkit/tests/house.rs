//! The crates' dependencies as ARCHITECTURE.md's code map draws them: arrows only go down, and what a crate
//! may not know it does not link. Read from `cargo metadata`, which is what cargo builds.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cakework_testkit::process::run;
use serde_json::Value;

/// Ground floor first: a crate, and those of ours that it may use.
const FLOORS: [(&str, &[&str]); 13] = [
    ("cakework-core", &[]),
    ("cakework-api", &["cakework-core"]),
    ("cakework-wire", &["cakework-core"]),
    ("cakework-dockerfile", &["cakework-core"]),
    ("cakework-guest", &["cakework-core", "cakework-wire"]),
    ("cakework-image", &["cakework-core", "cakework-wire"]),
    ("cakework-edge", &["cakework-core"]),
    ("cakework-server", &["cakework-api", "cakework-core", "cakework-dockerfile", "cakework-edge", "cakework-wire"]),
    ("cakework-agent", &["cakework-core", "cakework-dockerfile", "cakework-image", "cakework-wire"]),
    (
        "cakework",
        &[
            "cakework-agent",
            "cakework-api",
            "cakework-cli",
            "cakework-core",
            "cakework-dockerfile",
            "cakework-edge",
            "cakework-guest",
            "cakework-image",
            "cakework-server",
            "cakework-wire",
        ],
    ),
    ("cakework-cli", &["cakework-api", "cakework-core", "cakework-dockerfile"]),
    ("cakework-testkit", &[]),
    ("cakework-bench", &["cakework-testkit"]),
];

/// What a crate may not reach, however many steps away.
const FORBIDDEN: [(&str, &[&str]); 10] = [
    ("cakework-core", &["tokio", "axum", "hyper", "sqlx", "reqwest", "rustix"]),
    ("cakework-api", &["tokio", "axum", "hyper", "sqlx", "reqwest"]),
    ("cakework-wire", &["tokio", "axum", "hyper", "sqlx", "reqwest"]),
    ("cakework-dockerfile", &["tokio", "axum", "hyper", "sqlx", "reqwest", "rustix"]),
    ("cakework-guest", &["tokio", "axum", "hyper", "sqlx", "reqwest"]),
    ("cakework-image", &["axum", "sqlx"]),
    ("cakework-edge", &["axum", "sqlx"]),
    ("cakework-server", &["nftables", "rtnetlink", "oci-client", "landlock", "hickory-server"]),
    ("cakework-agent", &["sqlx", "utoipa"]),
    ("cakework-cli", &["axum", "sqlx", "cakework-server", "cakework-agent", "cakework-edge", "cakework-wire"]),
];

struct House {
    /// Each package's name by its id.
    names: BTreeMap<String, String>,
    /// Each package's dependencies that a build takes, by id; those of tests are not among them.
    needs: BTreeMap<String, BTreeSet<String>>,
    ours: BTreeMap<String, String>,
}

impl House {
    fn read() -> Self {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
        let words = ["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path", manifest];
        // Only what is built on this platform has been downloaded.
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = run(Command::new(cargo).args(words).args(["--filter-platform", &platform])).unwrap();
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let names: BTreeMap<_, _> =
            list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let needs =
            list(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), needs_of(node))).collect();
        let ours = list(&metadata["workspace_members"]).iter().map(|id| (names[&text(id)].clone(), text(id))).collect();
        Self { names, needs, ours }
    }

    /// The names of all packages that a build of `name` takes.
    fn reach(&self, name: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut next = vec![&self.ours[name]];
        while let Some(id) = next.pop() {
            if seen.insert(id) {
                next.extend(&self.needs[id]);
            }
        }
        seen.into_iter().map(|id| self.names[id].as_str()).collect()
    }
}

/// A dependency's kind is null where it is an ordinary one.
fn needs_of(node: &Value) -> BTreeSet<String> {
    let dependencies = node["deps"].as_array().unwrap().iter();
    dependencies
        .filter(|dependency| dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null()))
        .map(|dependency| dependency["pkg"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn arrows_between_the_crates_only_go_down() {
    let house = House::read();
    let known: BTreeSet<&str> = FLOORS.iter().map(|(name, _)| *name).collect();
    assert_eq!(house.ours.keys().map(String::as_str).collect::<BTreeSet<_>>(), known, "each crate has its row here");
    for (name, allowed) in FLOORS {
        let direct = house.needs[&house.ours[name]].iter().map(|id| house.names[id].as_str());
        for dependency in direct.filter(|dependency| known.contains(dependency)) {
            assert!(allowed.contains(&dependency), "{name} may not use {dependency}");
        }
    }
}

#[test]
fn a_crate_does_not_link_what_it_may_not_know() {
    let house = House::read();
    for (name, forbidden) in FORBIDDEN {
        let reach = house.reach(name);
        for dependency in forbidden {
            assert!(!reach.contains(dependency), "{name} reaches {dependency}");
        }
    }
    // The same look finds them where they may be.
    assert!(house.reach("cakework-server").contains("sqlx"));
    assert!(house.reach("cakework-image").contains("landlock"));
}

#[test]
fn the_fixtures_are_not_shipped() {
    assert!(!House::read().reach("cakework").contains("cakework-testkit"));
}

#[test]
fn sql_is_the_servers_alone() {
    let house = House::read();
    for (name, id) in &house.ours {
        let direct = house.needs[id].iter().any(|need| house.names[need] == "sqlx");
        assert_eq!(direct, name == "cakework-server", "{name} and sqlx");
    }
}
