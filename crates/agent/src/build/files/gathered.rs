//! What a source was found to be, and a digest of all of it that ends up in an image.

use sha2::{Digest as _, Sha256};

use super::inside::Folder;

/// What one source of a COPY names.
#[derive(Debug)]
pub struct Gathered {
    /// The source, for sentences.
    pub(super) text: String,
    pub(super) content: Content,
    pub(super) roots: Vec<Root>,
}

/// Where the bytes of files are.
#[derive(Debug)]
pub(super) enum Content {
    Folder(Folder),
    Inline(Vec<u8>),
}

/// One thing that the source names.
#[derive(Debug)]
pub(super) struct Root {
    /// The last component of the path that named it.
    pub name: Vec<u8>,
    /// Where it lies in its tree, without links on the way.
    pub at: Vec<u8>,
    /// Itself, then what is in it: a directory before all that it holds.
    pub entries: Vec<Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// From the root; empty for itself.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Permissions, with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime_secs: i64,
    /// Sorted.
    pub xattrs: Xattrs,
}

/// Extended attributes: names and values.
pub(super) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File {
        size_bytes: u64,
        sha256: [u8; 32],
    },
    /// What it points to.
    Symlink(Vec<u8>),
    Fifo,
}

impl Root {
    pub fn is_dir(&self) -> bool {
        self.entries[0].kind == Kind::Directory
    }
}

impl Gathered {
    /// A heredoc: a file of mode 0644.
    pub fn inline(name: &str, content: &str) -> Self {
        let sha256 = Sha256::digest(content).into();
        let kind = Kind::File { size_bytes: content.len() as u64, sha256 };
        let entry = Entry { path: Vec::new(), kind, mode: 0o644, uid: 0, gid: 0, mtime_secs: 0, xattrs: Vec::new() };
        let root = Root { name: name.as_bytes().to_vec(), at: Vec::new(), entries: vec![entry] };
        Self { text: name.to_owned(), content: Content::Inline(content.as_bytes().to_vec()), roots: vec![root] }
    }

    /// A pattern that matches nothing.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// 64 hex digits over everything that ends up in an image, but for times: names, kinds, modes, contents, link
    /// targets, attributes; owners where `keeps_owners`. A directory that is a source itself gives only what it holds.
    pub fn digest(&self, keeps_owners: bool) -> String {
        let mut hash = Parts(Sha256::new());
        hash.part(b"cakework files 1");
        for root in &self.roots {
            hash.number(root.entries.len() as u64);
            let entries = if root.is_dir() {
                hash.part(b"contents");
                &root.entries[1..]
            } else {
                hash.part(&root.name);
                &root.entries[..]
            };
            entries.iter().for_each(|entry| hash.entry(entry, keeps_owners));
        }
        hex::encode(hash.0.finalize())
    }
}

/// A hash over parts, each with its length before it, so that no two lists of parts give the same bytes.
struct Parts(Sha256);

impl Parts {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn part(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn entry(&mut self, entry: &Entry, keeps_owners: bool) {
        self.part(&entry.path);
        match &entry.kind {
            Kind::Directory => self.part(b"directory"),
            Kind::File { size_bytes: _, sha256 } => {
                self.part(b"file");
                self.part(sha256);
            }
            Kind::Symlink(target) => {
                self.part(b"symlink");
                self.part(target);
            }
            Kind::Fifo => self.part(b"fifo"),
        }
        self.number(entry.mode.into());
        let (uid, gid) = if keeps_owners { (entry.uid, entry.gid) } else { (0, 0) };
        self.number(uid.into());
        self.number(gid.into());
        self.number(entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            self.part(name);
            self.part(value);
        }
    }
}
