//! What this host may promise to VMs: configured, or measured once when the agent starts.

use std::path::Path;

use cakework_core::admission::Amounts;

use crate::build::BuildDir;
use crate::config::CapacityConfig;
use crate::vm::VmDir;

/// Memory that the host itself needs, in MiB: this much, or this part of all.
const HOST_MEMORY_MIN_MIB: u64 = 512;
const HOST_MEMORY_PART: u64 = 16;
/// Disk that images and logs need: this part of what is free.
const HOST_DISK_PART: u64 = 10;

/// Measures the host. Blocks.
///
/// # Errors
/// Where `/proc` or the disk can't be read.
pub fn measure(config: &CapacityConfig, dir: &Path) -> std::io::Result<Amounts> {
    let memory_mib = match config.memory_mib {
        Some(memory_mib) => memory_mib,
        None => {
            let total_mib = memory_total_mib(&std::fs::read_to_string("/proc/meminfo")?);
            total_mib.saturating_sub(HOST_MEMORY_MIN_MIB.max(total_mib / HOST_MEMORY_PART))
        }
    };
    let cpus = cpus() as u64;
    let disk_mib = match config.disk_mib {
        Some(disk_mib) => disk_mib,
        None => {
            let stat = rustix::fs::statvfs(dir)?;
            let free_mib = (stat.f_bavail * stat.f_frsize) >> 20;
            (free_mib + held_mib(dir)) / HOST_DISK_PART * (HOST_DISK_PART - 1)
        }
    };
    Ok(Amounts {
        memory_mib,
        cpu_milli: config.cpu_milli.unwrap_or(cpus * 1000 * u64::from(config.cpu_factor)),
        disk_mib,
        slots: u64::from(config.slots),
    })
}

/// CPUs that this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn memory_total_mib(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// What the disks of VMs that are here already take: it is not free, but it is theirs by the same promise. Those of
/// builds are about to be removed.
fn held_mib(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let dirs = [VmDir::all(dir), BuildDir::all(dir)];
    let vms = dirs.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
    let files = vms.flat_map(|vm| {
        let vm = VmDir::at(vm.path());
        let memories = [vm.prepared_pages(), vm.spill().join("pages.img")];
        [vm.disk_file(), vm.volume_file(), vm.prepared_disk()].into_iter().chain(memories)
    });
    let blocks: u64 = files.filter_map(|file| Some(file.symlink_metadata().ok()?.blocks())).sum();
    (blocks * 512) >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_is_not_measured() {
        let config = CapacityConfig {
            memory_mib: Some(7),
            cpu_milli: Some(8),
            disk_mib: Some(9),
            slots: 3,
            ..CapacityConfig::default()
        };
        let amounts = measure(&config, Path::new("/nowhere")).expect("nothing to read");
        assert_eq!(amounts, Amounts { memory_mib: 7, cpu_milli: 8, disk_mib: 9, slots: 3 });
    }

    #[test]
    fn the_host_keeps_some_of_what_it_has() {
        let measured = measure(&CapacityConfig::default(), Path::new("/tmp")).expect("a Linux host");
        let total_mib = memory_total_mib(&std::fs::read_to_string("/proc/meminfo").expect("a Linux host"));
        assert!(measured.memory_mib < total_mib && measured.disk_mib > 0 && measured.cpu_milli >= 1000);
        assert_eq!(memory_total_mib("MemFree: 1 kB\nMemTotal:       2048 kB\n"), 2);
    }
}
