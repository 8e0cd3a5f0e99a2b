//! Roles that get no memory, and a data directory without another name for a file.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cakework_testkit::kernel::Census;
use cakework_testkit::scarce::{Disk, Famine};
use serde_json::{Value, json};

use crate::LEFTOVERS;
use crate::check;
use crate::moments::{Chaos, Role};

/// What a role may still add to its memory: less than a start of a VM takes.
const CRUMBS_BYTES: u64 = 256 << 10;
/// Longest time until a role that gets no memory has ended of it.
const STARVE: Duration = Duration::from_secs(60);
/// Inodes of the data directory: enough for a server, an image and some VMs.
const INODES: u32 = 4000;
/// More than the VMs may fill together; only what is written takes memory.
const DISK_MIB: u32 = 8192;

impl Chaos {
    /// Lets `role` have no more memory while VMs run and start, until it has ended of that.
    pub async fn starve(&self, role: Role) -> Result<()> {
        let id = self.running().await?;
        let pid = self.server.role_pid(role.name())?;
        let famine = Famine::of(pid, CRUMBS_BYTES)?;
        let end = Instant::now() + STARVE;
        while self.server.role_pid(role.name()).ok() == Some(pid) {
            ensure!(Instant::now() < end, "{role:?} lives without memory");
            let body =
                json!({"imageId": self.image, "command": ["sleep", "1000"], "metadata": {"pad": "x".repeat(500)}});
            let _ = tokio::time::timeout(Duration::from_secs(5), self.server.start_vm(body)).await;
        }
        drop(famine);
        check::answers(&self.server).await?;
        check::settles(&self.server, &format!("/v1/vm/{id}"), "state", &["started"]).await?;
        self.lines_go_on(&id, role).await?;
        // Those whose start was answered and those of which nobody heard: each can be ended.
        for vm in self.vms().await?.into_iter().filter(|vm| *vm != id) {
            check::takes(&self.server, &format!("/v1/vm/{vm}/stop")).await?;
            check::settles(&self.server, &format!("/v1/vm/{vm}"), "state", &["destroyed"]).await?;
        }
        self.end(&id, role).await
    }
}

/// The kernel ends a role that gets no memory: nothing is lost, as after any kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_without_memory_lose_nothing() -> Result<()> {
    let chaos = Chaos::start().await?;
    let scope = chaos.server.scope()?;
    let before = Census::take(&scope)?;
    for role in [Role::Agent, Role::Api] {
        chaos.starve(role).await?;
    }
    chaos.server.drain().await?;
    let left: Vec<_> = Census::leftovers(&scope, &before, LEFTOVERS)?;
    let left: Vec<_> = left.into_iter().filter(|object| !crate::is_role(object)).collect();
    ensure!(left.is_empty(), "left over: {left:?}");
    Ok(())
}

/// Without an inode nothing new is made, what runs goes on, also over a kill of each role; and with inodes all is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_inodes_says_so_and_recovers() -> Result<()> {
    let dir = tempfile::Builder::new().prefix("cakework-inodes-").tempdir()?;
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let disk = Disk::mount(&dir.path().join("disk"), DISK_MIB, Some(INODES))?;
    let chaos = Chaos::start_in(Some(disk.path().join("data"))).await?;
    let id = chaos.running().await?;
    let scope = chaos.server.scope()?;
    let start = json!({"imageId": chaos.image, "command": ["sleep", "1000"]});

    let ballast = disk.fill_inodes()?;
    chaos.server.start_vm(start.clone()).await?.refused(503, "disk_full");
    let file = json!({"dir": ".", "name": "f", "content": "f"});
    let build = json!({"dockerfile": format!("FROM cakework/{}\nRUN true\n", chaos.image), "files": [file]});
    let built = chaos.server.post("/v1/image/build/files", build).await?;
    if built.status == 201 {
        let path = format!("/v1/image/build/{}", built.json["buildId"].as_str().context("an id")?);
        let over = check::settles(&chaos.server, &path, "status", &["succeeded", "failed"]).await?;
        ensure!(over["error"]["code"] == "disk_full", "{over}");
    } else {
        built.refused(503, "disk_full");
    }
    ensure!(chaos.vms().await? == [id.clone()], "something is left of the start that was refused");
    chaos.lines_go_on(&id, Role::Agent).await?;
    for role in [Role::Agent, Role::Api] {
        chaos.kill(role)?;
    }
    // Whether they can begin without an inode is theirs to say; the VM does not depend on it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(ballast);

    check::answers(&chaos.server).await?;
    check::settles(&chaos.server, &format!("/v1/vm/{id}"), "state", &["started"]).await?;
    chaos.lines_go_on(&id, Role::Agent).await?;
    let before = Census::take(&scope)?;
    let again: Value = check::until(&chaos.server, "a VM starts", async || {
        Ok(chaos
            .server
            .start_vm(start.clone())
            .await
            .ok()
            .filter(|answer| answer.status == 201)
            .map(|answer| answer.json))
    })
    .await?;
    let again = again["id"].as_str().context("an id")?.to_owned();
    chaos.end(&again, Role::Agent).await?;
    chaos.end(&id, Role::Agent).await?;
    chaos.server.drain().await?;
    let left = Census::leftovers(&scope, &before, LEFTOVERS)?;
    ensure!(left.is_empty(), "left over: {left:?}");
    Ok(())
}
