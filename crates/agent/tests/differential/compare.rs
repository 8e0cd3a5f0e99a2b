//! Two images, or two refusals, side by side.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cases::Case;
use crate::tree::{Node, Tree};

/// An image: its tree, and what runs in it.
#[derive(Debug)]
pub struct Image {
    pub tree: Tree,
    pub config: Value,
}

/// What came of a case.
#[derive(Debug)]
pub struct Verdict {
    name: String,
    /// Both refused it.
    pub is_refused: bool,
    /// What differs: `tree <path>` or `config <field>`, and how.
    found: Vec<(String, String)>,
    /// What may differ, and must.
    known: BTreeSet<String>,
    /// What is wrong beside that.
    wrong: Option<String>,
}

/// What is compared of a configuration, by its name in Docker's.
const FIELDS: [&str; 11] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "ExposedPorts",
    "Volumes",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "Shell",
];

impl Verdict {
    pub fn of(case: &Case, ours: Result<Image, String>, theirs: Result<Image, String>) -> Self {
        let known = case.known.iter().map(|key| (*key).to_owned()).collect();
        let (mut found, mut wrong) = (Vec::new(), None);
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => found = differences(ours, theirs),
            (Err(_), Err(_)) if case.is_refused => {}
            (Err(ours), Err(theirs)) => wrong = Some(format!("both refuse it:\n{ours}\n{theirs}")),
            (Err(ours), Ok(_)) => wrong = Some(format!("only this executor refuses it:\n{ours}")),
            (Ok(_), Err(theirs)) => wrong = Some(format!("only buildah refuses it:\n{theirs}")),
        }
        if case.is_refused && ours.is_ok() && theirs.is_ok() {
            wrong = Some("nobody refuses it".into());
        }
        let is_refused = ours.is_err();
        if case.differs_in_refusal && (ours.is_ok() != theirs.is_ok()) {
            (wrong, found) = (None, vec![("refusal".into(), if is_refused { "here" } else { "there" }.into())]);
        }
        Self { name: case.name.into(), is_refused, found, known, wrong }
    }

    /// `tree` or `config`, where something of it differs.
    pub fn differs_in(&self, what: &str) -> bool {
        self.found.iter().any(|(key, _)| key.starts_with(what))
    }

    /// What nobody expected, or what was expected and is no more.
    pub fn complaint(&self) -> Option<String> {
        if let Some(wrong) = &self.wrong {
            return Some(format!("{}: {wrong}", self.name));
        }
        let found: BTreeSet<String> = self.found.iter().map(|(key, _)| key.clone()).collect();
        let new = self.found.iter().filter(|(key, _)| !self.known.contains(key));
        let mut lines: Vec<String> = new.map(|(key, how)| format!("  {key}: {how}")).collect();
        lines.extend(self.known.difference(&found).map(|key| format!("  {key}: differs no more")));
        (!lines.is_empty()).then(|| format!("{}:\n{}", self.name, lines.join("\n")))
    }
}

fn differences(ours: &Image, theirs: &Image) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let paths: BTreeSet<&String> = ours.tree.keys().chain(theirs.tree.keys()).collect();
    for path in paths {
        let (here, there) = (ours.tree.get(path), theirs.tree.get(path));
        if here != there {
            found.push((format!("tree /{path}"), format!("{}, there {}", shown(here), shown(there))));
        }
    }
    for field in FIELDS {
        let (here, there) = (plain(&ours.config[field]), plain(&theirs.config[field]));
        if here != there {
            found.push((format!("config {field}"), format!("{here}, there {there}")));
        }
    }
    found
}

fn shown(node: Option<&Node>) -> String {
    node.map_or_else(|| "absent".into(), |node| format!("{node:?}"))
}

/// Nothing is written in several ways.
fn plain(value: &Value) -> Value {
    let is_nothing = value.is_null()
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_str().is_some_and(|text| text.is_empty() || text == "/");
    if is_nothing { json!(null) } else { value.clone() }
}
