//! Repositories made by git's own plumbing, also such as git itself would refuse to check out.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::run;

/// Seconds of every commit, so that the same files give the same commit.
const COMMIT_TIME_SECS: u64 = 1_700_000_000;

/// What a commit has at a path.
#[derive(Debug, Clone)]
pub struct File {
    path: String,
    mode: &'static str,
    content: Vec<u8>,
}

impl File {
    /// A file that nobody may execute.
    pub fn plain(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: "100644", content: content.into() }
    }

    /// A program.
    pub fn program(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: "100755", content: content.into() }
    }

    /// A symbolic link.
    pub fn link(path: &str, target: &str) -> Self {
        Self { path: path.into(), mode: "120000", content: target.into() }
    }

    /// A submodule at a commit; `.gitmodules` is a plain file of its own.
    pub fn submodule(path: &str, commit: &str) -> Self {
        Self { path: path.into(), mode: "160000", content: commit.into() }
    }

    /// What Git LFS keeps in the repository in place of a file of this digest and size.
    pub fn lfs_pointer(path: &str, sha256: &str, size_bytes: u64) -> Self {
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n");
        Self::plain(path, text)
    }

    /// All files and links below a folder, by name.
    pub fn all_of(folder: &Path) -> Result<Vec<Self>> {
        let mut files = Vec::new();
        collect(folder, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let path = format!("{prefix}{}", name.to_str().context("names here are UTF-8")?);
        let meta = entry.metadata()?;
        if meta.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if meta.is_symlink() {
            let target = std::fs::read_link(entry.path())?;
            files.push(File::link(&path, target.to_str().context("names here are UTF-8")?));
        } else if meta.permissions().mode() & 0o111 == 0 {
            files.push(File::plain(&path, std::fs::read(entry.path())?));
        } else {
            files.push(File::program(&path, std::fs::read(entry.path())?));
        }
    }
    Ok(())
}

/// A bare repository on the disk.
#[derive(Debug, Clone)]
pub struct Repository {
    dir: PathBuf,
}

impl Repository {
    /// Makes an empty one, whose default branch is `main`, and which gives out any commit, as GitHub does.
    pub(super) fn create(dir: &Path) -> Result<Self> {
        let repository = Self { dir: dir.to_owned() };
        std::fs::create_dir_all(dir)?;
        repository.git(&["init", "--quiet", "--bare", "--initial-branch=main"])?;
        repository.git(&["config", "uploadpack.allowAnySHA1InWant", "true"])?;
        Ok(repository)
    }

    /// Commits files as all that a branch has; gives the commit.
    pub fn commit(&self, branch: &str, files: &[File]) -> Result<String> {
        let mut stream = Vec::new();
        write!(stream, "commit refs/heads/{branch}\ncommitter Test <test@example.com> {COMMIT_TIME_SECS} +0000\n")?;
        write!(stream, "data 0\ndeleteall\n")?;
        for file in files {
            if file.mode == "160000" {
                writeln!(stream, "M {} {} {}", file.mode, String::from_utf8_lossy(&file.content), file.path)?;
            } else {
                write!(stream, "M {} inline {}\ndata {}\n", file.mode, file.path, file.content.len())?;
                stream.extend_from_slice(&file.content);
                stream.push(b'\n');
            }
        }
        self.git_with(&["fast-import", "--quiet", "--force"], &stream)?;
        self.git(&["rev-parse", &format!("refs/heads/{branch}")])
    }

    /// Commits files at the top of a branch under names that are not looked at: `.git`, `..` and the like.
    pub fn commit_unchecked(&self, branch: &str, files: &[File]) -> Result<String> {
        let mut listing = String::new();
        for file in files {
            let blob = self.git_with(&["hash-object", "-w", "--stdin"], &file.content)?;
            write!(listing, "{} blob {blob}\t{}\0", file.mode, file.path)?;
        }
        let tree = self.git_with(&["mktree", "-z"], listing.as_bytes())?;
        let commit = self.git(&["commit-tree", "-m", "unchecked", &tree])?;
        self.git(&["update-ref", &format!("refs/heads/{branch}"), &commit])?;
        Ok(commit)
    }

    /// Commits trees in trees: `width` to the power of `depth` files in a checkout, and a handful of objects in the
    /// repository.
    pub fn commit_unfolding(&self, branch: &str, width: usize, depth: usize) -> Result<String> {
        let mut inner = ("100644 blob", self.git_with(&["hash-object", "-w", "--stdin"], b"x")?);
        for _ in 0..depth {
            let listing =
                (0..width).fold(String::new(), |listing, at| format!("{listing}{} {}\t{at}\n", inner.0, inner.1));
            inner = ("040000 tree", self.git_with(&["mktree"], listing.as_bytes())?);
        }
        let commit = self.git(&["commit-tree", "-m", "unfolding", &inner.1])?;
        self.git(&["update-ref", &format!("refs/heads/{branch}"), &commit])?;
        Ok(commit)
    }

    /// Puts an annotated tag on a commit.
    pub fn tag(&self, name: &str, commit: &str) -> Result<()> {
        self.git(&["tag", "--annotate", "--message", name, name, commit]).map(drop)
    }

    /// Runs git in the repository; gives what it prints.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        let output = run(&mut self.command(args))?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn git_with(&self, args: &[&str], input: &[u8]) -> Result<String> {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("running git")?;
        // What it reads is small, or it prints nothing before its end.
        child.stdin.take().context("it is piped")?.write_all(input)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "git {args:?} ended with {}", output.status);
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(args).env("GIT_DIR", &self.dir).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Test").env(format!("GIT_{who}_EMAIL"), "test@example.com");
            command.env(format!("GIT_{who}_DATE"), format!("{COMMIT_TIME_SECS} +0000"));
        }
        command
    }
}
