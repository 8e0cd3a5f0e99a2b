//! A project: a folder with a `cakework.toml`. Its VM is found by a mark, so that any copy of the folder knows it.

mod templates;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::{Failure, Result};

pub(crate) use templates::init;

/// The file's name.
pub(crate) const FILE: &str = "cakework.toml";
/// The mark of a project's VMs.
pub(crate) const MARK: &str = "project";
/// Bytes of a project's name.
const NAME_MAX_BYTES: usize = 63;

/// `cakework.toml`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Project {
    /// By which its VMs are known.
    pub(crate) name: String,
    /// The port that its hostname leads to.
    #[serde(default)]
    pub(crate) port: Option<u16>,
    #[serde(default)]
    pub(crate) cpu: Option<u32>,
    /// In MB.
    #[serde(default)]
    pub(crate) memory: Option<u32>,
    /// A volume at `/data`, in GB.
    #[serde(default)]
    pub(crate) volume_gb: Option<u32>,
    /// Time without work after which it is put to sleep.
    #[serde(default)]
    pub(crate) idle_timeout_seconds: Option<u64>,
    /// Variables of its environment.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) build: Build,
}

/// `[build]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Build {
    /// In the folder; `Dockerfile` where absent.
    #[serde(default)]
    pub(crate) dockerfile: Option<PathBuf>,
    #[serde(default)]
    pub(crate) args: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) target: Option<String>,
    /// Variables of the environment that are handed on as build secrets.
    #[serde(default)]
    pub(crate) secrets: Vec<String>,
}

impl Project {
    /// The project of a folder.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::usage(format!("{} is no project: it has no {FILE}", dir.display()))
                    .fix("make one: cakework init"));
            }
            Err(error) => return Err(Failure::usage(format!("{} can't be read: {error}", path.display()))),
        };
        let project: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Failure::usage(format!("{}:{line}: {}", path.display(), error.message().lines().next().unwrap_or_default()))
        })?;
        check_name(&project.name).map(|()| project)
    }

    /// What `startVM` and `cacheVM` share.
    pub(crate) fn vm(&self, image: &str) -> Value {
        let mut body = json!({"imageId": image, "envVars": self.env, "metadata": {MARK: self.name}});
        let fields = [
            ("port", self.port.map(Value::from)),
            ("cpu", self.cpu.map(Value::from)),
            ("memory", self.memory.map(Value::from)),
            ("volumeGB", self.volume_gb.map(Value::from)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }
}

/// A name stands in marks and in file names.
fn check_name(name: &str) -> Result<()> {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.bytes().all(is_word) || name.starts_with('-') {
        return Err(Failure::usage(format!("{name:?} is no name for a project"))
            .fix("write up to 63 lower-case letters, digits and hyphens"));
    }
    Ok(())
}

/// A name made of a folder's.
fn name_of(dir: &Path) -> Option<String> {
    let dir = std::fs::canonicalize(dir).ok()?;
    let words: String = dir
        .file_name()?
        .to_str()?
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name: String = words.trim_matches('-').chars().take(NAME_MAX_BYTES).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn read(text: &str) -> Result<Project> {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILE), text).expect("written");
        Project::read(dir.path())
    }

    #[test]
    fn a_project_says_what_its_vm_is() {
        let project = read("name = \"hello\"\nport = 8080\nvolume_gb = 2\n[env]\nA = \"b\"\n").expect("a project");
        let vm = json!({"imageId": "I", "envVars": {"A": "b"}, "metadata": {"project": "hello"}, "port": 8080, "volumeGB": 2});
        assert_eq!(project.vm("I"), vm);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, word) in [
            ("", "missing field `name`"),
            ("name = \"hello\"\nprot = 1\n", "cakework.toml:2: unknown field `prot`"),
            ("name = \"hello\"\nport = 70000\n", "cakework.toml:2: "),
            ("name = \"Hello World\"\n", "no name for a project"),
            ("name = \n", "cakework.toml:1: "),
        ] {
            let failure = read(text).expect_err(text);
            assert!(failure.message.contains(word) && failure.exit == Exit::Usage, "{}", failure.message);
        }
        let none = Project::read(Path::new("/nonexistent")).expect_err("none");
        assert!(none.fix.is_some_and(|fix| fix.contains("cakework init")));
    }
}
