//! The one task that owns a cached VM, for as long as the host holds it.
//!
//! Its parts are in the modules beside this one: [`super::ready`] while there is no run, [`super::start`],
//! [`super::watch`] and [`super::sleep`] for a run, [`super::over`] for what comes after, and after a restart of the
//! agent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cakework_core::cached::Prewarm;
use cakework_core::id::{Generation, VmId};
use cakework_wire::host::{SleepAnswer, SleepVm};
use tokio::sync::{mpsc, oneshot, watch};

use super::activity::Activity;
use super::decide::Have;
use super::key::Key;
use super::pool::{Room, Waits};
use super::record::{Record, Run};
use super::shared::Shared;
use super::stage::{Event, Stage, advance};
use crate::sys::clock;
use crate::sys::file::{self, Survives};
use crate::sys::packet::PacketSocket;
use crate::sys::process::Process;
use crate::vm::{Ask, Assignment, Cause, Parts, Registry, VmDir};

/// Time before something that failed is tried again, doubled each time.
pub(super) const RETRY_MIN: Duration = Duration::from_millis(100);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(30);

/// What is wanted of a cached VM: its last placement, and how that is to end.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The last placement.
    pub assignment: Assignment,
    /// The highest placement seen; above the assignment's, that one was refused before it came.
    pub highest: Generation,
    /// How it is to end.
    pub ask: Ask,
    /// When it was heard.
    pub heard: Instant,
}

/// Something that is answered, or that may be missed.
#[derive(Debug)]
pub enum Command {
    /// It is to sleep.
    Sleep {
        /// How.
        ask: SleepVm,
        /// Told when it does, or why not.
        answer: oneshot::Sender<SleepAnswer>,
    },
    /// It is to be awake.
    Wake {
        /// The run.
        generation: Generation,
        /// Told when it is; dropped when there is nothing to wake.
        answer: oneshot::Sender<()>,
    },
    /// The memory of what waits is needed.
    Evict,
}

/// The way to a driver.
#[derive(Debug, Clone)]
pub struct Handle {
    /// What is wanted.
    pub wishes: watch::Sender<Wish>,
    /// What is answered.
    pub commands: mpsc::Sender<Command>,
}

/// A cached VM's owner.
#[derive(Debug)]
pub struct Driver {
    pub(super) parts: Arc<Parts>,
    pub(super) shared: Arc<Shared>,
    pub(super) registry: Registry,
    pub(super) vm: VmId,
    pub(super) dir: VmDir,
    pub(super) assignment: Assignment,
    pub(super) record: Record,
    pub(super) wishes: watch::Receiver<Wish>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) heard: Instant,
    pub(super) monitor: Option<Process>,
    pub(super) sandbox: Option<Process>,
    /// What the engine is handed of the network, once.
    pub(super) packets: Option<PacketSocket>,
    /// The program that its first process runs.
    pub(super) program: Option<String>,
    /// What waits for a start.
    pub(super) ready: Option<Ready>,
    /// It was made for another specification than the present one.
    pub(super) outdated: bool,
    /// What may wait until the next run is over.
    pub(super) room: Room,
    pub(super) activity: Activity,
    /// Whoever waits for the VM to sleep; `true`: to be spilled.
    pub(super) sleeper: Option<(bool, oneshot::Sender<SleepAnswer>)>,
    /// Whoever waits for it to be awake.
    pub(super) wakers: Vec<oneshot::Sender<()>>,
    /// A spill failed: it is not tried again for want of memory alone.
    pub(super) unspillable: bool,
    resumed: bool,
}

/// A sandbox that waits for a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Restored and paused.
    Paused,
    /// Made over the prepared disk, with nothing running in it.
    Blank,
    /// Made, with nothing running in it.
    Created,
    /// Started from the image for its preparation, which a start came into.
    Booted,
}

/// Why a stage was left without an event: the agent ends.
#[derive(Debug)]
pub(super) struct Shutdown;

pub(super) type Next = Result<Event, Shutdown>;

impl Driver {
    /// The driver of a VM as its files say. `resumed`: another agent drove it.
    #[allow(clippy::too_many_arguments, reason = "each is another part's")]
    pub fn new(
        parts: Arc<Parts>,
        shared: Arc<Shared>,
        registry: Registry,
        vm: VmId,
        dir: VmDir,
        record: Record,
        wishes: watch::Receiver<Wish>,
        commands: mpsc::Receiver<Command>,
        resumed: bool,
    ) -> Self {
        let Wish { assignment, heard, .. } = wishes.borrow().clone();
        Self {
            parts,
            shared,
            registry,
            vm,
            dir,
            assignment,
            record,
            wishes,
            commands,
            heard,
            monitor: None,
            sandbox: None,
            packets: None,
            program: None,
            ready: None,
            outdated: false,
            room: Room::Memory,
            activity: Activity::since(clock::boottime_ms()),
            sleeper: None,
            wakers: Vec::new(),
            unspillable: false,
            resumed,
        }
    }

    /// Takes the VM to its end; `None` where the agent ended first. The last state is left to the caller to report.
    pub async fn run(mut self) -> Option<Record> {
        if self.resumed
            && let Some(event) = self.recover().await.ok()?
        {
            self.apply(event).await;
        }
        while self.record.stage != Stage::Ended {
            let next = match self.record.stage {
                Stage::Held => self.hold().await,
                Stage::Starting => self.start().await,
                Stage::Running | Stage::Stopping => self.watch().await,
                Stage::Pausing
                | Stage::Asleep
                | Stage::Spilling
                | Stage::Spilled
                | Stage::Resuming
                | Stage::Restoring => self.sleep().await,
                Stage::Ending => self.end_run().await,
                Stage::Destroying | Stage::Ended => self.destroy().await,
            };
            self.apply(next.ok()?).await;
        }
        self.shared.leave(&self.vm);
        Some(self.record)
    }

    /// The only place where a stage changes: on disk first, then for everyone to see.
    pub(super) async fn apply(&mut self, event: Event) {
        let next = advance(self.record.stage, event);
        if next == self.record.stage {
            return;
        }
        tracing::debug!(vm = %self.vm, from = ?self.record.stage, to = ?next, "a cached VM's stage");
        self.record.stage = next;
        self.save(if next == Stage::Ended { Survives::PowerLoss } else { Survives::Process }).await;
        if next == Stage::Held {
            self.registry.rest(&self.vm, self.record.generation);
        }
        // The end is reported by whoever gives back the reservation, after that.
        if next != Stage::Ended {
            self.report();
        }
    }

    pub(super) fn report(&self) {
        self.parts.board.vm(self.record.report(&self.vm));
    }

    /// Writes the record down. A failure is not the VM's end: the next agent finds by name what it lacks.
    pub(super) async fn save(&self, survives: Survives) {
        let (path, record) = (self.dir.record(), self.record.clone());
        let written = tokio::task::spawn_blocking(move || file::write_json(&path, &record, survives));
        let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(error) = written {
            tracing::error!(vm = %self.vm, %error, "a cached VM's record could not be written");
        }
    }

    /// What the last wish means now.
    pub(super) fn wished(&mut self) -> Option<Event> {
        let Wish { assignment, highest, ask, heard } = self.wishes.borrow_and_update().clone();
        if ask == Ask::Destroy {
            return Some(Event::DestroyAsked);
        }
        if self.record.stage == Stage::Held {
            return self.wished_while_held(assignment, highest, ask, heard);
        }
        if highest > self.record.generation {
            // Whoever places it anew knows this run no more.
            self.record.run.cause.get_or_insert(Cause::Asked);
            return Some(Event::KillAsked);
        }
        let event = match (ask, self.record.stage) {
            (Ask::Nothing, _) | (Ask::Stop, Stage::Stopping | Stage::Ending | Stage::Destroying | Stage::Ended) => {
                return None;
            }
            // It has to be awake to hear the signal: see `super::sleep`.
            (Ask::Stop, stage) if stage.sleeps() => return None,
            (Ask::Stop, _) => Event::StopAsked,
            (Ask::Kill | Ask::Destroy, _) => Event::KillAsked,
        };
        self.record.run.cause.get_or_insert(Cause::Asked);
        if event == Event::StopAsked {
            self.give_grace();
        }
        Some(event)
    }

    fn wished_while_held(
        &mut self,
        assignment: Assignment,
        highest: Generation,
        ask: Ask,
        heard: Instant,
    ) -> Option<Event> {
        let new = highest > self.record.generation;
        let runs = assignment.runs() && assignment.generation == highest && ask == Ask::Nothing;
        if assignment.spec != self.assignment.spec {
            self.outdated = true;
            self.record.unprepared = 0;
        }
        self.assignment = assignment;
        if new && runs {
            self.heard = heard;
            self.record.generation = highest;
            self.record.boot_id = self.parts.boot_id.clone();
            // What waits has its address already.
            self.record.run = Run { address: self.record.run.address, ..Run::default() };
            return Some(Event::RunAsked);
        }
        if new {
            self.record.generation = highest;
            self.report();
        }
        None
    }

    /// Whether a wish was made that is not heard yet.
    pub(super) fn is_wished(&self) -> bool {
        self.wishes.has_changed().unwrap_or(false)
    }

    /// Waits for a wish that is not heard yet.
    pub(super) async fn wish(wishes: &mut watch::Receiver<Wish>) {
        if wishes.changed().await.is_err() {
            // Nobody can wish any more: the registry is gone because the agent ends.
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn give_grace(&mut self) {
        self.record.run.kill_by_ms = Some(clock::boottime_ms().saturating_add(self.assignment.spec.stop_grace_ms));
    }

    pub(super) fn fail(&mut self, why: impl Into<String>) -> Event {
        let why = why.into();
        self.record.run.failure.get_or_insert(why);
        Event::Failed
    }

    pub(super) fn key(&self) -> Key {
        Key::new(self.shared.key.clone(), &self.assignment.spec)
    }

    /// What a start could begin with.
    pub(super) fn have(&self, prepared: bool) -> Have {
        let waits = match self.ready {
            Some(Ready::Paused) => Some(Waits::Paused),
            Some(Ready::Blank) => Some(Waits::Blank),
            Some(Ready::Created) => Some(Waits::Created),
            Some(Ready::Booted) | None => None,
        };
        Have { prewarm: self.prewarm(), prepared, unprepared: self.record.unprepared, waits, room: self.room }
    }

    fn prewarm(&self) -> Prewarm {
        let spec = &self.assignment.spec;
        let wanted = self.assignment.cached.as_ref().map_or(Prewarm::None, |cached| cached.spec.prewarm);
        wanted.resolve(spec.port.is_some(), spec.volume_gb.is_some())
    }

    /// Lets what waits be counted; whoever has to go for it is told.
    pub(super) async fn wait_in_pool(&self, waits: Waits) {
        let (parts, vm) = (Arc::clone(&self.parts), self.vm.clone());
        let bytes = tokio::task::spawn_blocking(move || parts.cgroups.memory_bytes(vm.as_str())).await.unwrap_or(0);
        self.registry.evict(self.shared.enter(self.vm.clone(), self.scope(), bytes.div_ceil(1 << 20), waits));
        self.registry.make_room();
    }

    /// Whose share of what waits it is.
    pub(super) fn scope(&self) -> String {
        self.assignment.scope.clone()
    }
}
