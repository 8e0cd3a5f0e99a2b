//! Fetches a repository's files at one commit with the git program, on behalf of a stranger.
//!
//! Invariant: the token reaches the configured forge and nothing else. It travels in git's environment, so that it is
//! in no argument, file, log or sentence. What arrives is a stranger's tree: it is bounded, it belongs to root, its
//! links may lead anywhere, and who reads it must resolve inside it.
//!
//! ```text
//! WORK/source          root's; git sees it as /mnt
//!   ca.pem             a copy of the operator's, where there is one
//!   home/              empty
//!   git/               git's own; gone when the fetch is done
//!   tree/              what was checked out
//! ```

pub(crate) mod ask;
mod config;
mod confine;
mod said;
mod tree;

use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cakework_core::build::BuildErrorCode;
use cakework_core::limit::BUILD_PATH_MAX_BYTES;
use cakework_wire::build::{BuildProblem, Token};
use tokio::time::Instant;
use zeroize::Zeroizing;

use self::ask::Ask;
use self::confine::{Ended, Halt, INSIDE};
use self::said::Cause;
use self::tree::{Amount, Stop};
use crate::sys::file;

pub use self::config::GitConfig;

/// What git is told beside the token. Nothing else configures it: neither the system, nor a user, nor the repository.
const SETTINGS: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.askPass", ""),
    ("credential.helper", ""),
    ("core.symlinks", "true"),
    ("core.fileMode", "true"),
    ("core.autocrlf", "false"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("transfer.bundleURI", "false"),
    ("transfer.fsckObjects", "true"),
    // Harmless marks of old tools, which the histories of well-known projects bear.
    ("fetch.fsck.badTimezone", "ignore"),
    ("fetch.fsck.missingSpaceBeforeDate", "ignore"),
    ("fetch.fsck.zeroPaddedFilemode", "ignore"),
    ("protocol.version", "2"),
    ("http.followRedirects", "false"),
    // A forge that says nothing for a minute is gone.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    // What arrives stays one file, whose size is bounded.
    ("fetch.unpackLimit", "1"),
    ("pack.threads", "1"),
    ("core.packedGitWindowSize", "32m"),
    ("core.packedGitLimit", "256m"),
    ("core.bigFileThreshold", "32m"),
    ("advice.detachedHead", "false"),
];

/// Bytes of a mebibyte, for a reader's eye.
const MIB: u64 = 1 << 20;

/// A repository's files at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The tree, or the folder of it that was asked for: a real path, without links. It is below the work directory.
    pub dir: PathBuf,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
}

/// Fetches `org/repo` at a branch, tag or whole commit, or at its default branch, into `work`, an empty directory that
/// only root may enter. `log` hears a few lines for the user. Dropped, it kills what it has started.
///
/// # Errors
/// In the user's words; what is this host's fault is told to the operator's log, and never with the token.
pub async fn fetch(
    config: &GitConfig,
    repository: &str,
    reference: Option<&str>,
    path: Option<&str>,
    token: Option<&Token>,
    work: &Path,
    log: &(dyn Fn(&str) + Send + Sync),
) -> Result<Fetched, BuildProblem> {
    let ask = Ask::new(config, repository, reference, token)?;
    if path.is_some_and(|path| path.len() > BUILD_PATH_MAX_BYTES || path.contains(char::is_control)) {
        return Err(BuildProblem::new(BuildErrorCode::SourceInvalid, "The path is no name of a folder."));
    }
    let most = Amount { bytes: config.max_bytes, files: config.max_files };
    let deadline = Instant::now() + Duration::from_millis(config.timeout_ms);
    let fetch = Fetch { config, ask: &ask, source: work.join("source"), most, deadline };
    // A user may have written the token where something else belongs.
    let log = |line: &str| log(&ask.redact(line));
    let at = ask.reference.map(|reference| format!(" at {reference}")).unwrap_or_default();
    log(&format!("Fetching {}{at} from {}", ask.repository, ask.host));
    let commit = fetch.check_out().await?;
    let (size, submodules, found) = fetch.settle(path).await?;
    log(&format!("Fetched commit {commit}: {} entries, {:.1} MiB", size.files, size.bytes as f64 / MIB as f64));
    if submodules {
        log("Submodules are not fetched: their folders are empty");
    }
    match found {
        Some(dir) => Ok(Fetched { dir, commit }),
        None => {
            let path = path.unwrap_or_default();
            let message = format!("{} has no folder “{path}” at commit {commit}.", ask.repository);
            Err(BuildProblem::new(BuildErrorCode::SourceInvalid, ask.redact(&message)))
        }
    }
}

/// One fetch on its way.
struct Fetch<'a> {
    config: &'a GitConfig,
    ask: &'a Ask<'a>,
    source: PathBuf,
    most: Amount,
    deadline: Instant,
}

/// What a run of git writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fills {
    Git,
    Tree,
}

impl Fetch<'_> {
    /// Lays out the directory and lets git fill it; gives the commit.
    async fn check_out(&self) -> Result<String, BuildProblem> {
        if self.config.uid == 0 {
            return Err(self.fault(&"git does not run as root"));
        }
        let (source, config) = (self.source.clone(), self.config.clone());
        self.blocking(move || lay_out(&source, &config)).await?;
        let ended = self.git(Fills::Git, &["init", "--quiet", "--bare", "--template="]).await?;
        self.expect(&ended)?;
        self.receive().await?;
        let ended = self
            .git(Fills::Git, &["rev-parse", "--verify", "--quiet", "--end-of-options", "FETCH_HEAD^{commit}"])
            .await?;
        if !ended.status.success() {
            return Err(self.problem(Cause::NoReference));
        }
        let commit = ended.output.trim().to_owned();
        let ended = self.git(Fills::Tree, &["checkout", "--quiet", "--force", "--detach", &commit]).await?;
        self.expect(&ended)?;
        Ok(commit)
    }

    /// Asks the forge for one name after the other.
    async fn receive(&self) -> Result<(), BuildProblem> {
        let url = self.ask.url();
        let mut args = vec!["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules"];
        args.extend(["--no-auto-maintenance", "--end-of-options", &url]);
        for candidate in self.ask.candidates() {
            let ended = self.git(Fills::Git, &[args.as_slice(), &[&candidate]].concat()).await?;
            match said::cause(ended.status.code(), &ended.said) {
                _ if ended.status.success() => return Ok(()),
                Cause::NoReference => {}
                _ => return self.expect(&ended),
            }
        }
        Err(self.problem(Cause::NoReference))
    }

    /// Runs git once, while it fills one of its directories.
    async fn git(&self, fills: Fills, args: &[&str]) -> Result<Ended, BuildProblem> {
        let (keys, values) = self.settings();
        let count = keys.len().to_string();
        let home = format!("{INSIDE}/home");
        let (git_dir, tree, ca) = (format!("{INSIDE}/git"), format!("{INSIDE}/tree"), format!("{INSIDE}/ca.pem"));
        let names: Vec<_> =
            (0..keys.len()).map(|at| (format!("GIT_CONFIG_KEY_{at}"), format!("GIT_CONFIG_VALUE_{at}"))).collect();
        let mut env = vec![
            ("LC_ALL", "C"),
            ("HOME", &home),
            ("GIT_DIR", &git_dir),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("GIT_ALLOW_PROTOCOL", if self.ask.plain_http { "http" } else { "https" }),
            ("GIT_CONFIG_COUNT", &count),
        ];
        for (at, (key, value)) in names.iter().enumerate() {
            env.extend([(key.as_str(), keys[at].as_str()), (value.as_str(), values[at].as_str())]);
        }
        // A repository that is made with a tree would remember it.
        if fills == Fills::Tree {
            env.push(("GIT_WORK_TREE", &tree));
        }
        if self.config.ca_file.is_some() {
            env.push(("GIT_SSL_CAINFO", &ca));
        }
        let command = confine::command(self.config, &self.source, env, args);
        let watched = self.source.join(match fills {
            Fills::Git => "git",
            Fills::Tree => "tree",
        });
        match confine::run(command, &watched, self.most, self.deadline).await {
            Ok(ended) => Ok(ended),
            Err(Halt::Late) => Err(self.problem(Cause::Late)),
            Err(Halt::TooLarge) => Err(self.problem(Cause::TooLarge)),
            Err(Halt::Io(error)) => Err(self.fault(&error)),
        }
    }

    /// Keys and values of git's configuration.
    fn settings(&self) -> (Vec<String>, Vec<Zeroizing<String>>) {
        let plain = SETTINGS.iter().map(|(key, value)| ((*key).to_owned(), Zeroizing::new((*value).to_owned())));
        let secret = self.ask.secret.iter();
        plain.chain(secret.map(|secret| (format!("http.{}.extraHeader", self.ask.base), secret.header()))).unzip()
    }

    /// Makes the tree root's, clears away the rest, and finds the folder: size, whether there are submodules, its path.
    async fn settle(&self, path: Option<&str>) -> Result<(Amount, bool, Option<PathBuf>), BuildProblem> {
        let (source, most) = (self.source.clone(), self.most);
        let path = path.map(str::to_owned);
        let settled = self.blocking(move || {
            let tree = source.canonicalize()?.join("tree");
            for name in ["git", "home", "ca.pem"] {
                file::remove(&source.join(name))?;
            }
            let size = match tree::take_over(&tree, most) {
                Ok(size) => size,
                Err(Stop::Io(error)) => return Err(error),
                Err(stop) => return Ok(Err(stop)),
            };
            let found = match path {
                Some(path) => tree::folder(&tree, &path).ok(),
                None => Some(tree.clone()),
            };
            Ok(Ok((size, tree::has(&tree, ".gitmodules"), found)))
        });
        settled.await?.map_err(|stop| match stop {
            Stop::TooDeep => self.problem(Cause::TooDeep),
            _ => self.problem(Cause::TooLarge),
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, BuildProblem> {
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) if error.kind() == io::ErrorKind::StorageFull => Err(self.problem(Cause::DiskFull)),
            Ok(Err(error)) => Err(self.fault(&error)),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// Git must have succeeded.
    fn expect(&self, ended: &Ended) -> Result<(), BuildProblem> {
        if ended.status.success() {
            return Ok(());
        }
        let cause = said::cause(ended.status.code(), &ended.said);
        let said = self.ask.redact(ended.said.trim());
        match cause {
            Cause::NoGit | Cause::Unknown => tracing::error!(status = %ended.status, said, "git failed"),
            _ => tracing::debug!(status = %ended.status, said, ?cause, "git failed"),
        }
        Err(self.problem(cause))
    }

    fn problem(&self, cause: Cause) -> BuildProblem {
        let problem = said::problem(cause, self.ask, self.config);
        BuildProblem { message: self.ask.redact(&problem.message), ..problem }
    }

    /// This host's own fault.
    fn fault(&self, error: &dyn std::fmt::Display) -> BuildProblem {
        let error = self.ask.redact(&error.to_string());
        tracing::error!(error, "a repository could not be fetched");
        self.problem(Cause::Unknown)
    }
}

/// Makes the directories of a fetch: git's user may write to two of them. Blocks.
fn lay_out(source: &Path, config: &GitConfig) -> io::Result<()> {
    let make = |dir: &Path| {
        std::fs::DirBuilder::new().mode(0o755).create(dir)?;
        // Whatever this process' mask takes away.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
    };
    make(source)?;
    make(&source.join("home"))?;
    for name in ["git", "tree"] {
        make(&source.join(name))?;
        std::os::unix::fs::chown(source.join(name), Some(config.uid), Some(config.gid))?;
    }
    if let Some(from) = &config.ca_file {
        let to = source.join("ca.pem");
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o644).open(&to)?;
        io::copy(&mut std::fs::File::open(from)?, &mut file)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}
