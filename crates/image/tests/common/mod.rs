//! What the tests of images share: a store in a directory of its own, the confined child, tars that no honest tool
//! writes.
#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used)]

pub mod server;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cakework_image::archive::ArchiveKind;
use cakework_image::unpack::{Compression, Outcome, Purpose, Request};
use cakework_image::{Image, ImageConfig, ImageStore, Unpacker};
use cakework_testkit::images::{self, Entry, tar};
use cakework_testkit::registry::Registry;
use cakework_wire::host::{AgentProblem, Credential, ProblemCode, PullImage, ResolveImage};
use tempfile::TempDir;

/// No wait of a test is longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program that plays the role `unpack`.
pub fn child() -> PathBuf {
    assert!(rustix::process::geteuid().is_root(), "these tests need root: they unpack layers as root does");
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/unpack-child");
    assert!(program.is_file(), "{} is not built: `cargo build --examples`", program.display());
    program
}

/// A store in a directory of its own.
pub struct Host {
    pub dir: TempDir,
    pub store: ImageStore,
}

impl Host {
    pub async fn new() -> Self {
        Self::with(ImageConfig::default()).await
    }

    pub async fn with(config: ImageConfig) -> Self {
        let dir = tempfile::Builder::new().prefix("cakework-image-").tempdir().unwrap();
        let store = open(dir.path(), config).await;
        Self { dir, store }
    }

    /// Pulls and waits.
    pub async fn bring(&self, digest: &str, request: &PullImage) -> Result<Arc<Image>, AgentProblem> {
        self.store.pull(digest, request).await?;
        tokio::time::timeout(PATIENCE, self.store.ready(digest)).await.expect("an image is ready or failed in time")
    }

    /// Resolves, pulls and waits.
    pub async fn import(&self, registry: &Registry, name: &str) -> Result<Arc<Image>, AgentProblem> {
        let request = request(registry, name);
        let resolve = ResolveImage { reference: request.reference.clone(), credential: request.credential.clone() };
        let resolved = self.store.resolve(&resolve).await?;
        self.bring(&resolved.digest, &request).await
    }

    /// Names in a directory of the store.
    pub fn names(&self, directory: &str) -> Vec<String> {
        names(&self.dir.path().join(directory))
    }
}

pub async fn open(dir: &Path, config: ImageConfig) -> ImageStore {
    let unpacker = Unpacker { program: child(), args: Vec::new() };
    ImageStore::open(dir, config, unpacker).await.expect("the store opens")
}

/// `name:v1` at the registry, with its password if it has one.
pub fn request(registry: &Registry, name: &str) -> PullImage {
    let credential = (!registry.password().is_empty())
        .then(|| Credential { username: "AWS".into(), password: registry.password().into() });
    PullImage { reference: registry.reference(name, "v1"), credential }
}

pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Bytes that the child is asked to unpack.
pub struct Given {
    pub bytes: Vec<u8>,
    pub request: Request,
}

impl Given {
    /// A tar as it is.
    pub fn tar(tar: Vec<u8>) -> Self {
        let hex = images::digest(&tar)["sha256:".len()..].to_owned();
        let request = Request {
            purpose: Purpose::Layer,
            kind: ArchiveKind::Tar,
            digest: Some(hex.clone()),
            size_bytes: Some(tar.len() as u64),
            diff_id: Some(hex),
            inflated_max_bytes: 64 << 20,
            entries_max: 10_000,
        };
        Self { bytes: tar, request }
    }

    pub fn entries(entries: &[Entry]) -> Self {
        Self::tar(tar(entries))
    }

    /// The same tar, compressed.
    pub fn compressed(mut self, compression: Compression, bytes: Vec<u8>) -> Self {
        self.request.kind = compression.into();
        self.request.digest = Some(images::digest(&bytes)["sha256:".len()..].to_owned());
        self.request.size_bytes = Some(bytes.len() as u64);
        self.bytes = bytes;
        self
    }

    /// Unpacks into `directory`.
    pub fn unpack(&self, directory: &Path) -> Result<u64, AgentProblem> {
        let mut child = Command::new(child())
            .current_dir(directory)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut line = serde_json::to_vec(&self.request).unwrap();
        line.push(b'\n');
        let bytes = self.bytes.clone();
        let feeder = std::thread::spawn(move || {
            // The child may have heard enough before the end.
            let _ = input.write_all(&line).and_then(|()| input.write_all(&bytes));
        });
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        match serde_json::from_slice(&output.stdout) {
            Ok(Outcome::Done { inflated_bytes, diff_id }) => {
                assert_eq!(diff_id, self.request.diff_id, "it says what it unpacked");
                Ok(inflated_bytes)
            }
            Ok(Outcome::Failed(problem)) => {
                assert_ne!(problem.code, ProblemCode::Internal, "{complaint}");
                Err(problem)
            }
            Err(error) => panic!("no outcome ({error}), {:?}: {complaint}", output.status),
        }
    }

    /// Unpacks into a directory of its own.
    pub fn unpacked(&self) -> Result<TempDir, AgentProblem> {
        let directory = tempfile::Builder::new().prefix("cakework-layer-").tempdir().unwrap();
        self.unpack(directory.path()).map(|_| directory)
    }

    /// What the child says instead of unpacking it.
    pub fn refusal(&self) -> AgentProblem {
        self.unpacked().expect_err("refused")
    }
}

/// A tar made entry by entry, with whatever extensions come before one.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Puts pax records before the next entry.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub fn entry(mut self, name: &str, kind: tar::EntryType, set: impl FnOnce(&mut tar::Header), bytes: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(bytes.len() as u64);
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        set(&mut header);
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    pub fn file(self, name: &str, bytes: &[u8]) -> Self {
        self.entry(name, tar::EntryType::Regular, |_| {}, bytes)
    }

    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}
