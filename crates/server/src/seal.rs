//! Sealing: how secrets rest in the database.
//!
//! XChaCha20-Poly1305 with a random nonce (24 bytes, first) under the key in `sealing.key`. The place a secret belongs
//! to (table and row id) is authenticated with it, so that a sealed value moved to another row does not open.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::Rng as _;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sealer(XChaCha20Poly1305);

/// Sealed bytes that do not open: another key, another row, or changed bytes.
#[derive(Debug, thiserror::Error)]
#[error("a sealed value does not open: sealing.key is another one, or the value was changed")]
pub(crate) struct Broken;

impl Sealer {
    /// Reads the key in `dir`, or makes one at the first start. The file is readable to its owner alone. Blocking.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("sealing.key");
        let key = match std::fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(dir, &path)?,
            Err(error) => return Err(error).context("sealing.key can't be read"),
        };
        let mode = std::fs::metadata(&path)?.permissions().mode();
        anyhow::ensure!(mode & 0o077 == 0, "sealing.key is open to others: chmod 600 it");
        anyhow::ensure!(key.len() == KEY_BYTES, "sealing.key has {} bytes, not {KEY_BYTES}", key.len());
        Ok(Self(XChaCha20Poly1305::new_from_slice(&key).context("sealing.key")?))
    }

    /// Seals `secret` for `place`, such as `images/01GTZ…`.
    pub(crate) fn seal(&self, place: &str, secret: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload { msg: secret, aad: place.as_bytes() };
        let sealed =
            self.0.encrypt(XNonce::from_slice(&nonce), payload).expect("the secret is shorter than 2^38 bytes");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens what was sealed for `place`.
    pub(crate) fn open_sealed(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
        let (nonce, body) = sealed.split_at_checked(NONCE_BYTES).ok_or(Broken)?;
        let payload = Payload { msg: body, aad: place.as_bytes() };
        self.0.decrypt(XNonce::from_slice(nonce), payload).map(Zeroizing::new).map_err(|_| Broken)
    }
}

/// Makes the key so that a crash leaves either none or a whole one, and that of two makers one wins.
fn make(dir: &Path, path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    rand::rng().fill_bytes(&mut key);
    let new = dir.join(format!("sealing.key.{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&key)?;
    file.sync_all()?;
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
