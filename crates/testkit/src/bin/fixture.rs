//! `fixture`: brings test images to a registry from a shell, and serves repositories. The demo and the benchmark use it.
//!
//! The password comes by the environment (`REGISTRY_PASSWORD`), as does the git server's token (`GIT_SERVER_TOKEN`):
//! an argument would be seen by everyone.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cakework_testkit::git::{Access, File};
use cakework_testkit::images::{self, Compression, Format};
use cakework_testkit::{GitServer, Remote};

const USAGE: &str = "\
fixture push <app|python|large|busybox> <registry host:port> <name> <tag> [gzip|zstd] [oci|docker]
       fixture git-server --dir <dir> --port <port> [org/repo=<folder>]...";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["git-server", "--dir", dir, "--port", port, repositories @ ..] = words.as_slice() {
        return serve_git(Path::new(dir), port.parse().context("a port")?, repositories).await;
    }
    let ["push", kind, host, name, tag, rest @ ..] = words.as_slice() else { bail!("usage: {USAGE}") };
    let compression = match rest.first() {
        None | Some(&"gzip") => Compression::Gzip,
        Some(&"zstd") => Compression::Zstd,
        Some(other) => bail!("{other} is no compression: {USAGE}"),
    };
    let format = match rest.get(1) {
        None | Some(&"oci") => Format::Oci,
        Some(&"docker") => Format::Docker,
        Some(other) => bail!("{other} is no format: {USAGE}"),
    };
    let image = match *kind {
        "app" => images::python_app(format, compression)?,
        "python" => images::python(format, compression)?,
        "large" => images::large(format, compression)?,
        "busybox" => images::busybox(format, compression)?,
        other => bail!("{other} is no image: {USAGE}"),
    };
    let remote = Remote::new((*host).to_owned(), std::env::var("REGISTRY_PASSWORD").ok());
    let digest = remote.push(name, tag, &image.build()).await.context("pushing the image")?;
    say(&format!("{host}/{name}:{tag} {digest}"));
    Ok(())
}

/// Serves private repositories, each made of a folder, until it is killed.
async fn serve_git(dir: &Path, port: u16, repositories: &[&str]) -> Result<()> {
    let token = std::env::var("GIT_SERVER_TOKEN").context("GIT_SERVER_TOKEN holds the token")?;
    std::fs::create_dir_all(dir)?;
    let server = GitServer::start_in(dir, port, token).await?;
    for repository in repositories {
        let (name, folder) = repository.split_once('=').with_context(|| format!("usage: {USAGE}"))?;
        let repository = server.create(name, Access::Private)?;
        let commit = repository.commit("main", &File::all_of(Path::new(folder))?)?;
        say(&format!("{name} {commit}"));
    }
    say(&format!("ready {} {}", server.base_url(), server.ca_file().display()));
    std::future::pending().await
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
