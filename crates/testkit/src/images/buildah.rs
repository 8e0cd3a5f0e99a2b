//! Debian 13's buildah with what it needs, for tests that build the same twice: this machine's own may be older.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::cache::cached;
use super::digest;
use crate::process::run;

const RELEASE: &str = "trixie";
const PACKAGES: &str = "buildah,netavark,tar,base-files,dash,coreutils,libc-bin";
/// Raised when the way in which the cached tar is made changes.
const RECIPE: &str = "1";
/// What nobody reads there.
const UNNEEDED: [&str; 5] = ["./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./dev", "./var/cache"];

/// A tar of a root file system; its packages' scripts did not run.
pub fn buildah_root() -> Result<PathBuf> {
    let name = format!("buildah-{}", &digest(format!("{RECIPE}{RELEASE}{PACKAGES}").as_bytes())[7..23]);
    let dir = cached(&name, |dir| {
        let (source, whole, tar) = (dir.join("sources.list"), dir.join("whole.tar"), dir.join("root.tar"));
        fs::write(&source, archive()?)?;
        let include = format!("--include={PACKAGES}");
        let mut words = Command::new("mmdebstrap");
        words.args(["--quiet", "--variant=extract", &include, RELEASE]).arg(&whole).arg(&source);
        run(words.env("LC_ALL", "C")).context("downloading Debian 13's buildah with mmdebstrap")?;
        let mut words = Command::new("tar");
        words.arg("--delete").arg("--file").arg(&whole).args(UNNEEDED);
        run(&mut words)?;
        fs::rename(&whole, &tar)?;
        Ok(fs::remove_file(source)?)
    })?;
    Ok(dir.join("root.tar"))
}

/// The line of apt's sources for the release, at the archive from which this machine has its own.
fn archive() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release")?;
    let own = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).context("a Debian release")?;
    let format = "$(RELEASE) $(REPO_URI)";
    let targets = run(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let targets = String::from_utf8(targets.stdout)?;
    let uri = targets.lines().find_map(|line| line.strip_prefix(own)?.strip_prefix(' '));
    let uri = uri.with_context(|| format!("apt's sources name no archive of {own}"))?;
    Ok(format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {uri} {RELEASE} main\n"))
}
