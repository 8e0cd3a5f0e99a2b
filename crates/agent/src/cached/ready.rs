//! What happens while there is no run: the VM is prepared and made ready in the background, one VM of the host at a time.
//! What is made here is nothing that must be kept: whatever fails is undone, and a start makes its own.

use tokio::sync::SemaphorePermit;

use super::decide::{self, Step};
use super::driver::{Command, Driver, Next, Ready, Shutdown};
use super::make::{MakeError, Source};
use super::pool::{Room, Waits};
use super::prepare::{Outcome, ended};
use crate::sys::file::Survives;
use crate::sys::process::Process;
use crate::vm::clean::Files;

/// Sandboxes that ended while they waited: then none waits until the next run is over.
const LOST_MAX: u32 = 3;
/// About what a sandbox takes in which nothing runs.
pub const SANDBOX_MIB: u64 = 16;

impl Driver {
    pub(super) async fn hold(&mut self) -> Next {
        self.room = Room::Memory;
        let mut lost = 0;
        loop {
            if let Some(event) = self.wished() {
                return Ok(event);
            }
            // What came into its preparation was no start.
            if std::mem::take(&mut self.outdated) || self.ready == Some(Ready::Booted) {
                self.drop_ready().await;
            }
            let step = decide::next(self.have(self.usable().await));
            let image = self.parts.images.ready(&self.assignment.spec.image_digest).await.is_ok();
            if step == Step::Rest || !image {
                let mut images = self.parts.images.changed();
                tokio::select! {
                    () = Self::wish(&mut self.wishes) => {}
                    command = self.commands.recv() => self.hear_while_held(command).await,
                    () = lost_of(self.ready, self.sandbox.as_ref(), self.monitor.as_ref()) => {
                        tracing::warn!(vm = %self.vm, "a sandbox or its monitor ended while it waited for a start");
                        lost += 1;
                        if lost >= LOST_MAX {
                            self.room = Room::None;
                        }
                        self.drop_ready().await;
                    }
                    _ = images.changed(), if !image => {}
                    () = self.parts.shutdown.cancelled() => return Err(Shutdown),
                }
                // The wish was taken for a change only: what it says is read above.
                continue;
            }
            let shared = std::sync::Arc::clone(&self.shared);
            let turn = tokio::select! {
                turn = shared.turns.take() => Some(turn),
                () = Self::wish(&mut self.wishes) => None,
                command = self.commands.recv() => { self.hear_while_held(command).await; None }
                () = self.parts.shutdown.cancelled() => return Err(Shutdown),
            };
            if let Some(turn) = turn {
                self.take(step, turn).await;
            }
            if self.parts.shutdown.is_cancelled() {
                return Err(Shutdown);
            }
        }
    }

    async fn usable(&self) -> bool {
        match self.prepared().await {
            Ok(_) => true,
            Err(None) => false,
            Err(Some(_)) => {
                if let Err(error) = self.forget_prepared().await {
                    tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "a state is still there");
                }
                false
            }
        }
    }

    async fn take(&mut self, step: Step, _turn: SemaphorePermit<'_>) {
        let done = match step {
            Step::Rest => return,
            Step::Prepare => self.prepare().await.map(|outcome| {
                if outcome == Outcome::Prepared {
                    self.record.unprepared = 0;
                }
            }),
            Step::Restore => self.make_paused().await,
            Step::Blank => self.make_blank().await,
            Step::Create => self.make_created().await,
        };
        if let Err(error) = done {
            tracing::warn!(vm = %self.vm, ?step, error = &error as &dyn std::error::Error, "a VM was not made ready");
            match step {
                Step::Prepare => self.record.unprepared += 1,
                Step::Restore => {
                    self.shared.restore_failed();
                    self.record.unprepared += 1;
                    // What can't be restored is no state; preparing it anew may help, a few times.
                    if let Err(error) = self.forget_prepared().await {
                        tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "it is still there");
                    }
                }
                Step::Blank | Step::Create | Step::Rest => self.room = Room::None,
            }
            self.ready = None;
        }
        if self.ready.is_none() {
            self.drop_ready().await;
        }
        self.save(Survives::Process).await;
    }

    async fn make_paused(&mut self) -> Result<(), MakeError> {
        let Ok(prepared) = self.prepared().await else { return Ok(()) };
        // What is written is the least that it takes.
        let pages = self.dir.prepared_pages();
        let bytes = self.blocking("look at the prepared memory", move || Ok(pages.metadata()?.len())).await?;
        if !self.shared.could_take(bytes.div_ceil(1 << 20)) {
            self.room = Room::Sandbox;
            return Ok(());
        }
        self.restore_prepared(&prepared).await?;
        self.come_to_rest().await;
        self.parts.gvisor.pause(self.vm.as_str()).await?;
        self.ready = Some(Ready::Paused);
        self.parts.gvisor.rest(self.vm.as_str()).await;
        self.wait_in_pool(Waits::Paused).await;
        Ok(())
    }

    /// Makes the sandbox that the prepared memory is restored into by the next start.
    async fn make_blank(&mut self) -> Result<(), MakeError> {
        if !self.shared.has_room(&self.scope(), SANDBOX_MIB) {
            self.room = Room::None;
            return Ok(());
        }
        self.make(Source::Prepared).await?;
        self.ready = Some(Ready::Blank);
        self.parts.gvisor.rest(self.vm.as_str()).await;
        self.wait_in_pool(Waits::Blank).await;
        Ok(())
    }

    async fn make_created(&mut self) -> Result<(), MakeError> {
        if !self.shared.could_take(SANDBOX_MIB) {
            self.room = Room::None;
            return Ok(());
        }
        self.make(Source::Image).await?;
        self.ready = Some(Ready::Created);
        self.parts.gvisor.rest(self.vm.as_str()).await;
        self.wait_in_pool(Waits::Created).await;
        Ok(())
    }

    async fn hear_while_held(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Evict) if self.ready.is_some() => {
                self.room = match self.ready {
                    Some(Ready::Paused) => Room::Sandbox,
                    _ => Room::None,
                };
                self.drop_ready().await;
            }
            // Nothing runs that could sleep: whoever waits for an answer is told by its end.
            Some(Command::Evict | Command::Sleep { .. } | Command::Wake { .. }) => {}
            // The registry is gone because the agent ends.
            None => self.parts.shutdown.cancelled().await,
        }
    }

    /// Gives back what waited. Where that fails, the next start or end tries again.
    async fn drop_ready(&mut self) {
        self.ready = None;
        self.shared.leave(&self.vm);
        if let Err(error) = self.undo(Files::Run).await {
            tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "a sandbox was not given back");
        }
    }
}

/// Waits until a sandbox that waits for a start has ended, or who writes down what it says: a run would begin with a gap.
async fn lost_of(ready: Option<Ready>, sandbox: Option<&Process>, monitor: Option<&Process>) {
    match (ready, sandbox) {
        (Some(_), Some(sandbox)) => tokio::select! {
            () = sandbox.ended() => {}
            () = ended(monitor) => {}
        },
        _ => std::future::pending().await,
    }
}
