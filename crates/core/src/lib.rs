//! The pure centre of Cakework: identifiers, specifications, limits, the life of a VM, admission,
//! placement and log queries.
//!
//! Nothing here does I/O, knows a clock or a random source: time and randomness are arguments.
//! Invariant: a VM's state changes only through [`lifecycle::transition`].

pub mod admission;
pub mod build;
pub mod cached;
pub mod egress;
pub mod exec;
pub mod fairness;
pub mod id;
pub mod isolation;
pub mod lifecycle;
pub mod limit;
pub mod logquery;
pub mod logsearch;
pub mod phase;
pub mod placement;
pub mod registry;
pub mod spec;
pub mod webhook;
