//! Which host this is, and which of its lives: kept in `host.json`.
//!
//! Invariant: two agents that could hold the same VMs bear the same incarnation. It is new with each boot, since no VM
//! outlives one, and with each data directory, since none of another's is known there.

use std::path::Path;

use cakework_core::id::{HostId, Incarnation};
use serde::{Deserialize, Serialize};

use crate::sys::clock;
use crate::sys::file::{self, Survives};

/// The host as this agent speaks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// The host.
    pub host_id: HostId,
    /// Its life.
    pub incarnation: Incarnation,
    /// The boot that this life belongs to.
    pub boot_id: String,
    /// It takes no new VMs.
    #[serde(default)]
    pub draining: bool,
}

impl Host {
    /// Reads who this host is, or makes it up in a new directory. Blocks.
    ///
    /// # Errors
    /// Where `host.json` can't be read or written: a host does not change its name because of a bad disk.
    pub fn open(dir: &Path) -> std::io::Result<Self> {
        let path = Self::path(dir);
        let boot_id = clock::boot_id()?;
        let (now_ms, mut rng) = (clock::unix_ms(), rand::rng());
        let host = match file::read_json::<Self>(&path)? {
            Some(host) if host.boot_id == boot_id => return Ok(host),
            Some(host) => Self { incarnation: Incarnation::mint(now_ms, &mut rng), boot_id, ..host },
            None => Self {
                host_id: HostId::mint(now_ms, &mut rng),
                incarnation: Incarnation::mint(now_ms, &mut rng),
                boot_id,
                draining: false,
            },
        };
        host.save(dir)?;
        Ok(host)
    }

    /// Writes it down. Blocks.
    ///
    /// # Errors
    /// What the disk said.
    pub fn save(&self, dir: &Path) -> std::io::Result<()> {
        file::write_json(&Self::path(dir), self, Survives::PowerLoss)
    }

    fn path(dir: &Path) -> std::path::PathBuf {
        dir.join("host.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_keeps_its_name_and_changes_its_life_with_the_boot() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Host::open(dir.path()).expect("a new host");
        assert_eq!(Host::open(dir.path()).expect("the same life"), first);
        Host { boot_id: "another".into(), draining: true, ..first.clone() }.save(dir.path()).expect("written");
        let later = Host::open(dir.path()).expect("the same host");
        assert_eq!((later.host_id, later.draining), (first.host_id, true));
        assert_ne!(later.incarnation, first.incarnation);
    }
}
