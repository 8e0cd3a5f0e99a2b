//! Sleep: a run is paused where it is; where its memory is needed, it is written to the disk while it stands, and its
//! sandbox ends. Waking is going on there, or restoring that memory over exactly the disks that it left.
//!
//! Invariants: nothing of a run that sleeps as files runs; its disks are written whole before they may be used again, and
//! by nobody; what is restored runs, so that its files are used once and removed.

use std::time::Duration;

use cakework_image::rootfs;
use cakework_wire::host::SleepAnswer;

use super::driver::{Command, Driver, Next, RETRY_MAX, RETRY_MIN, Shutdown};
use super::make::{MakeError, Source, empty_dir};
use super::pool::Waits;
use super::prepare::ended;
use super::stage::{Event, Stage};
use crate::backend::gvisor::EngineError;
use crate::backend::gvisor::urpc::UrpcError;
use crate::sys::clock;
use crate::sys::file::{self, Survives};
use crate::vm::clean::{self, Files};
use crate::vm::{Ask, Cause};

/// Whoever waits for one VM to be awake.
const WAKERS_MAX: usize = 1024;
/// Time between two tries to get memory back for a VM that is to be awake.
const CLAIM_RETRY: Duration = Duration::from_millis(50);
/// Restores of one sleep that may fail: then the run is over.
const RESTORES_MAX: u32 = 3;

impl Driver {
    pub(super) async fn sleep(&mut self) -> Next {
        match self.record.stage {
            Stage::Pausing => self.pause().await,
            Stage::Spilling => self.spill().await,
            Stage::Resuming => self.resume().await,
            Stage::Restoring => self.restore().await,
            _ => self.lie().await,
        }
    }

    async fn pause(&mut self) -> Next {
        match self.parts.gvisor.pause(self.vm.as_str()).await {
            Ok(()) => Ok(Event::Paused),
            // It was sent, and is done when its last task stands.
            Err(EngineError::Socket { source: UrpcError::Timeout { .. }, .. }) => Ok(Event::Paused),
            Err(error) => {
                tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "a VM could not be paused");
                if let Some((_, answer)) = self.sleeper.take() {
                    let _ = answer.send(SleepAnswer::Busy { reason: "the engine could not pause it".into() });
                }
                // A sandbox that is gone is seen there.
                Ok(Event::Up)
            }
        }
    }

    /// Asleep or spilled.
    async fn lie(&mut self) -> Next {
        let spilled = self.record.stage == Stage::Spilled;
        self.parts.execs.still(&self.vm);
        if spilled {
            self.unload().await?;
        }
        self.unspillable |= self.parts.execs.lingers(&self.vm);
        match self.sleeper.take() {
            Some((true, answer)) if self.may_spill() => {
                self.sleeper = Some((true, answer));
                return Ok(Event::SpillBegun);
            }
            Some((_, answer)) => drop(answer.send(self.sleeps())),
            None => {}
        }
        self.registry.rest(&self.vm, self.record.generation);
        if !spilled {
            self.parts.gvisor.rest(self.vm.as_str()).await;
            if !self.unspillable {
                self.wait_in_pool(Waits::Asleep).await;
            }
        }
        loop {
            if let Some(event) = self.wished() {
                return Ok(event);
            }
            self.wakers.retain(|waker| !waker.is_closed());
            let to_stop = self.wishes.borrow().ask == Ask::Stop || self.is_over();
            if to_stop || !self.wakers.is_empty() {
                if self.registry.claim(&self.vm) {
                    self.shared.leave(&self.vm);
                    return Ok(if spilled { Event::RestoreBegun } else { Event::ResumeBegun });
                }
                if to_stop {
                    // It can't be awake to hear a signal.
                    self.record.run.cause.get_or_insert(Cause::Asked);
                    return Ok(Event::KillAsked);
                }
            }
            tokio::select! {
                () = ended(self.sandbox.as_ref()), if !spilled => return Ok(Event::SandboxEnded),
                () = Self::wish(&mut self.wishes) => {}
                command = self.commands.recv() => if let Some(event) = self.hear_while_asleep(command).await {
                    return Ok(event);
                },
                () = clock::sleep_until(self.record.run.end_by_ms) => {}
                () = tokio::time::sleep(CLAIM_RETRY), if !self.wakers.is_empty() => {}
                () = self.parts.shutdown.cancelled() => return Err(Shutdown),
            }
        }
    }

    /// Its time is over: it is woken, and then told so.
    fn is_over(&mut self) -> bool {
        let over = self.record.run.end_by_ms.is_some_and(|end_by_ms| clock::boottime_ms() >= end_by_ms);
        if over {
            self.record.run.cause.get_or_insert(Cause::Timeout);
        }
        over
    }

    async fn hear_while_asleep(&mut self, command: Option<Command>) -> Option<Event> {
        match command {
            Some(Command::Sleep { ask, answer }) if ask.generation == self.record.generation => {
                if ask.spill && self.may_spill() {
                    self.sleeper = Some((true, answer));
                    return Some(Event::SpillBegun);
                }
                let _ = answer.send(self.sleeps());
            }
            Some(Command::Sleep { answer, .. }) => drop(answer.send(SleepAnswer::NotRunning)),
            Some(Command::Wake { generation, answer }) => {
                if generation == self.record.generation && self.wakers.len() < WAKERS_MAX {
                    self.wakers.push(answer);
                }
            }
            Some(Command::Evict) => return self.may_spill().then_some(Event::SpillBegun),
            // The registry is gone because the agent ends.
            None => self.parts.shutdown.cancelled().await,
        }
        None
    }

    /// Whether its memory can be written: a memory image would not have the other ends of a command's pipes.
    fn may_spill(&self) -> bool {
        self.record.stage == Stage::Asleep && !self.parts.execs.lingers(&self.vm)
    }

    /// That it sleeps, as the board has it: only this driver puts its reports there.
    fn sleeps(&self) -> SleepAnswer {
        let seq = self.parts.board.vm_report(&self.vm).map_or(0, |report| report.seq);
        SleepAnswer::Asleep { seq }
    }

    pub(super) async fn spill(&mut self) -> Next {
        let dir = self.dir.spill();
        let spilled = match self.blocking("make a directory", move || empty_dir(&dir)).await {
            Ok(()) => self.parts.gvisor.checkpoint(self.vm.as_str(), &self.dir.spill()).await.map_err(MakeError::from),
            Err(error) => Err(error),
        };
        let Err(error) = spilled else { return Ok(Event::Spilled) };
        tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "a VM's memory could not be written");
        self.unspillable = true;
        if let Some((_, answer)) = self.sleeper.take() {
            // It sleeps, if not as it was asked to.
            let _ = answer.send(self.sleeps());
        }
        Ok(Event::SpillFailed)
    }

    /// Ends the sandbox of a run whose memory is on the disk, until nothing of it is left.
    async fn unload(&mut self) -> Result<(), Shutdown> {
        let mut wait = RETRY_MIN;
        while let Err(error) = self.try_unload().await {
            tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "a sandbox's end is tried again");
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
                () = self.parts.shutdown.cancelled() => return Err(Shutdown),
            }
        }
        self.save(Survives::Process).await;
        Ok(())
    }

    async fn try_unload(&mut self) -> Result<(), MakeError> {
        let never_ran = self.sandbox.take().is_none() && self.record.sandbox.is_none();
        clean::end(&self.parts, &self.vm, &self.dir, self.monitor.take(), never_ran).await?;
        let dir = self.dir.clone();
        super::make::blocking(move || {
            rootfs::unmount_whole(&dir.rootfs())?;
            rootfs::unmount_whole(&dir.disk())?;
            Ok(rootfs::unmount_whole(&dir.volume())?)
        })
        .await?;
        Ok(self.undo(Files::None).await?)
    }

    async fn resume(&mut self) -> Next {
        match self.parts.gvisor.resume(self.vm.as_str()).await {
            Ok(()) => Ok(self.awake()),
            Err(error) => {
                tracing::error!(vm = %self.vm, error = &error as &dyn std::error::Error, "a VM could not be woken");
                Ok(Event::Failed)
            }
        }
    }

    async fn restore(&mut self) -> Next {
        for _ in 0..RESTORES_MAX {
            let error = match self.try_restore().await {
                Ok(()) => return Ok(self.awake()),
                Err(error) => error,
            };
            tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "a VM was not restored");
            self.shared.restore_failed();
            // Where one of its processes came to run, its disk may not be what its memory knows any more.
            if self.runs().await {
                return Ok(self.awake());
            }
            self.unload().await?;
        }
        Ok(Event::Failed)
    }

    async fn try_restore(&mut self) -> Result<(), MakeError> {
        self.make(Source::Spill).await?;
        let packets = self.packets.take();
        Ok(self.parts.gvisor.restore(self.vm.as_str(), packets, &self.dir.bundle(), &self.dir.spill()).await?)
    }

    /// Whether the sandbox has processes.
    pub(super) async fn runs(&self) -> bool {
        self.sandbox.is_some() && self.parts.gvisor.process_count(self.vm.as_str()).await.is_ok_and(|count| count > 0)
    }

    fn awake(&mut self) -> Event {
        self.activity = super::activity::Activity::since(clock::boottime_ms());
        self.unspillable = false;
        let spill = self.dir.spill();
        // The next spill begins with an empty directory, and the run's end removes it.
        tokio::task::spawn_blocking(move || file::remove(&spill).unwrap_or_default());
        Event::Up
    }
}
