//! Removes all that an instance holds on this host beside its data directory.

use std::time::Duration;

use anyhow::{Context, bail};
use cakework_image::rootfs;

use crate::AgentConfig;
use crate::backend::gvisor::Gvisor;
use crate::net::Network;
use crate::sys::cgroup::{Cgroups, MONITORS};
use crate::sys::{mounts, process};

/// Longest time that killed processes take to go.
const KILL_WAIT: Duration = Duration::from_secs(10);
const KILL_POLL: Duration = Duration::from_millis(10);

/// Ends and removes all that an instance holds on this host: monitors, sandboxes, mounts, networks, control groups and
/// the engine's state. Its data directory stays, and so do the records in it. Nothing there is fine.
///
/// # Errors
/// Where something could not be removed; the rest was tried.
pub async fn purge(config: &AgentConfig) -> anyhow::Result<()> {
    let cgroups = Cgroups::find(&config.instance, config.cgroup_parent.as_deref())?;
    let roots = [config.runsc_root(), config.build_runsc_root()];
    let gvisors = roots.map(|root| Gvisor::new(config.runsc.clone(), root, cgroups.clone()));
    let killed = kill(&gvisors, &cgroups).await;
    let network = Network::purge(&config.instance).await.context("removing the networks");
    let local = tokio::task::spawn_blocking({
        let config = config.clone();
        move || {
            for point in mounts::below(&config.dir)? {
                rootfs::unmount(&point)?;
            }
            crate::engine::sweep(&config.dir, &cgroups)?;
            for group in cgroups.list() {
                cgroups.remove(&group)?;
            }
            cgroups.remove_base()?;
            crate::sys::file::remove(&config.runsc_root())?;
            anyhow::Ok(())
        }
    });
    killed.and(network).and(local.await.context("removing mounts and control groups")?)
}

/// Monitors first: none of them may still be about to start a sandbox.
async fn kill(gvisors: &[Gvisor], cgroups: &Cgroups) -> anyhow::Result<()> {
    let all_gone = async {
        loop {
            let mut gone = cgroups.kill(MONITORS);
            for gvisor in gvisors {
                for (process, _) in gvisor.processes()? {
                    process::kill(process);
                    gone = false;
                }
            }
            for group in cgroups.list() {
                gone &= cgroups.kill(&group);
            }
            if gone {
                return anyhow::Ok(());
            }
            tokio::time::sleep(KILL_POLL).await;
        }
    };
    match tokio::time::timeout(KILL_WAIT, all_gone).await {
        Ok(done) => done,
        Err(_) => bail!("processes of this instance do not go"),
    }
}
