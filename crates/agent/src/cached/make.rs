//! Makes the sandbox of a cached VM, with nothing running in it: from the image, from the prepared state, or from what a
//! sleep left.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cakework_image::Image;
use cakework_image::rootfs;
use cakework_wire::host::AgentProblem;

use super::driver::Driver;
use crate::backend::gvisor::EngineError;
use crate::monitor::plan::Answer;
use crate::net::NetError;
use crate::sys::clock;
use crate::sys::file::Survives;
use crate::sys::process::{Process, ProcessRef};
use crate::vm::clean::{self, CleanError, Files};
use crate::vm::prepare::{self, PrepareError, host};
use crate::vm::{Begin, answer, start_monitor};

/// Where a sandbox's disk and configuration come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A new disk over the image.
    Image,
    /// A copy of the prepared disk.
    Prepared,
    /// The disk as it is.
    Spill,
}

/// A sandbox could not be made, or not be brought to run.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Its image.
    #[error("the image can't be used: {}", .0.message)]
    Image(AgentProblem),
    /// Its parts.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// Its network.
    #[error("the network could not be made")]
    Net(#[from] NetError),
    /// Its monitor, or the engine's command that the monitor ran.
    #[error("the sandbox could not be made: {0}")]
    Boot(String),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It was ended, and not all of it went.
    #[error(transparent)]
    Clean(#[from] CleanError),
    /// A file.
    #[error("could not {doing}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// What the host said.
        #[source]
        source: std::io::Error,
    },
    /// It is gone.
    #[error("the sandbox ended")]
    Gone,
    /// What was restored does not accept on its port.
    #[error("it did not accept on its port after it was restored")]
    Silent,
    /// It did not become ready.
    #[error("it was not ready within {0} s")]
    NotReady(u64),
}

pub(super) fn file_error(doing: &'static str) -> impl Fn(std::io::Error) -> MakeError {
    move |source| MakeError::File { doing, source }
}

impl Driver {
    /// Makes the sandbox; what an earlier try left was undone.
    pub(super) async fn make(&mut self, source: Source) -> Result<(), MakeError> {
        let image = self.parts.images.ready(&self.assignment.spec.image_digest).await.map_err(MakeError::Image)?;
        let network = self.parts.network.attach_guest(&self.vm, self.assignment.slot, self.parts.told);
        let disks = blocking({
            let (parts, vm, dir, assignment) =
                (Arc::clone(&self.parts), self.vm.clone(), self.dir.clone(), self.assignment.clone());
            move || {
                let limits = prepare::limits(&assignment.spec);
                parts.cgroups.make(vm.as_str(), Some(&limits)).map_err(host("make the control group"))?;
                match source {
                    Source::Image => prepare::lay_out(&vm, &dir, &assignment, &image).map(Some),
                    Source::Prepared => lay_out_copy(&dir, &image).map(|()| None),
                    Source::Spill => lay_out_again(&dir, &assignment, &image).map(|()| None),
                }
            }
        });
        // Both end, also if one fails: nothing may still be taking something while it is taken away.
        let (network, disks) = tokio::join!(network, disks);
        let ((network, packets), first) = (network?, disks?);
        self.packets = packets;
        self.record.run.address = Some(network.address);
        if let Some((process, _)) = &first {
            self.program = process.args.first().cloned();
        }
        blocking({
            let (parts, vm, dir, assignment) =
                (Arc::clone(&self.parts), self.vm.clone(), self.dir.clone(), self.assignment.clone());
            move || {
                if let Some((process, user)) = first {
                    prepare::write_bundle(&parts, &vm, &dir, &assignment.spec, &process, &user, &network.netns)?;
                }
                let command = parts.gvisor.create_command(vm.as_str(), &dir.bundle(), &dir.pid_file());
                prepare::write_plan(&parts, &vm, &dir, &assignment, command, BOOT_MAX_MS)
            }
        })
        .await?;
        let wired = tokio::spawn({
            let (parts, vm) = (Arc::clone(&self.parts), self.vm.clone());
            let (slot, port) = (self.assignment.slot, self.assignment.spec.port);
            async move { parts.network.attach_host(&vm, slot, port, network.fresh).await }
        });
        let booted = self.boot().await;
        let wired = wired.await.unwrap_or_else(|error| Err(NetError::Io { what: "go on", error: error.into() }));
        booted?;
        Ok(wired?)
    }

    async fn boot(&mut self) -> Result<(), MakeError> {
        let started = tokio::task::spawn_blocking({
            let (parts, dir) = (Arc::clone(&self.parts), self.dir.clone());
            move || start_monitor(&parts.program, &parts.cgroups, &dir, Begin::Boot)
        });
        let started = started.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let started = started.map_err(file_error("start the VM's monitor"))?;
        self.record.monitor = Some(started.process.name());
        self.monitor = Some(started.process);
        self.save(Survives::Process).await;
        match answer(started.stdout).await {
            Some(Answer::Started(booted)) => {
                let name = ProcessRef { pid: booted.sandbox_pid, start_time: booted.start_time };
                self.record.sandbox = Some(name);
                self.sandbox = Process::open(name);
                self.save(Survives::Process).await;
                self.sandbox.as_ref().map(|_| ()).ok_or(MakeError::Gone)
            }
            Some(Answer::Failed { message }) => Err(MakeError::Boot(message)),
            None => Err(MakeError::Boot("the monitor ended without an answer".into())),
        }
    }

    /// Ends the sandbox, if there is one, and gives back what it took, beside `what` is kept.
    pub(super) async fn undo(&mut self, what: Files) -> Result<(), CleanError> {
        (self.sandbox, self.packets) = (None, None);
        let mut monitor = self.monitor.take();
        let mut attempt = 1;
        loop {
            let mut done = clean::end(&self.parts, &self.vm, &self.dir, monitor.take(), true).await;
            if done.is_ok() {
                done = clean::give_back(&self.parts, &self.vm, &self.dir, self.assignment.slot, what).await;
            }
            // A process that was killed is in its control group until whoever inherited it has reaped it.
            if done.is_err() && attempt < UNDO_ATTEMPTS {
                attempt += 1;
                tokio::time::sleep(UNDO_POLL).await;
                continue;
            }
            done?;
            (self.record.monitor, self.record.sandbox) = (None, None);
            return Ok(());
        }
    }
}

/// How often a sandbox's things are tried to be given back, [`UNDO_POLL`] apart.
const UNDO_ATTEMPTS: u32 = 100;
const UNDO_POLL: Duration = Duration::from_millis(10);
/// Longest time for the command that makes a sandbox.
const BOOT_MAX_MS: u64 = 20_000;

fn lay_out_copy(dir: &crate::vm::VmDir, image: &Image) -> Result<(), PrepareError> {
    make_dirs(dir)?;
    rootfs::copy_disk(&dir.prepared_disk(), &dir.disk_file())?;
    mount(dir, image)?;
    std::fs::copy(dir.prepared_config(), dir.config()).map(drop).map_err(host("copy the bundle"))
}

fn lay_out_again(
    dir: &crate::vm::VmDir,
    assignment: &crate::vm::Assignment,
    image: &Image,
) -> Result<(), PrepareError> {
    make_dirs(dir)?;
    mount(dir, image)?;
    if assignment.spec.volume_gb.is_some() {
        rootfs::mount_disk(&dir.volume_file(), &dir.volume())?;
    }
    Ok(())
}

fn make_dirs(dir: &crate::vm::VmDir) -> Result<(), PrepareError> {
    let dirs = [dir.bundle(), dir.run()];
    dirs.iter().try_for_each(std::fs::create_dir_all).map_err(host("make the VM's directories"))
}

fn mount(dir: &crate::vm::VmDir, image: &Image) -> Result<(), PrepareError> {
    rootfs::mount_disk(&dir.disk_file(), &dir.disk())?;
    Ok(rootfs::mount_overlay(&image.layers, &dir.disk(), &dir.rootfs())?)
}

/// Replaces a directory by an empty one. Blocks.
pub(super) fn empty_dir(path: &Path) -> std::io::Result<()> {
    crate::sys::file::remove(path)?;
    std::fs::create_dir(path)
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(host("go on: a step panicked")(std::io::Error::other(error))),
    }
}

/// Whether the time for a start is over.
pub(super) fn is_late(start_by_ms: u64) -> bool {
    clock::boottime_ms() >= start_by_ms
}
