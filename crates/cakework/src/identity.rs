//! Who the unprivileged children are: the uids of api and dns.
//!
//! The api is the system user `cakework` where there is one, else a number of its own per instance from
//! 61184–65519, the range that systemd keeps for such users (systemd.io/UIDS-GIDS), unused in the host's user
//! database. Where an unprivileged uid cannot walk to the data directory, the api stays uid 0 without capabilities.
//! Invariant: dns never shares a uid with anything else.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const FIRST: u32 = 61_184;
const LAST: u32 = 65_519;
/// Bytes of the host's user database that are read.
const DATABASE_MAX_BYTES: u64 = 4 << 20;

/// The user and group of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Identity {
    /// Root in name only; see [`crate::privilege::confine`].
    pub const NAMELESS_ROOT: Self = Self { uid: 0, gid: 0 };
}

/// The directory on the way to `dir` that an unprivileged user cannot pass, if there is one. Parts that do not exist
/// yet will be made passable.
pub fn barrier(dir: &Path) -> Option<PathBuf> {
    let mut above: Vec<&Path> = dir.ancestors().skip(1).collect();
    above.reverse();
    above
        .into_iter()
        .find(|part| part.metadata().is_ok_and(|found| found.permissions().mode() & 0o001 == 0))
        .map(Into::into)
}

/// The system user `cakework`, if the host has one.
pub fn system_user() -> Option<Identity> {
    read_database("/etc/passwd").lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            ["cakework", _, uid, gid, ..] => Some(Identity { uid: uid.parse().ok()?, gid: gid.parse().ok()? }),
            _ => None,
        }
    })
}

/// `count` neighbouring ids, free in the user database and not in `taken`, beginning at a place that `seed` gives.
pub fn free_ids(seed: u64, count: u32, taken: &BTreeSet<u32>) -> Option<u32> {
    let mut used = taken.clone();
    for file in ["/etc/passwd", "/etc/group"] {
        used.extend(read_database(file).lines().filter_map(|line| line.split(':').nth(2)?.parse::<u32>().ok()));
    }
    let places = (LAST - FIRST + 1) / count;
    let first = u32::try_from(seed % u64::from(places)).expect("less than a u32");
    (0..places)
        .map(|step| FIRST + ((first + step) % places) * count)
        .find(|start| (*start..start + count).all(|id| !used.contains(&id)))
}

/// The owner of a path, where it exists.
pub fn owner(path: &Path) -> Option<Identity> {
    path.symlink_metadata().ok().map(|found| Identity { uid: found.uid(), gid: found.gid() })
}

fn read_database(path: &str) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open(path) {
        // A database that can't be read as text names nobody that we could be.
        let _ = file.take(DATABASE_MAX_BYTES).read_to_string(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_from_the_range_and_avoid_what_is_taken() {
        let none = BTreeSet::new();
        for seed in [0, 1, 2167, u64::MAX] {
            let start = free_ids(seed, 2, &none).expect("room");
            assert!((FIRST..LAST).contains(&start));
            let taken = BTreeSet::from([start + 1]);
            let other = free_ids(seed, 2, &taken).expect("room");
            assert_ne!(start, other);
        }
        assert_eq!(free_ids(3, 2, &(FIRST..=LAST).collect()), None);
    }

    #[test]
    fn a_closed_directory_is_the_barrier() {
        let dir = tempfile::tempdir().expect("a directory");
        let closed = dir.path().join("closed");
        std::fs::create_dir(&closed).expect("made");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("set");
        assert_eq!(barrier(&closed.join("data")), Some(closed.clone()));
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o711)).expect("set");
        assert_eq!(barrier(&closed.join("data")), None);
    }
}
