//! A scripted host: it speaks the host protocol on a real socket and runs nothing.
//!
//! It stands in for an agent only to force orders of events that no real one can be told to produce: lost replies,
//! late reports, lists that lack something, a new incarnation, no capacity. What a host really does is tested with a
//! real agent.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use cakework_core::admission::{Amounts, Shortage};
use cakework_core::build::BuildErrorCode;
use cakework_core::cached::{Start, StartTier};
use cakework_core::id::{BuildId, Generation, HostId, Incarnation, VmId};
use cakework_core::isolation::Isolation;
use cakework_core::lifecycle::{Exit, ExitReason};
use cakework_core::logquery::Position;
use cakework_core::logsearch::Mark;
use cakework_wire::build::{
    BuildObservation, BuildPhase, BuildProblem, BuildReport, BuildSource, ContextKept, PutBuild, PutBuildAnswer,
};
use cakework_wire::host::{
    Accepted, AgentProblem, CachedStatus, EndVm, FoundLine, FoundPage, HostStatus, ImageObservation, ImageReport,
    LogLine, LogPage, LogRequest, PROTOCOL, ProblemCode, PullImage, PutVm, PutVmAnswer, Reply, ResolveImage,
    ResolvedImage, SearchLogs, SleepAnswer, SleepVm, VmObservation, VmReport, WaitingVms, WakeVm, WatchPage,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It never arrives.
    Request,
    /// It is done, and the caller does not learn it.
    Reply,
}

pub(super) struct Held {
    pub(super) report: VmReport,
    pub(super) put: PutVm,
    seq: u64,
}

pub(super) struct HeldBuild {
    pub(super) report: BuildReport,
    pub(super) put: PutBuild,
    /// The messages of its log.
    pub(super) lines: Vec<String>,
    seq: u64,
}

pub(super) struct World {
    pub(super) host_id: HostId,
    pub(super) incarnation: Incarnation,
    seq: u64,
    pub(super) vms: BTreeMap<VmId, Held>,
    tombstones: BTreeMap<VmId, Generation>,
    pub(super) builds: BTreeMap<BuildId, HeldBuild>,
    /// In the order in which they were admitted.
    pub(super) admitted: Vec<BuildId>,
    pub(super) deleted_builds: Vec<BuildId>,
    /// Contexts by digest.
    pub(super) contexts: BTreeMap<String, Vec<u8>>,
    pub(super) draining: bool,
    pub(super) images: BTreeMap<String, (ImageReport, u64)>,
    /// What was looked for in the logs of many VMs.
    pub(super) searches: Vec<SearchLogs>,
    /// What pulls were asked for.
    pub(super) pulls: Vec<PullImage>,
    /// What to do with the next calls that change something.
    pub(super) losses: VecDeque<Loss>,
    /// Reports that the next page carries besides the true ones.
    pub(super) ghosts: Vec<VmReport>,
    /// The next page is a list that lacks everything.
    pub(super) empty_list: bool,
    pub(super) full: bool,
    pub(super) refusal: Option<String>,
    /// VMs run as soon as they are admitted.
    pub(super) runs: bool,
    /// Runs end when they are asked to.
    pub(super) stops: bool,
    /// Why VMs are not put to sleep.
    pub(super) busy: Option<String>,
    /// VMs wake when they are asked to.
    pub(super) wakes: bool,
    /// What changed VMs here, in order: `hold`, `run`, `stop`, `kill`, `sleep`, `wake`, `delete`.
    pub(super) calls: Vec<&'static str>,
    pub(super) resolve: Result<ResolvedImage, AgentProblem>,
}

/// The host; its socket is there while it lives.
pub(super) struct Host {
    shared: Shared,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Host {
    pub(super) fn listen(socket: &Path) -> Self {
        let world = World {
            host_id: HostId::mint(1, &mut rand::rng()),
            incarnation: Incarnation::mint(1, &mut rand::rng()),
            seq: 1,
            vms: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            builds: BTreeMap::new(),
            admitted: Vec::new(),
            deleted_builds: Vec::new(),
            contexts: BTreeMap::new(),
            draining: false,
            images: BTreeMap::new(),
            searches: Vec::new(),
            pulls: Vec::new(),
            losses: VecDeque::new(),
            ghosts: Vec::new(),
            empty_list: false,
            full: false,
            refusal: None,
            runs: true,
            stops: true,
            busy: None,
            wakes: true,
            calls: Vec::new(),
            resolve: Ok(ResolvedImage { digest: "sha256:a".into(), size_bytes: 1000, layers: 2 }),
        };
        let shared = Shared { world: Arc::new(Mutex::new(world)), changed: watch::Sender::new(1) };
        let changing = Router::new()
            .route("/v1/vms/{id}", put(put_vm).delete(delete_vm))
            .route("/v1/vms/{id}/stop", post(stop_vm))
            .route("/v1/vms/{id}/sleep", post(sleep_vm))
            .route("/v1/vms/{id}/wake", post(wake_vm))
            .route("/v1/builds/{id}", put(put_build).delete(delete_build))
            .route("/v1/builds/{id}/context", put(put_context))
            .layer(from_fn_with_state(shared.clone(), lose));
        let router = Router::new()
            .route("/v1/host", get(status))
            .route("/v1/host/cached", get(cached))
            .route("/v1/watch", get(watch_page))
            .route("/v1/vms/{id}/logs", post(logs))
            .route("/v1/logs/search", post(search_logs))
            .route("/v1/builds/{id}/logs", post(build_logs))
            .route("/v1/images/resolve", post(resolve))
            .route("/v1/images/{digest}", put(pull).get(image))
            .merge(changing)
            .layer(DefaultBodyLimit::disable())
            .with_state(shared.clone());
        let listener = UnixListener::bind(socket).unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, server }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    /// Makes a VM be somewhere else, and reports it.
    pub(super) fn observe(&self, id: &VmId, observation: VmObservation) {
        self.shared.observe(&mut self.world(), id, observation);
    }

    /// Lets the next page be given out now.
    pub(super) fn poke(&self) {
        self.shared.bump(&mut self.world());
    }

    /// The host restarts: nothing that ran is left.
    pub(super) fn restart(&self) {
        let mut world = self.world();
        world.incarnation = Incarnation::mint(2, &mut rand::rng());
        world.vms.clear();
        world.builds.clear();
        world.ghosts.clear();
        self.shared.bump(&mut world);
    }

    /// Makes a build be somewhere else, and reports it.
    pub(super) fn observe_build(&self, id: &BuildId, observation: BuildObservation) {
        self.shared.observe_build(&mut self.world(), id, observation);
    }

    /// Adds lines to a build's log.
    pub(super) fn log(&self, id: &BuildId, lines: &[&str]) {
        let mut world = self.world();
        let held = world.builds.get_mut(id).expect("the host has it");
        held.lines.extend(lines.iter().map(|line| (*line).to_owned()));
    }

    /// How often a call was made.
    pub(super) fn count(&self, call: &str) -> usize {
        self.world().calls.iter().filter(|made| **made == call).count()
    }

    pub(super) fn set_image(&self, digest: &str, observation: ImageObservation) {
        let mut world = self.world();
        let seq = self.shared.bump(&mut world);
        world.images.insert(digest.into(), (ImageReport { digest: digest.into(), observation }, seq));
    }
}

impl Shared {
    fn bump(&self, world: &mut World) -> u64 {
        world.seq += 1;
        self.changed.send_replace(world.seq);
        world.seq
    }

    fn observe(&self, world: &mut World, id: &VmId, observation: VmObservation) {
        let seq = self.bump(world);
        if let Some(held) = world.vms.get_mut(id) {
            held.report.observation = observation;
            (held.seq, held.report.seq) = (seq, seq);
        }
    }

    fn observe_build(&self, world: &mut World, id: &BuildId, observation: BuildObservation) {
        let seq = self.bump(world);
        if let Some(held) = world.builds.get_mut(id) {
            held.report.observation = observation;
            held.seq = seq;
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

impl World {
    fn reply<T: Serialize>(&self, body: T) -> Response {
        Json(Reply { host_id: self.host_id.clone(), incarnation: self.incarnation.clone(), body }).into_response()
    }
}

fn problem(code: ProblemCode) -> Response {
    (StatusCode::NOT_FOUND, Json(AgentProblem { code, message: "no".into() })).into_response()
}

pub(super) const RUNNING: VmObservation = VmObservation::Running { address: Ipv4Addr::new(10, 64, 0, 1), start: None };

async fn lose(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let loss = shared.lock().losses.pop_front();
    let lost = || (StatusCode::BAD_GATEWAY, "lost").into_response();
    match loss {
        Some(Loss::Request) => lost(),
        Some(Loss::Reply) => {
            next.run(request).await;
            lost()
        }
        None => next.run(request).await,
    }
}

/// As if each VM that stands still had an instance that waits.
async fn cached(State(shared): State<Shared>) -> Response {
    let world = shared.lock();
    let of = |is: fn(&VmObservation) -> bool| {
        let count = world.vms.values().filter(|held| is(&held.report.observation)).count() as u64;
        WaitingVms { count, memory_mib: count * 25 }
    };
    world.reply(CachedStatus {
        paused: of(|now| matches!(now, VmObservation::Stopped { .. })),
        blank: WaitingVms::default(),
        created: WaitingVms::default(),
        asleep: of(|now| matches!(now, VmObservation::Asleep { spilled: false })),
        restores_failed: 3,
        host_cap_mib: 4096,
        scope_cap_mib: 2048,
    })
}

async fn status(State(shared): State<Shared>) -> Response {
    let world = shared.lock();
    world.reply(HostStatus {
        protocol: PROTOCOL,
        isolation: world.refusal.is_none().then_some(Isolation::Gvisor),
        refusal: world.refusal.clone(),
        engine: None,
        capacity: Amounts { memory_mib: 1 << 20, cpu_milli: 1 << 20, disk_mib: 1 << 30, slots: 1000 },
        reserved: Amounts::default(),
        draining: world.draining,
    })
}

#[derive(Deserialize)]
struct WatchQuery {
    after: u64,
    wait_ms: u64,
}

async fn watch_page(State(shared): State<Shared>, Query(query): Query<WatchQuery>) -> Response {
    let mut changed = shared.changed.subscribe();
    if query.after > 0 {
        let wait = changed.wait_for(|seq| *seq > query.after);
        let _ = tokio::time::timeout(Duration::from_millis(query.wait_ms), wait).await;
    }
    let mut world = shared.lock();
    let resync = query.after == 0 || std::mem::take(&mut world.empty_list);
    let empty = resync && query.after > 0;
    let mut vms = std::mem::take(&mut world.ghosts);
    let news = |seq: u64| query.after == 0 || seq > query.after;
    vms.extend(world.vms.values().filter(|held| !empty && news(held.seq)).map(|held| held.report.clone()));
    let images = world.images.values().filter(|(_, seq)| !empty && news(*seq)).map(|(report, _)| report.clone());
    // What the empty list lacks is told by the next page.
    let seq = if empty { query.after } else { world.seq };
    let builds = world.builds.values().filter(|held| !empty && news(held.seq)).map(|held| held.report.clone());
    let page = WatchPage { seq, resync, vms, images: images.collect(), builds: builds.collect() };
    world.reply(page)
}

/// Where a cached VM is that was just started.
pub(super) fn started() -> VmObservation {
    let start = Start { tier: StartTier::Paused, duration_ms: 7, fallback: None };
    VmObservation::Running { address: Ipv4Addr::LOCALHOST, start: Some(start) }
}

async fn put_vm(State(shared): State<Shared>, UrlPath(id): UrlPath<VmId>, Json(put): Json<PutVm>) -> Response {
    let mut world = shared.lock();
    let held = world.vms.get(&id).map(|held| held.report.generation);
    let highest = held.max(world.tombstones.get(&id).copied());
    let is_run = put.cached.as_ref().is_none_or(|cached| cached.run);
    let waits = put.wait_ms > 0;
    let now = |world: &World| {
        let now = world.vms.get(&id).map(|held| held.report.observation.clone());
        now.filter(|now| waits && matches!(now, VmObservation::Running { .. }))
    };
    let answer = if held == Some(put.generation) {
        PutVmAnswer::Already { now: now(&world) }
    } else if let Some(highest) = highest.filter(|highest| *highest >= put.generation) {
        PutVmAnswer::StaleGeneration { highest }
    } else if world.full && is_run {
        PutVmAnswer::NoCapacity { shortage: Shortage::Memory, free: Amounts::default() }
    } else {
        let observation = match (&put.cached, is_run, world.runs) {
            (Some(_), true, true) => started(),
            (Some(_), false, _) => VmObservation::Stopped { exit: None },
            (None, _, true) => RUNNING,
            (_, _, false) => VmObservation::Starting,
        };
        if put.cached.is_some() {
            world.calls.push(if is_run { "run" } else { "hold" });
        }
        let seq = shared.bump(&mut world);
        let report = VmReport { vm_id: id.clone(), generation: put.generation, observation, seq };
        world.vms.insert(id.clone(), Held { report, put, seq });
        PutVmAnswer::Admitted { now: now(&world) }
    };
    world.reply(answer)
}

async fn stop_vm(State(shared): State<Shared>, UrlPath(id): UrlPath<VmId>, Json(end): Json<EndVm>) -> Response {
    let mut world = shared.lock();
    let stops = world.stops || end.now;
    match world.vms.get(&id) {
        Some(held) if held.report.generation <= end.generation => {
            world.calls.push(if end.now { "kill" } else { "stop" });
            if stops {
                end_vm(&shared, &mut world, &id);
            }
            world.reply(Accepted {})
        }
        _ => problem(ProblemCode::Unknown),
    }
}

async fn sleep_vm(State(shared): State<Shared>, UrlPath(id): UrlPath<VmId>, Json(sleep): Json<SleepVm>) -> Response {
    let mut world = shared.lock();
    world.calls.push("sleep");
    let Some(held) = world.vms.get(&id) else { return problem(ProblemCode::Unknown) };
    let runs = matches!(held.report.observation, VmObservation::Running { .. } | VmObservation::Asleep { .. });
    if held.report.generation != sleep.generation || !runs {
        return world.reply(SleepAnswer::NotRunning);
    }
    if let Some(reason) = world.busy.clone() {
        return world.reply(SleepAnswer::Busy { reason });
    }
    shared.observe(&mut world, &id, VmObservation::Asleep { spilled: sleep.spill });
    world.reply(SleepAnswer::Asleep { seq: world.seq })
}

async fn wake_vm(State(shared): State<Shared>, UrlPath(id): UrlPath<VmId>, Json(wake): Json<WakeVm>) -> Response {
    let mut world = shared.lock();
    world.calls.push("wake");
    let wakes = world.wakes;
    match world.vms.get(&id) {
        Some(held) if held.report.generation == wake.generation => {
            if wakes && matches!(held.report.observation, VmObservation::Asleep { .. }) {
                shared.observe(&mut world, &id, started());
            }
            world.reply(world.vms[&id].report.clone())
        }
        _ => problem(ProblemCode::Unknown),
    }
}

#[derive(Deserialize)]
struct DeleteQuery {
    generation: Generation,
}

async fn delete_vm(
    State(shared): State<Shared>,
    UrlPath(id): UrlPath<VmId>,
    Query(query): Query<DeleteQuery>,
) -> Response {
    let mut world = shared.lock();
    world.calls.push("delete");
    world.tombstones.insert(id.clone(), query.generation);
    let over = |held: &Held| matches!(held.report.observation, VmObservation::Ended { .. });
    if world.vms.get(&id).is_some_and(|held| !over(held)) {
        shared.observe(&mut world, &id, VmObservation::Ended { exit: Exit::only(ExitReason::Stopped) });
    }
    world.reply(Accepted {})
}

/// Ends a VM that is not over yet, or a cached one's run.
fn end_vm(shared: &Shared, world: &mut World, id: &VmId) {
    let Some(held) = world.vms.get(id) else { return };
    let exit = Exit::only(ExitReason::Stopped);
    match (&held.put.cached, &held.report.observation) {
        (_, VmObservation::Ended { .. }) | (Some(_), VmObservation::Stopped { .. }) => {}
        (Some(_), _) => shared.observe(world, id, VmObservation::Stopped { exit: Some(exit) }),
        (None, _) => shared.observe(world, id, VmObservation::Ended { exit }),
    }
}

async fn logs(State(shared): State<Shared>, UrlPath(id): UrlPath<VmId>, Json(request): Json<LogRequest>) -> Response {
    let world = shared.lock();
    let Some(held) = world.vms.get(&id) else { return problem(ProblemCode::Unknown) };
    if held.put.cached.is_some() {
        // A line of each placement so far, a page each.
        let run = request.query.after.map_or(Generation::FIRST, |position| position.generation);
        let message = format!("run {run}");
        let line = LogLine { timestamp: run.0, level: "info".into(), message, continues: false };
        let next = (run < held.report.generation).then(|| Position { generation: run.next(), segment: 1, offset: 0 });
        return world.reply(LogPage { lines: vec![line], next });
    }
    let after = request.query.after.map_or(0, |position| position.offset);
    let message = format!("{} {after}", request.query.contains);
    let line = LogLine { timestamp: 1, level: "info".into(), message, continues: after == 1 };
    let next = Position { generation: held.report.generation, segment: 1, offset: after + 1 };
    world.reply(LogPage { lines: vec![line], next: (after < 2).then_some(next) })
}

/// A line of each VM that it has, a page each.
async fn search_logs(State(shared): State<Shared>, Json(request): Json<SearchLogs>) -> Response {
    let mut world = shared.lock();
    let is_behind = |vm: &VmId| request.after.as_ref().is_none_or(|mark| *vm > mark.vm);
    let mut vms: Vec<_> = request.vms.iter().filter(|vm| world.vms.contains_key(*vm) && is_behind(vm)).collect();
    vms.sort();
    let position = Position { generation: Generation::FIRST, segment: 1, offset: 64 };
    let found = vms.first().map(|vm| FoundLine {
        mark: Mark { time_ms: 7, vm: (*vm).clone(), position },
        line: LogLine {
            timestamp: 7,
            level: "info".into(),
            message: format!("{} of {vm}", request.query.contains),
            continues: false,
        },
    });
    let next = found.as_ref().filter(|_| vms.len() > 1).map(|found| found.mark.clone());
    let page = FoundPage { lines: found.into_iter().collect(), next };
    world.searches.push(request);
    world.reply(page)
}

async fn resolve(State(shared): State<Shared>, Json(_): Json<ResolveImage>) -> Response {
    let world = shared.lock();
    match &world.resolve {
        Ok(resolved) => world.reply(resolved.clone()),
        Err(problem) => (StatusCode::BAD_REQUEST, Json(problem.clone())).into_response(),
    }
}

async fn pull(State(shared): State<Shared>, UrlPath(digest): UrlPath<String>, Json(wish): Json<PullImage>) -> Response {
    let mut world = shared.lock();
    world.pulls.push(wish);
    let seq = shared.bump(&mut world);
    let observation = ImageObservation::Pulling { done_bytes: 0, total_bytes: 1000 };
    let new = (ImageReport { digest: digest.clone(), observation }, seq);
    let report = world.images.entry(digest).or_insert(new).0.clone();
    world.reply(report)
}

async fn image(State(shared): State<Shared>, UrlPath(digest): UrlPath<String>) -> Response {
    let world = shared.lock();
    match world.images.get(&digest) {
        Some((report, _)) => world.reply(report.clone()),
        None => problem(ProblemCode::Unknown),
    }
}

/// Where a build is that has just been admitted.
pub(super) const FETCHING: BuildObservation =
    BuildObservation::Running { phase: BuildPhase::Fetching, step: 0, steps: 0 };

async fn put_build(State(shared): State<Shared>, UrlPath(id): UrlPath<BuildId>, Json(put): Json<PutBuild>) -> Response {
    let mut world = shared.lock();
    let held = world.builds.get(&id).map(|held| held.report.generation);
    let has_context = match &put.source {
        BuildSource::Context { digest } => world.contexts.contains_key(digest),
        BuildSource::Git { .. } => true,
    };
    let answer = if held == Some(put.generation) {
        PutBuildAnswer::Already
    } else if world.deleted_builds.contains(&id) {
        PutBuildAnswer::StaleGeneration { highest: put.generation }
    } else if let Some(reason) = world.refusal.clone() {
        PutBuildAnswer::Unsupported { reason }
    } else if world.draining {
        PutBuildAnswer::Draining
    } else if world.full {
        PutBuildAnswer::NoCapacity { shortage: Shortage::Memory, free: Amounts::default() }
    } else if !has_context {
        PutBuildAnswer::NoContext
    } else {
        let report = BuildReport { build_id: id.clone(), generation: put.generation, observation: FETCHING };
        let seq = shared.bump(&mut world);
        world.admitted.push(id.clone());
        world.builds.insert(id, HeldBuild { report, put, lines: Vec::new(), seq });
        PutBuildAnswer::Admitted
    };
    world.reply(answer)
}

#[derive(Deserialize)]
struct ContextQuery {
    digest: String,
}

async fn put_context(State(shared): State<Shared>, Query(query): Query<ContextQuery>, body: Bytes) -> Response {
    let mut world = shared.lock();
    let kept = ContextKept { size_bytes: body.len() as u64 };
    world.contexts.insert(query.digest, body.to_vec());
    world.reply(kept)
}

async fn delete_build(
    State(shared): State<Shared>,
    UrlPath(id): UrlPath<BuildId>,
    Query(_): Query<DeleteQuery>,
) -> Response {
    let mut world = shared.lock();
    world.deleted_builds.push(id.clone());
    let runs = |held: &HeldBuild| matches!(held.report.observation, BuildObservation::Running { .. });
    if world.builds.get(&id).is_some_and(runs) {
        let problem = BuildProblem::new(BuildErrorCode::Cancelled, "It was cancelled.");
        shared.observe_build(&mut world, &id, BuildObservation::Failed { problem });
    }
    world.reply(Accepted {})
}

/// Pages as a host cuts them: the next one is named only where this one is full.
async fn build_logs(
    State(shared): State<Shared>,
    UrlPath(id): UrlPath<BuildId>,
    Json(request): Json<LogRequest>,
) -> Response {
    let world = shared.lock();
    let Some(held) = world.builds.get(&id) else { return problem(ProblemCode::Unknown) };
    let (first, batch) =
        (request.query.after.map_or(0, |position| position.offset as usize), request.query.batch as usize);
    let line =
        |message: &String| LogLine { timestamp: 1, level: "info".into(), message: message.clone(), continues: false };
    let lines: Vec<_> = held.lines.iter().skip(first).take(batch).map(line).collect();
    let next = Position { generation: held.report.generation, segment: 1, offset: (first + lines.len()) as u64 };
    world.reply(LogPage { next: (lines.len() == batch).then_some(next), lines })
}
