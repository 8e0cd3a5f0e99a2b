//! The agent and monitors are killed at any moment: VMs live on, and nothing is left over.

use std::collections::BTreeSet;

use crate::host::{Host, http, recorded, spec};
use cakework_core::lifecycle::ExitReason;
use cakework_core::spec::VmSpec;
use cakework_testkit::kernel::{Census, Kind};
use cakework_wire::host::VmObservation;
use rustix::process::{Pid, Signal, kill_process};

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a process id"), Signal::KILL).expect("it runs");
}

#[tokio::test]
async fn a_vm_outlives_its_agent_and_its_monitor() {
    let mut host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let script = "mkdir /tmp/w; date +%s.%N > /tmp/w/index.html; head -c 16 /dev/urandom | md5sum >> /tmp/w/index.html
                  n=0; (while :; do n=$((n+1)); echo line $n; sleep 0.05; done) & httpd -f -p 80 -h /tmp/w";
    let vm = host.admit(VmSpec { port: Some(80), ..spec(&digest, script) }, None).await;
    let address = host.running(&vm).await;
    let born = host.until("the app answers", async || http(address, 80).await).await;

    host.kill();
    assert_eq!(http(address, 80).await.as_ref(), Some(&born), "it lives without an agent");
    host.start().await;
    assert_eq!(host.running(&vm).await, address);

    let record = host.file(&vm, "record.json");
    let monitor = recorded(&record, "monitor").expect("a monitor");
    kill(monitor);
    let replaced = || recorded(&record, "monitor").filter(|pid| *pid != monitor);
    host.until("the monitor is replaced", async || replaced()).await;

    host.kill();
    kill(replaced().expect("a monitor"));
    host.start().await;
    assert_eq!(host.running(&vm).await, address);
    assert_eq!(host.until("the app answers", async || http(address, 80).await).await, born);
    let count = host.lines(&vm).await.len();
    host.until("lines arrive again", async || (host.lines(&vm).await.len() > count).then_some(())).await;

    host.delete(&vm, 1).await;
    assert_eq!(host.ended(&vm).await.reason, ExitReason::Stopped);
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn what_ends_while_the_agent_is_away_is_reported_when_it_is_back() {
    let mut host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let exits = host
        .admit(spec(&digest, "while [ ! -e /tmp/go ]; do sleep 0.1; i=$((i+1)); [ $i = 30 ] && exit 5; done"), None);
    let exits = exits.await;
    let timed = VmSpec { stop_grace_ms: 0, ..spec(&digest, "sleep 1000") };
    let timed = host.admit(timed, Some(3000)).await;
    let killed = host.admit(spec(&digest, "sleep 1000"), None).await;
    for vm in [&exits, &timed, &killed] {
        host.running(vm).await;
    }
    let asked = host.admit(spec(&digest, "trap '' TERM; sleep 1000"), None).await;
    host.running(&asked).await;
    host.stop(&asked).await;
    host.delete(&asked, 1).await;
    host.kill();
    let pid = |who| recorded(&host.file(&killed, "record.json"), who).expect("it is on record");
    kill(pid("monitor"));
    kill(pid("sandbox"));
    let exit_file = host.file(&exits, "run/exit.json");
    host.until("the monitor notes the end", async || exit_file.exists().then_some(())).await;
    host.start().await;
    let exit = host.ended(&exits).await;
    assert_eq!((exit.reason, exit.code), (ExitReason::Exited, Some(5)));
    assert_eq!(host.ended(&timed).await.reason, ExitReason::Timeout);
    assert_eq!(host.ended(&killed).await.reason, ExitReason::Unknown);
    assert_eq!(host.ended(&asked).await.reason, ExitReason::Stopped);
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn an_agent_that_dies_while_vms_start_goes_on_with_them() {
    let mut host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    for pause_ms in [0, 15, 25, 35, 45, 80, 150, 300] {
        let vm = host.admit(spec(&digest, "echo up; sleep 1000"), None).await;
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        host.kill();
        host.start().await;
        host.running(&vm).await;
        host.says(&vm, "up").await;
        assert_eq!(host.lines(&vm).await.iter().filter(|line| *line == "up").count(), 1, "after {pause_ms} ms");
        host.delete(&vm, 1).await;
        host.kill();
        host.start().await;
        assert_eq!(host.ended(&vm).await.reason, ExitReason::Stopped);
        host.assert_nothing_since(&before);
    }
}

#[tokio::test]
async fn an_agent_that_dies_during_its_canary_leaves_none() {
    let mut host = Host::started().await;
    let before = Census::take(&host.scope()).expect("a census");
    let scope = host.scope();
    let canaries = || -> BTreeSet<String> {
        let now = Census::take(&scope).expect("a census").since(&before);
        let groups = now.into_iter().filter(|object| object.kind == Kind::Cgroup && object.name.contains("/canary-"));
        groups.map(|group| group.name).collect()
    };
    for pause_ms in [150, 60, 20, 0] {
        host.kill();
        let left = canaries();
        host.spawn();
        host.until("a canary flies", async || canaries().difference(&left).next().map(drop)).await;
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
    }
    host.kill();
    assert!(!canaries().is_empty(), "none was caught");
    host.start().await;
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn what_nobody_has_on_record_is_destroyed() {
    let mut host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let vm = host.admit(VmSpec { volume_gb: Some(1), ..spec(&digest, "sleep 1000") }, None).await;
    host.running(&vm).await;
    let kept = host.admit(spec(&digest, "sleep 1000"), None).await;
    host.running(&kept).await;
    host.kill();
    for name in ["assignment.json", "record.json"] {
        std::fs::remove_file(host.file(&vm, name)).expect("it is there");
    }
    assert!(!Census::take(&host.scope()).expect("a census").since(&before).is_empty());
    host.start().await;
    assert!(host.report(&vm).await.is_none());
    assert!(matches!(host.report(&kept).await.expect("a report").observation, VmObservation::Running { .. }));
    host.delete(&kept, 1).await;
    host.ended(&kept).await;
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn a_purge_leaves_nothing_at_all() {
    let mut host = Host::new(serde_json::json!({"cpuFactor": 64})).await;
    let before = Census::take(&host.scope()).expect("a census");
    host.start().await;
    let digest = host.busybox().await;
    let running = host.admit(VmSpec { volume_gb: Some(1), ..spec(&digest, "sleep 1000") }, None).await;
    host.running(&running).await;
    host.admit(spec(&digest, "sleep 1000"), None).await;
    host.purge();
    host.assert_nothing_since(&before);
}
