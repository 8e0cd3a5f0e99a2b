//! What an operator may set about images, and how the confined unpacker is started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::egress::EgressConfig;

const GIB: u64 = 1 << 30;

/// Where images may come from and how large they may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// Registry host → mirrors that are asked first, as `host[:port][/prefix]`. A mirror never gets the credential of
    /// the registry it stands for.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Registries, as `host[:port]`, that are spoken to without TLS, beside loopback addresses.
    pub plain_http: Vec<String>,
    /// PEM file of certificate authorities that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Bounds of one image.
    pub limits: ImageLimits,
    /// How many layers of one image arrive at a time.
    pub parallel_layers: usize,
    /// Where builds may fetch from.
    pub egress: EgressConfig,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            mirrors: BTreeMap::new(),
            plain_http: Vec::new(),
            ca_file: None,
            limits: ImageLimits::default(),
            parallel_layers: 3,
            egress: EgressConfig::default(),
        }
    }
}

/// Bounds of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageLimits {
    /// A manifest, index or configuration.
    pub document_bytes: u64,
    /// Layers; an overlay takes no more than 127 lower directories within a page of mount options.
    pub layers: usize,
    /// All layers together, compressed, as the manifest declares them.
    pub compressed_bytes: u64,
    /// One layer's tar stream, and the sizes of its files.
    pub inflated_bytes: u64,
    /// Entries of one layer.
    pub entries: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self {
            document_bytes: 4 << 20,
            layers: 127,
            compressed_bytes: 20 * GIB,
            inflated_bytes: 20 * GIB,
            entries: 1_000_000,
        }
    }
}

/// How to start the confined child: a program whose arguments lead to [`crate::unpack::child_main`] before it has
/// started a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacker {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}
