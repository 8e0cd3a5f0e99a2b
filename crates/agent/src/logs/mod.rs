//! Reads pages of a VM's log from its segments, which its monitor may write at the same time.
//!
//! ```text
//! files    which segments there are       scan    records of one segment, either way
//! page     the lines of a query           level   what a line says of itself        find   substrings
//! search   a page out of many logs        ended   which logs are to go              config limits of one
//! ```
//! Invariant: the pages of a query, put together, hold each matching line once, also while lines are appended. A
//! position names a place between two records; nothing before it moves.

use std::path::Path;

mod config;
pub(crate) mod ended;
pub(crate) mod files;
mod find;
pub(crate) mod level;
mod page;
mod scan;
mod search;
#[cfg(test)]
mod tests;

pub use config::LogConfig;
pub use ended::Retention;
pub use page::read_page;
pub use search::search;

/// A log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The host refused something.
    #[error("could not read the log")]
    Io(#[from] std::io::Error),
}

/// Removes the log in `dir`. None there is fine.
///
/// # Errors
/// [`LogError`].
pub fn remove(dir: &Path) -> Result<(), LogError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
