//! A census of what the kernel holds for an instance: the one judge of whether something is left over.
//!
//! It reads `/run/netns`, `/sys/class/net`, mountinfo, cgroupfs, loop devices, nft tables and `/proc`, and asks
//! nothing of Cakework, which could be wrong about itself.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{POLL, run};

/// Whose objects are counted.
#[derive(Debug, Clone)]
pub struct Scope {
    instance: String,
    data_dir: Option<PathBuf>,
}

/// What sort of thing the kernel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A named network namespace.
    Netns,
    /// A network interface of the host's namespace.
    Link,
    /// A mount of the caller's mount namespace.
    Mount,
    /// A cgroup, once per hierarchy.
    Cgroup,
    /// A loop device with a file behind it.
    Loop,
    /// An nftables table.
    NftTable,
    /// A process.
    Process,
}

/// One thing that the kernel holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// What the kernel calls it.
    pub name: String,
}

/// All that the kernel held for a scope at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census(BTreeSet<Object>);

impl Scope {
    /// What carries the instance's id in its name, or lies in the data directory, or names it.
    pub fn new(instance: &str, data_dir: Option<&Path>) -> Self {
        Self { instance: instance.to_owned(), data_dir: data_dir.map(Path::to_owned) }
    }

    /// The scope of a data directory that a server has used.
    pub fn of_data_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("instance.json");
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let value: Value = serde_json::from_slice(&text)?;
        let instance = value["instanceId"].as_str().context("instance.json names an instanceId")?;
        Ok(Self::new(instance, Some(dir)))
    }

    /// Every instance's objects on this machine; processes are not among them.
    pub fn everything() -> Self {
        Self::new("", None)
    }

    fn is_link(&self, name: &str) -> bool {
        name.starts_with(&format!("cw{}", self.instance))
    }

    fn is_cgroup(&self, name: &str) -> bool {
        match self.instance.as_str() {
            "" => name.starts_with("cakework-"),
            instance => name == format!("cakework-{instance}"),
        }
    }

    fn is_path(&self, path: &str) -> bool {
        self.data_dir.as_ref().is_some_and(|dir| Path::new(path).starts_with(dir))
    }
}

impl Census {
    /// Counts now.
    pub fn take(scope: &Scope) -> Result<Self> {
        let mut objects = BTreeSet::new();
        let mut add = |kind, name: String| {
            objects.insert(Object { kind, name });
        };
        names_in(Path::new("/run/netns"))?
            .into_iter()
            .filter(|name| scope.is_link(name))
            .for_each(|name| add(Kind::Netns, name));
        names_in(Path::new("/sys/class/net"))?
            .into_iter()
            .filter(|name| scope.is_link(name))
            .for_each(|name| add(Kind::Link, name));
        mounts(scope)?.into_iter().for_each(|name| add(Kind::Mount, name));
        let mut cgroups = Vec::new();
        find_cgroups(scope, Path::new("/sys/fs/cgroup"), 0, &mut cgroups)?;
        cgroups.into_iter().for_each(|name| add(Kind::Cgroup, name));
        loops(scope)?.into_iter().for_each(|name| add(Kind::Loop, name));
        nft_tables(scope)?.into_iter().for_each(|name| add(Kind::NftTable, name));
        processes(scope)?.into_iter().for_each(|name| add(Kind::Process, name));
        Ok(Self(objects))
    }

    /// How many of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.0.iter().filter(|object| object.kind == kind).count()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of it, by kind and name.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.0.iter()
    }

    /// What is here and was not before.
    pub fn since(&self, before: &Self) -> Vec<Object> {
        self.0.difference(&before.0).cloned().collect()
    }

    /// Counts again and again until nothing is here that was not before, at most `limit`; gives what is left then.
    ///
    /// The kernel takes some things away behind the caller's back: a veth, a lazily detached loop.
    pub fn leftovers(scope: &Scope, before: &Self, limit: Duration) -> Result<Vec<Object>> {
        let end = Instant::now() + limit;
        loop {
            let left = Self::take(scope)?.since(before);
            if left.is_empty() || Instant::now() >= end {
                return Ok(left);
            }
            std::thread::sleep(POLL);
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Netns => "network namespace",
            Kind::Link => "interface",
            Kind::Mount => "mount",
            Kind::Cgroup => "cgroup",
            Kind::Loop => "loop device",
            Kind::NftTable => "nft table",
            Kind::Process => "process",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// The names in a directory; an absent one has none.
fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", dir.display())),
    };
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// proc_pid_mountinfo(5): the fifth field is the mount point, with blanks as `\040`.
fn mounts(scope: &Scope) -> Result<Vec<String>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| point.replace("\\040", " "));
    Ok(points
        .filter(|point| {
            scope.is_path(point) || point.strip_prefix("/run/netns/").is_some_and(|name| scope.is_link(name))
        })
        .collect())
}

/// Walks far enough for every hierarchy of cgroup v1 and for a service's own subtree.
const CGROUP_DEPTH_MAX: usize = 6;

fn find_cgroups(scope: &Scope, dir: &Path, depth: usize, found: &mut Vec<String>) -> Result<()> {
    for name in names_in(dir)? {
        let path = dir.join(&name);
        // A cgroup may go while its parent is read.
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        if is_dir && scope.is_cgroup(&name) {
            add_cgroups(&path, found)?;
        } else if is_dir && depth < CGROUP_DEPTH_MAX {
            find_cgroups(scope, &path, depth + 1, found)?;
        }
    }
    Ok(())
}

fn add_cgroups(dir: &Path, found: &mut Vec<String>) -> Result<()> {
    found.push(dir.display().to_string());
    for name in names_in(dir)? {
        let path = dir.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            add_cgroups(&path, found)?;
        }
    }
    Ok(())
}

fn loops(scope: &Scope) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in names_in(Path::new("/sys/block"))? {
        let backing = Path::new("/sys/block").join(&name).join("loop/backing_file");
        if let Ok(file) = fs::read_to_string(backing)
            && scope.is_path(file.trim_end())
        {
            found.push(format!("{name} of {}", file.trim_end()));
        }
    }
    Ok(found)
}

fn nft_tables(scope: &Scope) -> Result<Vec<String>> {
    let output = run(Command::new("nft").args(["-j", "list", "tables"]).env("LC_ALL", "C"))
        .context("nft comes with the package nftables and needs root")?;
    let value: Value = serde_json::from_slice(&output.stdout)?;
    let tables = value["nftables"].as_array().into_iter().flatten().filter_map(|item| item.get("table"));
    Ok(tables
        .filter_map(|table| Some((table["family"].as_str()?, table["name"].as_str()?)))
        .filter(|(_, name)| scope.is_link(name))
        .map(|(family, name)| format!("{family} {name}"))
        .collect())
}

/// Processes whose command line names the data directory or the instance's objects, or whose cgroup is the
/// instance's. The caller and those who started it are not counted, nor is a process that ends meanwhile.
fn processes(scope: &Scope) -> Result<Vec<String>> {
    if scope.instance.is_empty() && scope.data_dir.is_none() {
        return Ok(Vec::new());
    }
    let ours = ancestors();
    let mut found = Vec::new();
    for pid in names_in(Path::new("/proc"))?.iter().filter_map(|name| name.parse::<u32>().ok()) {
        let proc_dir = PathBuf::from(format!("/proc/{pid}"));
        if ours.contains(&pid) || fs::metadata(&proc_dir).is_err() {
            continue;
        }
        let words = fs::read(proc_dir.join("cmdline")).unwrap_or_default();
        // It has ended: whoever started it only has to notice.
        if words.is_empty() {
            continue;
        }
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let cgroups = fs::read_to_string(proc_dir.join("cgroup")).unwrap_or_default();
        let named = !scope.instance.is_empty() && words.contains(&format!("cw{}", scope.instance));
        let in_dir = scope.data_dir.as_ref().is_some_and(|dir| words.contains(&dir.display().to_string()));
        let in_cgroup = cgroups.lines().flat_map(|line| line.split('/')).any(|part| scope.is_cgroup(part));
        if named || in_dir || in_cgroup {
            found.push(format!("{pid}: {}", words.trim_end()));
        }
    }
    Ok(found)
}

/// This process and its parents, up to init.
fn ancestors() -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut pid = std::process::id();
    while pid > 0 && found.insert(pid) {
        // proc_pid_stat(5): the parent is the second field after the name, which ends with the last `)`.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        pid = parent.and_then(|text| text.parse().ok()).unwrap_or(0);
    }
    found
}

/// The owner of a process as the kernel sees it.
pub fn uid_of(pid: u32) -> Result<u32> {
    Ok(fs::metadata(format!("/proc/{pid}"))?.uid())
}
