//! COPY and ADD: what their sources are, and putting it into a root.
//!
//! Invariant: files of the build itself get one time, whenever and however they came: it is not part of what a step is
//! found by, so it may not show in what the step makes.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use cakework_core::build::BuildErrorCode;
use cakework_dockerfile::{Copy, Ignore, Source, Tree};
use cakework_image::archive::{self, ArchiveKind, ArchiveLimits};
use cakework_image::{egress, rootfs};
use cakework_wire::host::{AgentProblem, ProblemCode};

use super::ending::Ending;
use super::execute::{Executor, blocking};
use super::files::{self, Allowance, FilesError, Folder, Gathered, Nothing, Owner, Placement, Wanted};
use super::stage::Built;

/// The time of the build's own files: the beginning of 2000, which every archive format can hold.
pub const MTIME_SECS: i64 = 946_684_800;
/// Bytes of a file that tell an archive: tar's magic number stands before the 263rd.
const HEAD_BYTES: u64 = 512;
/// Bytes of a `.dockerignore`.
const IGNORE_MAX_BYTES: u64 = cakework_core::limit::DOCKERFILE_MAX_BYTES as u64;

/// What a step reads from outside its own root, found before it is known whether it has to be executed.
#[derive(Debug, Default)]
pub struct Content {
    /// For the step's key, in the order of its sources and mounts.
    pub digests: Vec<String>,
    /// What each source of a COPY is.
    sources: Vec<Found>,
}

#[derive(Debug)]
enum Found {
    Gathered(Gathered),
    /// In a tree that is found by its name: looked up when it is wanted.
    Later(String),
    /// What was fetched: its directory and its name there.
    Fetched(PathBuf, String),
    /// What is to be fetched, by a checksum that is known.
    Url(String),
}

impl Executor<'_> {
    /// Finds the sources of a COPY or ADD as far as its key needs them.
    ///
    /// # Errors
    /// A source that is not there.
    pub async fn copy_content(&mut self, copy: &Copy, built: &[Built]) -> Result<Content, Ending> {
        let mut content = Content::default();
        let mut allowance = self.allowance();
        for source in &copy.sources {
            let found = match (source, self.tree_digest(&copy.from, built)) {
                (Source::Inline { name, content }, _) => Found::Gathered(Gathered::inline(name, content)),
                (Source::Path(path), Some(tree)) => {
                    content.digests.push(tree);
                    Found::Later(path.clone())
                }
                (Source::Path(path), None) => {
                    let exclude = exclude(copy)?;
                    let gathered;
                    (gathered, allowance) = self.gather(self.context.clone(), path, exclude, true, allowance).await?;
                    content.digests.push(gathered.digest(false));
                    Found::Gathered(gathered)
                }
                (Source::Url(url), _) => match &copy.checksum {
                    Some(checksum) => {
                        content.digests.push(checksum.clone());
                        Found::Url(url.clone())
                    }
                    None => {
                        let (dir, name, digest) = self.download(url, None).await?;
                        content.digests.push(format!("{digest} {name}"));
                        Found::Fetched(dir, name)
                    }
                },
            };
            content.sources.push(found);
        }
        Ok(content)
    }

    /// Executes a COPY or ADD.
    ///
    /// # Errors
    /// What can't be found, fetched, unpacked or put where it should be.
    pub async fn copy(
        &mut self,
        copy: &Copy,
        content: Content,
        layers: &[PathBuf],
        changes: &Path,
        built: &[Built],
    ) -> Result<(), Ending> {
        let mut allowance = self.allowance();
        let (mut plain, mut archives) = (Vec::new(), Vec::new());
        for found in content.sources {
            match found {
                Found::Gathered(mut gathered) => {
                    if copy.add {
                        archives.extend(self.unpack(&mut gathered).await?);
                    }
                    plain.push(gathered);
                }
                Found::Later(path) => {
                    let view = self.view(&copy.from, built).await?;
                    let gathered;
                    (gathered, allowance) = self.gather(view, &path, exclude(copy)?, false, allowance).await?;
                    plain.push(gathered);
                }
                Found::Fetched(dir, name) => plain.push(self.fetched(dir, name).await?),
                Found::Url(url) => {
                    let (dir, name, _) = self.download(&url, copy.checksum.as_deref()).await?;
                    plain.push(self.fetched(dir, name).await?);
                }
            }
        }
        let own = copy.from == Tree::Context;
        let (owner, mode, destination) = (copy.owner.clone(), copy.mode, copy.destination.clone());
        let is_dir = destination.ends_with('/') || copy.sources.len() > 1;
        let has_url = copy.sources.iter().any(|source| matches!(source, Source::Url(_)));
        self.in_root(layers, changes, move |root| {
            let owner = match owner {
                Some(owner) => {
                    let user = rootfs::find_user(root, &owner)
                        .map_err(|error| Ending::rootfs(BuildErrorCode::CopyFailed, error))?;
                    // A number alone is that of the group, too (Docker's reference, `COPY --chown`).
                    let gid = if owner.parse::<u32>().is_ok() { user.uid } else { user.gid };
                    Some(Owner::Set { uid: user.uid, gid })
                }
                None => None,
            };
            let failed = |error| Ending::files(BuildErrorCode::CopyFailed, error);
            if archives.is_empty() || plain.iter().any(|gathered| !gathered.is_empty()) {
                let placement = Placement {
                    destination: &destination,
                    is_dir,
                    owner: owner.unwrap_or(if own { Owner::Set { uid: 0, gid: 0 } } else { Owner::Kept }),
                    mode,
                    mtime_secs: (own && !has_url).then_some(MTIME_SECS),
                };
                files::place(root, &plain, &placement).map_err(failed)?;
            }
            for archive in archives {
                let owner = owner.unwrap_or(Owner::Kept);
                let placement = Placement { destination: &destination, is_dir: true, owner, mode, mtime_secs: None };
                files::place(root, &[archive], &placement).map_err(failed)?;
            }
            Ok(())
        })
        .await
    }

    /// By what files of the build are found again.
    ///
    /// # Errors
    /// They are not there.
    pub async fn context_digest(&self, path: &str) -> Result<String, Ending> {
        let (gathered, _) = self.gather(self.context.clone(), path, Ignore::default(), true, self.allowance()).await?;
        Ok(gathered.digest(false))
    }

    fn allowance(&self) -> Allowance {
        Allowance::new(self.parts.config.archive_entries, u64::from(self.parts.config.disk_mib) << 20)
    }

    /// Gathers a source; `is_own`: the build's own files, without what is ignored.
    async fn gather(
        &self,
        root: PathBuf,
        path: &str,
        exclude: Ignore,
        is_own: bool,
        mut allowance: Allowance,
    ) -> Result<(Gathered, Allowance), Ending> {
        let path = path.to_owned();
        let ignore = is_own.then(|| self.ignore.clone());
        blocking("find files", move || {
            let wanted = Wanted::parse(&path).ok_or_else(|| {
                Ending::new(BuildErrorCode::CopyFailed, format!("`{path}` is not a pattern that files can match."))
            })?;
            let folder = Folder::all(&root);
            let gathered = match &ignore {
                Some(ignore) => files::gather(&folder, &wanted, ignore, &exclude, &mut allowance),
                None => files::gather(&folder, &wanted, &Nothing, &exclude, &mut allowance),
            };
            let gathered = gathered.map_err(|error| Ending::files(BuildErrorCode::CopyFailed, error))?;
            Ok((gathered, allowance))
        })
        .await
    }

    /// Takes the archives out of what was gathered, and unpacks each of them.
    async fn unpack(&self, gathered: &mut Gathered) -> Result<Vec<Gathered>, Ending> {
        let mut unpacked = Vec::new();
        for path in gathered.files() {
            let (context, name) = (self.context.clone(), path.clone());
            let opened = blocking("open a file", move || open_archive(&context, &name)).await?;
            let Some((file, kind)) = opened else { continue };
            let into = self.new_work_dir().await?;
            let limits = ArchiveLimits {
                bytes: u64::from(self.parts.config.disk_mib) << 20,
                entries: self.parts.config.archive_entries,
            };
            let extract = archive::extract(&self.parts.unpacker, file, kind, &into, limits);
            match self.unless_stopped(extract).await? {
                Ok(()) => gathered.take_out(&path),
                // Compressed, but no archive: a file like any other.
                Err(problem) if problem.code == ProblemCode::Unknown => continue,
                Err(problem) => {
                    let message = format!("The archive `{path}` can't be unpacked: {}", problem.message);
                    let problem = AgentProblem { message, ..problem };
                    return Err(Ending::onto_disk(BuildErrorCode::CopyFailed, problem));
                }
            }
            let (all, _) = self.gather(into, "", Ignore::default(), false, self.allowance()).await?;
            unpacked.push(all);
        }
        Ok(unpacked)
    }

    /// Fetches a URL; answers the directory, the name in it, and the digest.
    async fn download(&self, url: &str, checksum: Option<&str>) -> Result<(PathBuf, String, String), Ending> {
        let dir = self.new_work_dir().await?;
        let draft = dir.join("draft");
        self.log.say(&format!("Fetching {}", without_query(url)));
        let config = &self.parts.config;
        let timeout = Duration::from_secs(config.download_timeout_secs);
        let (egress, ca_file) = (&self.parts.egress, self.parts.ca_file.as_deref());
        let fetch = egress::download(egress, ca_file, url, &draft, config.download_max_bytes, timeout);
        let fetched = self.unless_stopped(fetch).await?;
        let fetched = fetched.map_err(|problem| Ending::onto_disk(BuildErrorCode::DownloadFailed, problem))?;
        if checksum.is_some_and(|checksum| checksum != fetched.digest) {
            let message = format!("The file's checksum is {}, not the one that is written.", fetched.digest);
            return Err(Ending::new(BuildErrorCode::DownloadFailed, message));
        }
        let name = fetched.file_name.unwrap_or_else(|| "download".into());
        let (from, to) = (draft, dir.join("file"));
        let modified = fetched.modified_secs.and_then(|secs| u64::try_from(secs).ok()).unwrap_or(0);
        blocking("keep a file", move || {
            let keep = || -> std::io::Result<()> {
                std::fs::create_dir(&to)?;
                let file = File::open(&from)?;
                file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
                file.set_modified(UNIX_EPOCH + Duration::from_secs(modified))?;
                std::fs::rename(&from, to.join("content"))
            };
            keep().map_err(|error| Ending::host("keep a file", error))
        })
        .await?;
        Ok((dir.join("file"), name, fetched.digest))
    }

    /// A file that was fetched, under its own name.
    async fn fetched(&self, dir: PathBuf, name: String) -> Result<Gathered, Ending> {
        let (mut gathered, _) = self.gather(dir, "content", Ignore::default(), false, self.allowance()).await?;
        gathered.rename(&name);
        Ok(gathered)
    }

    async fn new_work_dir(&self) -> Result<PathBuf, Ending> {
        let dir = self.job.dir.work().join(format!("{:016x}", rand::random::<u64>()));
        let made = tokio::fs::create_dir(&dir).await;
        made.map(|()| dir).map_err(|error| Ending::host("make a directory", error))
    }
}

/// Opens a file of a tree, if it is an archive.
fn open_archive(root: &Path, path: &str) -> Result<Option<(File, ArchiveKind)>, Ending> {
    let found = files::find(&Folder::all(root), path);
    let found = found.map_err(|error| Ending::files(BuildErrorCode::CopyFailed, error))?;
    let host = |error| Ending::host("open a file", error);
    let open = || File::open(format!("/proc/self/fd/{}", found.node.as_raw_fd()));
    let mut head = Vec::new();
    open().map_err(host)?.take(HEAD_BYTES).read_to_end(&mut head).map_err(host)?;
    match archive::kind(&head) {
        Some(kind) => Ok(Some((open().map_err(host)?, kind))),
        None => Ok(None),
    }
}

/// Reads a tree's `.dockerignore`; `None` where it has none.
///
/// # Errors
/// It is no file, or too large.
pub fn read_ignore(root: &Path, name: &str) -> Result<Option<String>, Ending> {
    let found = match files::find(&Folder::all(root), name) {
        Ok(found) if !found.is_dir => found,
        Ok(_) | Err(FilesError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(Ending::files(BuildErrorCode::SourceInvalid, error)),
    };
    let host = |error| Ending::host("read a file", error);
    let file = File::open(format!("/proc/self/fd/{}", found.node.as_raw_fd())).map_err(host)?;
    let mut bytes = Vec::new();
    file.take(IGNORE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(host)?;
    if bytes.len() as u64 > IGNORE_MAX_BYTES {
        let message = format!("{name} has more than {IGNORE_MAX_BYTES} bytes.");
        return Err(Ending::new(BuildErrorCode::SourceTooLarge, message));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Copies a directory of a tree, with its owners and times, into an empty directory.
///
/// # Errors
/// It is not there, or too large for where it goes.
pub fn copy_tree(view: &Path, path: &str, into: &Path, mut allowance: Allowance) -> Result<(), Ending> {
    let failed = |error| Ending::files(BuildErrorCode::CommandFailed, error);
    let wanted = Wanted::parse("").ok_or_else(|| Ending::host("copy a tree", "an empty path is no pattern"))?;
    let gathered = files::gather(&Folder::inside(view, path), &wanted, &Nothing, &Nothing, &mut allowance);
    let placement = Placement { destination: "/", is_dir: true, owner: Owner::Kept, mode: None, mtime_secs: None };
    files::place(into, &[gathered.map_err(failed)?], &placement).map(drop).map_err(failed)
}

fn exclude(copy: &Copy) -> Result<Ignore, Ending> {
    Ignore::parse(&copy.exclude.join("\n"))
        .map_err(|fault| Ending::new(BuildErrorCode::DockerfileInvalid, format!("--exclude: {}", fault.message)))
}

/// A URL's query may be a secret.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}
