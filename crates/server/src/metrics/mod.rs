//! What an operator reads at `/metrics`: OpenMetrics 1.0 text, which Prometheus reads.
//!
//! What happens is counted here as it happens; how things stand is asked of the store and of the host when somebody
//! reads ([`scene`]). No series names an account, a VM or anything else of a user's.

mod scene;
pub(crate) mod serve;

use std::time::Duration;

use cakework_core::build::BuildState;
use cakework_core::cached::{Sleep, Start, StartTier};
use cakework_edge::{EdgeMetrics, WakeFailure};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// One label with one of a few words.
type Label = [(&'static str, &'static str); 1];
type Timed<L> = Family<L, Histogram, fn() -> Histogram>;

/// The outcomes of a wake for requests.
const WAKES: [&str; 4] = ["woken", "stopped", "no_room", "failed"];

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) edge: EdgeMetrics,
    starts: Timed<Label>,
    fallbacks: Counter,
    wakes: Timed<Label>,
    for_requests: Family<Label, Counter>,
    builds: Family<Label, Counter>,
    calls: Timed<[(&'static str, String); 1]>,
    statuses: Family<[(&'static str, String); 1], Counter>,
}

impl Metrics {
    /// Nothing happened yet. Series of known words are there from the beginning, so that a rate of nothing is 0.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let edge = EdgeMetrics::new(&mut registry);
        let starts = timed();
        for tier in StartTier::ALL {
            drop(starts.get_or_create(&[("tier", tier.as_str())]));
        }
        let wakes = timed();
        for from in Sleep::ALL {
            drop(wakes.get_or_create(&[("from", from.as_str())]));
        }
        let for_requests = Family::<Label, Counter>::default();
        for outcome in WAKES {
            drop(for_requests.get_or_create(&[("outcome", outcome)]));
        }
        let builds = Family::<Label, Counter>::default();
        for state in BuildState::ALL.into_iter().filter(|state| state.is_over()) {
            drop(builds.get_or_create(&[("state", state.as_str())]));
        }
        let (fallbacks, calls, statuses) =
            (Counter::default(), Family::new_with_constructor(seconds as _), Family::default());
        let mut timed = |name, help, family| registry.register_with_unit(name, help, Unit::Seconds, family);
        timed(
            "cakework_vm_start",
            "Starts of cached VMs by tier, from the host's hearing of it until the process went on",
            starts.clone(),
        );
        timed("cakework_vm_wake", "Wakes of sleeping VMs by where they slept, as long as the host took", wakes.clone());
        registry.register_with_unit("cakework_api_request", "Calls of the API by route", Unit::Seconds, calls.clone());
        registry.register("cakework_api_responses", "Answers of the API by status", statuses.clone());
        registry.register(
            "cakework_vm_start_fallbacks",
            "Starts in which a faster tier was tried and given up",
            fallbacks.clone(),
        );
        registry.register(
            "cakework_wakes",
            "Starts and wakes for requests to a hostname, by outcome",
            for_requests.clone(),
        );
        registry.register("cakework_builds_ended", "Builds that ended, by how", builds.clone());
        Self { registry, edge, starts, fallbacks, wakes, for_requests, builds, calls, statuses }
    }

    /// A cached VM started.
    pub(crate) fn started(&self, start: &Start) {
        let took = Duration::from_millis(start.duration_ms).as_secs_f64();
        self.starts.get_or_create(&[("tier", start.tier.as_str())]).observe(took);
        if start.fallback.is_some() {
            self.fallbacks.inc();
        }
    }

    /// A host let a sleeping VM go on.
    pub(crate) fn woke(&self, from: Sleep, took: Duration) {
        self.wakes.get_or_create(&[("from", from.as_str())]).observe(took.as_secs_f64());
    }

    /// What became of a wake for requests.
    pub(crate) fn woken_for_requests(&self, woken: Result<(), WakeFailure>) {
        let outcome = match woken {
            Ok(()) => "woken",
            Err(WakeFailure::Stopped) => "stopped",
            Err(WakeFailure::NoRoom) => "no_room",
            Err(WakeFailure::Failed) => "failed",
        };
        self.for_requests.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A build ended so.
    pub(crate) fn build_ended(&self, state: BuildState) {
        self.builds.get_or_create(&[("state", state.as_str())]).inc();
    }

    /// A call was answered. `route` is the pattern of its path; without one nothing was there.
    pub(crate) fn called(&self, route: Option<&str>, status: u16, took: Duration) {
        let route = route.unwrap_or("none").to_owned();
        self.calls.get_or_create(&[("route", route)]).observe(took.as_secs_f64());
        self.statuses.get_or_create(&[("status", status.to_string())]).inc();
    }
}

fn timed() -> Timed<Label> {
    Family::new_with_constructor(seconds)
}

/// From a millisecond to about a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}
