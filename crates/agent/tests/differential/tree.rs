//! The file tree of an image, flat: what is where, without times.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use cakework_testkit::images::digest;

/// Paths from the root, without a leading slash; the root itself is empty.
pub type Tree = BTreeMap<String, Node>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    /// Permission bits; of links they mean nothing.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// The first name of the same file, where it has several.
    pub same_as: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File { digest: String, size_bytes: u64 },
    Symlink { target: String },
    Other,
}

/// Places that builders mount something on while a RUN goes on, and may leave a mount point at.
const SCENERY: [&str; 7] = ["dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv"];

/// Without what is only there because a RUN needed it, and without the root itself: neither base image nor context has an
/// entry of it, and each builder has its own idea.
pub fn without_scenery(mut tree: Tree) -> Tree {
    tree.remove("");
    let below = |path: &str, top: &str| path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    tree.retain(|path, _| !SCENERY.iter().any(|top| below(path, top)));
    // Of the last of them the directory stays behind.
    if !tree.keys().any(|path| path.starts_with("run/")) {
        tree.remove("run");
    }
    tree
}

/// What lies below a directory.
pub fn of_dir(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut names: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    let mut paths = vec![root.to_owned()];
    while let Some(path) = paths.pop() {
        let meta = path.symlink_metadata().expect("readable");
        let name = path.strip_prefix(root).expect("below").to_str().expect("text").to_owned();
        let kind = if meta.is_dir() {
            paths.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
            Kind::Dir
        } else if meta.is_symlink() {
            Kind::Symlink { target: fs::read_link(&path).expect("readable").to_str().expect("text").to_owned() }
        } else if meta.file_type().is_fifo() {
            Kind::Other
        } else {
            if meta.nlink() > 1 {
                names.entry((meta.dev(), meta.ino())).or_default().push(name.clone());
            }
            Kind::File { digest: digest(&fs::read(&path).expect("readable")), size_bytes: meta.len() }
        };
        let (uid, gid) = (meta.uid().into(), meta.gid().into());
        tree.insert(name, Node { mode: bits(&kind, meta.mode()), kind, uid, gid, same_as: None });
    }
    for mut same in names.into_values().filter(|names| names.len() > 1) {
        same.sort();
        tie(&mut tree, &same);
    }
    tree
}

/// What is in a tar of a whole tree.
pub fn of_tar(tar: impl Read) -> Tree {
    let mut tree = Tree::new();
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let clean = |path: &Path| {
            let path = path.to_str().expect("text");
            path.strip_prefix("./").unwrap_or(path).trim_end_matches('/').trim_end_matches('.').to_owned()
        };
        let name = clean(&entry.path().expect("a name"));
        let target = entry.link_name().expect("a target").map(|path| path.into_owned());
        let header = entry.header().clone();
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Dir,
            tar::EntryType::Symlink => {
                Kind::Symlink { target: target.expect("a target").to_str().expect("text").to_owned() }
            }
            tar::EntryType::Link => {
                let first = clean(&target.expect("a target"));
                let node = tree[&first].clone();
                tree.insert(name.clone(), node);
                names.entry(first).or_default().push(name);
                continue;
            }
            tar::EntryType::Regular => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).expect("readable");
                Kind::File { digest: digest(&bytes), size_bytes: bytes.len() as u64 }
            }
            _ => Kind::Other,
        };
        let mode = bits(&kind, header.mode().expect("a mode"));
        let (uid, gid) = (header.uid().expect("an owner"), header.gid().expect("a group"));
        tree.insert(name, Node { kind, mode, uid, gid, same_as: None });
    }
    for (first, mut same) in names {
        same.push(first);
        same.sort();
        tie(&mut tree, &same);
    }
    tree
}

fn bits(kind: &Kind, mode: u32) -> u32 {
    if matches!(kind, Kind::Symlink { .. }) { 0 } else { mode & 0o7777 }
}

fn tie(tree: &mut Tree, same: &[String]) {
    for name in same {
        tree.get_mut(name).expect("it is there").same_as = Some(same[0].clone());
    }
}
