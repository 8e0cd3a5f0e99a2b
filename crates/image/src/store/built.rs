//! Images that are made on this host of layers that are here.

use std::sync::Arc;

use cakework_wire::host::AgentProblem;
use serde::{Deserialize, Serialize};

use super::{Image, ImageStore, Inner, Known, State, diff_ids};
use crate::digest::Digest;
use crate::manifest::{self, Document, Layer, Plan};
use crate::problem::{self, internal};
use crate::unpack::Compression;

/// A layer as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoredLayer {
    /// Of its tar stream, `sha256:<64 hex>`: what it lies under in the store.
    pub diff_id: String,
    /// Of its compressed bytes; the same for one that was made here.
    pub digest: String,
    /// Compressed bytes.
    pub size_bytes: u64,
    /// How it is compressed.
    pub compression: Compression,
}

/// An image that was made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Manifest digest, `sha256:<64 hex>`.
    pub digest: String,
    /// Bytes of all its layers.
    pub size_bytes: u64,
}

impl ImageStore {
    /// Adds an image of layers that are here, lowest first, with the bytes of its configuration. It is
    /// [`Ready`](cakework_wire::host::ImageObservation::Ready) at once; one that is here already stays.
    ///
    /// # Errors
    /// No layers, over a limit, or no room.
    pub async fn keep_built(&self, config: Vec<u8>, layers: &[StoredLayer]) -> Result<BuiltImage, AgentProblem> {
        let layers = layers.iter().map(Layer::try_from).collect::<Result<Vec<_>, _>>()?;
        let inner = Arc::clone(&self.inner);
        let kept = tokio::task::spawn_blocking(move || inner.keep_built(&config, &layers));
        let built = kept.await.map_err(|error| internal("keeping an image", error))??;
        self.inner.changed.send_modify(|count| *count += 1);
        tracing::info!(digest = built.digest, "an image was built");
        Ok(built)
    }
}

impl Inner {
    /// Blocking.
    fn keep_built(&self, config: &[u8], layers: &[Layer]) -> Result<BuiltImage, AgentProblem> {
        let manifest = manifest::write(config, layers);
        let plan = self.reread(&manifest, config)?;
        if plan.layers != layers {
            return Err(internal("keeping an image", "its configuration names other layers"));
        }
        let digest = Digest::of(&manifest);
        let disk = &self.fetcher.disk;
        // Layers stay as long as this is held; with the image on the disk they stay for good.
        let _shelf = self.shelf();
        if let Some(missing) = diff_ids(&plan).find(|diff_id| !disk.has_layer(diff_id)) {
            return Err(internal("keeping an image", format!("the layer {missing} is not here")));
        }
        disk.keep_image(&digest, &manifest, config).map_err(|error| problem::disk("keeping an image", &error))?;
        let built = BuiltImage { digest: digest.to_string(), size_bytes: plan.total_bytes };
        let mut images = self.images();
        if !matches!(images.get(&digest), Some(Known { state: State::Ready(_), .. })) {
            let image = Image::new(&digest, &plan, disk);
            let known = Known { layers: diff_ids(&plan).collect(), state: State::Ready(Arc::new(image)) };
            images.insert(digest, known);
        }
        Ok(built)
    }

    /// Reads our own documents as the next start of this store will, and as any registry's.
    fn reread(&self, manifest: &[u8], config: &[u8]) -> Result<Plan, AgentProblem> {
        let limits = &self.config.limits;
        let Document::Manifest(read) = manifest::read(manifest)? else {
            return Err(internal("keeping an image", "its manifest is none"));
        };
        manifest::check(&read, limits)?;
        manifest::plan(&read, config, limits)
    }
}

impl From<&Layer> for StoredLayer {
    fn from(layer: &Layer) -> Self {
        Self {
            diff_id: layer.diff_id.to_string(),
            digest: layer.digest.to_string(),
            size_bytes: layer.size_bytes,
            compression: layer.compression,
        }
    }
}

impl TryFrom<&StoredLayer> for Layer {
    type Error = AgentProblem;

    fn try_from(stored: &StoredLayer) -> Result<Self, AgentProblem> {
        Ok(Self {
            digest: super::parse(&stored.digest)?,
            diff_id: super::parse(&stored.diff_id)?,
            size_bytes: stored.size_bytes,
            compression: stored.compression,
        })
    }
}
