//! Checks of how much room there is.

use std::path::{Path, PathBuf};

use super::row::Row;

const GIB: u64 = 1 << 30;
const DISK_NEEDED_BYTES: u64 = 2 * GIB;
const DISK_GOOD_BYTES: u64 = 10 * GIB;
const MEMORY_NEEDED_BYTES: u64 = GIB / 2;
const MEMORY_GOOD_BYTES: u64 = 2 * GIB;

/// The nearest directory that exists, from a path upwards.
pub fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|part| part.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

pub fn disk(data_dir: &Path) -> Row {
    let dir = existing(data_dir);
    let fix = "choose a --data-dir on a larger file system (df -h)";
    match rustix::fs::statvfs(&dir) {
        Err(error) => Row::gap("disk", format!("{} can't be asked: {error}", dir.display()), fix),
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            judge("disk", free, DISK_NEEDED_BYTES, DISK_GOOD_BYTES, &format!("free at {}", dir.display()), fix)
        }
    }
}

pub fn memory() -> Row {
    let fix = "end other programs, or give the machine more memory (free -m)";
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    match kib {
        None => Row::warn("memory", "the kernel does not say what is available", fix),
        Some(kib) => judge("memory", kib * 1024, MEMORY_NEEDED_BYTES, MEMORY_GOOD_BYTES, "available", fix),
    }
}

fn judge(name: &'static str, bytes: u64, needed: u64, good: u64, what: &str, fix: &str) -> Row {
    let tenths = bytes * 10 / GIB;
    let detail = format!("{}.{} GiB {what}", tenths / 10, tenths % 10);
    if bytes < needed {
        Row::gap(name, format!("{detail}; {} MiB are needed", needed >> 20), fix)
    } else if bytes < good {
        Row::warn(name, format!("{detail}; {} GiB are better", good >> 30), fix)
    } else {
        Row::ok(name, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Status;
    use super::*;

    #[test]
    fn little_is_a_gap_and_some_is_a_warning() {
        let status = |bytes| judge("disk", bytes, DISK_NEEDED_BYTES, DISK_GOOD_BYTES, "free", "fix").status;
        assert_eq!(status(DISK_NEEDED_BYTES - 1), Status::Gap);
        assert_eq!(status(DISK_NEEDED_BYTES), Status::Warn);
        assert_eq!(status(DISK_GOOD_BYTES), Status::Ok);
    }
}
