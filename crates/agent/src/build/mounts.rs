//! `RUN --mount`: what a command finds mounted, and where that comes from.
//!
//! Invariants: a source in a tree is resolved to a descriptor inside that tree, and mounted by it, so that no path of a
//! stranger is ever a path of the host; secrets lie in memory only; nothing that is written to a bind mount stays.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use cakework_core::build::BuildErrorCode;
use cakework_dockerfile::{Mount as Wanted, MountKind, Run, Sharing, Tree};
use cakework_image::rootfs::{self, User};
use rustix::mount::MountFlags;
use zeroize::Zeroizing;

use super::caches::{CacheDir, Owner};
use super::copy::copy_tree;
use super::ending::Ending;
use super::execute::{Executor, blocking};
use super::files::{self, Allowance, Folder};
use super::run::unusable;
use super::scenery::{Kind, Scenery, normal};
use super::stage::Built;
use crate::backend::gvisor::FileAccess;
use crate::backend::gvisor::bundle::Mount;

/// What is mounted for one command, until this is dropped and [`Self::points`] are unmounted.
#[derive(Debug, Default)]
pub struct Mounts {
    entries: Vec<Entry>,
    env: Vec<String>,
    points: Vec<PathBuf>,
    caches: Vec<CacheDir>,
    is_shared: bool,
}

/// A command's surroundings once every mount has its place.
#[derive(Debug)]
pub struct Placed {
    /// For the bundle, outer ones first.
    pub mounts: Vec<Mount>,
    /// Secrets that are variables.
    pub env: Vec<String>,
    /// Whether others write to what is mounted.
    pub access: FileAccess,
    /// Who the command runs as, once that was looked up.
    pub user: Option<User>,
}

#[derive(Debug)]
struct Entry {
    target: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Something of the host: whether it is a directory, and whether what stands in it is thrown away.
    Bind {
        path: PathBuf,
        kind: Kind,
        read_only: bool,
    },
    Tmpfs {
        size_bytes: u64,
    },
}

/// The bind mount of a tree.
struct Bind<'a> {
    view: PathBuf,
    source: &'a str,
    read_write: bool,
    /// Something else is mounted in it.
    is_outer: bool,
}

impl Mounts {
    /// Mount points of the host, outer ones first.
    pub fn points(&self) -> Vec<PathBuf> {
        self.points.clone()
    }

    /// Adds a file of the host's own that the command may change, in vain.
    pub fn add_file(&mut self, path: PathBuf, target: &str) {
        let source = Source::Bind { path, kind: Kind::File, read_only: false };
        self.entries.push(Entry { target: target.to_owned(), source });
    }

    /// Makes the place of each mount: in the mount that it lies in, else in the scenery. Blocks.
    ///
    /// # Errors
    /// The image has something else there.
    pub fn place(&mut self, scenery: &Scenery) -> Result<Placed, Ending> {
        // Outer ones first: a later mount over an earlier one of the same place hides it.
        self.entries.sort_by_key(|entry| normal(&entry.target).len());
        let mut mounts = Vec::with_capacity(self.entries.len());
        for (at, entry) in self.entries.iter().enumerate() {
            let kind = match &entry.source {
                Source::Bind { kind, .. } => *kind,
                Source::Tmpfs { .. } => Kind::Dir,
            };
            let outer = self.entries[..at].iter().rev().find_map(|outer| outer.holds(&entry.target));
            let target = match outer {
                Some((within, rest)) => {
                    place_within(within, &rest, kind)?;
                    format!("/{}", normal(&entry.target).join("/"))
                }
                None => scenery.place(&entry.target, kind).map_err(unusable)?,
            };
            mounts.push(match &entry.source {
                Source::Bind { path, read_only, .. } => {
                    Mount::Bind { source: path.clone(), target, read_only: *read_only }
                }
                Source::Tmpfs { size_bytes } => Mount::Tmpfs { target, size_bytes: *size_bytes },
            });
        }
        let access = if self.is_shared { FileAccess::Shared } else { FileAccess::Exclusive };
        Ok(Placed { mounts, env: std::mem::take(&mut self.env), access, user: None })
    }
}

impl Entry {
    /// The directory of the host that a target lies in, and the path in it, where it lies in this mount.
    fn holds(&self, target: &str) -> Option<(&Path, String)> {
        let Source::Bind { path, kind: Kind::Dir, .. } = &self.source else { return None };
        let rest = below(&self.target, target)?;
        Some((path, rest))
    }
}

/// The rest of a target that lies below an outer one.
fn below(outer: &str, target: &str) -> Option<String> {
    let (outer, target) = (normal(outer), normal(target));
    let rest = target.strip_prefix(outer.as_slice()).filter(|rest| !rest.is_empty())?;
    Some(rest.join("/"))
}

fn place_within(dir: &Path, path: &str, kind: Kind) -> Result<(), Ending> {
    let made = match kind {
        Kind::Dir => rootfs::make_dir(dir, path, 0o755),
        Kind::File => match files::find(&Folder::all(dir), path) {
            Ok(_) => Ok(()),
            Err(_) => rootfs::write_file(dir, path, b"", 0o644),
        },
    };
    made.map_err(|error| Ending::rootfs(BuildErrorCode::CommandFailed, error))
}

impl Executor<'_> {
    /// Brings all that a command finds mounted.
    ///
    /// # Errors
    /// A source that is not there, a secret that was not passed.
    pub async fn mounts(&mut self, run: &Run, built: &[Built]) -> Result<Mounts, Ending> {
        let mut mounts = Mounts::default();
        self.bring_caches(run, built, &mut mounts).await?;
        for (at, wanted) in run.mounts.iter().enumerate() {
            match &wanted.kind {
                MountKind::Cache { .. } => {}
                MountKind::Tmpfs { size_bytes } => {
                    let most = u64::from(self.parts.config.tmpfs_mib) << 20;
                    let size_bytes = size_bytes.unwrap_or(most).min(most);
                    mounts.entries.push(Entry { target: target(wanted)?, source: Source::Tmpfs { size_bytes } });
                }
                MountKind::Secret { id, required, env, mode, uid, gid } => {
                    let owner = Owner { mode: *mode, uid: *uid, gid: *gid };
                    self.bring_secret(wanted, at, id, *required, env.as_deref(), owner, &mut mounts).await?;
                }
                MountKind::Bind { from, source, read_write } => {
                    let target = target(wanted)?;
                    let others = run.mounts.iter().filter_map(|other| other.target.as_deref());
                    let is_outer = others.into_iter().any(|other| below(&target, other).is_some());
                    let view = match from {
                        Tree::Context => self.mountable_context().await?,
                        other => self.view(other, built).await?,
                    };
                    let bind = Bind { view, source, read_write: *read_write, is_outer };
                    self.bind(at, target, bind, &mut mounts).await?;
                }
            }
        }
        Ok(mounts)
    }

    async fn bring_caches(&mut self, run: &Run, built: &[Built], mounts: &mut Mounts) -> Result<(), Ending> {
        let mut wanted: Vec<_> = run
            .mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountKind::Cache { id, sharing, from, mode, uid, gid, read_only } => {
                    let owner = Owner { mode: *mode, uid: *uid, gid: *gid };
                    Some((id, *sharing, from, owner, *read_only, mount))
                }
                _ => None,
            })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let scope = self.job.assignment.scope.clone();
        if !self.uses_cache {
            let acquired = self.parts.caches.acquire(&scope).await;
            acquired.map_err(|error| Ending::rootfs(BuildErrorCode::Internal, error))?;
            self.uses_cache = true;
        }
        // In one order for all: two builds never wait for each other in a circle.
        wanted.sort_by_key(|(id, ..)| *id);
        wanted.dedup_by_key(|(id, .., mount)| (*id, mount.target.as_deref()));
        for (id, sharing, from, owner, read_only, mount) in wanted {
            // One command may mount a cache twice: it does not wait for itself.
            let first = self.parts.caches.path_of(&scope, id);
            let sharing = if mounts.caches.iter().any(|held| held.path == first) { Sharing::Shared } else { sharing };
            let dir = self.unless_stopped(self.parts.caches.directory(&scope, id, sharing, owner)).await?;
            let dir = dir.map_err(|error| Ending::host("make a cache directory", error))?;
            if let (true, Some((tree, path))) = (dir.is_new, from) {
                let (view, path, into) = (self.view(tree, built).await?, path.clone(), dir.path.clone());
                let most = u64::from(self.parts.config.cache_mount_mib) << 20;
                let allowance = Allowance::new(self.parts.config.archive_entries, most);
                blocking("fill a cache directory", move || copy_tree(&view, &path, &into, allowance)).await?;
            }
            mounts.is_shared |= sharing == Sharing::Shared;
            let source = Source::Bind { path: dir.path.clone(), kind: Kind::Dir, read_only };
            mounts.entries.push(Entry { target: target(mount)?, source });
            mounts.caches.push(dir);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one mount")]
    async fn bring_secret(
        &self,
        wanted: &Wanted,
        at: usize,
        id: &str,
        required: bool,
        env: Option<&str>,
        owner: Owner,
        mounts: &mut Mounts,
    ) -> Result<(), Ending> {
        let Some(value) = self.job.put.secrets.get(id) else {
            return if required {
                let message = format!("The secret `{id}` was not passed: pass it with the build.");
                Err(Ending::new(BuildErrorCode::SecretMissing, message))
            } else {
                Ok(())
            };
        };
        if let Some(name) = env {
            mounts.env.push(format!("{name}={value}"));
        }
        let Some(target) = &wanted.target else { return Ok(()) };
        let path = self.job.dir.vm().bundle().join(format!("secret-{at}"));
        let (file, value) = (path.clone(), Zeroizing::new(value.to_owned()));
        blocking("write a secret", move || {
            write_secret(&file, value.as_bytes(), owner).map_err(|error| Ending::host("write a secret", error))
        })
        .await?;
        let source = Source::Bind { path, kind: Kind::File, read_only: true };
        mounts.entries.push(Entry { target: target.clone(), source });
        Ok(())
    }

    async fn bind(&self, at: usize, target: String, bind: Bind<'_>, mounts: &mut Mounts) -> Result<(), Ending> {
        let Bind { view, read_write, is_outer, .. } = bind;
        let (source, base) = (bind.source.to_owned(), self.job.dir.mounts().join(format!("{}-{at}", self.step)));
        let (path, kind, points) = blocking("mount a tree", move || {
            let host = |error| Ending::host("mount a tree", error);
            let found = files::find(&Folder::all(&view), &source)
                .map_err(|error| Ending::files(BuildErrorCode::CommandFailed, error))?;
            let kind = if found.is_dir { Kind::Dir } else { Kind::File };
            let name = format!("/proc/self/fd/{}", found.node.as_raw_fd());
            std::fs::create_dir(&base).map_err(host)?;
            let point = base.join("tree");
            if kind == Kind::File && read_write {
                std::fs::copy(&name, &point).map_err(host)?;
                return Ok((point, kind, Vec::new()));
            }
            match kind {
                Kind::Dir => std::fs::create_dir(&point),
                Kind::File => std::fs::File::create_new(&point).map(drop),
            }
            .map_err(host)?;
            rustix::mount::mount_bind(&name, &point).map_err(|errno| host(errno.into()))?;
            let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
            rustix::mount::mount_remount(&point, flags, "").map_err(|errno| host(errno.into()))?;
            let mut points = vec![point.clone()];
            if kind == Kind::File || !(read_write || is_outer) {
                return Ok((point, kind, points));
            }
            let over = base.join("changed");
            rootfs::mount_overlay(&[point], &base, &over)
                .map_err(|error| Ending::rootfs(BuildErrorCode::CommandFailed, error))?;
            points.push(over.clone());
            Ok((over, kind, points))
        })
        .await?;
        mounts.points.extend(points);
        mounts.entries.push(Entry { target, source: Source::Bind { path, kind, read_only: !read_write } });
        Ok(())
    }

    /// By what the source of a mount is found again.
    ///
    /// # Errors
    /// It is not there.
    pub async fn mount_digest(&mut self, from: &Tree, source: &str, built: &[Built]) -> Result<String, Ending> {
        if let Some(digest) = self.tree_digest(from, built) {
            return Ok(digest);
        }
        self.context_digest(source).await
    }
}

fn target(mount: &Wanted) -> Result<String, Ending> {
    mount.target.clone().ok_or_else(|| Ending::new(BuildErrorCode::DockerfileInvalid, "The mount has no target."))
}

fn write_secret(path: &Path, value: &[u8], owner: Owner) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    // A later command may want the same secret in another way.
    crate::sys::file::remove(path)?;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(value)?;
    std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))?;
    file.set_permissions(std::fs::Permissions::from_mode(owner.mode & 0o777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_in_a_mount_is_told_from_one_beside_it() {
        assert_eq!(below("/app", "/app/node_modules"), Some("node_modules".into()));
        assert_eq!(below("/app/", "/app/a/../b/c"), Some("b/c".into()));
        for beside in ["/app", "/application", "/", "/app/.."] {
            assert_eq!(below("/app", beside), None, "{beside}");
        }
    }
}
