//! How things stand when somebody reads the metrics: gauges that are made anew each time, so that none is stale.

use cakework_wire::host::{CachedStatus, HostStatus, WaitingVms};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::app::{App, REQUESTS_MAX};
use crate::store::StoreError;

const MIB: u64 = 1 << 20;
/// What is counted also where there is none, so that a graph shows 0.
const KINDS: [&str; 2] = ["once", "cached"];
const VM_STATES: [&str; 7] = ["created", "started", "asleep", "spilled", "stopping", "stopped", "destroying"];
const BUILD_STATES: [&str; 2] = ["queued", "building"];

/// Labels whose words are the record's or the host's.
type Labels = Vec<(&'static str, String)>;

/// Gauges under one roof.
struct Scene(Registry);

impl Scene {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.0.register(name, help, gauge_of(value));
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(signed(value));
        }
        self.0.register(name, help, family);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }
}

/// Looks at everything. What the host alone knows is missing while it does not answer.
pub(super) async fn look(app: &App) -> Result<Registry, StoreError> {
    let mut scene = Scene(Registry::default());
    of_record(app, &mut scene).await?;
    of_process(app, &mut scene);
    let (status, cached) = tokio::join!(app.host.status(), app.host.cached());
    scene.gauge("cakework_host_up", "1: the host's agent answers", u64::from(status.is_ok()));
    match status {
        Ok(status) => of_host(&mut scene, &status.body),
        Err(error) => tracing::warn!(error = %error, "the host is missing in the metrics"),
    }
    match cached {
        Ok(cached) => of_waiting(&mut scene, &cached),
        Err(error) => tracing::warn!(error = %error, "what waits is missing in the metrics"),
    }
    Ok(scene.0)
}

async fn of_record(app: &App, scene: &mut Scene) -> Result<(), StoreError> {
    let stands = app.store.stands().await?;
    let none = KINDS.into_iter().flat_map(|kind| VM_STATES.map(|state| (vm_labels(kind, state), 0)));
    let vms = none.chain(stands.vms.into_iter().map(|vm| (vm_labels(vm.kind, vm.state), vm.count)));
    scene.gauges("cakework_vms", "VMs that are not over; `asleep` and `spilled` are those that started and sleep", vms);
    let none = BUILD_STATES.map(|state| (vec![("state", state.to_owned())], 0));
    let builds = stands.builds.into_iter().map(|(state, count)| (vec![("state", state)], count));
    let builds = none.into_iter().chain(builds);
    scene.gauges("cakework_builds", "Builds that wait for their turn or go on", builds);
    scene.gauge(
        "cakework_webhook_deliveries_waiting",
        "Webhook deliveries that are still to be made",
        stands.deliveries,
    );
    Ok(())
}

fn of_process(app: &App, scene: &mut Scene) {
    let busy = REQUESTS_MAX - app.requests.available_permits();
    scene.gauge("cakework_api_requests_open", "Calls of the API that are being served", busy as u64);
    scene.gauge(
        "cakework_edge_requests_open",
        "Requests and WebSockets through the edge, waiting ones included",
        app.routes.open() as u64,
    );
    scene.gauge(
        "cakework_edge_requests_waiting",
        "Requests that wait for a VM to run and accept",
        app.routes.waiting() as u64,
    );
    scene.gauge("cakework_edge_routes", "Hostnames that lead to a VM", app.routes.len() as u64);
}

fn of_host(scene: &mut Scene, status: &HostStatus) {
    let amounts = [("capacity", status.capacity), ("reserved", status.reserved)];
    let each = |value: fn(&cakework_core::admission::Amounts) -> u64| {
        amounts.iter().map(move |(is, amounts)| (vec![("is", (*is).to_owned())], value(amounts)))
    };
    scene.gauges(
        "cakework_host_memory_bytes",
        "Memory that the host may promise, and has",
        each(|of| of.memory_mib * MIB),
    );
    scene.gauges(
        "cakework_host_cpu_milli",
        "Thousandths of a CPU that the host may promise, and has",
        each(|of| of.cpu_milli),
    );
    scene.gauges("cakework_host_disk_bytes", "Disk that the host may promise, and has", each(|of| of.disk_mib * MIB));
    scene.gauges("cakework_host_slots", "VMs and builds that the host may have, and has", each(|of| of.slots));
    scene.gauge("cakework_host_draining", "1: the host takes no new VMs", u64::from(status.draining));
    scene.gauge(
        "cakework_host_refuses",
        "1: the host starts no VM, and says why in `cakework doctor`",
        u64::from(status.isolation.is_none()),
    );
}

fn of_waiting(scene: &mut Scene, cached: &CachedStatus) {
    let kinds = [
        ("paused", &cached.paused),
        ("blank", &cached.blank),
        ("created", &cached.created),
        ("asleep", &cached.asleep),
    ];
    let each = |value: fn(&WaitingVms) -> u64| {
        kinds.iter().map(move |(kind, waiting)| (vec![("kind", (*kind).to_owned())], value(waiting)))
    };
    scene.gauges(
        "cakework_waiting_vms",
        "Sandboxes of cached VMs that wait: for a start, or to be woken",
        each(|of| of.count),
    );
    scene.gauges(
        "cakework_waiting_memory_bytes",
        "Their memory, which nobody was promised",
        each(|of| of.memory_mib * MIB),
    );
    let caps = [("host", cached.host_cap_mib), ("account", cached.scope_cap_mib)];
    let caps = caps.map(|(of, mib)| (vec![("of", of.to_owned())], mib * MIB));
    scene.gauges("cakework_waiting_memory_cap_bytes", "What that may be, of all and of one account", caps);
    scene.counter(
        "cakework_restores_failed",
        "Restores that failed; a slower start took the place of each",
        cached.restores_failed,
    );
}

fn vm_labels(kind: impl Into<String>, state: impl Into<String>) -> Labels {
    vec![("kind", kind.into()), ("state", state.into())]
}

fn gauge_of(value: u64) -> Gauge {
    let gauge = Gauge::<i64>::default();
    gauge.set(signed(value));
    gauge
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
