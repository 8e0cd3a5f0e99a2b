//! The text of a key: `cw_<key id>_<secret>`, the secret 256 random bits in hex.

use cakework_core::id::KeyId;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const SECRET_BYTES: usize = 32;

/// A new secret: the whole text of the key, and what is stored of it.
pub(crate) fn make(id: &KeyId) -> (String, String) {
    let mut bytes = [0; SECRET_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    let secret = hex::encode(bytes);
    (format!("cw_{id}_{secret}"), hash(&secret))
}

/// The key's public name and its secret, where the text has the form of a key.
pub(crate) fn read(text: &str) -> Option<(KeyId, &str)> {
    let (id, secret) = text.strip_prefix("cw_")?.split_once('_')?;
    let plain = secret.len() == 2 * SECRET_BYTES && secret.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if plain { Some((id.parse().ok()?, secret)) } else { None }
}

/// Whether this is the secret, in a time that does not depend on where it differs.
pub(crate) fn matches(secret: &str, stored_hash: &str) -> bool {
    hash(secret).as_bytes().ct_eq(stored_hash.as_bytes()).into()
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_matches_only_itself() {
        let id = KeyId::mint(1, &mut rand::rng());
        let (text, hash) = make(&id);
        let (read_id, secret) = read(&text).unwrap();
        assert_eq!(read_id, id);
        assert!(matches(secret, &hash));
        let (other, _) = make(&id);
        assert!(!matches(read(&other).unwrap().1, &hash));
        assert!(!hash.contains(secret));
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in ["", "cw_", "cw__", "cw_01GV2ZFBT345TRTRDK6VHBECCZ_", "cw_x_00", "Bearer cw_x_y"] {
            assert!(read(text).is_none(), "{text}");
        }
    }
}
