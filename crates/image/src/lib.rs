//! Images on a host: registries, the content-addressed layer store, confined unpacking, root file systems.
//!
//! What comes from a registry is a stranger's: it is bounded in bytes and entries before and after inflating, verified
//! against its digests, and unpacked by a child process that is confined to the layer's own directory. The parent
//! never resolves a path that a layer names.

pub mod config;
mod digest;
mod manifest;
mod problem;
mod reference;
mod registry;
pub mod rootfs;
pub mod store;
pub mod unpack;

pub use config::{ImageConfig, ImageLimits, Unpacker};
pub use store::{Image, ImageStore, StoreError};
