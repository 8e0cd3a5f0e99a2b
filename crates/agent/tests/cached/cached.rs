//! What the tests do with a cached VM.

use std::net::Ipv4Addr;
use std::path::Path;

use cakework_core::cached::{CachedSpec, Prewarm, Start, StartTier};
use cakework_core::id::{Generation, VmId};
use cakework_core::lifecycle::Exit;
use cakework_core::spec::VmSpec;
use cakework_wire::host::{CachedStatus, PutCached, PutVm, PutVmAnswer, SleepAnswer, VmObservation, VmReport};
use serde_json::json;

use crate::host::{Host, body, http, spec};

/// An app with a name that it makes up when it boots, and a count that goes on in its memory and on its disk.
pub const COUNTER: &str = "id=$(head -c 8 /dev/urandom | md5sum | cut -c1-8); mkdir -p /srv/w; n=0
    httpd -p 80 -h /srv/w; while :; do n=$((n+1)); echo $id $n > /srv/w/index.html; sleep 0.03; done";

/// Like [`COUNTER`], with what must not change over a sleep: the start time of its process, and a file on each disk.
pub const LASTING: &str = "mkdir -p /srv/w; n=0; httpd -p 80 -h /srv/w
    while :; do n=$((n+1)); echo $n > /srv/n; [ -d /data ] && echo $n > /data/n; read m < /srv/n
    [ $m = $n ] || echo lost; echo $(cut -d' ' -f22 /proc/$$/stat) $n > /srv/w/index.html; sleep 0.02; done";

/// A cached VM under test.
pub struct Cached {
    pub vm: VmId,
    pub spec: VmSpec,
    pub prewarm: Prewarm,
    pub scope: &'static str,
    pub generation: u64,
}

impl Cached {
    /// One that serves [`COUNTER`] and is held.
    pub async fn counter(host: &Host, digest: &str) -> Self {
        Self::held(host, VmSpec { port: Some(80), ..spec(digest, COUNTER) }, Prewarm::Auto).await
    }

    pub async fn held(host: &Host, spec: VmSpec, prewarm: Prewarm) -> Self {
        let cached = Self { vm: VmId::mint(&mut rand::rng()), spec, prewarm, scope: "a", generation: 1 };
        assert_eq!(host.put(&cached.vm, &cached.placement(false)).await, PutVmAnswer::Admitted { now: None });
        cached
    }

    /// Its present placement.
    pub fn placement(&self, run: bool) -> PutVm {
        let spec = CachedSpec { prewarm: self.prewarm };
        PutVm {
            generation: Generation(self.generation),
            scope: self.scope.into(),
            spec: self.spec.clone(),
            timeout_ms: None,
            start_remaining_ms: 60_000,
            wait_ms: if run { 10_000 } else { 0 },
            cached: Some(PutCached { spec, run }),
        }
    }

    /// Starts it anew: its address and how it started.
    pub async fn start(&mut self, host: &Host) -> (Ipv4Addr, Start) {
        self.generation += 1;
        let answer = host.put(&self.vm, &self.placement(true)).await;
        let PutVmAnswer::Admitted { now: Some(VmObservation::Running { address, start: Some(start) }) } = answer else {
            panic!("{answer:?}\n{}", host.said());
        };
        (address, start)
    }

    /// Starts it; the tier has to be this one.
    pub async fn start_as(&mut self, host: &Host, tier: StartTier) -> Ipv4Addr {
        let (address, start) = self.start(host).await;
        assert_eq!((start.tier, start.fallback), (tier, None), "{}", host.said());
        address
    }

    /// Stops it and waits until it is held again.
    pub async fn stop(&self, host: &Host) -> Exit {
        let path = format!("/v1/vms/{}/stop", self.vm);
        let answer = host.call("POST", &path, Some(json!({"generation": self.generation}))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        self.stopped(host).await
    }

    /// Waits until its run is over.
    pub async fn stopped(&self, host: &Host) -> Exit {
        host.until("the run is over", async || match self.report(host).await.observation {
            VmObservation::Stopped { exit } => exit,
            _ => None,
        })
        .await
    }

    pub async fn report(&self, host: &Host) -> VmReport {
        host.report(&self.vm).await.expect("the host knows it")
    }

    pub async fn sleep(&self, host: &Host, idle_ms: Option<u64>, spill: bool) -> SleepAnswer {
        let ask = json!({"generation": self.generation, "idleMs": idle_ms, "spill": spill});
        body(host.call("POST", &format!("/v1/vms/{}/sleep", self.vm), Some(ask)).await)
    }

    pub async fn wake(&self, host: &Host) -> VmReport {
        let ask = json!({"generation": self.generation});
        body(host.call("POST", &format!("/v1/vms/{}/wake", self.vm), Some(ask)).await)
    }

    pub async fn destroy(&self, host: &Host) {
        host.delete(&self.vm, self.generation).await;
        host.ended(&self.vm).await;
    }

    /// Whether a process of its sandbox runs.
    pub fn has_sandbox(&self) -> bool {
        !self.sandbox().is_empty()
    }

    /// The CPU time that its sandbox has used, in ticks; none where it has no sandbox.
    pub fn sandbox_ticks(&self) -> Option<u64> {
        let ticks = |process: &std::path::PathBuf| {
            let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
            // The name before the last parenthesis may hold anything: proc(5).
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
            fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>()
        };
        let processes = self.sandbox();
        (!processes.is_empty()).then(|| processes.iter().map(ticks).sum())
    }

    fn sandbox(&self) -> Vec<std::path::PathBuf> {
        let processes = std::fs::read_dir("/proc").expect("proc").flatten().map(|process| process.path());
        let ours = processes.filter(|process| {
            let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
            line.starts_with(b"runsc-") && line.split(|byte| *byte == 0).any(|word| word == self.vm.as_str().as_bytes())
        });
        ours.collect()
    }
}

/// What waits on a host.
pub async fn status(host: &Host) -> CachedStatus {
    body(host.call("GET", "/v1/host/cached", None).await)
}

/// Waits until so many instances wait paused.
pub async fn paused(host: &Host, count: u64) {
    host.until("instances wait", async || (status(host).await.paused.count == count).then_some(())).await;
}

/// Waits until so many sandboxes wait with nothing in them.
pub async fn created(host: &Host, count: u64) {
    host.until("sandboxes wait", async || (status(host).await.created.count == count).then_some(())).await;
}

/// Waits until so many sandboxes wait for memory to be restored into them.
pub async fn blank(host: &Host, count: u64) {
    host.until("sandboxes wait", async || (status(host).await.blank.count == count).then_some(())).await;
}

/// The name and the count of a [`COUNTER`].
pub async fn count(host: &Host, address: Ipv4Addr) -> (String, u64) {
    let numbers = |page: String| {
        let (id, count) = page.split_once(' ')?;
        Some((id.to_owned(), count.parse().ok()?))
    };
    // The server is there before its page.
    host.until("the app answers", async || http(address, 80).await.and_then(numbers)).await
}

/// A hash of all that is in a directory: names and contents.
pub fn hash(dir: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    let mut paths = vec![dir.to_owned()];
    while let Some(path) = paths.pop() {
        let meta = path.symlink_metadata().expect("readable");
        path.strip_prefix(dir).expect("below").hash(&mut hasher);
        if meta.is_dir() {
            let mut below: Vec<_> = std::fs::read_dir(&path).expect("readable").flatten().map(|e| e.path()).collect();
            below.sort();
            paths.extend(below);
        } else if meta.is_file() {
            std::fs::read(&path).expect("readable").hash(&mut hasher);
        }
    }
    hasher.finish()
}
