//! Sleep: the same process, memory and disk, wherever it slept.

use std::time::Duration;

use cakework_core::cached::{Prewarm, StartTier};
use cakework_core::lifecycle::ExitReason;
use cakework_core::spec::VmSpec;
use cakework_testkit::kernel::Census;
use cakework_wire::host::{PutVmAnswer, SleepAnswer, VmObservation};
use serde_json::json;

use crate::cached::{COUNTER, Cached, LASTING, count, paused, status};
use crate::host::{Host, spec};

async fn running(host: &Host, wanted: VmSpec) -> (Cached, std::net::Ipv4Addr) {
    let mut vm = Cached::held(host, wanted, Prewarm::None).await;
    let address = vm.start_as(host, StartTier::Cold).await;
    count(host, address).await;
    (vm, address)
}

#[tokio::test]
async fn a_vm_that_sleeps_stands_and_goes_on_where_it_was() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let (vm, address) = running(&host, VmSpec { port: Some(80), ..spec(&digest, LASTING) }).await;
    let (born, _) = count(&host, address).await;
    let page = host.file(&vm.vm, "rootfs/srv/w/index.html");
    let mut last = 0;
    for _ in 0..20 {
        assert!(matches!(vm.sleep(&host, None, false).await, SleepAnswer::Asleep { .. }));
        assert_eq!(vm.report(&host).await.observation, VmObservation::Asleep { spilled: false });
        let asleep = std::fs::read_to_string(&page).expect("readable");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(std::fs::read_to_string(&page).expect("readable"), asleep, "nothing runs");
        assert_eq!(status(&host).await.asleep.count, 1);
        assert!(matches!(vm.wake(&host).await.observation, VmObservation::Running { .. }));
        assert!(matches!(vm.wake(&host).await.observation, VmObservation::Running { .. }), "awake is fine");
        let (same, now) = count(&host, address).await;
        assert!(same == born && now >= last, "{same} {now}");
        host.until("it goes on", async || (count(&host, address).await.1 > now).then_some(())).await;
        last = now;
    }
    assert!(host.lines(&vm.vm).await.is_empty(), "{:?}", host.lines(&vm.vm).await);
    vm.destroy(&host).await;
    host.assert_nothing_since(&before);
}

/// An idle sandbox wakes thousands of times a second for nothing, also while all that runs in it is paused.
#[tokio::test]
async fn what_sleeps_or_waits_takes_no_cpu() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let sleeps = async |vm: &Cached| {
        let before = vm.sandbox_ticks().expect("it has a sandbox");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(vm.sandbox_ticks(), Some(before), "it used the CPU");
    };
    let (asleep, address) = running(&host, VmSpec { port: Some(80), ..spec(&digest, LASTING) }).await;
    asleep.sleep(&host, None, false).await;
    sleeps(&asleep).await;
    let mut waiting = Cached::held(&host, VmSpec { port: Some(80), ..spec(&digest, COUNTER) }, Prewarm::Boot).await;
    paused(&host, 1).await;
    sleeps(&waiting).await;
    let created = Cached::held(&host, spec(&digest, "sleep 1000"), Prewarm::Create).await;
    crate::cached::created(&host, 1).await;
    sleeps(&created).await;
    // Each goes on, or is ended, from there.
    asleep.wake(&host).await;
    count(&host, address).await;
    let address = waiting.start_as(&host, StartTier::Paused).await;
    count(&host, address).await;
    created.destroy(&host).await;
}

#[tokio::test]
async fn a_spilled_vm_runs_nothing_and_wakes_the_same() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let (vm, address) = running(&host, VmSpec { port: Some(80), volume_gb: Some(1), ..spec(&digest, LASTING) }).await;
    let (born, mut last) = count(&host, address).await;
    for round in 0..20 {
        assert!(matches!(vm.sleep(&host, None, true).await, SleepAnswer::Asleep { .. }));
        assert_eq!(vm.report(&host).await.observation, VmObservation::Asleep { spilled: true });
        assert!(!vm.has_sandbox(), "round {round}");
        assert!(matches!(vm.wake(&host).await.observation, VmObservation::Running { .. }), "{}", host.said());
        assert!(vm.has_sandbox());
        let (same, now) = count(&host, address).await;
        assert!(same == born && now >= last, "{same} {now} after {last}");
        host.until("it goes on", async || (count(&host, address).await.1 > now).then_some(())).await;
        last = now;
    }
    assert!(host.lines(&vm.vm).await.is_empty(), "{:?}", host.lines(&vm.vm).await);
    assert!(!host.file(&vm.vm, "spill").exists(), "what was restored is used up");
    assert!(matches!(vm.sleep(&host, None, true).await, SleepAnswer::Asleep { .. }));
    vm.destroy(&host).await;
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn a_busy_vm_does_not_sleep_for_idleness() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let (idle, _) = running(
        &host,
        VmSpec {
            port: Some(80),
            ..spec(&digest, "mkdir /w; echo a 1 > /w/index.html; httpd -p 80 -h /w; exec sleep 1000")
        },
    )
    .await;
    assert!(matches!(idle.sleep(&host, Some(600_000), false).await, SleepAnswer::Busy { .. }), "it began just now");
    host.until("it was idle for a while", async || {
        matches!(idle.sleep(&host, Some(1500), false).await, SleepAnswer::Asleep { .. }).then_some(())
    })
    .await;
    let script = "mkdir /w; echo a 1 > /w/index.html; httpd -p 80 -h /w; while :; do :; done";
    let (busy, address) = running(&host, VmSpec { port: Some(80), ..spec(&digest, script) }).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(matches!(busy.sleep(&host, Some(1500), false).await, SleepAnswer::Busy { .. }));
    count(&host, address).await;
    let old = Cached { vm: busy.vm.clone(), spec: busy.spec.clone(), prewarm: busy.prewarm, ..busy };
    let earlier = Cached { generation: old.generation - 1, ..old };
    assert_eq!(earlier.sleep(&host, None, false).await, SleepAnswer::NotRunning);
    idle.destroy(&host).await;
}

#[tokio::test]
async fn a_stop_wakes_who_sleeps_so_that_it_hears_the_signal() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let script = "trap 'echo heard; exit 3' TERM; mkdir /w; echo a 1 > /w/index.html; httpd -p 80 -h /w
        while :; do sleep 0.05; done";
    for spill in [false, true] {
        let (vm, _) = running(&host, VmSpec { port: Some(80), ..spec(&digest, script) }).await;
        vm.sleep(&host, None, spill).await;
        let exit = vm.stop(&host).await;
        assert_eq!((exit.reason, exit.code), (ExitReason::Stopped, Some(3)), "spilled: {spill}");
        assert_eq!(host.lines(&vm.vm).await, ["heard"]);
        vm.destroy(&host).await;
    }
}

#[tokio::test]
async fn a_run_whose_time_is_over_ends_also_asleep() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let mut vm = Cached::held(&host, spec(&digest, "sleep 1000"), Prewarm::None).await;
    vm.spec.stop_grace_ms = 0;
    vm.generation += 1;
    let put = cakework_wire::host::PutVm { timeout_ms: Some(1500), ..vm.placement(true) };
    assert!(matches!(host.put(&vm.vm, &put).await, PutVmAnswer::Admitted { now: Some(_) }));
    assert!(matches!(vm.sleep(&host, None, false).await, SleepAnswer::Asleep { .. }));
    assert_eq!(vm.stopped(&host).await.reason, ExitReason::Timeout);
    vm.destroy(&host).await;
}

#[tokio::test]
async fn who_sleeps_longest_is_spilled_for_want_of_memory_and_wakes_when_there_is_some() {
    let mut host = Host::new(json!({"cpuFactor": 64, "memoryMib": 512})).await;
    host.configure(|config| config["cached"] = json!({"waitingMib": 512, "scopeWaitingMib": 512}));
    host.start().await;
    let digest = host.busybox().await;
    let wanted = VmSpec { port: Some(80), ..spec(&digest, COUNTER) };
    let (first, address) = running(&host, wanted).await;
    let (name, _) = count(&host, address).await;
    assert!(matches!(first.sleep(&host, None, false).await, SleepAnswer::Asleep { .. }));
    let large = host.admit(VmSpec { memory_mib: 512, ..spec(&digest, "sleep 1000") }, None).await;
    host.running(&large).await;
    host.until("it is spilled", async || {
        (first.report(&host).await.observation == VmObservation::Asleep { spilled: true }).then_some(())
    })
    .await;
    let (woken, ()) = tokio::join!(first.wake(&host), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        host.delete(&large, 1).await;
    });
    assert!(matches!(woken.observation, VmObservation::Running { .. }), "{woken:?}");
    assert_eq!(count(&host, address).await.0, name);
    first.destroy(&host).await;
}

#[tokio::test]
async fn a_prepared_vm_sleeps_and_wakes_too() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let mut vm = Cached::counter(&host, &digest).await;
    paused(&host, 1).await;
    let address = vm.start_as(&host, StartTier::Paused).await;
    let (name, _) = count(&host, address).await;
    for spill in [false, true, false] {
        assert!(matches!(vm.sleep(&host, None, spill).await, SleepAnswer::Asleep { .. }));
        assert!(matches!(vm.wake(&host).await.observation, VmObservation::Running { .. }));
        assert_eq!(count(&host, address).await.0, name);
    }
    vm.stop(&host).await;
    paused(&host, 1).await;
    vm.destroy(&host).await;
}
