//! Brings a build's files: unpacks the context that was put, or fetches a repository.
//!
//! Invariant: a repository's token is wiped as soon as the fetch ends.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use cakework_core::build::BuildErrorCode;
use cakework_dockerfile::Ignore;
use cakework_image::archive::{self, ArchiveKind, ArchiveLimits};
use cakework_wire::build::BuildSource;
use cakework_wire::host::ProblemCode;

use super::context::{CONTEXT_MAX_BYTES, hex_of};
use super::copy::read_ignore;
use super::ending::Ending;
use super::execute::{Executor, blocking};
use super::git;

/// A header, or half of the end mark.
const TAR_BLOCK_BYTES: u64 = 512;
const IGNORE_FILE: &str = ".dockerignore";

impl Executor<'_> {
    /// Brings the files, and what of them is left out.
    ///
    /// # Errors
    /// In the words of who brought them.
    pub async fn fetch(&mut self) -> Result<(), Ending> {
        match self.job.put.source.clone() {
            BuildSource::Context { digest } => self.unpack_context(&digest).await?,
            BuildSource::Git { repository, reference, path, token } => {
                if let BuildSource::Git { token, .. } = &mut self.job.put.source {
                    *token = None;
                }
                let work = self.job.dir.work().join("git");
                tokio::fs::create_dir(&work).await.map_err(|error| Ending::host("make a directory", error))?;
                let log = |line: &str| self.log.say(line);
                let (reference, path) = (reference.as_deref(), path.as_deref());
                let git = &self.parts.git;
                let fetch = git::fetch(git, &repository, reference, path, token.as_ref(), &work, &log);
                self.context = self.unless_stopped(fetch).await??.dir;
            }
        }
        self.ignore = self.read_ignore().await?;
        Ok(())
    }

    /// The build's files as a directory that a command may find mounted: without what is ignored, for good.
    ///
    /// # Errors
    /// What the host said.
    pub async fn mountable_context(&mut self) -> Result<PathBuf, Ending> {
        if !self.is_pruned {
            let (context, ignore) = (self.context.clone(), self.ignore.clone());
            blocking("remove ignored files", move || {
                prune(&context, "", &ignore).map_err(|error| Ending::host("remove ignored files", error))
            })
            .await?;
            self.is_pruned = true;
        }
        Ok(self.context.clone())
    }

    async fn unpack_context(&self, digest: &str) -> Result<(), Ending> {
        let hex = hex_of(digest).unwrap_or_default();
        let host = |error| Ending::host("open the context", error);
        let tar = File::open(self.job.dir.context_tar(hex)).map_err(host)?;
        let mut head = Vec::new();
        (&tar).take(TAR_BLOCK_BYTES).read_to_end(&mut head).map_err(host)?;
        if head.iter().all(|byte| *byte == 0) {
            // It ends where it begins: a build without files.
            return Ok(());
        }
        let limits = ArchiveLimits { bytes: CONTEXT_MAX_BYTES, entries: self.parts.config.archive_entries };
        let extract = archive::extract(&self.parts.unpacker, tar, ArchiveKind::Tar, &self.context, limits);
        self.unless_stopped(extract).await?.map_err(|problem| {
            let code = match problem.code {
                ProblemCode::ImageTooLarge => BuildErrorCode::SourceTooLarge,
                _ => BuildErrorCode::SourceInvalid,
            };
            Ending::onto_disk(code, problem)
        })
    }

    /// The caller's own `.dockerignore`, else the context's.
    async fn read_ignore(&self) -> Result<Ignore, Ending> {
        let text = match &self.job.put.dockerignore {
            Some(text) => Some(text.clone()),
            None => {
                let context = self.context.clone();
                blocking("read the .dockerignore", move || read_ignore(&context, IGNORE_FILE)).await?
            }
        };
        let Some(text) = text else { return Ok(Ignore::default()) };
        Ignore::parse(&text).map_err(|fault| {
            let message = format!("{IGNORE_FILE}, line {}: {}", fault.line, fault.message);
            Ending::new(BuildErrorCode::DockerfileInvalid, message)
        })
    }
}

/// Removes from a directory, which lies at `at` in the context, what is ignored. Nobody else works in it, and no link is
/// followed.
fn prune(dir: &Path, at: &str, ignore: &Ignore) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let at = if at.is_empty() { name.to_string_lossy().into() } else { format!("{at}/{}", name.to_string_lossy()) };
        if !entry.file_type()?.is_dir() {
            if ignore.excludes(&at) {
                std::fs::remove_file(entry.path())?;
            }
        } else if ignore.prunes(&at) {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            prune(&entry.path(), &at, ignore)?;
            if ignore.excludes(&at) && std::fs::read_dir(entry.path())?.next().is_none() {
                std::fs::remove_dir(entry.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_gone_and_links_are_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("kept.log"), "").expect("written");
        let at = |path: &str| dir.path().join(path);
        for path in ["a", "a/deep", "secrets", "empty"] {
            std::fs::create_dir(at(path)).expect("made");
        }
        for path in ["x.log", "a/y.log", "a/deep/kept", "secrets/key", "secrets/public"] {
            std::fs::write(at(path), "").expect("written");
        }
        std::os::unix::fs::symlink(outside.path(), at("link")).expect("made");
        let ignore = Ignore::parse("**/*.log\nsecrets\n!secrets/public\nempty\n").expect("patterns");
        prune(dir.path(), "", &ignore).expect("pruned");
        let left = |path: &str| at(path).symlink_metadata().is_ok();
        for path in ["a/deep/kept", "secrets/public", "link"] {
            assert!(left(path), "{path}");
        }
        for path in ["x.log", "a/y.log", "secrets/key", "empty"] {
            assert!(!left(path), "{path}");
        }
        assert!(outside.path().join("kept.log").exists());
    }
}
