//! What the documents at the root and below `docs/` say is there: every file that they link, every test that a table's
//! last column names.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Files below a directory with this extension; what is built is not among them.
fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_ours = name != "target" && name != "node_modules" && !name.to_string_lossy().starts_with('.');
        if is_ours && entry.file_type().unwrap().is_dir() {
            files(&path, extension, found);
        } else if is_ours && path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root(), "md", &mut found);
    found
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// Names of functions that an attribute above makes a test.
fn tests() -> BTreeSet<String> {
    let mut sources = Vec::new();
    files(&root(), "rs", &mut sources);
    let mut found = BTreeSet::new();
    for source in sources {
        let mut is_test = false;
        for line in std::fs::read_to_string(source).unwrap().lines().map(str::trim) {
            if line.starts_with("#[") || line.starts_with("//") {
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                continue;
            }
            let name = line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            if let Some(name) = name.filter(|_| is_test) {
                found.insert(name.to_owned());
            }
            is_test = false;
        }
    }
    found
}

/// The last cells of the rows of all tables whose last column is called `test`.
fn named_tests(text: &str) -> Vec<&str> {
    let mut cells = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|')) else {
            inside = false;
            continue;
        };
        let last = row.rsplit('|').next().unwrap().trim();
        match (inside, last) {
            (_, "test") => inside = true,
            (true, last) if !last.chars().all(|char| char == '-') => cells.push(last),
            _ => {}
        }
    }
    cells
}

/// Words in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn what_a_document_links_is_there() {
    let mut seen = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let target = document.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{}: {link} is not there", document.display());
            seen += 1;
        }
    }
    assert!(seen >= 8, "links are found: {seen}");
}

#[test]
fn a_test_that_a_document_names_exists() {
    let tests = tests();
    assert!(tests.len() > 300, "tests are found: {}", tests.len());
    let mut seen = BTreeSet::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for name in named_tests(&text).into_iter().flat_map(quoted) {
            assert!(tests.contains(name), "{}: there is no test {name}", document.display());
            seen.insert(name.to_owned());
        }
    }
    assert!(seen.len() > 100, "{seen:?}");
    let threats = std::fs::read_to_string(root().join("THREATS.md")).unwrap();
    for cell in named_tests(&threats) {
        assert!(quoted(cell).next().is_some(), "a defence without a test: {cell}");
    }
}
