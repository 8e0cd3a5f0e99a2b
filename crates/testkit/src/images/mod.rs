//! OCI and Docker images made without Docker, as a user's own build would make them.
//!
//! Images of Debian packages cost seconds, so they are kept in [`cache_dir`] under a hash of what went in.

mod build;
mod buildah;
mod cache;
mod debian;
mod layer;

use std::path::PathBuf;

use anyhow::Result;
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use build::Builder;
pub use buildah::buildah_root;
pub use cache::cache_dir;
pub use debian::{busybox, large, python, python_app};
pub use layer::{Entry, Layer, tar};

/// How a layer's tar is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// As `docker push` does.
    Gzip,
    /// As `docker buildx` does when asked to.
    Zstd,
}

/// Whose media types the manifest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI image specification 1.1.
    Oci,
    /// Docker's image manifest version 2, schema 2; it has no zstd.
    Docker,
}

/// Bytes with their digest, in memory or in a file.
#[derive(Debug, Clone)]
pub struct Blob {
    digest: String,
    size_bytes: u64,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Memory(Bytes),
    File(PathBuf),
}

impl Blob {
    /// A blob in memory.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: digest(&bytes), size_bytes: bytes.len() as u64, content: Content::Memory(bytes) }
    }

    /// `sha256:<hex>`.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its length.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// All its bytes.
    pub fn read(&self) -> Result<Bytes> {
        match &self.content {
            Content::Memory(bytes) => Ok(bytes.clone()),
            Content::File(path) => Ok(std::fs::read(path)?.into()),
        }
    }
}

/// A whole image: a manifest and all that it names.
#[derive(Debug, Clone)]
pub struct Image {
    manifest: Bytes,
    media_type: &'static str,
    digest: String,
    config: Value,
    blobs: Vec<Blob>,
}

impl Image {
    /// The manifest's bytes.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// The manifest's media type.
    pub fn manifest_media_type(&self) -> &'static str {
        self.media_type
    }

    /// The manifest's digest, `sha256:<hex>`.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The configuration first, then the layers, lowest first.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Blob] {
        &self.blobs[1..]
    }

    /// The image configuration, as in the OCI image specification.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The operating system that the configuration names.
    pub fn os(&self) -> &str {
        self.config["os"].as_str().unwrap_or_default()
    }

    /// The architecture that the configuration names, in Go's words.
    pub fn architecture(&self) -> &str {
        self.config["architecture"].as_str().unwrap_or_default()
    }
}

/// `sha256:<hex>` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// This machine's architecture in Go's words, which images use.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
