//! The document with the results, and the hash that ties it to the cases.

use std::fmt::Write as _;
use std::path::PathBuf;

use cakework_testkit::images::{digest, tar};

use crate::cases::Case;
use crate::compare::Verdict;

pub const PATH: &str = "docs/dockerfile-differential.md";

/// Writes the document.
pub fn write(version: &str, cases: &[Case], verdicts: &[Verdict]) {
    let mut text = format!(
        "# Dockerfiles, beside buildah\n\n\
         Each of these Dockerfiles was built twice from the same base image and the same files: by Cakework's executor, and \
         by {version} with `--isolation chroot`, itself in gVisor. Compared are the whole file trees (names, kinds, modes, \
         owners, contents, targets, which names are one file) and the configurations (environment, command, entrypoint, \
         directory, user, ports, volumes, labels, stop signal, health check, shell). Times are not: Cakework gives the \
         build's own files one time. `/dev`, `/proc`, `/sys` and files that builders mount while a RUN goes on are left \
         out.\n\nMade by `make differential`, which fails where the two differ and no reason is written below, and where a \
         difference that is written below is gone.\n\nInputs: `{}`\n\n\
         | Dockerfile | of | tree | config | why they differ |\n|---|---|---|---|---|\n",
        inputs(cases)
    );
    for (case, verdict) in cases.iter().zip(verdicts) {
        let word = |what| if verdict.differs_in(what) { "differs" } else { "same" };
        let (tree, config) = match (verdict.differs_in("refusal"), verdict.is_refused) {
            (true, true) => ("refused here", "refused here"),
            (true, false) => ("refused there", "refused there"),
            (false, true) => ("both refuse", "both refuse"),
            (false, false) => (word("tree"), word("config")),
        };
        let _ = writeln!(text, "| `{}` | {} | {tree} | {config} | {} |", case.name, case.what, case.reason);
    }
    let same =
        verdicts.iter().filter(|verdict| !["tree", "config", "refusal"].iter().any(|key| verdict.differs_in(key)));
    let _ = writeln!(text, "\n{} of {} are the same.", same.count(), cases.len());
    std::fs::write(path(), text).expect("it is writable");
}

/// Whether the document is about these cases.
pub fn is_of(cases: &[Case]) -> bool {
    std::fs::read_to_string(path()).is_ok_and(|text| text.contains(&format!("`{}`", inputs(cases))))
}

/// A hash of all that both sides are given, and of what is known to differ.
fn inputs(cases: &[Case]) -> String {
    let all: Vec<String> = cases
        .iter()
        .map(|case| {
            let (put, files) = (&case.recipe.put, digest(&tar(&case.recipe.files)));
            let said = (case.name, case.what, case.reason, &case.known, case.is_refused, case.differs_in_refusal);
            format!("{said:?} {} {files} {:?} {:?}", case.recipe.dockerfile, put.build_args, put.target)
        })
        .collect();
    digest(all.join("\n").as_bytes())
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(PATH)
}
