//! Key commands where nothing serves, and the lock that tells.
//!
//! Servers hold `lock` in the directory shared (two may serve one database), an offline command holds it alone.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::Path;

use anyhow::Context as _;

use super::{KeyAnswer, KeyCommand, KeyError, carry_out};
use crate::store::Store;

/// Carries a command out on the database in `dir`, under a lock that servers hold. Directory and database are made
/// where they are missing; run by root, the files belong to the directory's owner afterwards.
///
/// # Errors
/// [`KeyError::Served`] while a server runs on the directory.
pub async fn offline(dir: &Path, command: KeyCommand) -> Result<KeyAnswer, KeyError> {
    offline_on(dir, async |store| carry_out(&store, command).await).await
}

/// Works on the database in `dir` under the same lock, and with the same owner afterwards.
pub(crate) async fn offline_on<T>(
    dir: &Path,
    work: impl AsyncFnOnce(Store) -> Result<T, KeyError>,
) -> Result<T, KeyError> {
    let lock = lock_file(dir)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(KeyError::Served),
        Err(TryLockError::Error(error)) => return Err(KeyError::Io(error.into())),
    }
    let store = Store::open(dir).await?;
    let answer = work(store.clone()).await;
    store.close().await;
    give_to_owner(dir)?;
    answer
}

/// The lock that a server holds while it lives.
pub(crate) fn serve_lock(dir: &Path) -> anyhow::Result<File> {
    let lock = lock_file(dir)?;
    lock.try_lock_shared().context("a key command holds the database")?;
    Ok(lock)
}

fn lock_file(dir: &Path) -> anyhow::Result<File> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).context("the api's directory can't be made")?;
    let options = File::options().read(true).write(true).create(true).truncate(false).open(dir.join("lock"));
    options.context("the api's lock can't be opened")
}

fn give_to_owner(dir: &Path) -> anyhow::Result<()> {
    let owner = std::fs::metadata(dir)?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let file = entry.metadata()?;
        if file.is_file() && (file.uid(), file.gid()) != (owner.uid(), owner.gid()) {
            chown(entry.path(), Some(owner.uid()), Some(owner.gid())).context("a file can't be given to its owner")?;
        }
    }
    Ok(())
}
