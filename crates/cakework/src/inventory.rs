//! What the host shows of an instance: everything that bears its name or lies in its data directory.
//!
//! It only looks. `purge` says with it what it ended, and a new instance avoids names that are there.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cakework_core::id::InstanceId;

/// Levels of control groups that are looked through.
const CGROUP_DEPTH_MAX: usize = 4;

/// Network namespaces, interfaces, firewall tables and cgroups of the instance, in words.
///
/// # Errors
/// What the kernel said.
pub fn names_on_host(id: &InstanceId) -> io::Result<Vec<String>> {
    let prefix = format!("cw{id}");
    let mut found = Vec::new();
    for (kind, dir) in [("network namespace", "/run/netns"), ("interface", "/sys/class/net")] {
        let names = names_in(Path::new(dir))?.into_iter().filter(|name| name.starts_with(&prefix));
        found.extend(names.map(|name| format!("{kind} {name}")));
    }
    found.extend(tables(&prefix));
    let mut cgroups = Vec::new();
    find_cgroups(Path::new("/sys/fs/cgroup"), &format!("cakework-{id}"), 0, &mut cgroups)?;
    found.extend(cgroups.iter().map(|path| format!("cgroup {}", path.display())));
    Ok(found)
}

/// Mounts below a directory; it may be one itself.
///
/// # Errors
/// What the kernel said.
pub fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    // proc_pid_mountinfo(5): the fifth field, with a blank as `\040`.
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points =
        text.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| PathBuf::from(point.replace("\\040", " ")));
    Ok(points.filter(|point| point.starts_with(dir) && point != dir).collect())
}

fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Lines such as `table inet cwab12`. Without nft there are none.
fn tables(prefix: &str) -> Vec<String> {
    let listed = Command::new("nft").args(["list", "tables"]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let ours = |line: &&str| line.split(' ').nth(2).is_some_and(|name| name.starts_with(prefix));
    text.lines().filter(ours).map(|line| format!("firewall {line}")).collect()
}

fn find_cgroups(dir: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for child in names_in(dir)? {
        let path = dir.join(&child);
        // A cgroup may go while its parent is read.
        if !path.symlink_metadata().is_ok_and(|it| it.is_dir()) {
            continue;
        }
        if child == name {
            found.push(path);
        } else if depth < CGROUP_DEPTH_MAX {
            match find_cgroups(&path, name, depth + 1, found) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
