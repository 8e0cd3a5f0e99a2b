//! Runs the canary: a sandbox with the flags that VMs get, started by a real monitor, whose program exits with 0.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cakework_core::id::Generation;
use cakework_image::rootfs::User;
use tokio::time::timeout;

use super::{ProbeConfig, elf};
use crate::backend::gvisor::bundle::{self, FirstProcess};
use crate::backend::gvisor::{FileAccess, Gvisor};
use crate::logs::LogConfig;
use crate::monitor::plan::{Answer, Plan};
use crate::sys::cgroup::{Cgroups, Limits, MONITORS};
use crate::sys::file::{self, Survives};
use crate::vm::{self, Begin, VmDir};

/// How long the canary may take: a platform that does not work here hangs without a word.
const DEADLINE: Duration = Duration::from_secs(15);
const MEMORY_MIB: u32 = 256;
const NAME: &str = "canary";
const KILL_POLL: Duration = Duration::from_millis(5);

/// Runs it and removes all of it.
///
/// # Errors
/// What went wrong, for the operator.
pub async fn run(config: &ProbeConfig) -> anyhow::Result<()> {
    let name = format!("{NAME}-{}", std::process::id());
    let dir = config.dir.join(&name);
    let cgroups = Cgroups::find(&config.instance, config.cgroup_parent.as_deref())?;
    let gvisor = Gvisor::new(config.runsc.clone(), dir.join("runsc"), cgroups.clone());
    let vm_dir = VmDir::at(dir.clone());
    let ran = match lay_out(&gvisor, &cgroups, &vm_dir, &name) {
        Ok(()) => fly(config, &cgroups, &vm_dir).await,
        Err(error) => Err(error),
    };
    // Removed whatever came before: what can't be removed is named by the first failure, or found by the next purge.
    let removed = tokio::task::spawn_blocking(move || end_group(&cgroups, &name)).await?;
    file::remove(&dir)?;
    ran.and(removed.context("the canary's control group can't be removed"))
}

fn lay_out(gvisor: &Gvisor, cgroups: &Cgroups, dir: &VmDir, name: &str) -> anyhow::Result<()> {
    for dir in [dir.bundle(), dir.run(), dir.rootfs(), dir.logs()] {
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    }
    write_program(&dir.rootfs().join("true"))?;
    let limits = Limits { memory_bytes: u64::from(MEMORY_MIB) << 20, cpu_milli: 1000, pids: 8192 };
    cgroups.make(name, Some(&limits)).context("making a control group")?;
    cgroups.make(MONITORS, None).context("making a control group")?;
    let process = FirstProcess { args: vec!["/true".into()], env: Vec::new(), cwd: "/".into() };
    let user = User { uid: 0, gid: 0, groups: Vec::new(), home: "/".into() };
    let (root, cgroup) = (dir.rootfs(), cgroups.path_of(name));
    let parts = bundle::Parts {
        root: &root,
        mounts: &[],
        netns: None,
        cgroup: &cgroup,
        memory_mib: MEMORY_MIB,
        open_files: 1024,
    };
    let config = bundle::config(&process, &user, name, parts);
    file::write_json(&dir.bundle().join("config.json"), &config, Survives::Process)?;
    let plan = Plan {
        generation: Generation::FIRST,
        command: gvisor.run_command(name, &dir.bundle(), &dir.pid_file(), FileAccess::Exclusive),
        pid_file: dir.pid_file(),
        control: Some(gvisor.control(name)),
        boot_timeout_ms: u64::try_from(DEADLINE.as_millis()).unwrap_or(u64::MAX),
        logs: LogConfig::default(),
    };
    file::write_json(&dir.plan(), &plan, Survives::Process)?;
    Ok(())
}

async fn fly(config: &ProbeConfig, cgroups: &Cgroups, dir: &VmDir) -> anyhow::Result<()> {
    let monitor = vm::start_monitor(&config.program, cgroups, dir, Begin::Boot).context("starting a monitor")?;
    let flight = async {
        match vm::answer(monitor.stdout).await {
            Some(Answer::Started(_)) => monitor.process.ended().await,
            Some(Answer::Failed { message }) => bail!("{message}"),
            None => bail!("the monitor ended without an answer"),
        }
        match vm::exited(dir).and_then(|exited| exited.code) {
            Some(0) => Ok(()),
            code => bail!("its program should have exited with 0, not {code:?}"),
        }
    };
    let flown = timeout(DEADLINE, flight).await;
    monitor.process.kill();
    // Killed: it only has to be reaped.
    let _ = timeout(DEADLINE, monitor.process.ended()).await;
    flown.unwrap_or_else(|_| bail!("it did not end within {} s", DEADLINE.as_secs()))
}

fn write_program(path: &Path) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o755).open(path)?;
    file.write_all(&elf::exit_zero())
}

/// Ends and removes what a canary left whose prober was killed. Blocks.
///
/// # Errors
/// What the disk said, or the kernel, where processes of it do not go.
pub fn sweep(dir: &Path, cgroups: &Cgroups) -> std::io::Result<()> {
    let entries = std::fs::read_dir(dir)?.flatten();
    let paths = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_canary)).map(|entry| entry.path());
    // Before its processes are ended: a monitor that was about to start the sandbox must find nothing to start.
    paths.collect::<Vec<PathBuf>>().iter().try_for_each(|path| file::remove(path))?;
    cgroups.list().iter().filter(|group| is_canary(group)).try_for_each(|group| end_group(cgroups, group))
}

/// Removes a canary's control group, and ends what is in it. Blocks.
fn end_group(cgroups: &Cgroups, group: &str) -> std::io::Result<()> {
    let end = Instant::now() + DEADLINE;
    loop {
        match cgroups.remove(group) {
            Err(error) if Instant::now() < end => {
                tracing::debug!(%error, "the canary's control group is still in use");
                cgroups.kill(group);
                std::thread::sleep(KILL_POLL);
            }
            removed => return removed,
        }
    }
}

fn is_canary(name: &str) -> bool {
    name.strip_prefix(NAME).is_some_and(|rest| rest.starts_with('-'))
}
