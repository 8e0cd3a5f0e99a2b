//! Another key for what is sealed, while no server runs.

use std::path::Path;

use crate::keys::{KeyError, offline_on};
use crate::seal::{self, Sealer};

/// Replaces the sealing key in `dir` and seals everything anew; answers how many values. One that was cut off is gone on
/// with, and servers open what either key has sealed until then.
///
/// # Errors
/// [`KeyError::Served`] while a server runs; a value that does not open, after which both keys stay.
pub async fn rotate_sealing_key(dir: &Path) -> Result<u64, KeyError> {
    offline_on(dir, async |store| {
        seal::replace(dir)?;
        let sealer = Sealer::open(dir)?;
        let count = store.reseal(|place, sealed| sealer.reseal(place, sealed)).await?;
        seal::forget_old(dir)?;
        Ok(count)
    })
    .await
}
