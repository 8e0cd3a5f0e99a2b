//! `cakework backup` and `cakework restore`: what a server knows, in one tar archive, and a data directory from it.
//!
//! ```text
//! backup.json            the form of the archive, and who made it when
//! api/cakework.db        the database at one moment
//! api/sealing.key        what its secrets are sealed with
//! agent/host.json        which host it was, in no life of its own any more
//! agent/images, layers   images as the store has them, with owners, modes and extended attributes
//! ```
//! VMs are of the host that ran them, and so are their disks, volumes and logs: none of that is in it. On a restored server
//! they are over, their host having been lost.
//!
//! Invariant: an archive and a data directory are whole or not there.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use cakework_server::keys::{self, KeyCommand};
use serde::{Deserialize, Serialize};

use crate::cli::{Addresses, Backup, Restore};
use crate::{config, instance, print_line};

const FORMAT: u32 = 1;
const ABOUT: &str = "backup.json";
const IMAGES: [&str; 2] = ["agent/images", "agent/layers"];
const HOST: &str = "agent/host.json";
const NEEDED: [&str; 3] = ["api/cakework.db", "api/sealing.key", HOST];
/// Of a directory's name in `run`.
const STAGE: &str = "backup-";
/// How often images are read that go away meanwhile.
const TRIES: u32 = 3;
const GONE: &str = "images were removed while they were saved: try again";

/// What the archive says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    format: u32,
    version: String,
    images: bool,
}

/// Writes a backup.
///
/// # Errors
/// A data directory without a server's data, a file that is there already, a disk without room.
pub fn save(options: &Backup) -> anyhow::Result<ExitCode> {
    need_root()?;
    let settings = config::load(&options.overrides, &Addresses::default())?;
    let dir = settings.data_dir;
    if instance::record(&dir)?.is_none() {
        bail!("{} has no server's data; name its directory with --data-dir", dir.display());
    }
    if !dir.join(HOST).exists() {
        bail!("no server has run on {} yet: there is nothing to save", dir.display());
    }
    let run = dir.join("run");
    let Some(_alone) = instance::lock_file(&run.join("backup.lock"), Duration::ZERO)? else {
        bail!("another backup of {} is being written", dir.display());
    };
    // What one that was killed has left holds secrets.
    for entry in std::fs::read_dir(&run)?.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(STAGE)) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    let to_stdout = options.file == Path::new("-");
    ensure!(to_stdout || !options.file.exists(), "{} is there already", options.file.display());
    let stage = tempfile::Builder::new().prefix(STAGE).tempdir_in(&run)?;
    let images = !options.without_images;
    fill(stage.path(), &dir, images)?;
    if to_stdout {
        ensure!(pack(stage.path(), &dir, images, Stdio::inherit())?, GONE);
        return Ok(ExitCode::SUCCESS);
    }
    let mut name = options.file.clone().into_os_string();
    name.push(".new");
    let new = PathBuf::from(name);
    let written = (|| {
        for _ in 0..TRIES {
            let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            if pack(stage.path(), &dir, images, file.try_clone()?.into())? {
                file.sync_all()?;
                std::fs::rename(&new, &options.file)?;
                return Ok(file.metadata()?.len());
            }
        }
        bail!(GONE)
    })();
    let bytes = written.inspect_err(|_| drop(std::fs::remove_file(&new)))?;
    print_line(&format!(
        "{}: {} MiB, with every key and secret in it",
        options.file.display(),
        bytes.div_ceil(1 << 20)
    ));
    Ok(ExitCode::SUCCESS)
}

/// Everything but images.
fn fill(stage: &Path, dir: &Path, images: bool) -> anyhow::Result<()> {
    let api = instance::api_dir(dir);
    for name in ["api", "agent"] {
        DirBuilder::new().mode(0o700).create(stage.join(name))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let copied = runtime.block_on(cakework_server::snapshot::snapshot(&api)).context("the database can't be copied")?;
    let moved = std::fs::copy(&copied, stage.join(NEEDED[0]));
    std::fs::remove_file(&copied)?;
    moved.context("the database can't be copied")?;
    std::fs::copy(api.join("sealing.key"), stage.join(NEEDED[1])).context("sealing.key can't be copied")?;
    let host = dir.join(HOST);
    let host = std::fs::read(&host).with_context(|| format!("{} can't be read", host.display()))?;
    let mut host: serde_json::Value = serde_json::from_slice(&host).context("host.json is damaged")?;
    // No boot is this one: whoever takes it up begins another life, in which nothing of before runs.
    host["bootId"] = "of a backup".into();
    std::fs::write(stage.join(HOST), serde_json::to_vec_pretty(&host)?)?;
    let about = About { format: FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), images };
    Ok(std::fs::write(stage.join(ABOUT), serde_json::to_vec_pretty(&about)?)?)
}

/// Writes the archive; false where an image went away meanwhile and may be in it by half.
fn pack(stage: &Path, dir: &Path, images: bool, out: Stdio) -> anyhow::Result<bool> {
    let mut tar = tar();
    tar.args(["--create", "--sparse", "--warning=no-file-changed", "--file=-", "--directory"]).arg(stage);
    tar.args([ABOUT, "api", HOST]);
    if images {
        tar.arg("--directory").arg(dir).args(IMAGES);
    }
    let before = if images { held(dir)? } else { BTreeSet::new() };
    let status = tar.stdin(Stdio::null()).stdout(out).status().context("tar can't be started")?;
    let is_whole = !images || held(dir)?.is_superset(&before);
    ensure!(status.success() || !is_whole, "tar has failed: {status}");
    Ok(is_whole)
}

/// The images and layers that are there, as nothing else can be called.
fn held(dir: &Path) -> anyhow::Result<BTreeSet<(PathBuf, u64)>> {
    let mut held = BTreeSet::new();
    for name in IMAGES {
        for entry in std::fs::read_dir(dir.join(name))? {
            let entry = entry?;
            held.insert((entry.path(), entry.metadata()?.ino()));
        }
    }
    Ok(held)
}

/// Makes a data directory from a backup.
///
/// # Errors
/// A directory that holds something, a file that is no whole backup, a backup of a later version.
pub fn restore(options: &Restore) -> anyhow::Result<ExitCode> {
    need_root()?;
    let dir = std::path::absolute(&options.data_dir)?;
    match std::fs::read_dir(&dir) {
        Ok(mut entries) => ensure!(entries.next().is_none(), "{} is not empty", dir.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{} can't be read", dir.display())),
    }
    let above = dir.parent().context("the root can't be a data directory")?;
    std::fs::create_dir_all(above)?;
    // Beside it, so that it gets its name by a rename. Removed where anything fails, or by the next try.
    let name = format!(".{}.restore", dir.file_name().unwrap_or_default().display());
    if above.join(&name).exists() {
        std::fs::remove_dir_all(above.join(&name)).context("what an earlier restore left can't be removed")?;
    }
    let new = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(above)?;
    let from = match options.file == Path::new("-") {
        true => Stdio::inherit(),
        false => {
            File::open(&options.file).with_context(|| format!("{} can't be opened", options.file.display()))?.into()
        }
    };
    let mut tar = tar();
    tar.args([
        "--extract",
        "--preserve-permissions",
        "--same-owner",
        "--delay-directory-restore",
        "--file=-",
        "--directory",
    ]);
    let status = tar.arg(new.path()).stdin(from).status().context("tar can't be started")?;
    ensure!(status.success(), "it is no whole backup: tar has failed: {status}");
    let about = read_about(new.path())?;
    for name in NEEDED {
        ensure!(new.path().join(name).is_file(), "the backup lacks {name}");
    }
    // Brings the database to this version, and shows that it can be read.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(keys::offline(&instance::api_dir(new.path()), KeyCommand::List));
    let keys = answer.context("the backup's database can't be used")?.keys.len();
    std::fs::set_permissions(new.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    // Over an empty directory, too.
    std::fs::rename(new.path(), &dir).with_context(|| format!("{} can't be made", dir.display()))?;
    let _ = new.keep();
    File::open(above)?.sync_all()?;
    let images = if about.images { "its images" } else { "no images" };
    print_line(&format!("{}: made by version {}, with {keys} keys and {images}", dir.display(), about.version));
    Ok(ExitCode::SUCCESS)
}

fn read_about(dir: &Path) -> anyhow::Result<About> {
    let mut text = String::new();
    let file = File::open(dir.join(ABOUT)).context("it is no backup of Cakework")?;
    file.take(1 << 16).read_to_string(&mut text).context("it is no backup of Cakework")?;
    let about: About = serde_json::from_str(&text).context("it is no backup of Cakework")?;
    ensure!(about.format == FORMAT, "it was made by version {}, which this one can't read", about.version);
    Ok(about)
}

/// GNU tar, which keeps what a layer consists of: the tar crate knows no sparse files and no extended attributes.
fn tar() -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "--xattrs", "--xattrs-include=*"]).env("LC_ALL", "C");
    tar
}

fn need_root() -> anyhow::Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "layers and secrets are root's: run it as root");
    Ok(())
}
