//! What a command finds below its root that is no part of the image: empty files and directories for others to be
//! mounted on.
//!
//! It is a layer of its own, above the image's and below what the command writes, so that none of it counts as a change.
//! A directory of the image that something stands in is in it too, and looks as it does in the image: it would hide it
//! otherwise.
//!
//! Invariant: every path is resolved by `openat2(RESOLVE_IN_ROOT)` in the image's tree, and what is made here stands at
//! the real path that it led to.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
}

/// Why something can't stand at a path.
#[derive(Debug, thiserror::Error)]
pub enum SceneryError {
    /// The image has something else there, or a link that leads nowhere.
    #[error("`{path}` in the image {problem}")]
    Unusable {
        /// The path.
        path: String,
        /// Why, as the end of a sentence.
        problem: &'static str,
    },
    /// The host refused something.
    #[error("could not lay out a root")]
    Host(#[from] io::Error),
}

/// The layer in the making. Its functions block.
#[derive(Debug)]
pub struct Scenery {
    /// The image's tree.
    tree: PathBuf,
    root: OwnedFd,
    /// The layer.
    dir: PathBuf,
}

impl Scenery {
    /// An empty layer in the new directory `dir`, for the tree at `tree`.
    ///
    /// # Errors
    /// What the host said.
    pub fn new(tree: &Path, dir: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().mode(0o755).create(dir)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(tree, flags, Mode::empty())?;
        Ok(Self { tree: std::fs::canonicalize(tree)?, root, dir: dir.to_owned() })
    }

    /// Sees to it that something of this kind is at `path`; answers the path without links.
    ///
    /// # Errors
    /// [`SceneryError`].
    pub fn place(&self, path: &str, kind: Kind) -> Result<String, SceneryError> {
        let unusable = |problem| SceneryError::Unusable { path: path.to_owned(), problem };
        let names: Vec<&str> = normal(path);
        let Some((last, parents)) = names.split_last() else { return Err(unusable("is its root")) };
        // The real path of what is there so far, below the root and without a slash before it.
        let mut real = PathBuf::new();
        for name in parents {
            real = self.step(&real, name, Kind::Dir).map_err(|wrong| wrong.of(path))?;
        }
        let real = self.step(&real, last, kind).map_err(|wrong| wrong.of(path))?;
        let real = real.to_str().ok_or_else(|| unusable("leads to a name that is not UTF-8"))?;
        Ok(format!("/{real}"))
    }

    /// Whether nothing is in the layer.
    ///
    /// # Errors
    /// What the host said.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(std::fs::read_dir(&self.dir)?.next().is_none())
    }

    /// The entry of a real directory, followed where it is a link, made where it is missing.
    fn step(&self, parent: &Path, name: &str, kind: Kind) -> Result<PathBuf, Wrong> {
        let path = parent.join(name);
        let made = self.dir.join(&path);
        match std::fs::symlink_metadata(&made) {
            // What is in the layer is never a link, and stands where the image has the same or nothing.
            Ok(meta) if meta.is_dir() == (kind == Kind::Dir) => return Ok(path),
            Ok(_) => return Err(Wrong::Unusable("is both a file and a directory")),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error.into()),
        }
        match self.open(&path) {
            Ok(found) => {
                let found = format!("/proc/self/fd/{}", found.as_raw_fd());
                let meta = std::fs::metadata(&found)?;
                match kind {
                    Kind::Dir if !meta.is_dir() => {
                        return Err(Wrong::Unusable("is not a directory, or lies below one"));
                    }
                    Kind::File if !meta.is_file() => return Err(Wrong::Unusable("is not a regular file")),
                    Kind::Dir | Kind::File => {}
                }
                let real = std::fs::read_link(&found)?;
                let below = real.strip_prefix(&self.tree).map_err(|_| Wrong::Unusable("leads out of the image"))?;
                Ok(below.to_owned())
            }
            Err(Errno::NOENT) => {
                // Nothing is found, and yet the name is taken: a link that leads nowhere.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                if self.resolve(&path, flags).is_ok() {
                    return Err(Wrong::Unusable("leads through a link to nowhere"));
                }
                self.mirror(parent)?;
                match kind {
                    Kind::Dir => {
                        std::fs::DirBuilder::new().mode(0o755).create(&made)?;
                        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o755))?;
                    }
                    Kind::File => {
                        let file = std::fs::File::options().write(true).create_new(true).mode(0o644).open(&made)?;
                        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
                    }
                }
                // What was made in it changed its times.
                self.dress(parent)?;
                Ok(path)
            }
            Err(Errno::LOOP) => Err(Wrong::Unusable("leads through a link to itself")),
            Err(Errno::NOTDIR) => Err(Wrong::Unusable("lies below something that is not a directory")),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }

    /// Makes a real directory, and those above it, in the layer.
    fn mirror(&self, directory: &Path) -> io::Result<()> {
        let mut so_far = PathBuf::new();
        for name in directory.iter() {
            let above = so_far.clone();
            so_far.push(name);
            let made = self.dir.join(&so_far);
            if made.is_dir() {
                continue;
            }
            std::fs::DirBuilder::new().mode(0o700).create(&made)?;
            self.dress(&so_far)?;
            self.dress(&above)?;
        }
        Ok(())
    }

    /// Gives a directory of the layer what it has in the image: owner, mode, attributes, time. One that only the layer
    /// has stays as it is, and so does the root, whose looks are those of the directory that is written to.
    fn dress(&self, directory: &Path) -> io::Result<()> {
        if directory.as_os_str().is_empty() {
            return Ok(());
        }
        let found = match self.open(directory) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let (from, to) = (PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd())), self.dir.join(directory));
        let meta = std::fs::metadata(&from)?;
        std::os::unix::fs::lchown(&to, Some(meta.uid()), Some(meta.gid()))?;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(meta.mode() & 0o7777))?;
        for name in xattr::list_deref(&from)? {
            if let Some(value) = xattr::get_deref(&from, &name)? {
                xattr::set(&to, &name, &value)?;
            }
        }
        std::fs::File::open(&to)?.set_modified(meta.modified()?)
    }

    fn open(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH | OFlags::CLOEXEC)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path.as_os_str().as_bytes(), flags, Mode::empty(), how)
    }
}

/// The names of a path, by its text alone: without `.`, empty ones, and `..` with what it takes back.
pub fn normal(path: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names
}

/// What is wrong with a path whose text is known further up.
#[derive(Debug)]
enum Wrong {
    Unusable(&'static str),
    Host(io::Error),
}

impl Wrong {
    fn of(self, path: &str) -> SceneryError {
        match self {
            Self::Unusable(problem) => SceneryError::Unusable { path: path.to_owned(), problem },
            Self::Host(error) => error.into(),
        }
    }
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct World {
        dir: tempfile::TempDir,
        scenery: Scenery,
    }

    impl World {
        fn new(lay_out: impl FnOnce(&Path)) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let tree = dir.path().join("tree");
            std::fs::create_dir(&tree).expect("made");
            lay_out(&tree);
            let scenery = Scenery::new(&tree, &dir.path().join("layer")).expect("a layer");
            Self { dir, scenery }
        }

        fn layer(&self) -> PathBuf {
            self.dir.path().join("layer")
        }
    }

    #[test]
    fn what_the_image_has_needs_nothing() {
        let world = World::new(|tree| {
            std::fs::create_dir_all(tree.join("etc")).expect("made");
            std::fs::write(tree.join("etc/hosts"), "").expect("written");
        });
        assert_eq!(world.scenery.place("/etc/hosts", Kind::File).expect("there"), "/etc/hosts");
        assert_eq!(world.scenery.place("/etc", Kind::Dir).expect("there"), "/etc");
        assert!(world.scenery.is_empty().expect("read"));
    }

    #[test]
    fn a_directory_of_the_image_keeps_its_looks() {
        let world = World::new(|tree| {
            let etc = tree.join("etc");
            std::fs::create_dir(&etc).expect("made");
            std::fs::set_permissions(&etc, std::fs::Permissions::from_mode(0o2751)).expect("set");
            std::os::unix::fs::chown(&etc, Some(12), Some(34)).expect("this test runs as root");
            let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
            std::fs::File::open(&etc).expect("there").set_modified(long_ago).expect("set");
        });
        assert_eq!(world.scenery.place("/etc/a/b", Kind::File).expect("made"), "/etc/a/b");
        assert_eq!(world.scenery.place("etc/../etc/./c", Kind::Dir).expect("made"), "/etc/c");
        let meta = std::fs::metadata(world.layer().join("etc")).expect("there");
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime()), (0o2751, 12, 34, 1000));
        assert!(world.layer().join("etc/a/b").is_file() && world.layer().join("etc/c").is_dir());
        assert!(matches!(world.scenery.place("/etc/a", Kind::File), Err(SceneryError::Unusable { .. })));
    }

    #[test]
    fn links_lead_inside_and_nowhere_else() {
        let world = World::new(|tree| {
            std::fs::create_dir_all(tree.join("real/deep")).expect("made");
            symlink("/real/deep", tree.join("in")).expect("made");
            symlink("../../../../../../tmp", tree.join("up")).expect("made");
            symlink("/nowhere", tree.join("dangling")).expect("made");
            symlink("loop", tree.join("loop")).expect("made");
            std::fs::write(tree.join("file"), "").expect("written");
        });
        assert_eq!(world.scenery.place("/in/x", Kind::File).expect("made"), "/real/deep/x");
        assert!(world.layer().join("real/deep/x").is_file());
        for path in ["/up/x", "/dangling/x", "/dangling", "/loop/x", "/file/x", "/"] {
            let refused = world.scenery.place(path, Kind::File);
            assert!(matches!(refused, Err(SceneryError::Unusable { .. })), "{path}: {refused:?}");
        }
        assert!(matches!(world.scenery.place("/file", Kind::Dir), Err(SceneryError::Unusable { .. })));
    }
}
