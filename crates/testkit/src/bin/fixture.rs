//! `fixture`: brings test images to a registry from a shell. The demo and the benchmark use it.
//!
//! The password comes by the environment (`REGISTRY_PASSWORD`): an argument would be seen by everyone.

use anyhow::{Context, Result, bail};
use cakework_testkit::Remote;
use cakework_testkit::images::{self, Compression, Format};

const USAGE: &str = "fixture push <app|large|busybox> <registry host:port> <name> <tag> [gzip|zstd] [oci|docker]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
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
        "large" => images::large(format, compression)?,
        "busybox" => images::busybox(format, compression)?,
        other => bail!("{other} is no image: {USAGE}"),
    };
    let remote = Remote::new((*host).to_owned(), std::env::var("REGISTRY_PASSWORD").ok());
    let digest = remote.push(name, tag, &image.build()).await.context("pushing the image")?;
    say(&format!("{host}/{name}:{tag} {digest}"));
    Ok(())
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
