//! Control groups of one instance, on either layout: a hierarchy per controller (v1, also beside an empty v2 tree), or
//! the one hierarchy of v2.
//!
//! ```text
//! [PARENT/]cakework-<instance>/<vmId>      a VM's sandbox, with its limits
//! [PARENT/]cakework-<instance>/monitors    all monitors: no service's stop reaches them
//! ```
//! Invariant: a group is made under every hierarchy before anything runs in it, so that membership in any one of them
//! names all of a VM's processes.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use cakework_core::id::InstanceId;

use super::process::{self, ProcessRef};

/// The name of the group in which all monitors are.
pub const MONITORS: &str = "monitors";

const MOUNT: &str = "/sys/fs/cgroup";
const PERIOD_US: u64 = 100_000;
/// Levels of groups that something inside a group may have made.
const DEPTH_MAX: usize = 8;

/// The file by which a group is frozen, and what is written to it.
struct Freezer {
    file: &'static str,
    frozen: &'static str,
    thawed: &'static str,
}

/// Of v1's controller, and of v2, where every group but the root has it.
const FREEZERS: [Freezer; 2] = [
    Freezer { file: "freezer.state", frozen: "FROZEN", thawed: "THAWED" },
    Freezer { file: "cgroup.freeze", frozen: "1", thawed: "0" },
];

/// What a group may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes; none of it may be swapped.
    pub memory_bytes: u64,
    /// CPU time in thousandths of a CPU.
    pub cpu_milli: u64,
    /// Processes and threads of the host.
    pub pids: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    PerController,
    Unified,
}

/// The control groups of one instance.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: Layout,
    /// Where the hierarchies are mounted.
    roots: Vec<PathBuf>,
    /// The instance's own group, from a hierarchy's root, without a leading slash.
    base: PathBuf,
}

impl Cgroups {
    /// Finds the hierarchies; makes nothing.
    ///
    /// # Errors
    /// Where there are none that can limit memory, CPU and processes.
    pub fn find(instance: &InstanceId, parent: Option<&str>) -> Result<Self> {
        let base = Path::new(parent.unwrap_or("").trim_matches('/')).join(format!("cakework-{instance}"));
        if Path::new(MOUNT).join("cgroup.controllers").exists() {
            return Ok(Self { layout: Layout::Unified, roots: vec![MOUNT.into()], base });
        }
        let per_controller = super::mounts::of_type("cgroup")?;
        if !["memory", "cpu", "pids"].iter().all(|name| per_controller.iter().any(|(_, options)| has(options, name))) {
            return Err(Error::new(ErrorKind::NotFound, "no cgroup hierarchies for memory, cpu and pids are mounted"));
        }
        // Beside the controllers there may be an empty v2 tree, by which a service manager finds its processes.
        let roots = per_controller.into_iter().chain(super::mounts::of_type("cgroup2")?).map(|(root, _)| root);
        Ok(Self { layout: Layout::PerController, roots: roots.collect(), base })
    }

    /// The name of a group for the engine: from a hierarchy's root.
    pub fn path_of(&self, name: &str) -> PathBuf {
        Path::new("/").join(&self.base).join(name)
    }

    /// Makes a group under every hierarchy; one that is there gets the limits anew.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn make(&self, name: &str, limits: Option<&Limits>) -> Result<()> {
        for root in &self.roots {
            let mut dir = root.clone();
            for part in self.base.components().chain(Path::new(name).components()) {
                if self.layout == Layout::Unified {
                    enable_controllers(&dir)?;
                }
                dir.push(part);
                match std::fs::create_dir(&dir) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
                inherit_cpuset(&dir)?;
            }
            if let Some(limits) = limits {
                match self.layout {
                    Layout::PerController => limit_per_controller(&dir, limits)?,
                    Layout::Unified => limit_unified(&dir, limits)?,
                }
            }
        }
        Ok(())
    }

    /// Moves a process into a group.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn join(&self, name: &str, pid: i32) -> Result<()> {
        for dir in self.dirs(name) {
            write(&dir.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// How often the kernel killed something in a group for want of memory; 0 where the group is gone.
    pub fn oom_kills(&self, name: &str) -> u64 {
        let file = match self.layout {
            Layout::PerController => "memory.oom_control",
            Layout::Unified => "memory.events",
        };
        let texts = self.dirs(name).filter_map(|dir| std::fs::read_to_string(dir.join(file)).ok());
        texts.map(|text| counter(&text, "oom_kill")).max().unwrap_or(0)
    }

    /// CPU time that a group has used, in nanoseconds; 0 where the group is gone.
    pub fn cpu_ns(&self, name: &str) -> u64 {
        let read = |dir: PathBuf| match self.layout {
            Layout::PerController => std::fs::read_to_string(dir.join("cpuacct.usage")).ok()?.trim().parse().ok(),
            Layout::Unified => {
                Some(counter(&std::fs::read_to_string(dir.join("cpu.stat")).ok()?, "usage_usec").saturating_mul(1000))
            }
        };
        self.dirs(name).filter_map(read).max().unwrap_or(0)
    }

    /// Memory that a group holds and the kernel can't take back by itself, in bytes; 0 where the group is gone.
    pub fn memory_bytes(&self, name: &str) -> u64 {
        let (usage, files) = match self.layout {
            Layout::PerController => ("memory.usage_in_bytes", ["total_active_file", "total_inactive_file"]),
            Layout::Unified => ("memory.current", ["active_file", "inactive_file"]),
        };
        let read = |dir: PathBuf| {
            let usage: u64 = std::fs::read_to_string(dir.join(usage)).ok()?.trim().parse().ok()?;
            let stat = std::fs::read_to_string(dir.join("memory.stat")).ok()?;
            Some(usage.saturating_sub(files.iter().map(|name| counter(&stat, name)).sum()))
        };
        self.dirs(name).filter_map(read).max().unwrap_or(0)
    }

    /// The processes in a group and below it.
    pub fn processes(&self, name: &str) -> Vec<ProcessRef> {
        let mut pids: Vec<i32> = self.dirs(name).flat_map(|dir| pids_below(&dir, DEPTH_MAX)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.into_iter().filter_map(ProcessRef::of).collect()
    }

    /// Takes the CPU from all processes in a group and below it, until it is thawed. They learn nothing of it. Where no
    /// hierarchy can freeze, nothing happens.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn freeze(&self, name: &str) -> Result<()> {
        FREEZERS.iter().try_for_each(|freezer| self.set_freezer(name, freezer, freezer.frozen))
    }

    /// Gives the CPU back; fine where it was not taken.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn thaw(&self, name: &str) -> Result<()> {
        FREEZERS.iter().try_for_each(|freezer| self.set_freezer(name, freezer, freezer.thawed))
    }

    /// Whether the CPU was taken from a group.
    pub fn is_frozen(&self, name: &str) -> bool {
        let texts = |freezer: &Freezer| {
            let mut texts = self.dirs(name).filter_map(|dir| std::fs::read_to_string(dir.join(freezer.file)).ok());
            texts.any(|text| text.trim() != freezer.thawed)
        };
        FREEZERS.iter().any(texts)
    }

    fn set_freezer(&self, name: &str, freezer: &Freezer, state: &str) -> Result<()> {
        self.dirs(name).try_for_each(|dir| write_if_there(&dir.join(freezer.file), state))
    }

    /// Kills all processes in a group and below it; true where there was none any more.
    pub fn kill(&self, name: &str) -> bool {
        if self.layout == Layout::Unified {
            // Since Linux 5.14; before, the list below does it.
            let _ = write(&Path::new(MOUNT).join(&self.base).join(name).join("cgroup.kill"), "1");
        }
        let processes = self.processes(name);
        for &process in &processes {
            process::kill(process);
        }
        // Under v1, what is frozen dies only then. A group that is gone is thawed enough.
        let _ = self.thaw(name);
        processes.is_empty()
    }

    /// Removes a group; absent is fine.
    ///
    /// # Errors
    /// While a process is in it.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.dirs(name).try_for_each(|dir| remove_below(&dir, DEPTH_MAX))
    }

    /// Removes the instance's own group, which must be empty; absent is fine.
    ///
    /// # Errors
    /// While a process is in it.
    pub fn remove_base(&self) -> Result<()> {
        self.remove("")
    }

    /// The groups that the instance has.
    pub fn list(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .dirs("")
            .flat_map(|dir| subdirs(&dir))
            .filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn dirs<'a>(&'a self, name: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
        self.roots.iter().map(move |root| root.join(&self.base).join(name))
    }
}

fn has(options: &str, controller: &str) -> bool {
    options.split(',').any(|option| option == controller)
}

fn write(file: &Path, value: &str) -> Result<()> {
    std::fs::write(file, value).map_err(|error| Error::new(error.kind(), format!("{}: {error}", file.display())))
}

/// Writes where the file exists: which files there are says which controllers a hierarchy has.
fn write_if_there(file: &Path, value: &str) -> Result<()> {
    if file.exists() { write(file, value) } else { Ok(()) }
}

/// A new cpuset group of v1 is empty, and takes no process until it has its parent's CPUs and memory nodes.
fn inherit_cpuset(dir: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let Some(parent) = dir.parent() else { continue };
        let (Ok(own), Ok(above)) =
            (std::fs::read_to_string(dir.join(name)), std::fs::read_to_string(parent.join(name)))
        else {
            continue;
        };
        if own.trim().is_empty() && !above.trim().is_empty() {
            write(&dir.join(name), above.trim())?;
        }
    }
    Ok(())
}

fn enable_controllers(dir: &Path) -> Result<()> {
    let wanted = ["cpu", "memory", "pids"];
    let on = std::fs::read_to_string(dir.join("cgroup.subtree_control"))?;
    if wanted.iter().all(|name| on.split_whitespace().any(|word| word == *name)) {
        return Ok(());
    }
    write(&dir.join("cgroup.subtree_control"), &wanted.map(|name| format!("+{name}")).join(" "))
}

fn limit_per_controller(dir: &Path, limits: &Limits) -> Result<()> {
    write_if_there(&dir.join("memory.limit_in_bytes"), &limits.memory_bytes.to_string())?;
    write_if_there(&dir.join("memory.memsw.limit_in_bytes"), &limits.memory_bytes.to_string())?;
    write_if_there(&dir.join("memory.swappiness"), "0")?;
    write_if_there(&dir.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
    write_if_there(&dir.join("cpu.cfs_quota_us"), &quota_us(limits).to_string())?;
    write_if_there(&dir.join("cpu.cfs_burst_us"), &burst_us(limits).to_string())?;
    write_if_there(&dir.join("cpu.shares"), &(limits.cpu_milli * 1024 / 1000).max(2).to_string())?;
    write_if_there(&dir.join("pids.max"), &limits.pids.to_string())
}

fn limit_unified(dir: &Path, limits: &Limits) -> Result<()> {
    write(&dir.join("memory.max"), &limits.memory_bytes.to_string())?;
    write_if_there(&dir.join("memory.swap.max"), "0")?;
    write_if_there(&dir.join("memory.oom.group"), "1")?;
    write(&dir.join("cpu.max"), &format!("{} {PERIOD_US}", quota_us(limits)))?;
    write_if_there(&dir.join("cpu.max.burst"), &burst_us(limits).to_string())?;
    write_if_there(&dir.join("cpu.weight"), &(limits.cpu_milli / 10).clamp(1, 10_000).to_string())?;
    write(&dir.join("pids.max"), &limits.pids.to_string())
}

const fn quota_us(limits: &Limits) -> u64 {
    limits.cpu_milli * PERIOD_US / 1000
}

/// What a group that idled may use beyond its quota in one period (Linux 5.14): as much as it left unused, at most one
/// quota, which is all that the kernel takes. A sandbox boots with several threads at once; without it each start stands
/// still for a part of its first periods.
const fn burst_us(limits: &Limits) -> u64 {
    quota_us(limits)
}

/// The number beside `key`, 0 where it is missing.
fn counter(text: &str, key: &str) -> u64 {
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(name, _)| *name == key).and_then(|(_, count)| count.trim().parse().ok()).unwrap_or(0)
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn pids_below(dir: &Path, depth: usize) -> Vec<i32> {
    let own = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect();
    if depth > 0 {
        pids.extend(subdirs(dir).iter().flat_map(|sub| pids_below(sub, depth - 1)));
    }
    pids
}

fn remove_below(dir: &Path, depth: usize) -> Result<()> {
    if depth > 0 {
        subdirs(dir).iter().try_for_each(|sub| remove_below(sub, depth - 1))?;
    }
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::new(error.kind(), format!("{}: {error}", dir.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_oom_counter_is_read_from_either_layout() {
        assert_eq!(counter("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), 3);
        assert_eq!(counter("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 1\n", "oom_kill"), 1);
        assert_eq!(counter("", "oom_kill"), 0);
    }

    #[test]
    fn a_group_holds_limits_and_kills_what_is_in_it() {
        let instance = InstanceId::mint(&mut rand::rng());
        let cgroups = Cgroups::find(&instance, None).expect("this host has cgroups");
        let limits = Limits { memory_bytes: 64 << 20, cpu_milli: 500, pids: 100 };
        cgroups.make("one", Some(&limits)).expect("this test runs as root");
        cgroups.make("one", Some(&limits)).expect("making it twice is fine");
        let values = |name: &str| -> Vec<String> {
            let texts = cgroups.dirs("one").filter_map(|dir| std::fs::read_to_string(dir.join(name)).ok());
            texts.map(|text| text.trim().to_owned()).collect()
        };
        let (quota, memory, burst) = match cgroups.layout {
            Layout::PerController => ("cpu.cfs_quota_us", "memory.limit_in_bytes", "cpu.cfs_burst_us"),
            Layout::Unified => ("cpu.max", "memory.max", "cpu.max.burst"),
        };
        assert!(values(quota)[0].starts_with("50000"), "{:?}", values(quota));
        assert_eq!(values(memory), ["67108864"]);
        assert!(values(burst).iter().all(|burst| burst == "50000"), "{:?}", values(burst));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep starts");
        cgroups.join("one", i32::try_from(child.id()).expect("a pid")).expect("it joins");
        assert_eq!(cgroups.processes("one").len(), 1);
        // What it holds before it joins is counted where it came from.
        let script =
            "sleep 0.1; i=0; while [ $i -lt 9999 ]; do x=12345678901234567890$x; i=$((i+1)); done; while :; do :; done";
        let mut busy = std::process::Command::new("sh").args(["-c", script]).spawn().expect("sh starts");
        cgroups.join("one", i32::try_from(busy.id()).expect("a pid")).expect("it joins");
        while cgroups.cpu_ns("one") < 1_000_000 || cgroups.memory_bytes("one") == 0 {
            assert!(busy.try_wait().expect("its own child").is_none(), "it was not counted");
            std::thread::sleep(Duration::from_millis(10));
        }
        cgroups.freeze("one").expect("it is frozen");
        cgroups.freeze("one").expect("doing it twice is fine");
        assert!(cgroups.is_frozen("one"));
        // Who was running stands at its next look at its signals.
        let mut used = cgroups.cpu_ns("one");
        let stands = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            std::mem::replace(&mut used, cgroups.cpu_ns("one")) == used
        });
        assert!(stands, "it goes on using the CPU");
        cgroups.thaw("one").expect("it is thawed");
        assert!(!cgroups.is_frozen("one"));
        while cgroups.cpu_ns("one") == used {
            assert!(busy.try_wait().expect("its own child").is_none(), "it does not go on");
            std::thread::sleep(Duration::from_millis(10));
        }
        cgroups.freeze("one").expect("it is frozen again");
        assert!(cgroups.remove("one").is_err(), "a group in use can't go");
        assert!(!cgroups.kill("one"));
        child.wait().expect("it was killed");
        busy.wait().expect("it was killed");
        // Who was reaped may still be on its way out.
        let empty = (0..1000).any(|_| {
            cgroups.kill("one") || {
                std::thread::sleep(Duration::from_millis(10));
                false
            }
        });
        assert!(empty);
        assert_eq!((cgroups.list(), cgroups.oom_kills("one")), (vec!["one".to_owned()], 0));
        cgroups.remove("one").expect("it is empty");
        cgroups.remove_base().expect("it is empty");
        cgroups.remove_base().expect("absent is fine");
        assert!(cgroups.list().is_empty());
    }
}
