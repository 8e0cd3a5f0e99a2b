//! The files of a build: which of a folder are sent, and the body that they are sent in.
//!
//! Files are read as they are sent, so that a folder of any size takes little memory, and the limits are told before the
//! first byte leaves. What a folder has besides files and directories is named, never left out silently.

use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use cakework_core::limit::{BUILD_FILES_MAX, BUILD_FILES_MAX_BYTES, BUILD_PATH_MAX_BYTES};
use cakework_dockerfile::Ignore;
use indicatif::ProgressBar;
use reqwest::Body;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, Result};
use crate::show;

/// Directories that are sent only where `.dockerignore` says so, by `!.git`.
const NEVER: [&str; 2] = [".git", ".cakework"];
/// Things that can't be sent, of which so many are named.
const NAMED_MAX: usize = 5;

/// A file that is to be sent.
#[derive(Debug)]
pub(crate) struct Found {
    path: PathBuf,
    dir: String,
    name: String,
    size: u64,
    mode: u32,
}

/// The files of a folder, but for what its `.dockerignore` leaves out, in the order of their paths.
pub(crate) struct Folder {
    pub(crate) files: Vec<Found>,
    pub(crate) bytes: u64,
}

impl Folder {
    /// Looks through a folder.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            return Err(Failure::usage(format!("{} is not a folder", root.display())));
        }
        let ignore = ignore_of(root)?;
        let mut walk = Walk { root, ignore, files: Vec::new(), bytes: 0, odd: Vec::new() };
        walk.enter("")?;
        if !walk.odd.is_empty() {
            let more = walk.odd.len().saturating_sub(NAMED_MAX);
            walk.odd.truncate(NAMED_MAX);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            return Err(Failure::usage(format!(
                "only files and folders can be sent, not {}{more}",
                walk.odd.join(", ")
            ))
            .fix("leave them out: name them in .dockerignore"));
        }
        Ok(Self { files: walk.files, bytes: walk.bytes })
    }

    /// The body of `buildImageFromFiles`: these fields, then the files, each read when its turn comes.
    pub(crate) fn body(&self, fields: &Value, bar: ProgressBar) -> Body {
        let mut head = fields.to_string();
        // The object's end comes after the files.
        head.pop();
        head.push_str(if head.len() > 1 { ",\"files\":[" } else { "\"files\":[" });
        let files: Vec<_> = self.files.iter().map(|file| file.copy()).collect();
        bar.set_position(0);
        let (send, receive) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(2);
        tokio::task::spawn_blocking(move || {
            let mut comma = "";
            if send.blocking_send(Ok(head.into())).is_err() {
                return;
            }
            for file in files {
                let part = file.json().map(|json| Bytes::from(format!("{comma}{json}")));
                let is_bad = part.is_err();
                if send.blocking_send(part).is_err() || is_bad {
                    return;
                }
                comma = ",";
                bar.inc(file.size);
            }
            let _ = send.blocking_send(Ok("]}".into()));
        });
        Body::wrap_stream(futures_util::stream::unfold(receive, |mut receive| async {
            receive.recv().await.map(|part| (part, receive))
        }))
    }
}

impl Found {
    fn copy(&self) -> Self {
        let Self { path, dir, name, size, mode } = self;
        Self { path: path.clone(), dir: dir.clone(), name: name.clone(), size: *size, mode: *mode }
    }

    fn json(&self) -> std::io::Result<Value> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.size).unwrap_or(0));
        let said =
            |error: std::io::Error| std::io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
        // One byte more than it had: a file that grows is sent as it was looked at, or not at all.
        std::fs::File::open(&self.path).map_err(said)?.take(self.size + 1).read_to_end(&mut bytes).map_err(said)?;
        if bytes.len() as u64 != self.size {
            return Err(std::io::Error::other(format!("{} has changed while it was read", self.path.display())));
        }
        let mut file = json!({"dir": self.dir, "name": self.name, "mode": self.mode});
        match String::from_utf8(bytes) {
            Ok(text) => file["content"] = text.into(),
            Err(error) => {
                file["content"] = BASE64.encode(error.as_bytes()).into();
                file["encoding"] = "base64".into();
            }
        }
        Ok(file)
    }
}

fn ignore_of(root: &Path) -> Result<Ignore> {
    let text = match std::fs::read_to_string(root.join(".dockerignore")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::usage(format!(".dockerignore can't be read: {error}"))),
    };
    // What is named last decides, so that a `!` of the user's own brings one of these back.
    let never: String = NEVER.iter().map(|name| format!("{name}\n")).collect();
    Ignore::parse(&(never + &text)).map_err(|fault| Failure::usage(format!(".dockerignore: {fault}")))
}

struct Walk<'a> {
    root: &'a Path,
    ignore: Ignore,
    files: Vec<Found>,
    bytes: u64,
    odd: Vec<String>,
}

impl Walk<'_> {
    /// `dir` is relative, and empty for the root.
    fn enter(&mut self, dir: &str) -> Result<()> {
        let whole = self.root.join(dir);
        let said = |error: std::io::Error| Failure::usage(format!("{} can't be read: {error}", whole.display()));
        let mut entries =
            std::fs::read_dir(&whole).map_err(said)?.collect::<std::io::Result<Vec<_>>>().map_err(said)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let shown = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                self.odd.push(format!("{} (its name is not UTF-8)", show::plain(&shown.to_string_lossy())));
                continue;
            };
            let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
            let kind = entry.file_type().map_err(said)?;
            if kind.is_dir() {
                if !self.ignore.prunes(&path) {
                    self.enter(&path)?;
                }
                continue;
            }
            if self.ignore.excludes(&path) {
                continue;
            }
            if !kind.is_file() {
                self.odd.push(format!("{} ({})", show::plain(&path), word(kind)));
                continue;
            }
            let meta = entry.metadata().map_err(said)?;
            self.take(entry.path(), dir, name, &meta)?;
        }
        Ok(())
    }

    fn take(&mut self, path: PathBuf, dir: &str, name: String, meta: &Metadata) -> Result<()> {
        let dir = if dir.is_empty() { ".".to_owned() } else { dir.to_owned() };
        if dir.len() + name.len() + 1 > BUILD_PATH_MAX_BYTES {
            return Err(too_much(format!("the path {} is longer than {BUILD_PATH_MAX_BYTES} bytes", path.display())));
        }
        self.bytes += meta.len();
        self.files.push(Found { path, dir, name, size: meta.len(), mode: meta.permissions().mode() & 0o777 });
        if self.files.len() > BUILD_FILES_MAX {
            return Err(too_much(format!("{} has more than {BUILD_FILES_MAX} files", self.root.display())));
        }
        if self.bytes > BUILD_FILES_MAX_BYTES {
            let limit = show::bytes(BUILD_FILES_MAX_BYTES);
            return Err(too_much(format!("the files of {} are larger than {limit} together", self.root.display())));
        }
        Ok(())
    }
}

fn too_much(message: String) -> Failure {
    Failure::new(Exit::Usage, message)
        .fix("leave out what the image does not need: name it in .dockerignore, such as node_modules or .venv")
}

fn word(kind: std::fs::FileType) -> &'static str {
    match kind {
        kind if kind.is_symlink() => "a link",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_fifo() => "a pipe",
        _ => "a device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(entries: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (path, content) in entries {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below it")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        dir
    }

    fn names(root: &Path) -> Vec<String> {
        let found = Folder::read(root).expect("read");
        found.files.iter().map(|file| format!("{}/{}", file.dir, file.name)).collect()
    }

    async fn sent(root: &Path) -> Value {
        let body = Folder::read(root).expect("read").body(&json!({"dockerfile": "FROM x"}), ProgressBar::hidden());
        let request = reqwest::Request::new(reqwest::Method::POST, "http://x".parse().expect("a URL"));
        let mut request = request;
        *request.body_mut() = Some(body);
        let bytes = futures_util::StreamExt::collect::<Vec<_>>(http_body_stream(request)).await.concat();
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// The chunks of a request's body.
    fn http_body_stream(mut request: reqwest::Request) -> impl futures_util::Stream<Item = Vec<u8>> {
        let body = request.body_mut().take().expect("a body");
        let stream = reqwest::Response::from(http_response(body)).bytes_stream();
        futures_util::StreamExt::map(stream, |chunk| chunk.expect("a chunk").to_vec())
    }

    fn http_response(body: Body) -> http::Response<Body> {
        http::Response::new(body)
    }

    #[test]
    fn what_dockerignore_names_stays_at_home() {
        let dir = folder(&[
            (".dockerignore", b"*.log\nnode_modules\n!keep.log\n# a comment\n"),
            (".git/HEAD", b"x"),
            ("a.log", b"x"),
            ("keep.log", b"x"),
            ("main.py", b"x"),
            ("node_modules/x/y.js", b"x"),
            ("src/b.log", b"x"),
            ("src/deep/c.py", b"x"),
        ]);
        assert_eq!(names(dir.path()), ["./.dockerignore", "./keep.log", "./main.py", "src/b.log", "src/deep/c.py"]);
    }

    #[test]
    fn what_can_not_be_sent_is_named() {
        let dir = folder(&[("main.py", b"x")]);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).expect("a link");
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).expect("a socket");
        let failure = Folder::read(dir.path()).err().expect("refused");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.ends_with("not link (a link), socket (a socket)"), "{}", failure.message);
        std::fs::write(dir.path().join(".dockerignore"), "link\nsocket\n").expect("written");
        assert_eq!(names(dir.path()), ["./.dockerignore", "./main.py"]);
    }

    #[test]
    fn limits_are_told_before_anything_is_sent() {
        let dir = folder(&[("main.py", b"x")]);
        let large = std::fs::File::create(dir.path().join("large")).expect("a file");
        large.set_len(BUILD_FILES_MAX_BYTES).expect("a hole");
        let failure = Folder::read(dir.path()).err().expect("refused");
        assert!(failure.message.contains("larger than 100.00 MiB"), "{}", failure.message);
        assert!(Folder::read(&dir.path().join("main.py")).is_err());
        assert!(Folder::read(&dir.path().join("none")).is_err());
    }

    #[tokio::test]
    async fn the_body_holds_each_file_as_it_is() {
        let dir =
            folder(&[("a/run.sh", b"#!/bin/sh\n"), ("bytes", &[0xff, 0, 1]), ("text \"x\"", "grüße\n".as_bytes())]);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path().join("a/run.sh"), mode).expect("its mode");
        let body = sent(dir.path()).await;
        assert_eq!(body["dockerfile"], "FROM x");
        let files = body["files"].as_array().expect("files");
        assert_eq!(files[0], json!({"dir": "a", "name": "run.sh", "mode": 0o755, "content": "#!/bin/sh\n"}));
        assert_eq!((&files[1]["content"], &files[1]["encoding"]), (&json!("/wAB"), &json!("base64")));
        assert_eq!((&files[2]["name"], &files[2]["content"]), (&json!("text \"x\""), &json!("grüße\n")));
    }
}
