//! What the REST API says: request and answer types, problem codes, their OpenAPI schemas.
//!
//! These are wire types alone: no rule of the domain and no storage is here. Every answer is additive over the
//! published contract; every moment is RFC 3339, UTC, with milliseconds.

pub mod build;
pub mod exec;
pub mod files;
pub mod image;
pub mod logs;
pub mod problem;
pub mod registry;
pub mod secret;
pub mod time;
pub mod vm;
pub mod webhook;
