//! Somebody who types commands.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use cakework_testkit::images::{Compression, Format, python};
use cakework_testkit::server::Options;
use cakework_testkit::{Auth, Registry, Server};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::support::{PROGRAM, cakework, need_root, stderr, stdout};

const CONFIG: &str = "[builds]\nallow = [\"127.0.0.0/8\", \"::1/128\"]\n\
                      [webhooks]\nallow = [\"127.0.0.0/8\", \"::1/128\"]\n";

/// Somebody with a home and folders, a server, and a registry with a password.
pub struct Person {
    pub server: Server,
    pub registry: Registry,
    pub home: TempDir,
}

impl Person {
    pub async fn new() -> Self {
        Self::beside("").await
    }

    /// With more of the server's configuration.
    pub async fn beside(more: &str) -> Self {
        need_root();
        let registry = Registry::start(Auth::Basic).await.expect("a registry");
        let image = python(Format::Oci, Compression::Gzip).expect("an image").build();
        registry.push("team/python", "3", &image).await.expect("pushed");
        let options = Options { config: Some(format!("{CONFIG}{more}")), ..Options::new(PROGRAM) };
        let server = Server::start(options).await.expect("a server");
        Self { server, registry, home: tempfile::tempdir().expect("a directory") }
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The environment of the person's shell.
    pub fn env(&self) -> Vec<(String, String)> {
        let home = self.home.path().display().to_string();
        vec![("HOME".to_owned(), home.clone()), ("XDG_CONFIG_HOME".to_owned(), format!("{home}/config"))]
    }

    pub async fn run_with(&self, args: &[&str], env: &[(&str, &str)], input: &str) -> Output {
        let mut command = tokio::process::Command::from(cakework(args));
        command.envs(self.env()).envs(env.iter().copied()).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).await.expect("it reads");
        drop(stdin);
        child.wait_with_output().await.expect("an end")
    }

    pub async fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, &[], "").await
    }

    /// What a command that has to succeed says on stdout.
    #[track_caller]
    pub fn said(output: &Output) -> String {
        assert!(output.status.success(), "{:?}\n{}{}", output.status, stdout(output), stderr(output));
        stdout(output).trim_end().to_owned()
    }

    /// Runs a command that has to succeed.
    pub async fn ok(&self, args: &[&str]) -> String {
        Self::said(&self.run(args).await)
    }

    pub async fn login(&self) {
        let output = self.run_with(&["login", &self.server.url()], &[], self.server.key()).await;
        Self::said(&output);
        let everything = format!("{}{}", stdout(&output), stderr(&output));
        assert!(!everything.contains(self.server.key()), "{everything}");
    }

    /// A new project, whose private base can be built from.
    pub async fn project(&self, name: &str) -> PathBuf {
        let words = ["registry", "set", self.registry.host(), "-u", "AWS"];
        Self::said(&self.run_with(&words, &[], self.registry.password()).await);
        let folder = self.folder(name);
        self.ok(&["init", path(&folder)]).await;
        folder
    }

    /// The base of the templates, in the registry of this test.
    pub fn base(&self) -> String {
        format!("BASE={}", self.registry.reference("team/python", "3"))
    }
}

pub fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
