//! A run: watched to its end, to its time, or to its sleep.

use std::time::Duration;

use cakework_wire::host::SleepAnswer;

use super::driver::{Command, Driver, Next, Shutdown};
use super::prepare::ended;
use super::stage::{Event, Stage};
use crate::sys::clock;
use crate::sys::file::Survives;
use crate::sys::process::Process;
use crate::vm::{Begin, Cause, start_monitor, stop_signal};

/// Time between two readings of the CPU time.
const LOOK: Duration = Duration::from_secs(1);
/// Time before a monitor that died is replaced, doubled while they go on dying.
const MONITOR_BACKOFF_MIN: Duration = Duration::from_millis(50);
const MONITOR_BACKOFF_MAX: Duration = Duration::from_secs(10);

impl Driver {
    pub(super) async fn watch(&mut self) -> Next {
        // Whoever waited for it to be awake.
        self.parts.execs.awake(&self.vm);
        for waker in self.wakers.drain(..) {
            // It may have had enough.
            let _ = waker.send(());
        }
        if self.record.stage == Stage::Stopping {
            self.signal().await;
        }
        let mut backoff = MONITOR_BACKOFF_MIN;
        self.read_activity().await;
        loop {
            if let Some(event) = self.wished() {
                return Ok(event);
            }
            if self.sandbox.is_none() {
                return Ok(Event::SandboxEnded);
            }
            let deadline_ms = match self.record.stage {
                Stage::Stopping => self.record.run.kill_by_ms,
                _ => self.record.run.end_by_ms,
            };
            let monitor = async {
                match &self.monitor {
                    Some(monitor) => monitor.ended().await,
                    None => tokio::time::sleep(backoff).await,
                }
            };
            tokio::select! {
                () = ended(self.sandbox.as_ref()) => return Ok(Event::SandboxEnded),
                () = Self::wish(&mut self.wishes) => {}
                command = self.commands.recv() => if let Some(event) = self.hear_while_running(command).await {
                    return Ok(event);
                },
                () = clock::sleep_until(deadline_ms) => return Ok(self.time_is_over()),
                () = self.parts.shutdown.cancelled() => return Err(Shutdown),
                () = tokio::time::sleep(LOOK) => self.read_activity().await,
                () = monitor => match self.monitor.take() {
                    // It ends right after its sandbox, too: only the next round tells a death from that.
                    Some(_) => {}
                    None => {
                        backoff = (backoff * 2).min(MONITOR_BACKOFF_MAX);
                        self.replace_monitor().await;
                    }
                },
            }
        }
    }

    async fn hear_while_running(&mut self, command: Option<Command>) -> Option<Event> {
        match command {
            Some(Command::Sleep { ask, answer }) => {
                let current = ask.generation == self.record.generation && self.record.stage == Stage::Running;
                let said = if !current {
                    SleepAnswer::NotRunning
                } else if let Some(reason) = self.busy(ask.idle_ms).await {
                    SleepAnswer::Busy { reason }
                } else if !self.parts.execs.still(&self.vm) {
                    SleepAnswer::Busy { reason: "a command is open in it".into() }
                } else {
                    self.sleeper = Some((ask.spill, answer));
                    return Some(Event::PauseBegun);
                };
                // Whoever asked may have had enough.
                let _ = answer.send(said);
            }
            Some(Command::Wake { generation, answer }) => {
                if generation == self.record.generation {
                    let _ = answer.send(());
                }
            }
            // It was woken before it was heard.
            Some(Command::Evict) => {}
            // The registry is gone because the agent ends.
            None => self.parts.shutdown.cancelled().await,
        }
        None
    }

    async fn busy(&mut self, idle_ms: Option<u64>) -> Option<String> {
        let idle_ms = idle_ms?;
        self.read_activity().await;
        let been_ms = self.activity.idle_ms(clock::boottime_ms());
        let over_ms = self.parts.execs.idle_ms(&self.vm).unwrap_or(0);
        if over_ms < idle_ms {
            return Some(format!("a command was open in it {over_ms} ms ago"));
        }
        (been_ms < idle_ms).then(|| format!("it used the CPU {been_ms} ms ago"))
    }

    async fn read_activity(&mut self) {
        let (parts, vm) = (std::sync::Arc::clone(&self.parts), self.vm.clone());
        let read = tokio::task::spawn_blocking(move || parts.cgroups.cpu_ns(vm.as_str())).await;
        if let Ok(cpu_ns) = read {
            self.activity.sample(clock::boottime_ms(), cpu_ns);
        }
    }

    fn time_is_over(&mut self) -> Event {
        if self.record.stage == Stage::Running {
            self.record.run.cause.get_or_insert(Cause::Timeout);
            self.give_grace();
        }
        Event::TimeoutPassed
    }

    /// Sends the image's stop signal; where that fails, the grace time ends now.
    async fn signal(&mut self) {
        let image = self.parts.images.ready(&self.assignment.spec.image_digest).await.ok();
        let wanted = image.and_then(|image| image.config.config().as_ref()?.stop_signal().clone());
        if let Err(error) = self.parts.gvisor.signal(self.vm.as_str(), stop_signal(wanted.as_deref())).await {
            tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "the stop signal was not sent");
            self.record.run.kill_by_ms = Some(clock::boottime_ms());
        }
    }

    async fn replace_monitor(&mut self) {
        let started = tokio::task::spawn_blocking({
            let (parts, dir) = (std::sync::Arc::clone(&self.parts), self.dir.clone());
            move || start_monitor(&parts.program, &parts.cgroups, &dir, Begin::Attach)
        });
        match started.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(started) => {
                tracing::warn!(vm = %self.vm, "the VM's monitor was gone and is replaced");
                self.record.monitor = Some(started.process.name());
                self.monitor = Some(started.process);
                self.save(Survives::Process).await;
            }
            Err(error) => tracing::error!(vm = %self.vm, %error, "the VM's monitor could not be replaced"),
        }
    }

    /// Takes up monitor and sandbox as they are on record.
    pub(super) fn adopt(&mut self) {
        self.monitor = self.record.monitor.and_then(Process::open);
        self.sandbox = self.record.sandbox.and_then(Process::open);
    }
}
