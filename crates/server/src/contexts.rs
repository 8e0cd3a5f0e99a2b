//! Where contexts of builds rest until their builds are over: a directory now, `<buildId>.tar` in it. What is behind
//! this seam may become an object store; nothing outside knows a path beyond the making of one.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cakework_core::id::BuildId;

/// Younger files may belong to a call whose build is not on record yet.
const ORPHAN_AGE: Duration = Duration::from_secs(600);

/// The contexts of all builds.
#[derive(Debug, Clone)]
pub(crate) struct Contexts {
    dir: PathBuf,
}

impl Contexts {
    /// Takes `contexts` in `dir`; it is made where it is missing. Blocking.
    pub(crate) fn open(dir: &Path) -> std::io::Result<Self> {
        let dir = dir.join("contexts");
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// Where what is not finished may be written to.
    pub(crate) fn draft_dir(&self) -> &Path {
        &self.dir
    }

    /// Where a build's context is.
    pub(crate) fn path(&self, id: &BuildId) -> PathBuf {
        self.dir.join(format!("{id}.tar"))
    }

    /// A build's context, to be read.
    pub(crate) async fn open_one(&self, id: &BuildId) -> std::io::Result<tokio::fs::File> {
        tokio::fs::File::open(self.path(id)).await
    }

    /// Removes a build's context, if it is there.
    pub(crate) async fn remove(&self, id: &BuildId) {
        if let Err(error) = tokio::fs::remove_file(self.path(id)).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(build = %id, error = %error, "a context could not be removed");
        }
    }

    /// The builds whose contexts are old enough to be looked at; what belongs to none is removed. Blocking.
    pub(crate) fn aged(&self) -> std::io::Result<Vec<BuildId>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
            if age < ORPHAN_AGE {
                continue;
            }
            let name = entry.file_name();
            match name.to_str().and_then(|name| name.strip_suffix(".tar")?.parse().ok()) {
                Some(id) => ids.push(id),
                None => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(ids)
    }
}
