//! The edge: from a hostname to the port of a VM.
//!
//! It owns the public listener: it reads requests, finds the VM that the hostname names, waits (bounded) for one
//! that is starting, has one started that stands still or sleeps, and passes bytes both ways without keeping them. It knows neither the store nor the agent: what
//! it may reach is in the [`RouteTable`], and nothing that a request says leads anywhere else.
//!
//! ```text
//!  serve: accept, count ──> proxy: hostname ─> route ─> hold ─> connection ─> headers ─> bodies
//!                                                 │        │         │
//!                                            routes.rs   reach.rs  pool.rs, by (VM, generation)
//!                                                         wake.rs
//! ```
//! Invariant: a connection serves one VM in one generation. An address is used again by other VMs; a connection is
//! not.

mod body;
mod config;
pub mod door;
mod flight;
#[cfg(fuzzing)]
pub mod fuzzing;
mod headers;
mod hostname;
mod idle;
mod metrics;
mod pool;
mod problem;
mod proxy;
mod reach;
mod routes;
mod serve;
mod tunnel;
mod wake;

pub use config::{EdgeConfig, EdgeLimits};
pub use flight::Quiet;
pub use metrics::EdgeMetrics;
pub use routes::{Route, RouteTable, Target};
pub use serve::serve;
pub use wake::{WakeFailure, Waker, Waking};
