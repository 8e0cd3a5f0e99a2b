//! Registries, the layer store, confined unpacking, root file systems.

pub mod rootfs;
