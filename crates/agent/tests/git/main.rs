//! Fetching from a real git server over TLS, which stands in for GitHub: run as root.

#![allow(clippy::unwrap_used)]

mod forge;
mod found;
mod hostile;
mod limits;
mod refused;
mod secret;
