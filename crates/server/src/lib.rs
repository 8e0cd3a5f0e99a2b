//! The api role: routes, operations, store, reconcilers, keys.
//!
//! It holds the record of every image, build and VM; hosts hold the reality. It needs no privilege: it reaches hosts only
//! by the host protocol and VMs only through the edge.

mod app;
mod caller;
mod clock;
pub mod config;
mod contexts;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
mod host_exec;
mod host_files;
pub mod keys;
mod metrics;
mod ops;
mod places;
mod rates;
mod reconcile;
mod rotation;
mod routes;
mod seal;
mod serve;
pub mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod turns;

pub use config::{AccountLimits, BuildRules, RequestRates, ServerConfig};
pub use host::waiting;
pub use rotation::rotate_sealing_key;
pub use serve::run;

/// The OpenAPI document of this build.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes::document()
}
