//! Images and layers as they lie on the disk.
//!
//! ```text
//! DIR/images/<hex of manifest digest>/manifest.json, config.json   the bytes of the registry, verified
//! DIR/layers/<hex of diff-id>/                                     a layer, unpacked and verified
//! DIR/steps/                                                       the build steps' cache, see [`super::steps`]
//! DIR/tmp/<n>/                                                     half of either; emptied when the store opens
//! ```
//! A directory gets its name by a rename after everything in it is on the disk, so what has a name is whole. Blocking.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::ImageLimits;
use crate::digest::Digest;
use crate::manifest::{self, Document, Layer, Plan};

const MANIFEST: &str = "manifest.json";
const CONFIG: &str = "config.json";

/// The store's directory.
#[derive(Debug, Clone)]
pub struct Disk {
    dir: PathBuf,
    next_tmp: Arc<AtomicU64>,
}

impl Disk {
    /// Makes the directories, and removes what was not finished.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let disk = Self { dir: dir.to_owned(), next_tmp: Arc::default() };
        for name in ["images", "layers", "steps", "tmp"] {
            let path = dir.join(name);
            // Layers have setuid programs of strangers in them: nobody but root may come near.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        }
        for entry in fs::read_dir(dir.join("tmp"))? {
            remove(&entry?.path())?;
        }
        Ok(disk)
    }

    /// A path for something unfinished. It is this process' own: another one would have been locked out.
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp").join(self.next_tmp.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Where the build steps' cache is.
    pub fn steps(&self) -> PathBuf {
        self.dir.join("steps")
    }

    /// Where a layer lies once it is there.
    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(diff_id.hex())
    }

    /// A layer is there.
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer(diff_id).is_dir()
    }

    /// Where an overlay finds an image's layers. A layer that occurs twice counts at its upper place: whatever it hides
    /// or brings there, it does in the lower one too, and an overlay takes no directory twice.
    pub fn lower_directories(&self, layers: &[Layer]) -> Vec<PathBuf> {
        let mut seen = HashSet::new();
        let mut directories: Vec<_> = layers
            .iter()
            .rev()
            .filter(|layer| seen.insert(&layer.diff_id))
            .map(|layer| self.layer(&layer.diff_id))
            .collect();
        directories.reverse();
        directories
    }

    /// Gives an unpacked layer its name. One that is there already stays.
    pub fn keep_layer(&self, tmp: &Path, diff_id: &Digest) -> io::Result<()> {
        self.keep(tmp, &self.layer(diff_id))
    }

    /// Writes an image's documents.
    pub fn keep_image(&self, digest: &Digest, manifest: &[u8], config: &[u8]) -> io::Result<()> {
        let tmp = self.tmp();
        fs::DirBuilder::new().mode(0o700).create(&tmp)?;
        for (name, bytes) in [(MANIFEST, manifest), (CONFIG, config)] {
            let mut file = File::create_new(tmp.join(name))?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        File::open(&tmp)?.sync_all()?;
        self.keep(&tmp, &self.image(digest))
    }

    /// Takes a layer's name away at once; answers what is then to be removed.
    pub fn unname_layer(&self, diff_id: &Digest) -> Option<PathBuf> {
        let tmp = self.tmp();
        fs::rename(self.layer(diff_id), &tmp).is_ok().then_some(tmp)
    }

    /// The same for an image's documents.
    pub fn unname_image(&self, digest: &Digest) -> Option<PathBuf> {
        let tmp = self.tmp();
        fs::rename(self.image(digest), &tmp).is_ok().then_some(tmp)
    }

    /// Every image whose documents are whole, whether its layers are there or not. One that is not is forgotten.
    pub fn images(&self, limits: &ImageLimits) -> io::Result<Vec<(Digest, Plan)>> {
        let mut images = Vec::new();
        for entry in fs::read_dir(self.dir.join("images"))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digest = format!("sha256:{name}").parse::<Digest>().ok();
            match digest.and_then(|digest| read_image(&path, &digest, limits).map(|plan| (digest, plan))) {
                Some(image) => images.push(image),
                None => remove(&path)?,
            }
        }
        Ok(images)
    }

    /// Every layer that is here.
    pub fn layers(&self) -> io::Result<Vec<Digest>> {
        let name = |entry: fs::DirEntry| entry.file_name().to_str().map(|name| format!("sha256:{name}"));
        let mut layers = Vec::new();
        for entry in fs::read_dir(self.dir.join("layers"))? {
            layers.extend(name(entry?).and_then(|name| name.parse().ok()));
        }
        Ok(layers)
    }

    /// Removes every layer that is not among `wanted`.
    pub fn sweep_layers(&self, wanted: &HashSet<Digest>) -> io::Result<()> {
        for entry in fs::read_dir(self.dir.join("layers"))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_wanted = format!("sha256:{name}").parse().is_ok_and(|diff_id| wanted.contains(&diff_id));
            if !is_wanted {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn image(&self, digest: &Digest) -> PathBuf {
        self.dir.join("images").join(digest.hex())
    }

    fn keep(&self, tmp: &Path, path: &Path) -> io::Result<()> {
        match fs::rename(tmp, path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                remove(tmp)
            }
            Err(error) => Err(error),
            Ok(()) => File::open(path.parent().expect("below the store's directory"))?.sync_all(),
        }
    }
}

/// Removes a directory or file; links in it are not followed. Gone already is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn read_image(path: &Path, digest: &Digest, limits: &ImageLimits) -> Option<Plan> {
    let bytes = fs::read(path.join(MANIFEST)).ok().filter(|bytes| Digest::of(bytes) == *digest)?;
    let Ok(Document::Manifest(manifest)) = manifest::read(&bytes) else {
        return None;
    };
    let expected = manifest.config.digest().ok()?;
    let config = fs::read(path.join(CONFIG)).ok().filter(|bytes| Digest::of(bytes) == expected)?;
    manifest::plan(&manifest, &config, limits).ok()
}
