//! Images on a host: registries, the content-addressed layer store, confined unpacking, root file systems.
//!
//! What comes from a registry is a stranger's: it is bounded in bytes and entries before and after inflating, verified
//! against its digests, and unpacked by a child process that is confined to the layer's own directory. The parent
//! never resolves a path that a layer names.

pub mod archive;
pub mod config;
mod digest;
pub mod egress;
#[cfg(fuzzing)]
pub mod fuzzing;
mod manifest;
mod pack;
mod problem;
mod reference;
mod registry;
pub mod rootfs;
pub mod store;
pub mod unpack;
mod unpacking;

pub use config::{ImageConfig, ImageLimits, Unpacker};
pub use reference::registry_of;
pub use store::{BuiltImage, CachedStep, Image, ImageStore, Pin, StoreError, StoredLayer};
