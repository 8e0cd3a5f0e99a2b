//! What steps are: instructions with everything expanded, ready to be executed. [`crate::Walker`] makes them.

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The instruction as it is written, on one line, cut to a readable length: `RUN npm install`.
    pub text: String,
    /// Its first line, from 1.
    pub line: u32,
    /// What is to be done.
    pub action: Action,
    /// All that its result depends on beside its parent and the files it reads: for [`crate::Key`].
    pub(crate) material: Vec<String>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs a command in the sandbox.
    Run(Run),
    /// Puts files into the root.
    Copy(Copy),
    /// Makes this directory and its parents, if they are missing, owned by the user in force.
    Workdir {
        /// An absolute path.
        path: String,
        /// As in [`crate::Config::user`].
        user: String,
    },
    /// Changes the configuration only: there is nothing to do, and no layer.
    Configure,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Program and arguments; a shell's where the instruction is not a list.
    pub args: Vec<String>,
    /// `NAME=value`: the configuration's, and the ARGs in force where ENV does not set the same name.
    pub env: Vec<String>,
    /// An absolute path.
    pub working_dir: String,
    /// As in [`crate::Config::user`].
    pub user: String,
    /// `--network=none`.
    pub no_network: bool,
    /// `--mount`, in the order in which they are written.
    pub mounts: Vec<Mount>,
    /// Heredocs that are files: the script that begins with `#!`.
    pub scripts: Vec<Script>,
}

/// A file that a command finds and that is not in the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// An absolute path.
    pub path: String,
    /// Its content; it is executable.
    pub content: String,
}

/// A mount of a RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// An absolute path; `None` for a secret that is a variable only.
    pub target: Option<String>,
    /// What is there.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A directory that stays from build to build.
    Cache {
        /// Its name within the scope.
        id: String,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// What is in it at first, a tree and a path in it as in [`MountKind::Bind`]; empty where absent.
        from: Option<(Tree, String)>,
        /// Of the directory, where it is made.
        mode: u32,
        /// Of the directory.
        uid: u32,
        /// Of the directory.
        gid: u32,
        /// Nothing can be written.
        read_only: bool,
    },
    /// A value that the build was given.
    Secret {
        /// Its name.
        id: String,
        /// The build fails without it.
        required: bool,
        /// The variable that holds it, if one does.
        env: Option<String>,
        /// Of the file.
        mode: u32,
        /// Of the file.
        uid: u32,
        /// Of the file.
        gid: u32,
    },
    /// A file system in memory.
    Tmpfs {
        /// Its size; the executor's own limit where absent.
        size_bytes: Option<u64>,
    },
    /// A directory or file of a tree.
    Bind {
        /// Which tree.
        from: Tree,
        /// The path in it, relative, without `..`; `.` is all of it.
        source: String,
        /// It can be written, and what is written is thrown away.
        read_write: bool,
    },
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everyone.
    Shared,
    /// Everyone gets one of their own.
    Private,
    /// One after the other.
    Locked,
}

/// Where files are taken from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tree {
    /// The build's own files, without what `.dockerignore` leaves out.
    Context,
    /// A stage: its index in [`Plan::stages`].
    Stage(usize),
    /// An image in a registry: a reference.
    Image(String),
    /// One of the account's own images: an image id.
    Own(String),
}

/// A COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Where paths are looked up.
    pub from: Tree,
    /// What is copied.
    pub sources: Vec<Source>,
    /// An absolute path, normalized but for a trailing `/`: with it, or with several sources, it is a directory.
    pub destination: String,
    /// `--chown`: as in [`crate::Config::user`]; 0:0 where absent.
    pub owner: Option<String>,
    /// `--chmod`, as octal digits say it.
    pub mode: Option<u32>,
    /// `--exclude`: patterns that [`crate::Ignore`] reads, each one line.
    pub exclude: Vec<String>,
    /// ADD: a local tar archive is unpacked, a URL may be a source.
    pub add: bool,
    /// ADD `--checksum`: `sha256:<64 hex>`, of the one URL.
    pub checksum: Option<String>,
}

/// A source of a COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A pattern in the tree, relative, without `..`; `.` is all of it.
    Path(String),
    /// A heredoc: name and content.
    Inline {
        /// The file's name.
        name: String,
        /// Its content.
        content: String,
    },
    /// An http or https URL.
    Url(String),
}
