//! The builds of this host: from a stranger's Dockerfile and files to an image in the store.
//!
//! ```text
//! host protocol ── Builds ──> Driver ── Executor: source ─ bases ─ stages (run, copy) ─ export ──> board
//!                    └ admission (the VMs' capacity), assignment.json        └ clean, outcome.json
//! ```
//! Invariants: nothing of a stranger is executed outside of the sandbox, and no path of one is resolved outside of the
//! tree that it is meant for; a build has a disk of its own, so that nobody else runs full; it is never resumed: one that
//! its agent did not bring to its end has failed. Nothing of one scope's cache or secrets reaches another.

mod bases;
mod caches;
mod collect;
mod config;
mod context;
mod copy;
mod dir;
mod driver;
mod ending;
mod execute;
mod export;
mod files;
pub mod git;
mod log;
mod mounts;
mod record;
mod recover;
mod registry;
mod run;
mod scenery;
mod source;
mod stage;

use std::path::PathBuf;
use std::sync::Arc;

use cakework_image::Unpacker;
use cakework_image::egress::EgressConfig;
use tokio::sync::Notify;

pub use self::caches::Caches;
pub use self::collect::collect_for_ever;
pub use self::config::BuildConfig;
pub use self::dir::BuildDir;
pub use self::recover::recover;
pub use self::registry::Builds;
use crate::vm;

/// What all builds share.
#[derive(Debug)]
pub struct Parts {
    /// Images, networks, the engine and the like; the engine's state is builds' own.
    pub vm: Arc<vm::Parts>,
    /// Where the engine keeps its state of builds: in memory, once builds were taken up.
    pub runsc_root: PathBuf,
    /// The agent's own directory.
    pub dir: PathBuf,
    /// What builds may use.
    pub config: BuildConfig,
    /// Where repositories come from.
    pub git: git::GitConfig,
    /// Where the host itself goes for them.
    pub egress: EgressConfig,
    /// Certificate authorities beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How archives are unpacked.
    pub unpacker: Unpacker,
    /// The directories of cache mounts.
    pub caches: Caches,
    /// A build ended.
    pub ended: Notify,
}
