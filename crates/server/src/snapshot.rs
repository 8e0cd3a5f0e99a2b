//! Copies of the database at one moment, for backups.
//!
//! A copy lies beside the database until whoever asked for it has taken it; what was not taken is removed when the next
//! server starts.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rand::Rng as _;
use serde::{Deserialize, Serialize};

use crate::keys::{KeyError, offline_on};
use crate::store::Store;

const PREFIX: &str = "snapshot-";

/// Where a copy is: the answer of `POST /snapshot` on the admin socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Its name in the api's directory.
    pub file: String,
}

/// Copies the database in `dir`, through its server where one runs. The copy is whole, and the caller's to remove.
///
/// # Errors
/// See [`KeyError`].
pub async fn snapshot(dir: &Path) -> Result<PathBuf, KeyError> {
    let asked = crate::keys::admin::ask::<(), Snapshot>(dir, "/snapshot", &()).await;
    let snapshot = match asked {
        Some(answer) => answer?,
        None => offline_on(dir, async |store| take(&store, dir).await).await?,
    };
    Ok(dir.join(snapshot.file))
}

/// Puts a copy into `dir`.
pub(crate) async fn take(store: &Store, dir: &Path) -> Result<Snapshot, KeyError> {
    let file = format!("{PREFIX}{:016x}.db", rand::rng().next_u64());
    store.copy_to(&dir.join(&file)).await?;
    tracing::info!("the database was copied for a backup");
    Ok(Snapshot { file })
}

/// Removes copies that nobody took. Blocking.
pub(crate) fn sweep(dir: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            std::fs::remove_file(entry.path()).context("a copy of the database can't be removed")?;
        }
    }
    Ok(())
}
