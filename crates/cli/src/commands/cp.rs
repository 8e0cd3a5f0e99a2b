//! `cakework vm cp`: files and folders into a VM, or out of it.
//!
//! What comes out of a VM is a stranger's archive: it is unpacked below the destination alone, without owners, devices or
//! permissions beyond those of a file.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use cakework_api::files::{FileEntry, FileList};
use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{Body, Method, Response};
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::args::VmCp;
use crate::client::{Again, Client, part};
use crate::failure::{Exit, Failure, Result};
use crate::progress::Work;
use crate::show;

/// What the server allows for one transfer.
const TRANSFER: Duration = Duration::from_secs(60 * 60);
/// Bytes that are read of a file at once.
const CHUNK_BYTES: usize = 64 * 1024;
const BYTES: &str = "application/octet-stream";

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Here(PathBuf),
    InVm { vm: String, path: String },
}

pub(super) async fn run(options: &VmCp) -> Result<Exit> {
    let client = Client::new(&options.to)?;
    match (side(&options.from), side(&options.into)) {
        (Side::Here(from), Side::InVm { vm, path }) => send(&client, &from, &vm, &path).await,
        (Side::InVm { vm, path }, Side::Here(into)) => fetch(&client, &vm, &path, &into).await,
        _ => Err(Failure::usage("one side of a copy is in a VM, the other on this machine")
            .fix("write VM_ID:/path for the one in the VM")),
    }
}

/// `VM_ID:/path`, or a path of this machine.
fn side(text: &str) -> Side {
    match text.split_once(':') {
        Some((vm, path)) if path.starts_with('/') && !vm.is_empty() && !vm.contains('/') => {
            Side::InVm { vm: vm.to_owned(), path: path.to_owned() }
        }
        _ => Side::Here(PathBuf::from(text)),
    }
}

fn files_of(vm: &str) -> Result<String> {
    Ok(format!("/v1/vm/{}/files", part(vm)?))
}

async fn send(client: &Client, from: &Path, vm: &str, path: &str) -> Result<Exit> {
    let said = |error: std::io::Error| Failure::usage(format!("{} can't be read: {error}", from.display()));
    let meta = std::fs::metadata(from).map_err(said)?;
    let url = files_of(vm)?;
    let how = (Again::Always, TRANSFER, BYTES);
    if meta.is_dir() {
        let work = Work::begin(&format!("copying {}", from.display()));
        let query = [("path", path.to_owned()), ("format", "tar".to_owned())];
        let body = || archive_of(from.to_owned());
        client.upload::<FileEntry>(Method::PUT, &url, &query, how, body).await?;
        work.done("copied", &format!("{} to {vm}:{path}", from.display()));
        return Ok(Exit::Done);
    }
    let name = from.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    let path = if path.ends_with('/') { format!("{path}{name}") } else { path.to_owned() };
    let work = Work::of_bytes(&format!("copying {}", from.display()), meta.len());
    let mode = format!("{:04o}", std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777);
    let query = [("path", path.clone()), ("mode", mode)];
    let bar = work.bar();
    let body = || {
        bar.set_position(0);
        let (file, bar) = (from.to_owned(), bar.clone());
        body_of(move |send| {
            let mut file = std::fs::File::open(&file)?;
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let count = file.read(&mut buffer)?;
                if count == 0 || send.blocking_send(Ok(Bytes::copy_from_slice(&buffer[..count]))).is_err() {
                    return Ok(());
                }
                bar.inc(count as u64);
            }
        })
    };
    let entry: FileEntry = client.upload(Method::PUT, &url, &query, how, body).await?;
    work.done("copied", &format!("{} to {vm}:{path}", show::bytes(entry.size)));
    Ok(Exit::Done)
}

type Chunks = tokio::sync::mpsc::Sender<std::io::Result<Bytes>>;

/// A body that is written by a thread of its own.
fn body_of(write: impl FnOnce(&Chunks) -> std::io::Result<()> + Send + 'static) -> Body {
    let (send, receive) = tokio::sync::mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(&send) {
            let _ = send.blocking_send(Err(error));
        }
    });
    let stream = futures_util::stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|chunk| (chunk, receive))
    });
    Body::wrap_stream(stream)
}

/// A folder as a tar archive: files, folders and links, as they are.
fn archive_of(dir: PathBuf) -> Body {
    body_of(move |send| {
        let mut archive = tar::Builder::new(std::io::BufWriter::with_capacity(CHUNK_BYTES, Pipe(send)));
        archive.follow_symlinks(false);
        archive.append_dir_all(".", &dir)?;
        archive.into_inner()?.flush()
    })
}

struct Pipe<'a>(&'a Chunks);

impl std::io::Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn fetch(client: &Client, vm: &str, path: &str, into: &Path) -> Result<Exit> {
    let url = files_of(vm)?;
    let response = client.open(&url, &[("path", path.to_owned())], HeaderMap::new()).await?;
    let is_list = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if is_list {
        let list: FileList = response.json().await.map_err(|error| broke(&error))?;
        drop(list);
        return fetch_dir(client, &url, (vm, path), into).await;
    }
    let name = path.rsplit('/').next().unwrap_or("file");
    let target = if into.is_dir() { into.join(name) } else { into.to_owned() };
    let size = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    let work = Work::of_bytes(&format!("copying {path}"), size);
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Beside it first, then in its place: a copy that breaks off leaves what was there.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    let mut chunks = response.bytes_stream();
    let mut count = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| broke(&error))?;
        file.write_all(&chunk)?;
        count += chunk.len() as u64;
        work.at(count);
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.persist(&target).map_err(|error| Failure::from(error.error))?;
    work.done("copied", &format!("{} to {}", show::bytes(count), target.display()));
    Ok(Exit::Done)
}

async fn fetch_dir(client: &Client, url: &str, (vm, path): (&str, &str), into: &Path) -> Result<Exit> {
    if into.exists() && !into.is_dir() {
        return Err(Failure::usage(format!("{} is a file, and {vm}:{path} a folder", into.display())));
    }
    let name = path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty());
    let target = if into.is_dir() { into.join(name.unwrap_or("root")) } else { into.to_owned() };
    let work = Work::begin(&format!("copying {path}"));
    let query = [("path", path.to_owned()), ("format", "tar".to_owned())];
    let response = client.open(url, &query, HeaderMap::new()).await?;
    std::fs::create_dir_all(&target)?;
    let count = unpack(response, target.clone()).await?;
    work.done("copied", &format!("{count} entries to {}", target.display()));
    Ok(Exit::Done)
}

/// Unpacks an archive below a folder; gives the number of entries.
async fn unpack(response: Response, target: PathBuf) -> Result<usize> {
    let stream = response.bytes_stream().map_err(std::io::Error::other);
    let reader = SyncIoBridge::new(StreamReader::new(stream));
    let work = move || -> std::io::Result<usize> {
        let mut archive = tar::Archive::new(reader);
        archive.set_preserve_permissions(false);
        archive.set_preserve_ownerships(false);
        archive.set_unpack_xattrs(false);
        let mut count = 0;
        for entry in archive.entries()? {
            let mut entry = entry?;
            let kind = entry.header().entry_type();
            if !(kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link()) {
                continue;
            }
            // `false`: its path, or a link on its way, leads out of the folder.
            count += usize::from(entry.unpack_in(&target)?);
        }
        Ok(count)
    };
    let done =
        tokio::task::spawn_blocking(work).await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    done.map_err(Failure::from)
}

fn broke(error: &reqwest::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("the copy broke off: {error}")).fix("run it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_in_a_vm_or_here() {
        let in_vm = |vm: &str, path: &str| Side::InVm { vm: vm.to_owned(), path: path.to_owned() };
        assert_eq!(side("e784996f346483:/app"), in_vm("e784996f346483", "/app"));
        for here in ["a.txt", "./a:b", "a:b", "/abs:/x", ":/x", "C:", "dir/x:/y"] {
            assert_eq!(side(here), Side::Here(PathBuf::from(here)), "{here}");
        }
    }

    #[tokio::test]
    async fn an_archive_of_a_strangers_stays_below_its_folder() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind: tar::EntryType, link: Option<&str>| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o4777);
            header.set_size(if link.is_none() && kind.is_file() { 1 } else { 0 });
            let name = path.as_bytes();
            header.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name);
            if let Some(link) = link {
                header.set_link_name(link).expect("a link");
            }
            header.set_cksum();
            let body: &[u8] = if link.is_none() && kind.is_file() { b"x" } else { b"" };
            archive.append(&header, body).expect("added");
        };
        use tar::EntryType;
        add("good", EntryType::Regular, None);
        add("../out", EntryType::Regular, None);
        add("/abs", EntryType::Regular, None);
        add("up", EntryType::Symlink, Some(".."));
        add("up/through", EntryType::Regular, None);
        add("device", EntryType::Char, None);
        let bytes = archive.into_inner().expect("whole");
        let target = dir.path().join("target");
        std::fs::create_dir(&target).expect("made");
        let response = Response::from(http::Response::new(Body::from(bytes)));
        // One that leads out through a link ends it.
        let _ = unpack(response, target.clone()).await;
        let beside: Vec<_> =
            std::fs::read_dir(dir.path()).expect("read").map(|entry| entry.expect("one").file_name()).collect();
        assert_eq!(beside, ["target"]);
        assert_eq!(std::fs::read(target.join("good")).expect("there"), b"x");
        assert!(!target.join("device").exists());
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(target.join("good")).expect("there").permissions(),
        );
        assert_eq!(mode & 0o6000, 0, "{mode:o}");
    }
}
