//! Sandboxes that are made before anybody asks for their VM.

use cakework_core::cached::{CachedSpec, Prewarm, StartTier};
use cakework_core::id::{Generation, VmId};
use cakework_core::spec::VmSpec;
use cakework_testkit::kernel::Census;
use cakework_wire::host::{
    CachedStatus, ClaimSpare, Claimed, HostStatus, PutCached, PutVm, PutVmAnswer, VmObservation,
};
use serde_json::json;

use crate::host::{Host, body, http, put, shell, spec};

const WEB: &str = "mkdir -p /srv/w; echo $(hostname) $A > /srv/w/index.html; httpd -f -p 80 -h /srv/w";

fn web(digest: &str) -> VmSpec {
    VmSpec { port: Some(80), env: [("A".to_owned(), "b".to_owned())].into(), ..spec(digest, WEB) }
}

async fn claim(host: &Host, scope: &str, spec: &VmSpec) -> Option<VmId> {
    let claim = json!(ClaimSpare { scope: scope.into(), spec: spec.clone() });
    body::<Claimed>(host.call("POST", "/v1/spares/claim", Some(claim)).await).vm_id
}

async fn created(host: &Host, count: u64) {
    let look = async || {
        let status: CachedStatus = body(host.call("GET", "/v1/host/cached", None).await);
        (status.created.count == count).then_some(())
    };
    host.until("sandboxes wait", look).await;
}

/// Asks twice, after which one waits.
async fn one_waits(host: &Host, spec: &VmSpec) {
    assert_eq!(claim(host, "a", spec).await, None);
    created(host, 0).await;
    assert_eq!(claim(host, "a", spec).await, None);
    // Two came at once, and may again.
    created(host, 2).await;
}

/// Starts a VM with this id; how it started.
async fn start(host: &Host, vm: &VmId, spec: &VmSpec) -> StartTier {
    assert_eq!(host.put(vm, &put(1, spec.clone())).await, PutVmAnswer::Admitted { now: None });
    host.running(vm).await;
    match host.report(vm).await.map(|report| report.observation) {
        Some(VmObservation::Running { start: Some(start), .. }) => start.tier,
        other => panic!("{other:?}"),
    }
}

/// What the app of a VM that runs answers.
async fn page(host: &Host, vm: &VmId) -> String {
    let address = host.running(vm).await;
    host.until("the app answers", async || http(address, 80).await).await
}

#[tokio::test]
async fn a_start_takes_the_sandbox_that_waits_and_leaves_nothing() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let wanted = web(&digest);
    one_waits(&host, &wanted).await;
    let vm = claim(&host, "a", &wanted).await.expect("one waits");
    assert_eq!(start(&host, &vm, &wanted).await, StartTier::Created);
    let page = page(&host, &vm).await;
    assert_eq!(page, format!("{vm} b"), "the VM has its own name and environment");
    // A cold one is the same but for its start.
    let cold = VmId::mint(&mut rand::rng());
    assert_eq!(start(&host, &cold, &wanted).await, StartTier::Cold);
    for vm in [&vm, &cold] {
        host.delete(vm, 1).await;
        host.ended(vm).await;
    }
    // What is drained keeps nothing ready.
    let drained: HostStatus = body(host.call("PUT", "/v1/host/drain", Some(json!({"draining": true}))).await);
    assert!(drained.draining);
    created(&host, 0).await;
    host.until("all of it is gone", async || {
        let now = Census::take(&host.scope()).expect("a census");
        (now == before).then_some(())
    })
    .await;
    let names = std::fs::read_dir(host.dir.join("vms")).expect("its directory").flatten();
    assert_eq!(names.count(), 2, "the directories of the two VMs alone");
}

#[tokio::test]
async fn one_that_waits_is_of_one_scope_and_one_specification() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let wanted = web(&digest);
    one_waits(&host, &wanted).await;
    let mut other = wanted.clone();
    other.env.insert("A".into(), "c".into());
    assert_eq!(claim(&host, "a", &other).await, None);
    assert_eq!(claim(&host, "b", &wanted).await, None);
    assert_eq!(claim(&host, "a", &VmSpec { volume_gb: Some(1), ..wanted.clone() }).await, None);
    // Whoever asks for something else by the id gets that, cold.
    let vm = claim(&host, "a", &wanted).await.expect("one waits");
    assert_eq!(start(&host, &vm, &other).await, StartTier::Cold);
    let page = page(&host, &vm).await;
    assert_eq!(page, format!("{vm} c"));
    // Also where it is another kind of VM.
    let vm = claim(&host, "a", &wanted).await.expect("another waits");
    let cached = CachedSpec { prewarm: Prewarm::None };
    let held = PutVm {
        generation: Generation(1),
        cached: Some(PutCached { spec: cached, run: false }),
        ..put(1, wanted.clone())
    };
    assert_eq!(host.put(&vm, &held).await, PutVmAnswer::Admitted { now: None });
    host.delete(&vm, 1).await;
    host.ended(&vm).await;
}

/// Kills the processes with such words in their command lines.
fn kill(is_one: impl Fn(&[&str]) -> bool) {
    let mut killed = 0;
    for process in std::fs::read_dir("/proc").expect("proc").flatten() {
        let line = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&str> = line.split('\0').collect();
        let pid = process.file_name().to_str().and_then(|name| rustix::process::Pid::from_raw(name.parse().ok()?));
        if let Some(pid) = pid.filter(|_| is_one(&words)) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("its own process");
            killed += 1;
        }
    }
    assert_eq!(killed, 1, "the process was found");
}

/// Its run would begin with a gap.
#[tokio::test]
async fn a_sandbox_whose_monitor_ended_while_it_waited_is_nobodys_start() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let wanted = VmSpec { command: Some(vec!["echo one; exec sleep 1000".into()]), ..web(&digest) };
    one_waits(&host, &wanted).await;
    let vm = claim(&host, "a", &wanted).await.expect("one waits");
    kill(|words| words.contains(&"monitor") && words.iter().any(|word| word.ends_with(vm.as_str())));
    assert_eq!(start(&host, &vm, &wanted).await, StartTier::Cold, "{}", host.said());
    host.until("it says something", async || (host.lines(&vm).await == ["one"]).then_some(())).await;
}

#[tokio::test]
async fn a_sandbox_that_ended_while_it_waited_is_nobodys_start() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let wanted = web(&digest);
    one_waits(&host, &wanted).await;
    let vm = claim(&host, "a", &wanted).await.expect("one waits");
    kill(|words| words[0].starts_with("runsc-sandbox") && words.contains(&vm.as_str()));
    assert_eq!(start(&host, &vm, &wanted).await, StartTier::Cold, "{}", host.said());
}

#[tokio::test]
async fn what_waited_goes_with_its_agent_and_when_memory_is_promised() {
    let mut host = Host::new(json!({"cpuFactor": 64, "memoryMib": 600})).await;
    host.configure(|config| config["cached"] = json!({"waitingMib": 600, "scopeWaitingMib": 600}));
    host.start().await;
    let digest = host.busybox().await;
    let wanted = web(&digest);
    one_waits(&host, &wanted).await;
    let claimed = claim(&host, "a", &wanted).await.expect("one waits");
    host.kill();
    host.start().await;
    created(&host, 0).await;
    // Its id is as good as any.
    assert_eq!(start(&host, &claimed, &wanted).await, StartTier::Cold);
    one_waits(&host, &wanted).await;
    let large = VmSpec { memory_mib: 600 - wanted.memory_mib, ..spec(&digest, "sleep 1000") };
    let large = host.admit(large, None).await;
    host.running(&large).await;
    created(&host, 0).await;
}

/// An engine whose control socket nobody knows is told by its command.
#[tokio::test]
async fn an_engine_of_another_time_is_started_by_its_command() {
    let mut host = Host::new(json!({"cpuFactor": 64})).await;
    std::fs::create_dir_all(&host.dir).expect("a directory");
    let engine = host.dir.with_file_name("runsc");
    let script =
        "#!/bin/sh\n[ \"$1\" = --version ] && exec echo runsc version release-20300101.0\nexec /usr/bin/runsc \"$@\"\n";
    std::fs::write(&engine, script).expect("written");
    std::fs::set_permissions(&engine, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its own");
    host.configure(|config| config["runsc"] = json!(engine));
    host.start().await;
    let digest = host.busybox().await;
    let wanted = web(&digest);
    one_waits(&host, &wanted).await;
    let vm = claim(&host, "a", &wanted).await.expect("one waits");
    assert_eq!(start(&host, &vm, &wanted).await, StartTier::Created);
    let page = page(&host, &vm).await;
    assert_eq!(page, format!("{vm} b"));
    let missing = host.image("missing", shell().entrypoint(&["/no/such"]).build()).await;
    let missing = VmSpec { image_digest: missing, command: None, ..wanted };
    let missing = host.admit(missing, None).await;
    let exit = host.ended(&missing).await;
    assert!(exit.message.as_ref().is_some_and(|why| why.contains("was not found")), "{exit:?} {}", host.said());
}
