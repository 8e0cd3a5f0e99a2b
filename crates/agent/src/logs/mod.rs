//! Reads pages of a VM's log from its segments, which its monitor writes at the same time.
//!
//! Invariant: the pages of a query, put together, hold each matching line once, also while lines are appended.

use std::path::Path;

use cakework_core::logquery::LogQuery;
use cakework_wire::host::LogPage;

mod config;

pub use config::LogConfig;

/// A log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The host refused something.
    #[error("could not read the log")]
    Io(#[from] std::io::Error),
}

/// Reads the page of the log in `dir` that `query` asks for. Blocks. A VM without a log has no lines.
///
/// # Errors
/// [`LogError`].
pub fn read_page(_dir: &Path, _query: &LogQuery) -> Result<LogPage, LogError> {
    Ok(LogPage { lines: Vec::new(), next: None })
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
