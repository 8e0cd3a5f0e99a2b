//! A forge, a work directory, and a fetch from one into the other.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Mutex;

use cakework_agent::git::{Fetched, GitConfig, fetch};
use cakework_testkit::GitServer;
use cakework_testkit::git::{Access, Repository};
use cakework_wire::build::{BuildProblem, Token};
use tempfile::TempDir;

/// The repository of all tests.
pub const NAME: &str = "acme/app";

pub struct Forge {
    pub server: GitServer,
    pub config: GitConfig,
    work: TempDir,
    lines: Mutex<Vec<String>>,
}

/// What is asked of it.
#[derive(Default, Clone)]
pub struct Wish<'a> {
    pub repository: Option<&'a str>,
    pub reference: Option<&'a str>,
    pub path: Option<&'a str>,
    pub token: Option<String>,
}

impl Forge {
    pub async fn start() -> Self {
        // One that a test has set already stays.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let server = GitServer::start().await.unwrap();
        let config = GitConfig {
            base_url: server.base_url(),
            ca_file: Some(server.ca_file().to_owned()),
            timeout_ms: 60_000,
            ..GitConfig::default()
        };
        // As the agent's own directory: nobody else may enter it.
        let work = tempfile::tempdir().unwrap();
        std::fs::set_permissions(work.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self { server, config, work, lines: Mutex::default() }
    }

    pub fn repository(&self, access: Access) -> Repository {
        self.server.create(NAME, access).unwrap()
    }

    pub fn token(&self) -> Option<String> {
        Some(self.server.token().to_owned())
    }

    pub fn work(&self) -> &Path {
        self.work.path()
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Fetches into an emptied work directory.
    pub async fn fetch(&self, wish: &Wish<'_>) -> Result<Fetched, BuildProblem> {
        let source = self.work().join("source");
        if source.exists() {
            std::fs::remove_dir_all(source).unwrap();
        }
        let token = wish.token.clone().map(Token);
        let log = |line: &str| self.lines.lock().unwrap().push(line.to_owned());
        let repository = wish.repository.unwrap_or(NAME);
        fetch(&self.config, repository, wish.reference, wish.path, token.as_ref(), self.work(), &log).await
    }

    /// Fetches, and tells what is in the folder.
    pub async fn files(&self, wish: &Wish<'_>) -> BTreeMap<String, String> {
        let fetched = self.fetch(wish).await.unwrap();
        assert!(fetched.dir.starts_with(self.work().canonicalize().unwrap()));
        let mut files = BTreeMap::new();
        list(&fetched.dir, "", &mut files);
        files
    }
}

/// Each path with what is there: content, target, or `dir`; a program's is marked. All of it is root's.
fn list(dir: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let meta = entry.metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (0, 0), "{name}");
        let what = if meta.is_symlink() {
            format!("-> {}", std::fs::read_link(entry.path()).unwrap().display())
        } else if meta.is_dir() {
            assert_eq!(meta.mode() & 0o7777, 0o755, "{name}");
            list(&entry.path(), &format!("{name}/"), files);
            "dir".to_owned()
        } else {
            let content = std::fs::read_to_string(entry.path()).unwrap();
            match meta.mode() & 0o7777 {
                0o644 => content,
                0o755 => format!("program {content}"),
                other => panic!("{name} has mode {other:o}"),
            }
        };
        files.insert(name, what);
    }
}
