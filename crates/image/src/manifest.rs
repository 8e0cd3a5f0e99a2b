//! Manifests, indexes and configurations: what of them we understand, and what of it we take. Pure.
//!
//! Sources: OCI image spec 1.1 (`manifest.md`, `image-index.md`, `config.md`), Docker "Image Manifest V 2, Schema 2".
//! A document's kind is what it holds, and must be what its media type says: bytes that are one thing to us and another
//! to the next reader (CVE-2021-41190) are refused.

use std::sync::Arc;

use cakework_wire::host::{AgentProblem, ProblemCode};
use oci_spec::image::{Arch, ImageConfiguration, Os};
use serde::{Deserialize, Serialize};

use crate::config::ImageLimits;
use crate::digest::Digest;
use crate::problem::{invalid, problem, too_large};
use crate::unpack::Compression;

/// What manifests may be, in the order in which we like them.
pub const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// Platforms that a sentence names.
const NAMED_PLATFORMS_MAX: usize = 8;

/// A document of either kind.
#[derive(Debug)]
pub enum Document {
    /// Manifests for several platforms.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(Manifest),
}

/// Config and layers of one image.
#[derive(Debug)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// Points to content.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// A layer that is to be fetched and unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Of its compressed bytes.
    pub digest: Digest,
    /// Of its tar stream.
    pub diff_id: Digest,
    /// Compressed bytes, as declared.
    pub size_bytes: u64,
    /// How it is compressed.
    pub compression: Compression,
}

/// An image that may be pulled: every declared property was checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its configuration.
    pub config: ImageConfiguration,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// Compressed bytes of all layers.
    pub total_bytes: u64,
    /// The bytes of its configuration.
    pub config_bytes: Arc<[u8]>,
}

/// A manifest to be written: its fields in the order of the OCI image spec, `manifest.md`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Draft {
    schema_version: u32,
    media_type: &'static str,
    config: Pointer,
    layers: Vec<Pointer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pointer {
    media_type: &'static str,
    digest: String,
    size: u64,
}

impl Descriptor {
    /// Its digest.
    ///
    /// # Errors
    /// [`ProblemCode::ImageInvalid`] where it is none.
    pub fn digest(&self) -> Result<Digest, AgentProblem> {
        self.digest.parse().map_err(|_| invalid("The image's manifest has a digest that is not SHA-256."))
    }

    /// Its size as declared, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size
    }
}

/// Reads a manifest or index.
///
/// # Errors
/// [`ProblemCode::ImageInvalid`] where it is neither.
pub fn read(bytes: &[u8]) -> Result<Document, AgentProblem> {
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|_| invalid("What the registry has under this name is not an image manifest of version 2."))?;
    if raw.schema_version != 2 {
        return Err(invalid(format!(
            "The image's manifest is of version {}; only 2 is supported.",
            raw.schema_version
        )));
    }
    let is_named = |known: [&str; 2]| raw.media_type.as_deref().is_none_or(|name| known.contains(&name));
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) if is_named(INDEXES) => Ok(Document::Index(manifests)),
        (None, Some(config), Some(layers)) if is_named(MANIFESTS) => {
            Ok(Document::Manifest(Manifest { config, layers }))
        }
        _ => Err(invalid("The image's manifest is not of a kind that is supported.")),
    }
}

/// The manifest for this host in an index.
///
/// # Errors
/// [`ProblemCode::ImageArchitecture`] where there is none, [`ProblemCode::ImageInvalid`] for an index in an index.
pub fn pick(manifests: &[Descriptor]) -> Result<&Descriptor, AgentProblem> {
    let here = Arch::default().to_string();
    let fits = |platform: &Platform| platform.os == "linux" && platform.architecture == here;
    let candidates = || manifests.iter().filter(|entry| entry.platform.as_ref().is_some_and(fits));
    // A variant beyond the first may need instructions that this CPU lacks.
    let is_basic = |entry: &&Descriptor| {
        let variant = entry.platform.as_ref().and_then(|platform| platform.variant.as_deref());
        matches!(variant, None | Some("" | "v1" | "v8"))
    };
    let picked = candidates().find(is_basic).or_else(|| candidates().next());
    let picked = picked.ok_or_else(|| {
        let name = |entry: &Descriptor| {
            let platform = entry.platform.as_ref()?;
            (platform.os != "unknown").then(|| (platform.os.clone(), platform.architecture.clone()))
        };
        wrong_architecture(manifests.iter().filter_map(name))
    })?;
    if !MANIFESTS.contains(&&picked.media_type[..]) {
        return Err(invalid("The image's index leads to something other than an image."));
    }
    Ok(picked)
}

/// Checks manifest and configuration against each other, this host and the limits.
///
/// # Errors
/// [`ProblemCode::ImageInvalid`], [`ProblemCode::ImageArchitecture`] or [`ProblemCode::ImageTooLarge`].
pub fn plan(manifest: &Manifest, config_bytes: &[u8], limits: &ImageLimits) -> Result<Plan, AgentProblem> {
    let config: ImageConfiguration =
        serde_json::from_slice(config_bytes).map_err(|_| invalid("The image's configuration is not one."))?;
    if *config.os() != Os::Linux || *config.architecture() != Arch::default() {
        let there = (config.os().to_string(), config.architecture().to_string());
        return Err(wrong_architecture(std::iter::once(there)));
    }
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != manifest.layers.len() {
        return Err(invalid("The image's configuration names another number of layers than its manifest."));
    }
    let mut layers = Vec::with_capacity(diff_ids.len());
    let mut total_bytes = 0_u64;
    for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
        total_bytes = total_bytes.saturating_add(descriptor.size);
        layers.push(Layer {
            digest: descriptor.digest()?,
            diff_id: diff_id.parse().map_err(|_| invalid("The image's configuration has a wrong digest."))?,
            size_bytes: descriptor.size,
            compression: compression(&descriptor.media_type)?,
        });
    }
    if total_bytes > limits.compressed_bytes {
        let (has, most) = (total_bytes >> 20, limits.compressed_bytes >> 20);
        return Err(too_large(format!("The image has {has} MiB of layers; this host takes {most} MiB.")));
    }
    Ok(Plan { config, layers, total_bytes, config_bytes: config_bytes.into() })
}

/// Writes the OCI manifest of a configuration and layers: the same bytes for the same image.
pub fn write(config: &[u8], layers: &[Layer]) -> Vec<u8> {
    let pointer = |layer: &Layer| Pointer {
        media_type: match layer.compression {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        },
        digest: layer.digest.to_string(),
        size: layer.size_bytes,
    };
    let draft = Draft {
        schema_version: 2,
        media_type: MANIFESTS[0],
        config: Pointer { media_type: CONFIGS[0], digest: Digest::of(config).to_string(), size: config.len() as u64 },
        layers: layers.iter().map(pointer).collect(),
    };
    serde_json::to_vec(&draft).expect("plain data")
}

/// Checks a manifest's own declarations, before anything it points to is fetched.
///
/// # Errors
/// [`ProblemCode::ImageInvalid`] or [`ProblemCode::ImageTooLarge`].
pub fn check(manifest: &Manifest, limits: &ImageLimits) -> Result<(), AgentProblem> {
    if !CONFIGS.contains(&&manifest.config.media_type[..]) {
        return Err(invalid("What the registry has under this name is not a container image."));
    }
    if manifest.config.size > limits.document_bytes {
        return Err(too_large("The image's configuration is larger than this host takes."));
    }
    match manifest.layers.len() {
        0 => Err(invalid("The image has no layers.")),
        count if count > limits.layers => {
            Err(too_large(format!("The image has {count} layers; this host takes {}.", limits.layers)))
        }
        _ => Ok(()),
    }
}

fn compression(media_type: &str) -> Result<Compression, AgentProblem> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
        _ => Err(invalid("The image has a layer of a kind that is not supported.")),
    }
}

fn wrong_architecture(there: impl Iterator<Item = (String, String)>) -> AgentProblem {
    let is_plain = |name: &str| name.len() <= 20 && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut names: Vec<String> = there
        .filter(|(os, architecture)| is_plain(os) && is_plain(architecture))
        .map(|(os, architecture)| format!("{os}/{architecture}"))
        .collect();
    names.sort();
    names.dedup();
    names.truncate(NAMED_PLATFORMS_MAX);
    let there = if names.is_empty() { "other platforms".into() } else { names.join(", ") };
    let here = Arch::default();
    problem(ProblemCode::ImageArchitecture, format!("The image is for {there}; this host runs linux/{here}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(os: &str, architecture: &str) -> serde_json::Value {
        json!({
            "mediaType": MANIFESTS[0], "digest": Digest::of(architecture.as_bytes()).to_string(), "size": 1,
            "platform": {"os": os, "architecture": architecture}
        })
    }

    fn picked(entries: &[serde_json::Value]) -> Result<Digest, AgentProblem> {
        let bytes = json!({"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": entries}).to_string();
        match read(bytes.as_bytes())? {
            Document::Index(manifests) => pick(&manifests)?.digest(),
            Document::Manifest(_) => panic!("an index"),
        }
    }

    #[test]
    fn an_index_is_searched_for_this_host() {
        let here = Arch::default().to_string();
        let found = picked(&[entry("linux", "s390x"), entry("windows", &here), entry("linux", &here)]);
        assert_eq!(found, Ok(Digest::of(here.as_bytes())));
        let refusal = picked(&[entry("linux", "s390x"), entry("windows", &here), entry("unknown", "unknown")]);
        let refusal = refusal.expect_err("none for this host");
        assert_eq!(refusal.code, ProblemCode::ImageArchitecture);
        assert!(refusal.message.contains("linux/s390x, windows/"), "{}", refusal.message);
        assert!(!refusal.message.contains("unknown"), "{}", refusal.message);
    }

    #[test]
    fn a_document_is_what_its_media_type_says() {
        let one = json!({"mediaType": CONFIGS[0], "digest": Digest::of(b"").to_string(), "size": 2});
        for bad in [
            json!({"schemaVersion": 1, "fsLayers": []}),
            json!({"schemaVersion": 2, "manifests": [], "layers": []}),
            json!({"schemaVersion": 2, "mediaType": INDEXES[0], "config": one, "layers": []}),
            json!({"schemaVersion": 2, "mediaType": MANIFESTS[0], "manifests": []}),
            json!({"schemaVersion": 2}),
            json!({"schemaVersion": 2, "config": one, "layers": [{"digest": "x", "size": -1, "mediaType": ""}]}),
            json!([]),
        ] {
            assert_eq!(read(bad.to_string().as_bytes()).expect_err("refused").code, ProblemCode::ImageInvalid, "{bad}");
        }
        assert!(read(json!({"schemaVersion": 2, "config": one, "layers": []}).to_string().as_bytes()).is_ok());
    }
}
