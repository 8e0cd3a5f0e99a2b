//! The prepared state: a VM is booted until it is ready, then its memory is written while it stands, and the disk that it
//! stood on becomes the prepared disk. Its sandbox ends there: what the memory knows of the disk stays true.
//!
//! ```text
//! prepared/key.json       what it belongs to; written last
//! prepared/config.json    the sandbox's configuration
//! prepared/disk.img       the root disk, copied for each start
//! prepared/memory/        the engine's memory image
//! ```

use std::net::SocketAddrV4;
use std::time::Duration;

use cakework_image::rootfs;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use super::driver::{Driver, Ready};
use super::key::Key;
use super::make::{MakeError, Source, empty_dir, file_error};
use crate::net;
use crate::sys::file::{self, Survives};
use crate::sys::process::Process;
use crate::vm::clean::{self, Files};
use crate::vm::prepare::{PrepareError, host};
use crate::vm::{Ask, VmDir};

/// Longest time until an app is ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// Longest time until what was restored accepts on its port.
const HEALTHY_MAX: Duration = Duration::from_secs(3);
const LOOK_MIN: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_millis(50);
/// Looks at what it does, and the CPU time between two of them under which it has come to rest.
const REST_LOOK: Duration = Duration::from_millis(50);
const REST_LOOKS: u32 = 20;
const AT_REST_NS: u64 = 5_000_000;
/// Where an app says that it is ready. Where the directory is there, its port is not looked at.
const READY_DIR: &str = "/run/cakework";
const READY_FILE: &str = "/run/cakework/ready";

/// What is in `key.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    /// What it belongs to.
    pub key: Key,
    /// It accepted on its port.
    pub accepts: bool,
}

/// How a preparation ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The state is there.
    Prepared,
    /// Something was wished; the VM still boots.
    Interrupted,
}

impl Driver {
    /// Boots the VM and keeps its state; its sandbox is gone then.
    pub(super) async fn prepare(&mut self) -> Result<Outcome, MakeError> {
        self.make(Source::Image).await?;
        if self.is_wished() && self.ends_preparation() {
            self.ready = Some(Ready::Created);
            return Ok(Outcome::Interrupted);
        }
        self.parts.gvisor.start(self.vm.as_str(), self.packets.take()).await?;
        self.ready = Some(Ready::Booted);
        let Some(accepts) = self.await_ready().await? else { return Ok(Outcome::Interrupted) };
        self.come_to_rest().await;
        if self.is_wished() && self.ends_preparation() {
            return Ok(Outcome::Interrupted);
        }
        self.ready = None;
        self.parts.gvisor.pause(self.vm.as_str()).await?;
        let draft = VmDir::at(self.dir.prepared_draft());
        let memory = self.dir.prepared_draft().join(MEMORY);
        self.blocking("make a directory", move || {
            empty_dir(draft.path())?;
            std::fs::create_dir(memory)
        })
        .await?;
        self.parts.gvisor.checkpoint(self.vm.as_str(), &self.dir.prepared_draft().join(MEMORY)).await?;
        self.sandbox = None;
        clean::end(&self.parts, &self.vm, &self.dir, self.monitor.take(), false).await?;
        self.keep(accepts).await?;
        self.undo(Files::Run).await?;
        Ok(Outcome::Prepared)
    }

    /// Moves the disk that the memory was taken with, and only then says that both are there.
    async fn keep(&self, accepts: bool) -> Result<(), MakeError> {
        let (dir, prepared) = (self.dir.clone(), Prepared { key: self.key(), accepts });
        super::make::blocking(move || {
            let draft = dir.prepared_draft();
            rootfs::unmount_whole(&dir.rootfs())?;
            rootfs::unmount_whole(&dir.disk())?;
            let kept = || {
                std::fs::rename(dir.disk_file(), draft.join(DISK))?;
                std::fs::rename(dir.config(), draft.join(CONFIG))?;
                file::write_json(&draft.join(KEY), &prepared, Survives::Process)?;
                file::remove(&dir.prepared())?;
                std::fs::rename(&draft, dir.prepared())
            };
            kept().map_err(host("keep the prepared state"))
        })
        .await
        .map_err(|error: PrepareError| error.into())
    }

    /// The prepared state, where it can be used; else why not, in a sentence, where there is one.
    pub(super) async fn prepared(&self) -> Result<Prepared, Option<&'static str>> {
        let (path, now) = (self.dir.prepared().join(KEY), self.key());
        let read = tokio::task::spawn_blocking(move || file::read_json::<Prepared>(&path));
        match read.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(Some(prepared)) => match prepared.key.differs(&now) {
                None => Ok(prepared),
                Some(why) => Err(Some(why)),
            },
            Ok(None) => Err(None),
            Err(_) => Err(Some("what was prepared can't be read")),
        }
    }

    /// Removes a state that can't be used.
    pub(super) async fn forget_prepared(&self) -> Result<(), MakeError> {
        let dirs = [self.dir.prepared(), self.dir.prepared_draft()];
        self.blocking("remove the prepared state", move || dirs.iter().try_for_each(|dir| file::remove(dir))).await
    }

    /// Restores the prepared state into the sandbox that waits for it, or a new one; it then runs.
    pub(super) async fn restore_prepared(&mut self, prepared: &Prepared) -> Result<(), MakeError> {
        if self.ready.take_if(|ready| *ready == Ready::Blank).is_none() {
            self.make(Source::Prepared).await?;
        }
        let memory = self.dir.prepared().join(MEMORY);
        let packets = self.packets.take();
        self.parts.gvisor.restore(self.vm.as_str(), packets, &self.dir.bundle(), &memory).await?;
        match self.port_address().filter(|_| prepared.accepts) {
            Some(address) => self.await_health(address).await,
            None => Ok(()),
        }
    }

    /// Waits until it has done what it does at first, such as serving the connection by which it was found ready: what it
    /// has touched by then, the next request finds touched.
    pub(super) async fn come_to_rest(&self) {
        let used = || {
            let (parts, vm) = (std::sync::Arc::clone(&self.parts), self.vm.clone());
            tokio::task::spawn_blocking(move || parts.cgroups.cpu_ns(vm.as_str()))
        };
        let mut before = used().await.unwrap_or(0);
        for _ in 0..REST_LOOKS {
            sleep(REST_LOOK).await;
            let now = used().await.unwrap_or(before);
            if now.saturating_sub(before) < AT_REST_NS || self.is_wished() {
                return;
            }
            before = now;
        }
    }

    async fn await_health(&self, address: SocketAddrV4) -> Result<(), MakeError> {
        let deadline = Instant::now() + HEALTHY_MAX;
        let accepts = async {
            while !net::accepts(address, self.shared.edge_uid).await {
                sleep(LOOK_MIN).await;
            }
        };
        tokio::select! {
            accepted = timeout_at(deadline, accepts) => accepted.map_err(|_| MakeError::Silent),
            () = ended(self.sandbox.as_ref()) => Err(MakeError::Gone),
        }
    }

    /// Waits until the app is ready, `true` by its port; `None` where a wish came first.
    async fn await_ready(&mut self) -> Result<Option<bool>, MakeError> {
        let deadline = Instant::now() + READY_MAX;
        let mut look = LOOK_MIN;
        loop {
            if let Some(accepts) = self.look().await? {
                return Ok(Some(accepts));
            }
            if Instant::now() >= deadline {
                return Err(MakeError::NotReady(READY_MAX.as_secs()));
            }
            tokio::select! {
                () = sleep(look) => look = (look * 2).min(LOOK_MAX),
                () = ended(self.sandbox.as_ref()) => return Err(MakeError::Gone),
                () = self.parts.shutdown.cancelled() => return Ok(None),
            }
            // Heard by whoever called, who decides what it means.
            if self.is_wished() && self.ends_preparation() {
                return Ok(None);
            }
        }
    }

    async fn look(&self) -> Result<Option<bool>, MakeError> {
        let root = self.dir.rootfs();
        let (by_file, ready) = super::make::blocking(move || {
            Ok((rootfs::is_there(&root, READY_DIR)?, rootfs::is_there(&root, READY_FILE)?))
        })
        .await?;
        if by_file {
            return Ok(ready.then_some(false));
        }
        match self.port_address() {
            Some(address) => Ok(net::accepts(address, self.shared.edge_uid).await.then_some(true)),
            None => Ok(None),
        }
    }

    fn ends_preparation(&self) -> bool {
        let wish = self.wishes.borrow();
        wish.ask == Ask::Destroy || wish.highest > self.record.generation
    }

    fn port_address(&self) -> Option<SocketAddrV4> {
        Some(SocketAddrV4::new(self.record.run.address?, self.assignment.spec.port?))
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, MakeError> {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(file_error(doing))
    }
}

/// Waits until a sandbox is gone; at once where it is.
pub(super) async fn ended(sandbox: Option<&Process>) {
    if let Some(sandbox) = sandbox {
        sandbox.ended().await;
    }
}

const MEMORY: &str = "memory";
const DISK: &str = "disk.img";
const CONFIG: &str = "config.json";
const KEY: &str = "key.json";
