//! The one task that owns a VM: it takes it from phase to phase, and survives its own end by what it wrote down.
//!
//! Invariant: the record in memory is the record on disk, or a later one whose writing failed; what differs is found
//! again by name. Wishes for the VM's end reach it as a value that only ever grows, so that none is lost or queued.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cakework_core::cached::{Start, StartTier};
use cakework_core::id::VmId;
use cakework_core::phase::{Phase, PhaseEvent, advance};
use cakework_image::{Image, ImageStore};
use cakework_wire::host::ProblemCode;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clean;
use super::dir::VmDir;
use super::prepare::{self, Prepared};
use super::record::{Ask, Assignment, Cause, Record};
use super::stop_signal::stop_signal;
use super::watcher::{self, Begin};
use crate::backend::gvisor::{self, EngineError, Gvisor};
use crate::board::Board;
use crate::exec::Execs;
use crate::logs::LogConfig;
use crate::monitor::plan::{Answer, Booted};
use crate::net::{NetError, Network, Told};
use crate::sys::cgroup::Cgroups;
use crate::sys::clock;
use crate::sys::file::{self, Survives};
use crate::sys::packet::PacketSocket;
use crate::sys::process::{Process, ProcessRef};

/// Time between two looks at a boot that another agent began.
const BOOT_LOOK: Duration = Duration::from_millis(50);
/// How often a sandbox that another agent made is asked whether it has begun, [`BOOT_LOOK`] apart.
const BEGUN_LOOKS: u32 = 5;
/// Time before a monitor that died is replaced, doubled while they go on dying.
const MONITOR_BACKOFF_MIN: Duration = Duration::from_millis(50);
const MONITOR_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What all drivers share.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Images.
    pub images: ImageStore,
    /// Networks.
    pub network: Network,
    /// The engine.
    pub gvisor: Gvisor,
    /// How it learns of networks.
    pub told: Told,
    /// Control groups.
    pub cgroups: Cgroups,
    /// The `cakework` program.
    pub program: PathBuf,
    /// The program that works on VMs' files from inside.
    pub guest: PathBuf,
    /// The limits of each log.
    pub logs: LogConfig,
    /// This boot.
    pub boot_id: String,
    /// Open files that a process inside may have.
    pub open_files: u64,
    /// Where states are reported.
    pub board: Board,
    /// The commands that are open in VMs.
    pub execs: Execs,
    /// The agent ends; VMs run on.
    pub shutdown: CancellationToken,
}

/// A VM's owner.
#[derive(Debug)]
pub struct Driver {
    pub(super) parts: Arc<Parts>,
    pub(super) vm: VmId,
    pub(super) dir: VmDir,
    pub(super) assignment: Assignment,
    pub(super) record: Record,
    asks: watch::Receiver<Ask>,
    resumed: bool,
    image: Option<Arc<Image>>,
    pub(super) monitor: Option<Process>,
    sandbox: Option<Process>,
    /// A sandbox that was made and has not begun.
    made: Option<Made>,
    heard: Instant,
}

/// What a sandbox begins with.
#[derive(Debug)]
struct Made {
    program: String,
    packets: Option<PacketSocket>,
    /// It was made before anybody asked for it.
    ahead: bool,
}

/// Why a phase was left without an event: the agent ends.
struct Shutdown;

type Next = Result<PhaseEvent, Shutdown>;

impl Driver {
    /// The driver of a VM as its files say. `resumed`: another agent drove it.
    pub fn new(
        parts: Arc<Parts>,
        vm: VmId,
        dir: VmDir,
        assignment: Assignment,
        record: Record,
        asks: watch::Receiver<Ask>,
        resumed: bool,
    ) -> Self {
        Self {
            parts,
            vm,
            dir,
            assignment,
            record,
            asks,
            resumed,
            image: None,
            monitor: None,
            sandbox: None,
            made: None,
            heard: Instant::now(),
        }
    }

    /// Makes the sandbox of a VM that nobody has asked for; false where that failed: then it is to be undone.
    pub async fn make_ahead(&mut self) -> bool {
        let made = matches!(self.make().await, Ok(PhaseEvent::Up));
        if let Some(made) = &mut self.made {
            made.ahead = true;
            self.parts.gvisor.rest(self.vm.as_str()).await;
        }
        made && self.is_made()
    }

    /// Whether the sandbox that was made is still there, and who writes down what it says.
    pub fn is_made(&self) -> bool {
        self.made.is_some()
            && self.record.sandbox.is_some_and(|name| ProcessRef::of(name.pid) == Some(name))
            && self.monitor.as_ref().is_some_and(|monitor| !monitor.has_ended())
    }

    /// Where the VM's files are.
    pub const fn dir(&self) -> &VmDir {
        &self.dir
    }

    /// Becomes the driver of the VM that was asked for; what was made for another one is of no use to it.
    pub fn ask_for(self, assignment: Assignment, asks: watch::Receiver<Ask>) -> Self {
        let made_as = &self.assignment;
        let fits = assignment.spec == made_as.spec
            && assignment.slot == made_as.slot
            && assignment.generation == made_as.generation;
        let Record { address, monitor, sandbox, .. } = self.record;
        let record = Record { address, monitor, sandbox, ..Record::admitted(&assignment) };
        let made = self.made.filter(|_| fits);
        Self { record, assignment, asks, made, heard: Instant::now(), ..self }
    }

    /// Takes the VM to its end; `None` where the agent ended first. The last state is left to the caller to report.
    pub async fn run(mut self) -> Option<Record> {
        if self.resumed
            && let Some(event) = self.resume().await.ok()?
        {
            self.apply(event).await;
        }
        while self.record.phase != Phase::Ended {
            let next = match self.record.phase {
                Phase::Admitted => self.await_image().await,
                Phase::Preparing => self.prepare().await,
                Phase::Running | Phase::Stopping => self.watch().await,
                Phase::Cleaning | Phase::Ended => self.clean().await,
            };
            self.apply(next.ok()?).await;
        }
        Some(self.record)
    }

    /// Finds out what became of a VM that another agent drove; the event that it missed.
    async fn resume(&mut self) -> Result<Option<PhaseEvent>, Shutdown> {
        if self.record.boot_id != self.parts.boot_id {
            return Ok(Some(PhaseEvent::Failed));
        }
        match self.record.phase {
            Phase::Cleaning | Phase::Ended => Ok(None),
            Phase::Admitted => {
                // A record that was not written may hide that more had been made.
                if let Err(error) = clean::undo(self).await {
                    tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "nothing could be undone");
                    return Ok(Some(self.fail("the host was restarted while the VM was being made")));
                }
                Ok(None)
            }
            Phase::Preparing => self.resume_boot().await.map(Some),
            Phase::Running | Phase::Stopping => {
                self.monitor = self.record.monitor.and_then(Process::open);
                self.sandbox = self.record.sandbox.and_then(Process::open);
                if self.sandbox.is_none() {
                    tracing::info!(vm = %self.vm, "a VM's sandbox ended while the agent was away");
                }
                Ok(self.sandbox.is_none().then_some(PhaseEvent::SandboxEnded))
            }
        }
    }

    /// A boot goes on without the agent. Where none was begun, or it left nothing, the preparation begins anew.
    async fn resume_boot(&mut self) -> Next {
        let monitor = self.record.monitor.and_then(Process::open);
        let monitor = monitor.or_else(|| watcher::find(&self.dir).and_then(Process::open));
        if let Some(monitor) = &monitor {
            while watcher::booted(&self.dir).is_none() {
                tokio::select! {
                    () = monitor.ended() => break,
                    () = tokio::time::sleep(BOOT_LOOK) => {}
                    () = self.parts.shutdown.cancelled() => return Err(Shutdown),
                    () = clock::sleep_until(Some(self.assignment.start_by_ms)) => break,
                }
            }
        }
        let booted = watcher::booted(&self.dir);
        if let Some(booted) = booted.filter(|booted| booted.boot_id == self.parts.boot_id) {
            self.monitor = monitor;
            let up = self.came_up(&booted);
            if self.has_begun().await {
                return Ok(match self.wire(false).await {
                    Ok(()) => up,
                    Err(error) => self.unwired(&error),
                });
            }
        } else if let Some(monitor) = monitor {
            monitor.kill();
        }
        (self.record.sandbox, self.sandbox) = (None, None);
        if clean::undo(self).await.is_err() {
            // Cleaning tries again until it succeeds.
            self.fail("the host was restarted while the VM was being made");
            return Ok(PhaseEvent::Failed);
        }
        Ok(PhaseEvent::ImageReady)
    }

    async fn await_image(&mut self) -> Next {
        let parts = Arc::clone(&self.parts);
        let digest = self.assignment.spec.image_digest.clone();
        let ready = async {
            let mut changed = parts.images.changed();
            loop {
                match parts.images.ready(&digest).await {
                    // The api says anew which images it wants: after a restart this may come first.
                    Err(problem) if problem.code == ProblemCode::Unknown => {
                        let _ = changed.changed().await;
                    }
                    other => return other,
                }
            }
        };
        tokio::select! {
            image = ready => match image {
                Ok(image) => {
                    self.image = Some(image);
                    Ok(PhaseEvent::ImageReady)
                }
                Err(problem) => Ok(self.fail(&format!("the image can't be used: {}", problem.message))),
            },
            event = asked(&mut self.asks, Ask::Nothing) => Ok(self.obey(event)),
            () = clock::sleep_until(Some(self.assignment.start_by_ms)) => {
                Ok(self.fail("the image did not arrive in time"))
            }
            () = parts.shutdown.cancelled() => Err(Shutdown),
        }
    }

    async fn prepare(&mut self) -> Next {
        if self.is_made()
            && let Some(event) = self.begin().await
        {
            return Ok(event);
        }
        if self.record.sandbox.is_some() {
            // What was made ahead is of no use, or has ended.
            self.made = None;
            if let Err(error) = clean::undo(self).await {
                tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "nothing could be undone");
                return Ok(
                    self.fail("the host could not prepare the VM; its operator finds the cause in the agent's log")
                );
            }
            (self.record.sandbox, self.sandbox) = (None, None);
        }
        match self.make().await? {
            PhaseEvent::Up => {}
            other => return Ok(other),
        }
        match self.begin().await {
            Some(event) => Ok(event),
            None => Ok(self.fail("the VM's sandbox ended before it could start")),
        }
    }

    /// Makes the sandbox, with nothing running in it.
    async fn make(&mut self) -> Next {
        let image = match self.image.take() {
            Some(image) => image,
            None => match self.parts.images.ready(&self.assignment.spec.image_digest).await {
                Ok(image) => image,
                Err(problem) => return Ok(self.fail(&format!("the image can't be used: {}", problem.message))),
            },
        };
        let begin = Instant::now();
        // Each step is bounded and none may be dropped halfway: a wish for the end is heard when it is done.
        let prepared = prepare::prepare(&self.parts, &self.vm, &self.dir, &self.assignment, image).await;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "a VM could not be prepared");
                return Ok(self.fail(&error.for_owner()));
            }
        };
        self.record.address = Some(prepared.address);
        // Before the monitor is there: the boot goes on without this agent, and the next one takes the address from here.
        save(&self.dir, &self.record, Survives::Process).await;
        let prepared_after = begin.elapsed();
        let event = self.boot(&prepared).await?;
        let booted_after = begin.elapsed().saturating_sub(prepared_after);
        tracing::debug!(vm = %self.vm, ?prepared_after, ?booted_after, "a VM was made");
        self.made = Some(Made { program: prepared.program, packets: prepared.packets, ahead: false });
        Ok(event)
    }

    async fn boot(&mut self, prepared: &Prepared) -> Next {
        let wired = tokio::spawn(self.wire(prepared.fresh_network));
        let next = self.boot_sandbox(prepared).await;
        // A half-made network is not left to itself: whoever takes it away must not race with its making.
        let wired = wired.await.unwrap_or_else(|error| Err(NetError::Io { what: "go on", error: error.into() }));
        match (next, wired) {
            (Ok(PhaseEvent::Up), Err(error)) => Ok(self.unwired(&error)),
            (next, _) => next,
        }
    }

    /// Makes the host's half of the network, which the sandbox does not need to boot.
    fn wire(&self, fresh: bool) -> impl Future<Output = Result<(), NetError>> + Send + 'static {
        let (parts, vm) = (Arc::clone(&self.parts), self.vm.clone());
        let (slot, port) = (self.assignment.slot, self.assignment.spec.port);
        async move { parts.network.attach_host(&vm, slot, port, fresh).await }
    }

    fn unwired(&mut self, error: &NetError) -> PhaseEvent {
        tracing::warn!(vm = %self.vm, error = error as &dyn std::error::Error, "a VM's network could not be made");
        self.fail("the host could not prepare the VM; its operator finds the cause in the agent's log")
    }

    async fn boot_sandbox(&mut self, prepared: &Prepared) -> Next {
        let started = match self.start_monitor(Begin::Boot).await {
            Ok(started) => started,
            Err(error) => {
                tracing::error!(vm = %self.vm, %error, "the monitor could not be started");
                return Ok(self.fail("the host could not start the VM's monitor"));
            }
        };
        let answer = async {
            self.record.monitor = Some(started.process.name());
            save(&self.dir, &self.record, Survives::Process).await;
            watcher::answer(started.stdout).await
        };
        let answer = tokio::select! {
            answer = answer => answer,
            ask = asked(&mut self.asks, Ask::Nothing) => {
                self.monitor = Some(started.process);
                return Ok(self.obey(ask));
            }
            () = clock::sleep_until(Some(self.assignment.start_by_ms)) => {
                self.monitor = Some(started.process);
                return Ok(self.fail("the sandbox did not start in time"));
            }
            () = self.parts.shutdown.cancelled() => return Err(Shutdown),
        };
        self.monitor = Some(started.process);
        match answer {
            Some(Answer::Started(booted)) => Ok(self.came_up(&booted)),
            Some(Answer::Failed { message }) => {
                tracing::warn!(vm = %self.vm, %message, "the sandbox did not start");
                Ok(self.fail(&gvisor::explain(&message, &prepared.program)))
            }
            None => {
                let last_words = watcher::last_words(&self.dir);
                tracing::error!(vm = %self.vm, %last_words, "the monitor ended without an answer");
                Ok(self.fail("the VM's monitor failed; the host's operator finds the cause in the agent's log"))
            }
        }
    }

    /// Lets the first process run, in a sandbox that was made; `None` where that has ended before it could hear of it.
    async fn begin(&mut self) -> Option<PhaseEvent> {
        let Made { program, packets, ahead } = self.made.take()?;
        let Err(error) = self.parts.gvisor.start(self.vm.as_str(), packets).await else {
            let tier = if ahead { StartTier::Created } else { StartTier::Cold };
            let duration_ms = u64::try_from(self.heard.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.record.start = Some(Start { tier, duration_ms, fallback: None });
            self.record.end_by_ms =
                self.assignment.timeout_ms.map(|timeout_ms| clock::boottime_ms().saturating_add(timeout_ms));
            return Some(PhaseEvent::Up);
        };
        tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "the sandbox did not start");
        if error.is_unheard() {
            return None;
        }
        // It never ran: its end says nothing about the VM's.
        (self.record.sandbox, self.sandbox) = (None, None);
        let EngineError::Failed { complaint, .. } = error else {
            return Some(self.fail("the host could not start the VM; its operator finds the cause in the agent's log"));
        };
        Some(self.fail(&gvisor::explain(&complaint, &program)))
    }

    /// Whether a sandbox that was made has begun, or has ended since.
    async fn has_begun(&self) -> bool {
        for _ in 0..BEGUN_LOOKS {
            // One that has ended had begun.
            let is_there = self.record.sandbox.is_some_and(|name| ProcessRef::of(name.pid) == Some(name));
            if !is_there || self.parts.gvisor.process_count(self.vm.as_str()).await.is_ok_and(|count| count > 0) {
                return true;
            }
            tokio::time::sleep(BOOT_LOOK).await;
        }
        false
    }

    fn came_up(&mut self, booted: &Booted) -> PhaseEvent {
        let name = ProcessRef { pid: booted.sandbox_pid, start_time: booted.start_time };
        self.record.sandbox = Some(name);
        self.record.monitor = self.monitor.as_ref().map(Process::name);
        self.record.end_by_ms =
            self.assignment.timeout_ms.map(|timeout_ms| clock::boottime_ms().saturating_add(timeout_ms));
        // It may have run and ended already: watching it says so.
        self.sandbox = Process::open(name);
        PhaseEvent::Up
    }

    async fn watch(&mut self) -> Next {
        if self.record.phase == Phase::Stopping {
            self.signal().await;
        }
        let mut backoff = MONITOR_BACKOFF_MIN;
        loop {
            let Some(sandbox) = &self.sandbox else { return Ok(PhaseEvent::SandboxEnded) };
            let (deadline_ms, heard) = match self.record.phase {
                Phase::Stopping => (self.record.kill_by_ms, Ask::Stop),
                _ => (self.record.end_by_ms, Ask::Nothing),
            };
            let monitor = async {
                match &self.monitor {
                    Some(monitor) => monitor.ended().await,
                    None => tokio::time::sleep(backoff).await,
                }
            };
            tokio::select! {
                // Its end explains the monitor's: where both have come, it is seen first.
                biased;
                () = sandbox.ended() => return Ok(PhaseEvent::SandboxEnded),
                ask = asked(&mut self.asks, heard) => return Ok(self.obey(ask)),
                () = clock::sleep_until(deadline_ms) => return Ok(self.time_is_over()),
                () = self.parts.shutdown.cancelled() => return Err(Shutdown),
                () = monitor => {}
            }
            match self.monitor.take() {
                // It ends right after its sandbox, too: only the next round tells a death from that.
                Some(_) => {}
                // The kernel knows of its end, and nobody was told yet.
                None if sandbox.has_ended() => {}
                None => {
                    backoff = (backoff * 2).min(MONITOR_BACKOFF_MAX);
                    self.replace_monitor().await;
                }
            }
        }
    }

    async fn replace_monitor(&mut self) {
        match self.start_monitor(Begin::Attach).await {
            Ok(started) => {
                tracing::warn!(vm = %self.vm, "the VM's monitor was gone and is replaced");
                self.record.monitor = Some(started.process.name());
                self.monitor = Some(started.process);
                save(&self.dir, &self.record, Survives::Process).await;
            }
            Err(error) => tracing::error!(vm = %self.vm, %error, "the VM's monitor could not be replaced"),
        }
    }

    async fn start_monitor(&self, begin: Begin) -> std::io::Result<watcher::Started> {
        let (parts, dir) = (Arc::clone(&self.parts), self.dir.clone());
        let started = tokio::task::spawn_blocking(move || watcher::start(&parts.program, &parts.cgroups, &dir, begin));
        started.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    /// Sends the image's stop signal; where that fails, the grace time ends now.
    async fn signal(&mut self) {
        let image = self.parts.images.ready(&self.assignment.spec.image_digest).await.ok();
        let wanted = image.and_then(|image| image.config.config().as_ref()?.stop_signal().clone());
        let signal = stop_signal(wanted.as_deref());
        if let Err(error) = self.parts.gvisor.signal(self.vm.as_str(), signal).await {
            tracing::warn!(vm = %self.vm, error = &error as &dyn std::error::Error, "the stop signal was not sent");
            self.record.kill_by_ms = Some(clock::boottime_ms());
        }
    }

    async fn clean(&mut self) -> Next {
        clean::clean(self).await.map(|()| PhaseEvent::Clean).ok_or(Shutdown)
    }

    fn obey(&mut self, ask: Ask) -> PhaseEvent {
        self.record.cause.get_or_insert(Cause::Asked);
        if ask >= Ask::Kill {
            return PhaseEvent::KillAsked;
        }
        self.record.kill_by_ms = Some(clock::boottime_ms().saturating_add(self.assignment.spec.stop_grace_ms));
        PhaseEvent::StopAsked
    }

    fn time_is_over(&mut self) -> PhaseEvent {
        if self.record.phase == Phase::Running {
            self.record.cause.get_or_insert(Cause::Timeout);
            self.record.kill_by_ms = Some(clock::boottime_ms().saturating_add(self.assignment.spec.stop_grace_ms));
        }
        PhaseEvent::TimeoutPassed
    }

    fn fail(&mut self, why: &str) -> PhaseEvent {
        self.record.failure.get_or_insert_with(|| why.to_owned());
        PhaseEvent::Failed
    }

    /// The only place where a phase changes: on disk first, then for everyone to see.
    async fn apply(&mut self, event: PhaseEvent) {
        let next = advance(self.record.phase, event);
        if next == self.record.phase {
            return;
        }
        self.record.phase = next;
        let survives = if next == Phase::Ended { Survives::PowerLoss } else { Survives::Process };
        save(&self.dir, &self.record, survives).await;
        // The end is reported by whoever gives back the reservation, after that.
        if next != Phase::Ended {
            self.parts.board.vm(self.record.report(&self.vm));
        }
    }
}

/// Waits for a wish that goes beyond what was `heard`.
async fn asked(asks: &mut watch::Receiver<Ask>, heard: Ask) -> Ask {
    let beyond = asks.wait_for(|ask| *ask > heard).await.map(|ask| *ask);
    match beyond {
        Ok(ask) => ask,
        // Nobody can ask any more: the registry is gone because the agent ends.
        Err(_) => std::future::pending().await,
    }
}

/// Writes a record. A failure is not the VM's end: the next start of the agent finds by name what the record lacks.
pub(super) async fn save(dir: &VmDir, record: &Record, survives: Survives) {
    let (path, record) = (dir.record(), record.clone());
    let written = tokio::task::spawn_blocking(move || file::write_json(&path, &record, survives));
    let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    if let Err(error) = written {
        tracing::error!(path = %dir.record().display(), %error, "a VM's record could not be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_is_heard_once_and_a_stronger_one_again() {
        let (sender, mut asks) = watch::channel(Ask::Stop);
        assert_eq!(asked(&mut asks, Ask::Nothing).await, Ask::Stop);
        sender.send_modify(|ask| *ask = Ask::Kill);
        assert_eq!(asked(&mut asks, Ask::Stop).await, Ask::Kill);
    }
}
