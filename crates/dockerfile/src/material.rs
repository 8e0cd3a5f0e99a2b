//! What of a step counts for its key: the step as it was expanded, and never what a secret holds, a proxy's address, or
//! where a stage stands in its Dockerfile.

use crate::step::{Action, Copy, Mount, MountKind, Run, Sharing, Source, Tree};

/// The parts of a step's key. `env` is the environment of a RUN that counts.
pub(crate) fn of(action: &Action, env: &[String]) -> Vec<String> {
    let mut material = Material(Vec::new());
    match action {
        Action::Run(run) => material.run(run, env),
        Action::Copy(copy) => material.copy(copy),
        Action::Workdir { path, user } => {
            material.one("workdir", path);
            material.one("user", user);
        }
        Action::Configure => {}
    }
    material.0
}

/// Parts in a fixed order; lists have their length before them, so that two steps never have the same parts by chance.
struct Material(Vec<String>);

impl Material {
    fn one(&mut self, name: &str, value: impl ToString) {
        self.0.push(name.to_owned());
        self.0.push(value.to_string());
    }

    fn list(&mut self, name: &str, values: &[String]) {
        self.one(name, values.len());
        self.0.extend_from_slice(values);
    }

    fn run(&mut self, run: &Run, env: &[String]) {
        let Run { args, env: _, working_dir, user, no_network, mounts, scripts } = run;
        self.list("run", args);
        self.list("env", env);
        self.one("working_dir", working_dir);
        self.one("user", user);
        self.one("no_network", no_network);
        self.one("mounts", mounts.len());
        mounts.iter().for_each(|mount| self.mount(mount));
        for script in scripts {
            self.one(&script.path, &script.content);
        }
    }

    fn mount(&mut self, mount: &Mount) {
        self.one("target", mount.target.as_deref().unwrap_or_default());
        match &mount.kind {
            MountKind::Cache { id, sharing, from, mode, uid, gid, read_only } => {
                self.one("cache", id);
                let sharing = match sharing {
                    Sharing::Shared => "shared",
                    Sharing::Private => "private",
                    Sharing::Locked => "locked",
                };
                self.one("sharing", sharing);
                self.owned(*mode, *uid, *gid);
                self.one("read_only", read_only);
                if let Some((tree, source)) = from {
                    self.one(kind(tree), source);
                }
            }
            MountKind::Secret { id, required, env, mode, uid, gid } => {
                self.one("secret", id);
                self.one("required", required);
                self.one("env", env.as_deref().unwrap_or_default());
                self.owned(*mode, *uid, *gid);
            }
            MountKind::Tmpfs { size_bytes } => self.one("tmpfs", size_bytes.unwrap_or(0)),
            MountKind::Bind { from, source, read_write } => {
                self.one(kind(from), source);
                self.one("read_write", read_write);
            }
        }
    }

    fn owned(&mut self, mode: u32, uid: u32, gid: u32) {
        self.one("mode", mode);
        self.one("uid", uid);
        self.one("gid", gid);
    }

    fn copy(&mut self, copy: &Copy) {
        let Copy { from, sources, destination, owner, mode, exclude, add, checksum } = copy;
        self.one(if *add { "add" } else { "copy" }, kind(from));
        self.one("sources", sources.len());
        for source in sources {
            match source {
                Source::Path(path) => self.one("path", path),
                Source::Inline { name, content } => {
                    self.one("inline", name);
                    self.one("content", content);
                }
                Source::Url(url) => self.one("url", url),
            }
        }
        self.one("destination", destination);
        self.one("owner", owner.as_deref().unwrap_or_default());
        self.one("mode", mode.map(|mode| mode.to_string()).unwrap_or_default());
        self.list("exclude", exclude);
        self.one("checksum", checksum.as_deref().unwrap_or_default());
    }
}

/// What a tree is, without which one: its files' digests are a part of the key by themselves.
const fn kind(tree: &Tree) -> &'static str {
    match tree {
        Tree::Context => "context",
        Tree::Stage(_) => "stage",
        Tree::Image(_) => "image",
        Tree::Own(_) => "own",
    }
}
