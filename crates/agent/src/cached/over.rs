//! The ends: of a run, after which the VM is held again, and of the VM; and what a new agent makes of what it finds.

use std::sync::Arc;
use std::time::Duration;

use cakework_core::lifecycle::{Exit, ExitReason};

use super::driver::{Driver, Next, RETRY_MAX, RETRY_MIN, Shutdown};
use super::make::MakeError;
use super::stage::{Event, Stage};
use crate::sys::file::{self, Survives};
use crate::sys::process;
use crate::vm::clean::{self, Files};
use crate::vm::{Known, classify, exited};

/// Longest wait for a command of an earlier agent.
const COMMAND_WAIT: Duration = Duration::from_secs(60);
const COMMAND_POLL: Duration = Duration::from_millis(10);

impl Driver {
    pub(super) async fn end_run(&mut self) -> Next {
        self.clean(Files::Run).await.map(|()| Event::Clean)
    }

    pub(super) async fn destroy(&mut self) -> Next {
        self.clean(Files::All).await.map(|()| Event::Clean)
    }

    /// Ends what runs, notes how it ended, and gives back all but what is kept, until nothing is left.
    async fn clean(&mut self, what: Files) -> Result<(), Shutdown> {
        self.ready = None;
        self.wakers.clear();
        self.sleeper = None;
        self.shared.leave(&self.vm);
        self.parts.execs.forget(&self.vm);
        let mut wait = RETRY_MIN;
        while let Err(error) = self.try_clean(what).await {
            tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "a cleaning is tried again");
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
                () = self.parts.shutdown.cancelled() => return Err(Shutdown),
            }
        }
        Ok(())
    }

    async fn try_clean(&mut self, what: Files) -> Result<(), MakeError> {
        let ran = self.record.run.start.is_some();
        self.sandbox = None;
        clean::end(&self.parts, &self.vm, &self.dir, self.monitor.take(), !ran).await?;
        if self.record.run.exit.is_none() {
            self.record.run.exit = Some(self.exit().await?);
            // Its sources are about to be removed.
            self.save(Survives::Process).await;
        }
        self.undo(what).await?;
        let (spill, asked) = (self.dir.spill(), self.dir.asked());
        self.blocking("remove what the run left", move || file::remove(&spill).and_then(|()| file::remove(&asked)))
            .await
    }

    async fn exit(&self) -> Result<Exit, MakeError> {
        let (parts, vm, dir, record) =
            (Arc::clone(&self.parts), self.vm.clone(), self.dir.clone(), self.record.clone());
        if record.stage == Stage::Destroying && record.run.start.is_none() {
            return Ok(Exit::only(ExitReason::Stopped));
        }
        self.blocking("read how it ended", move || {
            let known = Known {
                ran: record.run.start.is_some(),
                cause: record.run.cause,
                failure: record.run.failure.as_deref(),
                same_boot: record.boot_id == parts.boot_id,
            };
            Ok(classify(known, parts.cgroups.oom_kills(vm.as_str()), exited(&dir)))
        })
        .await
    }

    /// Finds out what became of a VM that another agent drove; the event that it missed.
    pub(super) async fn recover(&mut self) -> Result<Option<Event>, Shutdown> {
        let stage = self.record.stage;
        if self.record.boot_id != self.parts.boot_id && !matches!(stage, Stage::Held | Stage::Destroying) {
            return Ok(Some(Event::Failed));
        }
        match stage {
            // What waited is nothing that must be kept.
            Stage::Held | Stage::Starting => self.discard().await?,
            Stage::Running | Stage::Stopping => {
                self.adopt();
                return Ok(self.sandbox.is_none().then_some(Event::SandboxEnded));
            }
            Stage::Asleep => self.adopt(),
            Stage::Spilling => {
                self.end_commands(true).await;
                self.adopt();
                return Ok(Some(Event::SpillFailed));
            }
            Stage::Pausing | Stage::Resuming => return self.settle().await.map(Some),
            Stage::Restoring => {
                // It goes on without whoever asked for it.
                self.end_commands(false).await;
                self.adopt();
                return Ok(Some(if self.runs().await { Event::Up } else { Event::RestoreUndone }));
            }
            Stage::Spilled | Stage::Ending | Stage::Destroying | Stage::Ended => {}
        }
        Ok(None)
    }

    /// Nobody knows whether the sandbox stands, and asking it to go on would kill it if it does. Standing once more
    /// costs nothing, and a restore begins with a count of none.
    async fn settle(&mut self) -> Result<Event, Shutdown> {
        self.end_commands(true).await;
        self.adopt();
        if self.sandbox.is_none() {
            return Ok(Event::SandboxEnded);
        }
        let paused = self.parts.gvisor.pause(self.vm.as_str()).await;
        if let Err(error) = paused {
            tracing::error!(vm = %self.vm, error = &error as &dyn std::error::Error, "a VM is lost");
            return Ok(Event::Failed);
        }
        // The stage stays what it is until that is done, so that a kill here is settled as the one before. Whoever asked
        // for it to be awake asks again.
        Ok(match self.spill().await? {
            Event::Spilled => Event::Spilled,
            _ => Event::Failed,
        })
    }

    async fn discard(&mut self) -> Result<(), Shutdown> {
        self.end_commands(true).await;
        let mut wait = RETRY_MIN;
        while let Err(error) = self.undo(Files::Run).await {
            tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "a cleaning is tried again");
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
                () = self.parts.shutdown.cancelled() => return Err(Shutdown),
            }
        }
        self.save(Survives::Process).await;
        Ok(())
    }

    /// Waits for the end of what an earlier agent asked the engine for, or ends it.
    async fn end_commands(&self, kill: bool) {
        let ended = async {
            loop {
                let (parts, vm) = (Arc::clone(&self.parts), self.vm.clone());
                let none = tokio::task::spawn_blocking(move || {
                    let commands = parts.gvisor.commands(vm.as_str())?;
                    commands.iter().filter(|_| kill).for_each(|command| process::kill(*command));
                    std::io::Result::Ok(commands.is_empty())
                });
                if matches!(none.await, Ok(Ok(true))) {
                    return;
                }
                tokio::time::sleep(COMMAND_POLL).await;
            }
        };
        if tokio::time::timeout(COMMAND_WAIT, ended).await.is_err() {
            tracing::warn!(vm = %self.vm, "a command of the engine does not end");
        }
    }
}
