//! A real registry: Debian's `docker-registry` on a free loopback port, its storage in a temporary directory.
//!
//! It lives as long as its value. Nothing else on the machine is touched: not port 5000, not `/etc/docker`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::distr::{Alphanumeric, SampleString};
use reqwest::{Client, RequestBuilder, StatusCode, header};
use tempfile::TempDir;

use crate::http;
use crate::images::{Blob, Image};
use crate::process::{POLL, Process, run};

/// Who may use the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// User `AWS` and a random password, as with Amazon ECR.
    Basic,
    /// Everyone.
    Anonymous,
}

/// The user of a registry with basic authentication: ECR's.
pub const USER: &str = "AWS";

/// How long a registry may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// A running registry.
pub struct Registry {
    process: Process,
    client: Client,
    port: u16,
    password: Option<String>,
    dir: TempDir,
}

impl Registry {
    /// Starts a registry and waits until it answers.
    pub async fn start(auth: Auth) -> Result<Self> {
        let mut dir = tempfile::Builder::new().prefix("cakework-registry-").tempdir()?;
        let mut password = match auth {
            Auth::Basic => Some(write_htpasswd(&dir.path().join("htpasswd"))?),
            Auth::Anonymous => None,
        };
        // Another process may take the port between the look and the bind.
        let mut last = None;
        for _ in 0..3 {
            let port = http::free_port()?;
            let config = dir.path().join("config.yml");
            std::fs::write(&config, config_text(port, dir.path(), auth))?;
            let args = ["serve".to_owned(), config.display().to_string()];
            let process = Process::start(Path::new("docker-registry"), &args, &dir.path().join("registry.log"))?;
            let mut registry = Self { process, client: http::client(), port, password, dir };
            match registry.wait_until_ready().await {
                Ok(()) => return Ok(registry),
                Err(error) => last = Some(error),
            }
            Self { password, dir, .. } = registry;
        }
        Err(last.context("three attempts were made")?)
    }

    /// `127.0.0.1:<port>`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The password of user [`USER`]; empty where everyone may come in.
    pub fn password(&self) -> &str {
        self.password.as_deref().unwrap_or_default()
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
        self.push_untagged(name, image).await?;
        self.put_manifest(name, tag, image.manifest_media_type(), image.manifest()).await
    }

    /// Uploads several images under one multi-arch index; each image's own configuration names its platform.
    pub async fn push_index(&self, name: &str, tag: &str, images: &[&Image]) -> Result<String> {
        let mut manifests = Vec::new();
        for image in images {
            self.push_untagged(name, image).await?;
            let media_type = image.manifest_media_type();
            self.put_manifest(name, image.digest(), media_type, image.manifest()).await?;
            manifests.push(serde_json::json!({
                "mediaType": media_type,
                "digest": image.digest(),
                "size": image.manifest().len(),
                "platform": {"os": image.os(), "architecture": image.architecture()},
            }));
        }
        const INDEX: &str = "application/vnd.oci.image.index.v1+json";
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.put_manifest(name, tag, INDEX, &serde_json::to_vec(&index)?).await
    }

    /// Uploads one manifest as it is, whatever it says; gives its digest.
    pub async fn put_manifest(&self, name: &str, tag: &str, media_type: &str, body: &[u8]) -> Result<String> {
        let request = self.client.put(format!("http://{}/v2/{name}/manifests/{tag}", self.host()));
        let request = request.header(header::CONTENT_TYPE, media_type).body(body.to_vec());
        let response = self.authorize(request).send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status == StatusCode::CREATED, "the registry refused the manifest: {status}: {text}");
        Ok(crate::images::digest(body))
    }

    /// Uploads one blob unless the registry has it.
    pub async fn put_blob(&self, name: &str, blob: &Blob) -> Result<()> {
        let at = format!("http://{}/v2/{name}/blobs/{}", self.host(), blob.digest());
        if self.authorize(self.client.head(at)).send().await?.status() == StatusCode::OK {
            return Ok(());
        }
        let start = self.client.post(format!("http://{}/v2/{name}/blobs/uploads/", self.host()));
        let response = self.authorize(start).send().await?;
        ensure!(response.status() == StatusCode::ACCEPTED, "no upload was opened: {}", response.status());
        let location = response.headers().get(header::LOCATION).context("an upload has a place")?.to_str()?.to_owned();
        let upload = self.client.put(location).query(&[("digest", blob.digest())]).body(blob.read()?);
        let response = self.authorize(upload).send().await?;
        ensure!(response.status() == StatusCode::CREATED, "the blob was refused: {}", response.status());
        Ok(())
    }

    async fn push_untagged(&self, name: &str, image: &Image) -> Result<()> {
        for blob in image.blobs() {
            self.put_blob(name, blob).await?;
        }
        Ok(())
    }

    fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.password {
            Some(password) => request.basic_auth(USER, Some(password)),
            None => request,
        }
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.process.ended()? {
                bail!("docker-registry ended with {status}:\n{}", self.log());
            }
            let request = self.authorize(self.client.get(format!("http://{}/v2/", self.host())));
            if matches!(request.send().await, Ok(response) if response.status() == StatusCode::OK) {
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

fn config_text(port: u16, dir: &Path, auth: Auth) -> String {
    let dir = dir.display();
    let auth = match auth {
        Auth::Basic => format!("auth:\n  htpasswd:\n    realm: cakework\n    path: {dir}/htpasswd\n"),
        Auth::Anonymous => String::new(),
    };
    format!(
        "version: 0.1\n\
         log:\n  accesslog:\n    disabled: false\n  level: info\n\
         storage:\n  delete:\n    enabled: true\n  filesystem:\n    rootdirectory: {dir}/storage\n\
         http:\n  addr: 127.0.0.1:{port}\n  secret: not-secret-on-one-node\n\
         {auth}"
    )
}
