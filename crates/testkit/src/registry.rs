//! A real registry: Debian's `docker-registry` on a free loopback port, its storage in a temporary directory.
//!
//! It lives as long as its value. Nothing else on the machine is touched: not port 5000, not `/etc/docker`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::distr::{Alphanumeric, SampleString};
use tempfile::TempDir;

use crate::images::Image;
use crate::process::{POLL, Process, run};
use crate::remote::{Remote, USER};
use crate::{certificate, http};

/// Who may use the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// User `AWS` and a random password, as with Amazon ECR.
    Basic,
    /// Everyone.
    Anonymous,
}

/// A service that gives out tokens for a registry (Docker's "Token Authentication Specification").
#[derive(Debug, Clone)]
pub struct TokenService {
    /// Its URL.
    pub realm: String,
    /// The registry's name in tokens.
    pub service: String,
    /// Whose tokens they are.
    pub issuer: String,
    /// The certificate of the key that signs them, in PEM.
    pub certificate: PathBuf,
}

/// How long a registry may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// A running registry.
pub struct Registry {
    process: Process,
    remote: Remote,
    dir: TempDir,
}

impl Registry {
    /// Starts a registry that speaks plain HTTP, and waits until it answers.
    pub async fn start(auth: Auth) -> Result<Self> {
        Self::start_with(auth, false, None).await
    }

    /// The same for those who bring a token of a service; whoever pushes brings one too.
    pub async fn start_behind(tokens: &TokenService) -> Result<Self> {
        Self::start_with(Auth::Anonymous, false, Some(tokens)).await
    }

    /// The same with TLS: its certificate is signed by [`Registry::ca_file`], which nobody else knows.
    pub async fn start_tls(auth: Auth) -> Result<Self> {
        Self::start_with(auth, true, None).await
    }

    async fn start_with(auth: Auth, tls: bool, tokens: Option<&TokenService>) -> Result<Self> {
        let mut dir = tempfile::Builder::new().prefix("cakework-registry-").tempdir()?;
        let password = match auth {
            Auth::Basic => Some(write_htpasswd(&dir.path().join("htpasswd"))?),
            Auth::Anonymous => None,
        };
        let ca = if tls { Some(certificate::write(dir.path(), "registry")?) } else { None };
        // Another process may take the port between the look and the bind.
        let mut last = None;
        for _ in 0..3 {
            let port = http::free_port()?;
            let config = dir.path().join("config.yml");
            std::fs::write(&config, config_text(port, dir.path(), auth, tls, tokens))?;
            let args = ["serve".to_owned(), config.display().to_string()];
            let process = Process::start(Path::new("docker-registry"), &args, &dir.path().join("registry.log"))?;
            let host = format!("127.0.0.1:{port}");
            let remote = match &ca {
                Some(ca) => Remote::with_tls(host, password.clone(), ca)?,
                None => Remote::new(host, password.clone()),
            };
            let mut registry = Self { process, remote, dir };
            match registry.wait_until_ready(tokens.is_some()).await {
                Ok(()) => return Ok(registry),
                Err(error) => last = Some(error),
            }
            dir = registry.dir;
        }
        Err(last.context("three attempts were made")?)
    }

    /// `127.0.0.1:<port>`.
    pub fn host(&self) -> &str {
        self.remote.host()
    }

    /// The password of user [`USER`]; empty where everyone may come in.
    pub fn password(&self) -> &str {
        self.remote.password()
    }

    /// The file with the certificate authority of a registry that speaks TLS, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The image's name for importImage, such as `127.0.0.1:40001/team/app:v1`.
    pub fn reference(&self, name: &str, tag: &str) -> String {
        format!("{}/{name}:{tag}", self.host())
    }

    /// The registry's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What the registry has logged: one line per request.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Where the registry keeps a blob's bytes; a test that changes them makes the registry lie.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        let hash = digest.strip_prefix("sha256:").expect("digests here are sha256");
        self.dir.path().join("storage/docker/registry/v2/blobs/sha256").join(&hash[..2]).join(hash).join("data")
    }

    /// Uploads an image under `name:tag`; gives its manifest's digest.
    pub async fn push(&self, name: &str, tag: &str, image: &Image) -> Result<String> {
        self.remote.push(name, tag, image).await
    }

    /// The same registry for what has no verb here.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    async fn wait_until_ready(&mut self, wants_token: bool) -> Result<()> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.process.ended()? {
                bail!("docker-registry ended with {status}:\n{}", self.log());
            }
            let is_up = if wants_token { self.remote.refuses().await } else { self.remote.answers().await };
            if is_up {
                return Ok(());
            }
            ensure!(Instant::now() < end, "docker-registry does not answer:\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Writes the file with user [`USER`] and gives its random password. The registry knows bcrypt alone.
fn write_htpasswd(path: &Path) -> Result<String> {
    let password = Alphanumeric.sample_string(&mut rand::rng(), 32);
    let output = run(Command::new("htpasswd").args(["-nbB", "-C", "4", USER, &password]))
        .context("htpasswd comes with the package apache2-utils")?;
    std::fs::write(path, output.stdout)?;
    Ok(password)
}

fn config_text(port: u16, dir: &Path, auth: Auth, tls: bool, tokens: Option<&TokenService>) -> String {
    let dir = dir.display();
    let tls = if tls {
        format!("  tls:\n    certificate: {dir}/registry.pem\n    key: {dir}/registry.key\n")
    } else {
        String::new()
    };
    let auth = match (auth, tokens) {
        (_, Some(TokenService { realm, service, issuer, certificate })) => format!(
            "auth:\n  token:\n    realm: {realm}\n    service: {service}\n    issuer: {issuer}\n    rootcertbundle: {}\n",
            certificate.display()
        ),
        (Auth::Basic, None) => format!("auth:\n  htpasswd:\n    realm: cakework\n    path: {dir}/htpasswd\n"),
        (Auth::Anonymous, None) => String::new(),
    };
    format!(
        "version: 0.1\n\
         log:\n  accesslog:\n    disabled: false\n  level: info\n\
         storage:\n  delete:\n    enabled: true\n  filesystem:\n    rootdirectory: {dir}/storage\n\
         http:\n  addr: 127.0.0.1:{port}\n  secret: not-secret-on-one-node\n\
         {tls}\
         {auth}"
    )
}
