//! The agent is killed at any moment of a cached VM's life: runs go on, sleepers sleep on, and nothing is left over.

use std::time::Duration;

use cakework_core::cached::{Prewarm, StartTier};
use cakework_core::lifecycle::ExitReason;
use cakework_core::spec::VmSpec;
use cakework_testkit::kernel::Census;
use cakework_wire::host::{PutVm, PutVmAnswer, SleepAnswer, VmObservation};
use serde_json::{Value, json};

use crate::cached::{Cached, LASTING, count, paused};
use crate::host::{Host, spec};

async fn restart_after(host: &mut Host, pause_ms: u64) {
    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    host.kill();
    host.start().await;
}

async fn lasting(host: &Host, digest: &str) -> (Cached, std::net::Ipv4Addr) {
    let wanted = VmSpec { port: Some(80), stop_grace_ms: 0, ..spec(digest, LASTING) };
    let mut vm = Cached::held(host, wanted, Prewarm::None).await;
    let address = vm.start_as(host, StartTier::Cold).await;
    (vm, address)
}

/// Writes a stage into the record of a VM, as an agent does that is then killed.
fn write_stage(host: &Host, vm: &Cached, stage: &str) {
    let path = host.file(&vm.vm, "record.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).expect("a record")).expect("JSON");
    record["stage"] = json!(stage);
    std::fs::write(path, record.to_string()).expect("written");
}

#[tokio::test]
async fn runs_and_sleepers_outlive_their_agent() {
    let mut host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let mut vms = Vec::new();
    for _ in 0..3 {
        let (vm, address) = lasting(&host, &digest).await;
        let (born, at) = count(&host, address).await;
        vms.push((vm, address, born, at));
    }
    assert!(matches!(vms[1].0.sleep(&host, None, false).await, SleepAnswer::Asleep { .. }));
    assert!(matches!(vms[2].0.sleep(&host, None, true).await, SleepAnswer::Asleep { .. }));
    let observed = vms[0].0.report(&host).await.observation;
    host.kill();
    count(&host, vms[0].1).await;
    host.start().await;
    assert_eq!(vms[0].0.report(&host).await.observation, observed, "with how it started");
    assert_eq!(vms[1].0.report(&host).await.observation, VmObservation::Asleep { spilled: false });
    assert_eq!(vms[2].0.report(&host).await.observation, VmObservation::Asleep { spilled: true });
    for (vm, address, born, at) in &vms {
        assert!(matches!(vm.wake(&host).await.observation, VmObservation::Running { .. }));
        let (same, now) = count(&host, *address).await;
        assert!(same == *born && now >= *at, "{same} {now}, before {born} {at}");
        assert!(host.lines(&vm.vm).await.is_empty());
        vm.destroy(&host).await;
    }
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn nobody_knows_whether_it_stands_and_it_goes_on_all_the_same() {
    let mut host = Host::started().await;
    let digest = host.busybox().await;
    let (vm, address) = lasting(&host, &digest).await;
    let (born, mut last) = count(&host, address).await;
    // What was asked of the engine, and whether its record had been written before the kill.
    for (asleep, stage) in
        [(false, "pausing"), (true, "pausing"), (true, "resuming"), (false, "resuming"), (true, "spilling")]
    {
        if asleep {
            assert!(matches!(vm.sleep(&host, None, false).await, SleepAnswer::Asleep { .. }));
        }
        host.kill();
        write_stage(&host, &vm, stage);
        host.start().await;
        assert!(matches!(vm.wake(&host).await.observation, VmObservation::Running { .. }), "{asleep} {stage}");
        let (same, now) = count(&host, address).await;
        assert!(same == born && now >= last, "{asleep} {stage}: {same} {now}, before {born} {last}");
        last = now;
    }
    assert!(host.lines(&vm.vm).await.is_empty(), "{:?}", host.lines(&vm.vm).await);
    vm.destroy(&host).await;
}

#[tokio::test]
async fn an_agent_that_dies_while_a_vm_is_prepared_or_starts_goes_on_with_it() {
    let mut host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    for (prepare_ms, start_ms) in [(0, 0), (30, 1), (100, 3), (180, 6), (260, 12), (350, 25), (500, 60)] {
        let mut vm = Cached::counter(&host, &digest).await;
        restart_after(&mut host, prepare_ms).await;
        paused(&host, 1).await;
        vm.generation += 1;
        let put = PutVm { wait_ms: 0, ..vm.placement(true) };
        assert_eq!(host.put(&vm.vm, &put).await, PutVmAnswer::Admitted { now: None });
        restart_after(&mut host, start_ms).await;
        count(&host, host.running(&vm.vm).await).await;
        vm.destroy(&host).await;
        host.assert_nothing_since(&before);
    }
}

#[tokio::test]
async fn an_agent_that_dies_while_a_vm_stops_or_is_destroyed_ends_it() {
    let mut host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    for pause_ms in [0, 2, 5, 10, 20, 50, 100] {
        let (mut vm, _) = lasting(&host, &digest).await;
        let path = format!("/v1/vms/{}/stop", vm.vm);
        host.call("POST", &path, Some(json!({"generation": vm.generation}))).await;
        restart_after(&mut host, pause_ms).await;
        assert_eq!(vm.stopped(&host).await.reason, ExitReason::Stopped, "after {pause_ms} ms");
        vm.start_as(&host, StartTier::Cold).await;
        vm.sleep(&host, None, pause_ms % 20 == 0).await;
        host.delete(&vm.vm, vm.generation).await;
        restart_after(&mut host, pause_ms).await;
        host.ended(&vm.vm).await;
        host.assert_nothing_since(&before);
    }
}

#[tokio::test]
async fn an_agent_that_dies_while_a_vm_falls_asleep_or_wakes_loses_nothing_of_it() {
    let mut host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let (vm, address) = lasting(&host, &digest).await;
    let (born, mut last) = count(&host, address).await;
    for (spill, sleep_ms, wake_ms) in [
        (true, 0, 0),
        (false, 1, 1),
        (true, 2, 5),
        (true, 15, 40),
        (false, 3, 2),
        (true, 40, 100),
        (true, 80, 150),
        (true, 120, 200),
        (true, 160, 260),
        (true, 250, 320),
    ] {
        let within = |ms| Duration::from_millis(ms);
        let _ = tokio::time::timeout(within(sleep_ms), vm.sleep(&host, None, spill)).await;
        restart_after(&mut host, 0).await;
        let _ = tokio::time::timeout(within(wake_ms), vm.wake(&host)).await;
        restart_after(&mut host, 0).await;
        assert!(matches!(vm.wake(&host).await.observation, VmObservation::Running { .. }), "{}", host.said());
        let (same, now) = count(&host, address).await;
        assert!(same == born && now >= last, "{sleep_ms} {wake_ms}: {same} {now}, before {born} {last}");
        last = now;
    }
    assert!(host.lines(&vm.vm).await.is_empty(), "{:?}", host.lines(&vm.vm).await);
    vm.destroy(&host).await;
    host.assert_nothing_since(&before);
}
