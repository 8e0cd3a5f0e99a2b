//! The edge from outside: real sockets on both sides, and bytes as they are on the wire.
#![allow(clippy::unwrap_used)]

mod bodies;
mod headers;
mod holding;
mod limits;
mod routing;
mod smuggling;
mod support;
mod upgrade;
mod waking;
