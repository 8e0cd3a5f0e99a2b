//! Paths of a build's files. They are a stranger's: nothing is resolved on a disk, each is refused or has one spelling.
//!
//! Invariant: the paths that were accepted can all be made in an empty directory, in any order, also where upper and
//! lower case are one.

use std::collections::HashMap;

use cakework_api::problem::ErrorCode;
use cakework_core::limit;

/// Why a path is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadPath {
    pub(crate) code: ErrorCode,
    /// The part of the entry that is wrong: `dir` or `name`.
    pub(crate) field: &'static str,
    pub(crate) detail: String,
}

/// The paths so far: each file and each directory above one.
#[derive(Default)]
pub(crate) struct Paths {
    /// In lower case → as it is written, and whether it is a directory.
    taken: HashMap<String, (String, bool)>,
}

impl Paths {
    /// Adds a file; answers its path, relative and without `.` and `..`.
    pub(crate) fn add(&mut self, dir: &str, name: &str) -> Result<String, BadPath> {
        let mut parts = directory(dir)?;
        part("name", name)?;
        parts.push(name);
        let path = parts.join("/");
        if path.len() > limit::BUILD_PATH_MAX_BYTES {
            let detail = format!("A path has at most {} bytes.", limit::BUILD_PATH_MAX_BYTES);
            return Err(bad(ErrorCode::InvalidFile, "dir", detail));
        }
        for end in 1..parts.len() {
            self.take(parts[..end].join("/"), true)?;
        }
        self.take(path.clone(), false)?;
        Ok(path)
    }

    /// The directories that the files need, each after the one above it.
    pub(crate) fn directories(&self) -> Vec<&str> {
        let mut all: Vec<_> =
            self.taken.values().filter(|(_, is_dir)| *is_dir).map(|(path, _)| path.as_str()).collect();
        all.sort_unstable();
        all
    }

    fn take(&mut self, path: String, is_dir: bool) -> Result<(), BadPath> {
        let Some((other, other_is_dir)) = self.taken.get(&path.to_lowercase()) else {
            self.taken.insert(path.to_lowercase(), (path, is_dir));
            return Ok(());
        };
        let (shown, other_shown) = (shown(&path), shown(other));
        match (*other == path, is_dir, other_is_dir) {
            (true, true, true) => Ok(()),
            (true, false, false) => {
                Err(bad(ErrorCode::FileConflict, "name", format!("`{shown}` is there more than once.")))
            }
            (true, _, _) => {
                let detail = format!("`{shown}` is a file, and a directory that another file is in.");
                Err(bad(ErrorCode::FileConflict, "name", detail))
            }
            (false, _, _) => {
                let detail = format!("`{shown}` and `{other_shown}` differ only by upper and lower case.");
                Err(bad(ErrorCode::FileCase, "name", detail))
            }
        }
    }
}

/// The parts of a directory: none for the root, which clients write as nothing, `.`, `./` or `/`.
fn directory(dir: &str) -> Result<Vec<&str>, BadPath> {
    if matches!(dir, "" | "." | "./" | "/") {
        return Ok(Vec::new());
    }
    if dir.starts_with('/') {
        let detail = "`dir` is relative to the root of the files, without a `/` before it.";
        return Err(bad(ErrorCode::InvalidFile, "dir", detail.to_owned()));
    }
    let dir = dir.strip_prefix("./").unwrap_or(dir);
    let parts: Vec<_> = dir.strip_suffix('/').unwrap_or(dir).split('/').collect();
    for text in &parts {
        part("dir", text)?;
    }
    Ok(parts)
}

/// One part of a path.
fn part(field: &'static str, text: &str) -> Result<(), BadPath> {
    const PART_MAX_BYTES: usize = 255;
    let refuse = |detail: String| Err(bad(ErrorCode::InvalidFile, field, detail));
    match text {
        "" => refuse("A part of the path is empty.".to_owned()),
        "." | ".." => refuse("The path holds `.` or `..`.".to_owned()),
        text if text.contains('/') => refuse("A name holds no `/`: the directory is `dir`.".to_owned()),
        text if text.chars().any(char::is_control) => refuse("The path holds a control character.".to_owned()),
        text if text.starts_with(".wh.") => {
            refuse(format!("`{}`: names that begin with `.wh.` mean a deleted file in an image.", shown(text)))
        }
        text if text.len() > PART_MAX_BYTES => refuse(format!("A name has at most {PART_MAX_BYTES} bytes.")),
        _ => Ok(()),
    }
}

fn bad(code: ErrorCode, field: &'static str, detail: String) -> BadPath {
    BadPath { code, field, detail }
}

/// A path as it may stand in an answer.
pub(crate) fn shown(path: &str) -> String {
    path.chars().take(128).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_paths_have_one_spelling() {
        for (dir, name, path) in [
            ("", "a", "a"),
            (".", "a", "a"),
            ("./", "a", "a"),
            ("/", "a", "a"),
            ("src", "a.js", "src/a.js"),
            ("./src/", "a.js", "src/a.js"),
            ("a b/ü", "c d", "a b/ü/c d"),
            (".config", ".env", ".config/.env"),
            ("..a", "b..", "..a/b.."),
        ] {
            assert_eq!(Paths::default().add(dir, name).as_deref(), Ok(path), "{dir:?} {name:?}");
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        let long = "x".repeat(256);
        for (dir, name, field) in [
            ("/etc", "passwd", "dir"),
            ("//", "a", "dir"),
            ("..", "a", "dir"),
            ("a/../..", "b", "dir"),
            ("a/./b", "c", "dir"),
            ("a//b", "c", "dir"),
            ("./.", "c", "dir"),
            (".//", "c", "dir"),
            ("a\0", "b", "dir"),
            ("a\n", "b", "dir"),
            (".wh.a", "b", "dir"),
            (".", "", "name"),
            (".", ".", "name"),
            (".", "..", "name"),
            (".", "a/b", "name"),
            (".", "/a", "name"),
            (".", "a\0b", "name"),
            (".", "a\u{85}", "name"),
            (".", ".wh.a", "name"),
            (".", ".wh..wh..opq", "name"),
            (".", long.as_str(), "name"),
        ] {
            let refused = Paths::default().add(dir, name).unwrap_err();
            assert_eq!((refused.code, refused.field), (ErrorCode::InvalidFile, field), "{dir:?} {name:?}");
        }
        let deep = vec!["x".repeat(200); 6].join("/");
        assert_eq!(Paths::default().add(&deep, "a").unwrap_err().code, ErrorCode::InvalidFile);
    }

    #[test]
    fn files_that_can_not_be_side_by_side_are_refused() {
        for (first, second, code) in [
            ((".", "a"), (".", "a"), ErrorCode::FileConflict),
            ((".", "a"), ("./", "a"), ErrorCode::FileConflict),
            ((".", "a"), ("a", "b"), ErrorCode::FileConflict),
            (("a", "b"), (".", "a"), ErrorCode::FileConflict),
            ((".", "a"), (".", "A"), ErrorCode::FileCase),
            (("src", "a"), ("Src", "b"), ErrorCode::FileCase),
            (("src", "a"), (".", "SRC"), ErrorCode::FileCase),
            ((".", "Ä"), (".", "ä"), ErrorCode::FileCase),
        ] {
            let mut paths = Paths::default();
            paths.add(first.0, first.1).unwrap();
            assert_eq!(paths.add(second.0, second.1).unwrap_err().code, code, "{first:?} {second:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_can_be_made(entries in proptest::collection::vec(("[a-cA.~/]{0,6}", "[a-cA.~/]{0,3}"), 0..12)) {
            let ground = tempfile::tempdir().unwrap();
            let mut paths = Paths::default();
            let files: Vec<_> = entries.iter().filter_map(|(dir, name)| paths.add(dir, name).ok()).collect();
            for dir in paths.directories() {
                // Refused entries may leave a directory of theirs, which is one nevertheless.
                std::fs::create_dir(ground.path().join(dir)).unwrap();
            }
            for file in files {
                prop_assert!(!file.starts_with('/') && !file.split('/').any(|part| part == ".."));
                std::fs::File::create_new(ground.path().join(file)).unwrap();
            }
        }
    }
}
