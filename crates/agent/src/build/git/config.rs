//! What an operator may set about fetching repositories.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The user that everyone's files are nobody's to: Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;

/// Where repositories come from, and how large they may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GitConfig {
    /// The forge that `org/repo` is looked for on: GitHub, or an enterprise server of one's own. The token is sent there
    /// and nowhere else.
    pub base_url: String,
    /// PEM file of the certificate authorities that the forge is verified with, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The git program, by path or by name.
    pub git: PathBuf,
    /// The user that git runs as; never 0.
    pub uid: u32,
    /// The group that git runs as.
    pub gid: u32,
    /// Bytes of what arrives, and of the files checked out from it.
    pub max_bytes: u64,
    /// Files, folders and links of the tree.
    pub max_files: u64,
    /// Time for all of a fetch, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for GitConfig {
    fn default() -> Self {
        Self {
            base_url: "https://github.com".into(),
            ca_file: None,
            git: "git".into(),
            uid: NOBODY,
            gid: NOBODY,
            max_bytes: 1 << 30,
            max_files: 100_000,
            timeout_ms: 300_000,
        }
    }
}
