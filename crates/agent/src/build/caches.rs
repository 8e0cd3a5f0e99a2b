//! The directories of `RUN --mount=type=cache`: a disk per scope, whose size is all that the scope's directories may hold
//! together.
//!
//! ```text
//! DIR/boot              the boot that the disks belong to
//! DIR/<scope>.img       a disk; its time of change is that of its last use
//! DIR/<scope>/<name>/   a directory, while a build uses the disk
//! ```
//! Invariants: a scope sees its own disk only; the names on it are hashes, so that none is a stranger's. A disk has no
//! journal and lives no longer than the boot of its host.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use cakework_dockerfile::Sharing;
use cakework_image::rootfs::{self, RootfsError};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::sys::{file, mounts};

const IMAGE: &str = "img";
/// The same before it is whole.
const DRAFT: &str = "draft";
/// Builds of one scope that use a private directory of one id at a time.
const PRIVATE_MAX: usize = 1024;

/// The cache disks of this host.
#[derive(Debug)]
pub struct Caches {
    dir: PathBuf,
    disk_mib: u64,
    /// How many builds use each scope's disk; held while one is mounted or unmounted.
    used: AsyncMutex<HashMap<String, usize>>,
    locked: Mutex<HashMap<PathBuf, Arc<AsyncMutex<()>>>>,
    private: Arc<Mutex<HashSet<PathBuf>>>,
}

/// A directory that a command may use, until this is dropped.
#[derive(Debug)]
pub struct CacheDir {
    /// Where it is.
    pub path: PathBuf,
    /// It was made just now.
    pub is_new: bool,
    _held: Held,
}

#[derive(Debug)]
enum Held {
    Shared,
    Locked { _guard: OwnedMutexGuard<()> },
    Private { path: PathBuf, all: Arc<Mutex<HashSet<PathBuf>>> },
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Self::Private { path, all } = self {
            all.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        }
    }
}

/// Whose a new directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Permissions.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Caches {
    /// The disks in `dir`, of `disk_mib` MiB each.
    pub fn new(dir: PathBuf, disk_mib: u32) -> Self {
        Self {
            dir,
            disk_mib: u64::from(disk_mib),
            used: AsyncMutex::default(),
            locked: Mutex::default(),
            private: Arc::default(),
        }
    }

    /// Where the disks are below the agent's `dir`.
    pub fn all(dir: &Path) -> PathBuf {
        dir.join("buildcache")
    }

    /// Unmounts what an earlier agent left, and removes the disks of an earlier boot. Blocks.
    ///
    /// # Errors
    /// What the host said.
    pub fn sweep(&self, boot_id: &str) -> anyhow::Result<()> {
        for point in mounts::below(&self.dir)? {
            rootfs::unmount(&point)?;
        }
        let boot = self.dir.join("boot");
        if std::fs::read_to_string(&boot).is_ok_and(|of| of == boot_id) {
            return Ok(());
        }
        file::remove(&self.dir)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        Ok(std::fs::write(&boot, boot_id)?)
    }

    /// Mounts the disk of a scope, for one more user.
    ///
    /// # Errors
    /// What the host said.
    pub async fn acquire(&self, scope: &str) -> Result<(), RootfsError> {
        let mut used = self.used.lock().await;
        if used.get(scope).copied().unwrap_or(0) == 0 {
            let (disk, point, mib) = (self.image(scope), self.dir.join(scope), self.disk_mib);
            blocking(move || {
                if !disk.exists() {
                    // It has its name only when it is whole: a kill in between would leave a disk that nobody can mount.
                    let draft = disk.with_extension(DRAFT);
                    rootfs::make_disk(&draft, mib)?;
                    std::fs::rename(&draft, &disk)
                        .map_err(|source| RootfsError::Host { doing: "name a cache disk".into(), source })?;
                }
                rootfs::mount_disk(&disk, &point)
            })
            .await?;
        }
        *used.entry(scope.to_owned()).or_default() += 1;
        Ok(())
    }

    /// Gives back what [`Self::acquire`] took; the last one unmounts the disk.
    ///
    /// # Errors
    /// What the host said. The disk is then taken for unused all the same.
    pub async fn release(&self, scope: &str) -> Result<(), RootfsError> {
        let mut used = self.used.lock().await;
        let count = used.entry(scope.to_owned()).or_default();
        *count = count.saturating_sub(1);
        if *count > 0 {
            return Ok(());
        }
        used.remove(scope);
        let (disk, point) = (self.image(scope), self.dir.join(scope));
        blocking(move || {
            // An unused disk is judged by this time; where it can't be set, an older one stands.
            let _ = std::fs::File::open(&disk).and_then(|file| file.set_modified(SystemTime::now()));
            rootfs::unmount(&point)?;
            file::remove(&point).map_err(|source| RootfsError::Host { doing: "remove a mount point".into(), source })
        })
        .await
    }

    /// The directory of an id on an acquired disk, once `sharing` allows it.
    ///
    /// # Errors
    /// What the host said.
    pub async fn directory(
        &self,
        scope: &str,
        id: &str,
        sharing: Sharing,
        owner: Owner,
    ) -> Result<CacheDir, std::io::Error> {
        let first = self.path_of(scope, id);
        let (path, held) = match sharing {
            Sharing::Shared => (first, Held::Shared),
            Sharing::Locked => {
                let lock = {
                    let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
                    locked.retain(|_, lock| Arc::strong_count(lock) > 1);
                    Arc::clone(locked.entry(first.clone()).or_default())
                };
                let guard = lock.lock_owned().await;
                (first, Held::Locked { _guard: guard })
            }
            Sharing::Private => {
                let mut all = self.private.lock().unwrap_or_else(PoisonError::into_inner);
                let others = (1..PRIVATE_MAX).map(|number| first.with_extension(number.to_string()));
                let free = std::iter::once(first.clone()).chain(others).find(|path| !all.contains(path));
                let path = free.ok_or_else(|| std::io::Error::other("too many builds use one private cache"))?;
                all.insert(path.clone());
                (path.clone(), Held::Private { path, all: Arc::clone(&self.private) })
            }
        };
        let made = path.clone();
        let is_new = tokio::task::spawn_blocking(move || make(&made, owner)).await.map_err(std::io::Error::other)??;
        Ok(CacheDir { path, is_new, _held: held })
    }

    /// Where the directory of an id is, for whoever need not have one of its own.
    pub fn path_of(&self, scope: &str, id: &str) -> PathBuf {
        self.dir.join(scope).join(hex::encode(Sha256::digest(id.as_bytes())))
    }

    /// Removes disks that were not used for so long, then those unused longest until all have at most so many bytes.
    pub async fn collect(&self, max_bytes: u64, max_age: Duration) {
        let used = self.used.lock().await;
        let in_use: HashSet<PathBuf> = used.keys().map(|scope| self.image(scope)).collect();
        let dir = self.dir.clone();
        let done = tokio::task::spawn_blocking(move || collect(&dir, &in_use, max_bytes, max_age)).await;
        if let Err(error) = done.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::warn!(%error, "old cache disks could not be removed");
        }
    }

    fn image(&self, scope: &str) -> PathBuf {
        self.dir.join(scope).with_extension(IMAGE)
    }
}

/// True where it was made just now.
fn make(path: &Path, owner: Owner) -> std::io::Result<bool> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    }
    std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(owner.mode & 0o7777))?;
    Ok(true)
}

fn collect(dir: &Path, in_use: &HashSet<PathBuf>, max_bytes: u64, max_age: Duration) -> std::io::Result<()> {
    let mut disks = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == DRAFT) {
            // Nobody makes one meanwhile: whoever left it was killed.
            file::remove(&path)?;
        } else if path.extension().is_some_and(|extension| extension == IMAGE) {
            let meta = path.symlink_metadata()?;
            disks.push((meta.modified()?, meta.blocks() * 512, path));
        }
    }
    disks.sort();
    let mut total: u64 = disks.iter().map(|(_, bytes, _)| bytes).sum();
    let now = SystemTime::now();
    for (changed, bytes, path) in disks.into_iter().filter(|(_, _, path)| !in_use.contains(path)) {
        let is_old = now.duration_since(changed).is_ok_and(|age| age > max_age);
        if is_old || total > max_bytes {
            file::remove(&path)?;
            total -= bytes;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RootfsError> + Send + 'static,
) -> Result<T, RootfsError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(RootfsError::Host { doing: "use a cache disk".into(), source: std::io::Error::other(error) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { mode: 0o755, uid: 0, gid: 0 };

    fn caches(dir: &Path) -> Caches {
        std::fs::create_dir_all(dir.join("s")).expect("a directory");
        Caches::new(dir.to_owned(), 16)
    }

    #[tokio::test]
    async fn sharing_decides_who_waits() {
        let dir = tempfile::tempdir().expect("a directory");
        let caches = caches(dir.path());
        let shared = caches.directory("s", "/a", Sharing::Shared, OWNER).await.expect("made");
        let again = caches.directory("s", "/a", Sharing::Shared, OWNER).await.expect("there");
        assert_eq!((shared.is_new, again.is_new, shared.path == again.path), (true, false, true));
        let one = caches.directory("s", "/p", Sharing::Private, OWNER).await.expect("made");
        let two = caches.directory("s", "/p", Sharing::Private, OWNER).await.expect("made");
        assert_ne!(one.path, two.path);
        let path = one.path.clone();
        drop(one);
        assert_eq!(caches.directory("s", "/p", Sharing::Private, OWNER).await.expect("free again").path, path);
        let locked = caches.directory("s", "/l", Sharing::Locked, OWNER).await.expect("made");
        let waits = caches.directory("s", "/l", Sharing::Locked, OWNER);
        assert!(tokio::time::timeout(Duration::from_millis(50), waits).await.is_err());
        drop(locked);
        assert!(!caches.directory("s", "/l", Sharing::Locked, OWNER).await.expect("its turn").is_new);
    }

    #[tokio::test]
    async fn disks_go_by_age_and_size_but_not_while_they_are_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let caches = caches(dir.path());
        for (name, age_secs) in [("old", 1000), ("middle", 100), ("new", 1), ("used", 5000)] {
            let path = dir.path().join(name).with_extension(IMAGE);
            std::fs::write(&path, vec![1; 8192]).expect("written");
            let file = std::fs::File::options().write(true).open(&path).expect("there");
            file.set_modified(SystemTime::now() - Duration::from_secs(age_secs)).expect("set");
        }
        caches.used.lock().await.insert("used".into(), 1);
        std::fs::write(dir.path().join("half.draft"), "half").expect("written");
        let left = || {
            let names = ["old", "middle", "new", "used"];
            names.into_iter().filter(|name| caches.image(name).exists()).collect::<Vec<_>>()
        };
        caches.collect(u64::MAX, Duration::from_secs(500)).await;
        assert_eq!(left(), ["middle", "new", "used"]);
        assert!(!dir.path().join("half.draft").exists(), "what a kill left half made goes");
        caches.collect(20_000, Duration::from_secs(500)).await;
        assert_eq!(left(), ["new", "used"]);
    }
}
