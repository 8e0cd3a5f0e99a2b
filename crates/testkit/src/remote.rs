//! The pushing side of a registry: uploads of blobs, manifests and indexes, as an image builder makes them.
//! Nothing is checked on the way: a test may push what no builder would.

use anyhow::{Context, Result, ensure};
use reqwest::{Client, RequestBuilder, StatusCode, header};

use crate::http;
use crate::images::{Blob, Image};

/// The user of a registry with basic authentication: Amazon ECR's.
pub const USER: &str = "AWS";

/// A registry somewhere.
#[derive(Debug, Clone)]
pub struct Remote {
    client: Client,
    scheme: &'static str,
    host: String,
    password: Option<String>,
}

impl Remote {
    /// The registry at `host` (`127.0.0.1:40001`), over plain HTTP; with a password the user is [`USER`].
    pub fn new(host: String, password: Option<String>) -> Self {
        Self { client: http::client(), scheme: "http", host, password }
    }

    /// The same over TLS; `ca` is the PEM of whoever signed its certificate.
    pub fn with_tls(host: String, password: Option<String>, ca: &[u8]) -> Result<Self> {
        Ok(Self { client: http::client_trusting(ca)?, scheme: "https", host, password })
    }

    /// Its address with port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The password of user [`USER`]; empty where everyone may come in.
    pub fn password(&self) -> &str {
        self.password.as_deref().unwrap_or_default()
    }

    /// Whether it answers, and takes the password.
    pub async fn answers(&self) -> bool {
        let request = self.authorize(self.client.get(format!("{}/v2/", self.base())));
        matches!(request.send().await, Ok(response) if response.status() == StatusCode::OK)
    }

    /// Whether it answers, and asks who is there.
    pub async fn refuses(&self) -> bool {
        let sent = self.client.get(format!("{}/v2/", self.base())).send().await;
        matches!(sent, Ok(response) if response.status() == StatusCode::UNAUTHORIZED)
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
        let request = self.client.put(format!("{}/v2/{name}/manifests/{tag}", self.base()));
        let request = request.header(header::CONTENT_TYPE, media_type).body(body.to_vec());
        let response = self.authorize(request).send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status == StatusCode::CREATED, "the registry refused the manifest: {status}: {text}");
        Ok(crate::images::digest(body))
    }

    /// Uploads one blob unless the registry has it.
    pub async fn put_blob(&self, name: &str, blob: &Blob) -> Result<()> {
        let at = format!("{}/v2/{name}/blobs/{}", self.base(), blob.digest());
        if self.authorize(self.client.head(at)).send().await?.status() == StatusCode::OK {
            return Ok(());
        }
        let start = self.client.post(format!("{}/v2/{name}/blobs/uploads/", self.base()));
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

    fn base(&self) -> String {
        format!("{}://{}", self.scheme, self.host)
    }

    fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.password {
            Some(password) => request.basic_auth(USER, Some(password)),
            None => request,
        }
    }
}
