//! Sealing: how secrets rest in the database.
//!
//! XChaCha20-Poly1305 with a random nonce (24 bytes, first) under the key in `sealing.key`. The place a secret belongs
//! to (table and row id) is authenticated with it, so that a sealed value moved to another row does not open.
//!
//! While the key is replaced, `sealing.key.old` holds the one before, and what it sealed opens, too.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::Rng as _;
use zeroize::Zeroizing;

const KEY: &str = "sealing.key";
const OLD_KEY: &str = "sealing.key.old";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sealer {
    key: XChaCha20Poly1305,
    old: Option<XChaCha20Poly1305>,
}

/// Sealed bytes that do not open: another key, another row, or changed bytes.
#[derive(Debug, thiserror::Error)]
#[error("a sealed value does not open: sealing.key is another one, or the value was changed")]
pub(crate) struct Broken;

impl Sealer {
    /// Reads the key in `dir`, or makes one at the first start. The file is readable to its owner alone. Blocking.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let key = match read(dir, KEY)? {
            Some(key) => key,
            None => make(dir, &dir.join(KEY))?,
        };
        let cipher = |key: &[u8]| XChaCha20Poly1305::new_from_slice(key).context(KEY);
        Ok(Self { key: cipher(&key)?, old: read(dir, OLD_KEY)?.map(|key| cipher(&key)).transpose()? })
    }

    /// Whether the key is being replaced.
    pub(crate) const fn is_turning(&self) -> bool {
        self.old.is_some()
    }

    /// Seals `secret` for `place`, such as `images/01GTZ…`.
    pub(crate) fn seal(&self, place: &str, secret: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload { msg: secret, aad: place.as_bytes() };
        let sealed =
            self.key.encrypt(XNonce::from_slice(&nonce), payload).expect("the secret is shorter than 2^38 bytes");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens what was sealed for `place`.
    pub(crate) fn open_sealed(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
        let (nonce, body) = sealed.split_at_checked(NONCE_BYTES).ok_or(Broken)?;
        let open = |key: &XChaCha20Poly1305| {
            key.decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: place.as_bytes() }).ok()
        };
        open(&self.key).or_else(|| self.old.as_ref().and_then(open)).map(Zeroizing::new).ok_or(Broken)
    }

    /// The same, sealed with the key of now.
    pub(crate) fn reseal(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, Broken> {
        Ok(self.seal(place, &self.open_sealed(place, sealed)?))
    }
}

/// Puts a new key in the place of the one in `dir`, which becomes the old one. Where that was begun before, it is gone on
/// with. Blocking.
pub(crate) fn replace(dir: &Path) -> anyhow::Result<()> {
    let Some(now) = read(dir, KEY)? else { anyhow::bail!("there is no {KEY}: no server has run here") };
    match read(dir, OLD_KEY)? {
        // The new one is in its place already.
        Some(old) if *old != *now => return Ok(()),
        Some(_) => {}
        None => std::fs::hard_link(dir.join(KEY), dir.join(OLD_KEY)).context(OLD_KEY)?,
    }
    let next = dir.join("sealing.key.next");
    write(&next)?;
    std::fs::File::open(dir)?.sync_all()?;
    std::fs::rename(&next, dir.join(KEY)).context(KEY)?;
    Ok(std::fs::File::open(dir)?.sync_all()?)
}

/// Nothing is sealed with the old key any more. Blocking.
pub(crate) fn forget_old(dir: &Path) -> anyhow::Result<()> {
    std::fs::remove_file(dir.join(OLD_KEY)).context(OLD_KEY)?;
    Ok(std::fs::File::open(dir)?.sync_all()?)
}

/// A key file, where it is there.
fn read(dir: &Path, name: &str) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> {
    let path = dir.join(name);
    let key = match std::fs::read(&path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{name} can't be read")),
    };
    let mode = std::fs::metadata(&path)?.permissions().mode();
    anyhow::ensure!(mode & 0o077 == 0, "{name} is open to others: chmod 600 it");
    anyhow::ensure!(key.len() == KEY_BYTES, "{name} has {} bytes, not {KEY_BYTES}", key.len());
    Ok(Some(key))
}

/// Writes a new key to a file, over half of one that a crash may have left.
fn write(path: &Path) -> anyhow::Result<()> {
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    rand::rng().fill_bytes(&mut key);
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&key)?;
    Ok(file.sync_all()?)
}

/// Makes the key so that a crash leaves either none or a whole one, and that of two makers one wins.
fn make(dir: &Path, path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let new = dir.join(format!("sealing.key.{}", std::process::id()));
    write(&new)?;
    let linked = std::fs::hard_link(&new, path);
    std::fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error).context("sealing.key"),
        _ => {
            std::fs::File::open(dir)?.sync_all()?;
            Ok(Zeroizing::new(std::fs::read(path)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_at_its_place_and_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(dir.path()).unwrap();
        let sealed = sealer.seal("images/1", b"geheim");
        assert!(!sealed.windows(6).any(|window| window == b"geheim"));
        assert_eq!(&**sealer.open_sealed("images/1", &sealed).unwrap(), b"geheim");
        assert!(sealer.open_sealed("images/2", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open_sealed("images/1", &changed).is_err(), "byte {at}");
        }
        assert!(sealer.open_sealed("images/1", b"short").is_err());
        assert_ne!(sealed, sealer.seal("images/1", b"geheim"), "the nonce is new each time");
    }

    #[test]
    fn a_key_is_replaced_without_a_moment_in_which_nothing_opens() {
        let dir = tempfile::tempdir().unwrap();
        let opens = |sealed: &[u8]| Sealer::open(dir.path()).unwrap().open_sealed("x", sealed).is_ok();
        assert!(replace(dir.path()).is_err(), "there is none");
        let first = Sealer::open(dir.path()).unwrap().seal("x", b"y");
        // As if it had died after its first step.
        std::fs::hard_link(dir.path().join(KEY), dir.path().join(OLD_KEY)).unwrap();
        assert!(opens(&first));
        replace(dir.path()).unwrap();
        let second = Sealer::open(dir.path()).unwrap().seal("x", b"y");
        assert!(opens(&first) && opens(&second));
        // Begun again, it goes on with the key that it has.
        replace(dir.path()).unwrap();
        assert!(opens(&first) && opens(&second));
        let turning = Sealer::open(dir.path()).unwrap();
        assert!(turning.is_turning());
        let resealed = turning.reseal("x", &first).unwrap();
        assert!(turning.reseal("other", &first).is_err());
        forget_old(dir.path()).unwrap();
        assert!(!opens(&first), "the old key is of no use");
        assert!(opens(&second) && opens(&resealed));
        assert!(!Sealer::open(dir.path()).unwrap().is_turning());
    }

    #[test]
    fn the_key_stays_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = Sealer::open(dir.path()).unwrap().seal("x", b"y");
        assert_eq!(&**Sealer::open(dir.path()).unwrap().open_sealed("x", &sealed).unwrap(), b"y");
        let path = dir.path().join("sealing.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Sealer::open(dir.path()).is_err());
    }
}
