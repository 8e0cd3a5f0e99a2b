//! The check of the sandbox engine: a stranger's program really runs in it, or there are no VMs.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use cakework_agent::engine::{ProbeConfig, probe};
use cakework_core::id::InstanceId;

use super::row::Row;
use super::space::existing;
use crate::config::Settings;

/// The row `gvisor`.
pub fn gvisor(settings: &Settings) -> Row {
    if !rustix::process::geteuid().is_root() {
        return Row::gap("gvisor", "only root can run the canary", "sudo cakework doctor");
    }
    match run_canary(settings) {
        Ok(row) => row,
        Err(error) => Row::gap("gvisor", format!("the canary could not be made: {error:#}"), "see above"),
    }
}

fn run_canary(settings: &Settings) -> anyhow::Result<Row> {
    let scratch = Scratch::new(existing(&settings.data_dir))?;
    let config = ProbeConfig {
        runsc: settings.isolation.runsc.clone(),
        program: std::env::current_exe()?,
        dir: scratch.0.clone(),
        // Never an instance's own name: a server may run beside.
        instance: InstanceId::mint(&mut rand::rng()),
        cgroup_parent: settings.capacity.cgroup_parent.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(match runtime.block_on(probe(&config)) {
        Ok(engine) => Row::ok(
            "gvisor",
            format!("{}, platform {}, ran a canary in {} ms", engine.version, engine.platform, engine.canary_ms),
        ),
        Err(gap) => Row::gap("gvisor", gap.reason, gap.fix),
    })
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: PathBuf) -> std::io::Result<Self> {
        let dir = parent.join(format!(".cakework-canary-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What the canary itself made is the probe's to remove; an empty directory is left at worst.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
