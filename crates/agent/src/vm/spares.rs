//! Spares: sandboxes of VMs that run once, made before anybody asks for them. A start that finds one lets its process
//! begin and waits for nothing else.
//!
//! How many wait follows what was asked for lately. Invariants: a spare is of one scope and one specification, and becomes
//! one VM, with the id that it was made with; until then no code of an image has run in it; it holds a slot and a disk of
//! its host as a VM does, and its memory counts among what waits, where it takes nobody's place.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cakework_core::id::{Generation, VmId};
use cakework_core::spec::VmSpec;
use cakework_wire::host::{ClaimSpare, PutVm};
use tokio::sync::{Notify, watch};

use super::clean;
use super::driver::Driver;
use super::live::{demand_of, resting};
use super::record::{Ask, Assignment, Record};
use super::registry::{Registry, Share};
use super::unsupported::unsupported;
use crate::cached::{SANDBOX_MIB, Waits};
use crate::sys::file;

/// For how long a start is remembered.
const MEMORY: Duration = Duration::from_secs(5 * 60);
/// Starts that are remembered of one kind.
const STARTS_MAX: usize = 64;
/// Starts within this time are as many as may come at once again.
const BURST: Duration = Duration::from_secs(10);
/// Spares of one kind.
const OF_KIND_MAX: usize = 8;
/// Kinds that are remembered, the latest ones.
const KINDS_MAX: usize = 256;
/// How long a claimed one waits for its VM.
const CLAIM_MAX: Duration = Duration::from_secs(60);
/// Time between two looks at what is not wanted any more.
const LOOK: Duration = Duration::from_secs(10);
/// Time for a spare to be made.
const MAKE_MAX_MS: u64 = 20_000;

/// What a start asks for: whose it is, and what it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    scope: String,
    /// As JSON: environment, command, sizes.
    spec: String,
}

impl Kind {
    fn of(scope: &str, spec: &VmSpec) -> Self {
        Self { scope: scope.to_owned(), spec: serde_json::to_string(spec).expect("plain data") }
    }
}

/// The starts of one kind, the latest last.
#[derive(Debug)]
struct Demand {
    spec: VmSpec,
    starts: VecDeque<Instant>,
}

impl Demand {
    fn note(&mut self, now: Instant) {
        self.starts.push_back(now);
        if self.starts.len() > STARTS_MAX {
            self.starts.pop_front();
        }
    }

    /// How many spares are to wait: none after a single start, which may have no other; then as many as came at once.
    fn wanted(&self, now: Instant) -> usize {
        let within = |span| self.starts.iter().filter(|start| now.duration_since(**start) <= span).count();
        if within(MEMORY) < 2 { 0 } else { within(BURST).clamp(1, OF_KIND_MAX) }
    }
}

#[derive(Debug)]
struct Spare {
    kind: Kind,
    driver: Driver,
    share: Share,
    /// It is promised to a start that goes on.
    claimed: Option<Instant>,
    /// Held for the driver: nobody asks it for anything.
    _asks: watch::Sender<Ask>,
}

/// The spares of a host, and what was asked for.
#[derive(Debug, Default)]
pub(super) struct Spares {
    state: Mutex<State>,
    /// There is something to do.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    demand: HashMap<Kind, Demand>,
    ready: BTreeMap<VmId, Spare>,
}

impl Spares {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spare that was promised to this VM. Whoever takes it has its share of the host.
    pub(super) fn take(&self, vm: &VmId) -> Option<(Driver, Share)> {
        let spare = self.state().ready.remove(vm)?;
        Some((spare.driver, spare.share))
    }
}

impl State {
    fn note(&mut self, kind: &Kind, spec: &VmSpec, now: Instant) {
        if !self.demand.contains_key(kind) && self.demand.len() >= KINDS_MAX {
            let oldest = self.demand.iter().min_by_key(|(_, demand)| demand.starts.back().copied());
            if let Some(oldest) = oldest.map(|(kind, _)| kind.clone()) {
                self.demand.remove(&oldest);
            }
        }
        let new = || Demand { spec: spec.clone(), starts: VecDeque::new() };
        self.demand.entry(kind.clone()).or_insert_with(new).note(now);
    }

    /// Whether this is one that nobody was promised.
    fn waits(&self, vm: &VmId) -> bool {
        self.ready.get(vm).is_some_and(|spare| spare.claimed.is_none())
    }

    fn waiting(&self, kind: &Kind) -> usize {
        self.ready.values().filter(|spare| spare.kind == *kind && spare.claimed.is_none()).count()
    }

    /// A kind of which too few wait, the one asked for last first.
    fn lacking(&self, now: Instant) -> Option<(Kind, VmSpec)> {
        let lacking = self.demand.iter().filter(|(kind, demand)| self.waiting(kind) < demand.wanted(now));
        let (kind, demand) = lacking.max_by_key(|(_, demand)| demand.starts.back().copied())?;
        Some((kind.clone(), demand.spec.clone()))
    }

    /// Takes out what is not wanted (all of it where the host `wants` none), was promised to nobody who came, or has ended.
    fn take_useless(&mut self, now: Instant, wants: bool) -> Vec<(VmId, Spare)> {
        self.demand.retain(|_, demand| demand.starts.back().is_some_and(|last| now.duration_since(*last) <= MEMORY));
        let mut wanted: HashMap<&Kind, usize> =
            self.demand.iter().map(|(kind, demand)| (kind, demand.wanted(now))).collect();
        let useless = self.ready.iter().filter(|(_, spare)| match spare.claimed {
            Some(claimed) => now.duration_since(claimed) > CLAIM_MAX,
            None => match wanted.get_mut(&spare.kind) {
                Some(left @ 1..) if wants && spare.driver.is_made() => {
                    *left -= 1;
                    false
                }
                _ => true,
            },
        });
        let useless: Vec<VmId> = useless.map(|(vm, _)| vm.clone()).collect();
        useless.into_iter().filter_map(|vm| Some((vm.clone(), self.ready.remove(&vm)?))).collect()
    }
}

impl Registry {
    /// Promises a spare of this kind, by its id, and notes that one was asked for.
    pub fn claim_spare(&self, claim: &ClaimSpare) -> Option<VmId> {
        if claim.spec.volume_gb.is_some() || unsupported(&claim.spec).is_some() {
            return None;
        }
        let (kind, now) = (Kind::of(&claim.scope, &claim.spec), Instant::now());
        let spares = self.spares();
        let claimed = {
            let mut state = spares.state();
            state.note(&kind, &claim.spec, now);
            let free = |spare: &Spare| spare.claimed.is_none() && spare.kind == kind && spare.driver.is_made();
            let found = state.ready.iter_mut().find(|(_, spare)| free(spare));
            found.map(|(vm, spare)| {
                spare.claimed = Some(now);
                vm.clone()
            })
        };
        if let Some(vm) = &claimed {
            self.cached().leave(vm);
        }
        self.cached().turns.announced();
        spares.changed.notify_one();
        claimed
    }

    /// Something that spares depend on is different now.
    pub(super) fn look_at_spares(&self) {
        self.spares().changed.notify_one();
    }

    /// The memory of a spare is needed; false where it is none that waits.
    pub(super) fn evict_spare(&self, vm: &VmId) -> bool {
        let spare = {
            let mut state = self.spares().state();
            if state.waits(vm) { state.ready.remove(vm) } else { None }
        };
        let is_one = spare.is_some();
        if let Some(spare) = spare {
            self.give_back_spare(spare.driver, spare.share);
        }
        is_one
    }

    /// Makes spares and ends those that nobody wants, until the agent ends; those that are left are then the next one's to
    /// remove.
    pub async fn keep_spares(self) {
        let shutdown = self.parts().shutdown.clone();
        loop {
            let wants = !self.draining() && self.refusal().is_none();
            let useless = self.spares().state().take_useless(Instant::now(), wants);
            for (vm, spare) in useless {
                self.cached().leave(&vm);
                self.give_back_spare(spare.driver, spare.share);
            }
            let lacking = self.spares().state().lacking(Instant::now());
            if let Some((kind, spec)) = lacking.filter(|_| wants) {
                let made = tokio::select! {
                    made = self.make_spare(kind.clone(), spec) => made,
                    () = shutdown.cancelled() => return,
                };
                if !made {
                    // Others may lack one, too: it is thought of again when it is asked for again.
                    self.spares().state().demand.remove(&kind);
                }
                continue;
            }
            tokio::select! {
                () = self.spares().changed.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn make_spare(&self, kind: Kind, spec: VmSpec) -> bool {
        if !self.cached().has_room(&kind.scope, SANDBOX_MIB)
            || self.parts().images.ready(&spec.image_digest).await.is_err()
        {
            return false;
        }
        let _turn = self.cached().turns.take().await;
        let vm = VmId::mint(&mut rand::rng());
        let reserved = tokio::task::spawn_blocking({
            let (this, vm, demand, port) = (self.clone(), vm.clone(), resting(demand_of(&spec, false)), spec.port);
            move || this.reserve(vm, demand, port)
        });
        let Ok(Ok(share)) = reserved.await else { return false };
        let put = PutVm {
            generation: Generation::FIRST,
            scope: kind.scope.clone(),
            spec,
            timeout_ms: None,
            start_remaining_ms: MAKE_MAX_MS,
            wait_ms: 0,
            cached: None,
        };
        let assignment = Assignment::new(put, share.slot(), self.parts().boot_id.clone());
        let record = Record::admitted(&assignment);
        let (asks, asked) = watch::channel(Ask::Nothing);
        let parts = std::sync::Arc::clone(self.parts());
        let mut driver = Driver::new(parts, vm.clone(), self.dir_of(&vm), assignment, record, asked, false);
        if !driver.make_ahead().await {
            self.give_back_spare(driver, share);
            return false;
        }
        let bytes = tokio::task::spawn_blocking({
            let (parts, vm) = (std::sync::Arc::clone(self.parts()), vm.clone());
            move || parts.cgroups.memory_bytes(vm.as_str())
        });
        let mib = bytes.await.unwrap_or(0).div_ceil(1 << 20);
        let scope = kind.scope.clone();
        self.spares().state().ready.insert(vm.clone(), Spare { kind, driver, share, claimed: None, _asks: asks });
        self.evict(self.cached().enter(vm.clone(), scope, mib, Waits::Created));
        // Whoever came for it before it was counted could not take it out of the count.
        if !self.spares().state().waits(&vm) {
            self.cached().leave(&vm);
        }
        self.make_room();
        true
    }

    /// Ends a spare and removes all of it. Its share of the host is free after that.
    pub(super) fn give_back_spare(&self, mut driver: Driver, share: Share) {
        let dir = driver.dir().path().to_owned();
        self.track(async move {
            clean::clean(&mut driver).await;
            let removed = tokio::task::spawn_blocking(move || file::remove(&dir)).await;
            if !matches!(removed, Ok(Ok(()))) {
                tracing::warn!(?removed, "the directory of a spare is still there");
            }
            drop(share);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(ages_secs: &[u64], now: Instant) -> Demand {
        let starts = ages_secs.iter().map(|age| now.checked_sub(Duration::from_secs(*age)).expect("a moment"));
        let spec = serde_json::from_value(serde_json::json!({
            "imageDigest": "sha256:0", "cpu": 1, "memoryMib": 128, "diskMib": 64, "stopGraceMs": 1000, "env": {},
        }));
        Demand { spec: spec.expect("a specification"), starts: starts.collect() }
    }

    #[test]
    fn what_waits_follows_what_was_asked_for_lately() {
        let now = Instant::now() + MEMORY * 2;
        assert_eq!(demand(&[], now).wanted(now), 0);
        assert_eq!(demand(&[1], now).wanted(now), 0, "a single start may have no other");
        assert_eq!(demand(&[200, 100], now).wanted(now), 1);
        assert_eq!(demand(&[301, 100], now).wanted(now), 0, "forgotten");
        assert_eq!(demand(&[100, 3, 2, 1], now).wanted(now), 3, "as many as came at once");
        assert_eq!(demand(&[1; 60], now).wanted(now), OF_KIND_MAX);
    }

    #[test]
    fn only_the_latest_kinds_are_remembered() {
        let (mut state, now) = (State::default(), Instant::now());
        let spec = demand(&[], now).spec;
        for number in 0..=KINDS_MAX {
            let kind = Kind::of(&number.to_string(), &spec);
            state.note(&kind, &spec, now + Duration::from_millis(number as u64));
        }
        assert_eq!(state.demand.len(), KINDS_MAX);
        assert!(!state.demand.contains_key(&Kind::of("0", &spec)));
        let (kind, _) = state.lacking(now).unzip();
        assert_eq!(kind, None, "each was asked for once");
        for _ in 0..2 {
            state.note(&Kind::of("7", &spec), &spec, now + Duration::from_secs(1));
        }
        let lacking = state.lacking(now + Duration::from_secs(2)).map(|(kind, _)| kind.scope);
        assert_eq!(lacking.as_deref(), Some("7"));
    }
}
