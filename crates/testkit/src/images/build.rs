//! Puts an image together: its layers, its configuration, its manifest.

use serde_json::{Value, json};

use super::{Blob, Compression, Format, Image, Layer, digest, host_architecture};

/// An image in the making. Without a word about it, it is for this machine's architecture.
#[derive(Debug, Clone)]
pub struct Builder {
    format: Format,
    config: Value,
    layers: Vec<Layer>,
}

impl Builder {
    /// An image with no layer and an empty configuration.
    pub fn new(format: Format) -> Self {
        let config = json!({"os": "linux", "architecture": host_architecture(), "config": {}});
        Self { format, config, layers: Vec::new() }
    }

    /// Adds a layer over those there are.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// The image's `Entrypoint`.
    #[must_use]
    pub fn entrypoint(self, words: &[&str]) -> Self {
        self.run_config("Entrypoint", json!(words))
    }

    /// The image's `Cmd`.
    #[must_use]
    pub fn cmd(self, words: &[&str]) -> Self {
        self.run_config("Cmd", json!(words))
    }

    /// The image's `Env`, as `NAME=value`.
    #[must_use]
    pub fn env(self, pairs: &[&str]) -> Self {
        self.run_config("Env", json!(pairs))
    }

    /// The image's `User`.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.run_config("User", json!(user))
    }

    /// The image's `WorkingDir`.
    #[must_use]
    pub fn workdir(self, path: &str) -> Self {
        self.run_config("WorkingDir", json!(path))
    }

    /// The image's `StopSignal`.
    #[must_use]
    pub fn stop_signal(self, signal: &str) -> Self {
        self.run_config("StopSignal", json!(signal))
    }

    /// Any field of the configuration's `config`, also a wrong one.
    #[must_use]
    pub fn run_config(mut self, field: &str, value: Value) -> Self {
        self.config["config"][field] = value;
        self
    }

    /// Another architecture than this machine's, in Go's words.
    #[must_use]
    pub fn architecture(mut self, architecture: &str) -> Self {
        self.config["architecture"] = json!(architecture);
        self
    }

    /// The finished image.
    pub fn build(mut self) -> Image {
        let diff_ids: Vec<&str> = self.layers.iter().map(Layer::diff_id).collect();
        self.config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        let config = Blob::new(self.config.to_string());
        let (manifest_type, config_type) = match self.format {
            Format::Oci => ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"),
            Format::Docker => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
            ),
        };
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| descriptor(layer_type(self.format, layer.compression), &layer.blob))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": descriptor(config_type, &config),
            "layers": layers,
        })
        .to_string();
        let mut blobs = vec![config];
        blobs.extend(self.layers.into_iter().map(|layer| layer.blob));
        Image {
            digest: digest(manifest.as_bytes()),
            manifest: manifest.into(),
            media_type: manifest_type,
            config: self.config,
            blobs,
        }
    }
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({"mediaType": media_type, "digest": blob.digest(), "size": blob.size_bytes()})
}

fn layer_type(format: Format, compression: Compression) -> &'static str {
    match (format, compression) {
        (Format::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
        (Format::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        // Docker has no name of its own for zstd; its tools write OCI's.
        (_, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        (Format::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
        (Format::Docker, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
    }
}
