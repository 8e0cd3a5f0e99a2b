//! What a memory image belongs to: it is only ever restored by the engine, on the machine and for the VM that it was taken
//! with.

use std::io::Read as _;
use std::path::Path;

use cakework_core::spec::VmSpec;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::backend::gvisor;

const CHUNK_BYTES: usize = 1 << 16;

/// What of a key is the same for all VMs of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostKey {
    /// SHA-256 of the engine's program.
    pub engine: String,
    /// How it catches system calls.
    pub platform: String,
    /// SHA-256 of the CPU's model and features.
    pub cpu: String,
    /// The boot: what was prepared is not synced, so that a crash of the host may have torn it.
    pub boot_id: String,
}

/// What a VM's prepared state was taken with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The host's part.
    pub host: HostKey,
    /// The image's manifest digest.
    pub image: String,
    /// SHA-256 of the specification: environment, command and sizes are in the memory.
    pub spec: String,
}

impl HostKey {
    /// The key of this host as it is now. Blocks while it reads the engine's program.
    ///
    /// # Errors
    /// Where that or `/proc` can't be read.
    pub fn read(runsc: &Path, boot_id: String) -> std::io::Result<Self> {
        Ok(Self {
            engine: hash_file(runsc)?,
            platform: gvisor::PLATFORM.into(),
            cpu: cpu(&std::fs::read_to_string("/proc/cpuinfo")?),
            boot_id,
        })
    }
}

impl Key {
    /// The key of a VM on a host.
    pub fn new(host: HostKey, spec: &VmSpec) -> Self {
        let text = serde_json::to_vec(spec).expect("plain data");
        Self { host, image: spec.image_digest.clone(), spec: hex::encode(Sha256::digest(text)) }
    }

    /// Why what was taken with `self` can't be used with `now`: a sentence; `None` where it can.
    pub fn differs(&self, now: &Self) -> Option<&'static str> {
        if self.host.boot_id != now.host.boot_id {
            Some("the host was restarted since it was prepared")
        } else if self.host.engine != now.host.engine || self.host.platform != now.host.platform {
            Some("it was prepared by another build of the engine")
        } else if self.host.cpu != now.host.cpu {
            Some("it was prepared on another CPU")
        } else if self.image != now.image {
            Some("it was prepared from another image")
        } else if self.spec != now.spec {
            Some("it was prepared with another configuration")
        } else {
            None
        }
    }
}

fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&chunk[..count]),
        }
    }
}

/// The first CPU stands for all: model and features, without what changes, such as its clock.
fn cpu(cpuinfo: &str) -> String {
    let first = cpuinfo.lines().take_while(|line| !line.is_empty());
    let names = ["vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU part"];
    let kept = first.filter(|line| line.split(':').next().is_some_and(|name| names.contains(&name.trim())));
    hex::encode(Sha256::digest(kept.collect::<Vec<_>>().join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        let text = |text: &str| text.to_owned();
        let host = HostKey { engine: text("e"), platform: text("p"), cpu: text("c"), boot_id: text("b") };
        Key { host, image: text("i"), spec: text("s") }
    }

    #[test]
    fn each_part_of_a_key_counts_and_is_named() {
        let of = |change: fn(&mut Key)| {
            let mut other = key();
            change(&mut other);
            key().differs(&other)
        };
        assert_eq!(of(|_| ()), None);
        for (why, word) in [
            (of(|key| key.host.engine.push('x')), "engine"),
            (of(|key| key.host.platform.push('x')), "engine"),
            (of(|key| key.host.cpu.push('x')), "CPU"),
            (of(|key| key.host.boot_id.push('x')), "restarted"),
            (of(|key| key.image.push('x')), "image"),
            (of(|key| key.spec.push('x')), "configuration"),
        ] {
            assert!(why.is_some_and(|why| why.contains(word)), "{word}");
        }
    }

    #[test]
    fn the_cpus_clock_is_no_part_of_it() {
        let with =
            |mhz: &str, flags: &str| cpu(&format!("model name\t: X\ncpu MHz\t\t: {mhz}\nflags\t\t: {flags}\n\n"));
        assert_eq!(with("2000", "avx"), with("3000", "avx"));
        assert_ne!(with("2000", "avx"), with("2000", "avx avx2"));
    }

    #[test]
    fn an_engine_is_known_by_its_bytes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("runsc");
        std::fs::write(&path, "one").expect("written");
        let one = HostKey::read(&path, "b".into()).expect("readable");
        std::fs::write(&path, "two").expect("written");
        assert_ne!(HostKey::read(&path, "b".into()).expect("readable"), one);
    }
}
