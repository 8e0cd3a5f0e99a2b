//! Starts: what each tier begins with is the same, whichever it is.

use cakework_core::cached::{Prewarm, StartTier};
use cakework_core::lifecycle::ExitReason;
use cakework_core::spec::VmSpec;
use cakework_testkit::kernel::Census;
use cakework_wire::host::{PutVmAnswer, VmObservation};
use serde_json::json;

use crate::cached::{COUNTER, Cached, blank, count, created, hash, paused, status};
use crate::host::{Host, spec};

#[tokio::test]
async fn each_start_begins_from_the_prepared_state() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let mut vm = Cached::counter(&host, &digest).await;
    paused(&host, 1).await;
    let prepared = hash(&host.file(&vm.vm, "prepared"));
    let mut names = Vec::new();
    for _ in 0..3 {
        let address = vm.start_as(&host, StartTier::Paused).await;
        let (name, first) = count(&host, address).await;
        host.until("it goes on", async || (count(&host, address).await.1 > first + 20).then_some(())).await;
        names.push((name, first));
        assert_eq!(vm.stop(&host).await.reason, ExitReason::Stopped);
        paused(&host, 1).await;
        assert_eq!(hash(&host.file(&vm.vm, "prepared")), prepared, "what was prepared never changes");
    }
    assert!(names.iter().all(|(name, _)| *name == names[0].0), "the same memory: {names:?}");
    assert!(names.iter().all(|(_, first)| *first < names[0].1 + 20), "from its beginning: {names:?}");
    vm.destroy(&host).await;
    host.assert_nothing_since(&before);
    let kept: Vec<_> = std::fs::read_dir(host.file(&vm.vm, "")).expect("its directory").flatten().collect();
    assert_eq!(kept.len(), 3, "assignment, record and logs: {kept:?}");
}

#[tokio::test]
async fn the_kernels_random_numbers_are_new_in_each_start_and_its_clock_is_right() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let script = "mkdir -p /srv/w; httpd -p 80 -h /srv/w; while :; do
        echo $(date +%s) $(head -c 4 /dev/urandom | od -An -tu4) > /srv/w/index.html; sleep 0.03; done";
    let wanted = VmSpec { port: Some(80), ..spec(&digest, script) };
    let mut vm = Cached::held(&host, wanted, Prewarm::Boot).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        paused(&host, 1).await;
        let address = vm.start_as(&host, StartTier::Paused).await;
        let prepared = count(&host, address).await;
        let mut last = prepared.1;
        for _ in 0..5 {
            let (clock, random) = host
                .until("another number", async || Some(count(&host, address).await).filter(|(_, n)| *n != last))
                .await;
            assert!(seen.insert(random), "a number came twice");
            last = random;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
            assert!(now.abs_diff(clock.parse().expect("seconds")) < 60, "{clock}, not {now}");
        }
        vm.stop(&host).await;
    }
    vm.destroy(&host).await;
}

#[tokio::test]
async fn an_instance_of_another_configuration_is_not_claimed() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let mut vm = Cached::counter(&host, &digest).await;
    paused(&host, 1).await;
    vm.spec.env.insert("A".into(), "b".into());
    let (_, start) = vm.start(&host).await;
    assert_eq!(start.tier, StartTier::Cold);
    assert!(start.fallback.is_some_and(|why| why.contains("configuration")));
    vm.stop(&host).await;
    paused(&host, 1).await;
    vm.start_as(&host, StartTier::Paused).await;
    vm.destroy(&host).await;
}

#[tokio::test]
async fn an_app_says_itself_that_it_is_ready() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let script = "mkdir -p /run/cakework /srv/w; httpd -p 80 -h /srv/w; echo a 1 > /srv/w/index.html
        sleep 1; echo a 2 > /srv/w/index.html; echo > /run/cakework/ready; while :; do sleep 1; done";
    let wanted = VmSpec { port: Some(80), ..spec(&digest, script) };
    let mut vm = Cached::held(&host, wanted, Prewarm::Boot).await;
    paused(&host, 1).await;
    let address = vm.start_as(&host, StartTier::Paused).await;
    assert_eq!(count(&host, address).await.1, 2);
    vm.destroy(&host).await;
}

#[tokio::test]
async fn an_app_that_is_never_ready_starts_all_the_same() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    // It ends before it accepts, each time that it is booted.
    let wanted = VmSpec { port: Some(80), ..spec(&digest, "echo up; exit 4") };
    let mut vm = Cached::held(&host, wanted, Prewarm::Boot).await;
    created(&host, 1).await;
    let said = host.lines(&vm.vm).await.len();
    vm.start_as(&host, StartTier::Created).await;
    assert_eq!(vm.stopped(&host).await.code, Some(4));
    assert_eq!(host.lines(&vm.vm).await.len(), said + 1);
    vm.destroy(&host).await;
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn a_volume_is_kept_and_the_root_is_not() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let script = "echo run >> /data/runs; echo root >> /runs; wc -l < /data/runs; wc -l < /runs; exec sleep 1000";
    let wanted = VmSpec { volume_gb: Some(1), stop_grace_ms: 0, ..spec(&digest, script) };
    let mut vm = Cached::held(&host, wanted, Prewarm::Auto).await;
    for run in 1..=3 {
        created(&host, 1).await;
        assert!(host.lines(&vm.vm).await.len() == 2 * (run - 1), "no code runs before the start");
        vm.start_as(&host, StartTier::Created).await;
        host.until("it says what it found", async || (host.lines(&vm.vm).await.len() == 2 * run).then_some(())).await;
        assert_eq!(host.lines(&vm.vm).await[2 * run - 2..], [run.to_string(), "1".into()]);
        vm.stop(&host).await;
    }
    vm.destroy(&host).await;
    assert!(!host.file(&vm.vm, "volume.img").exists());
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn what_is_put_twice_starts_once_and_a_run_that_ends_is_held() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let script = "echo up; while [ ! -e /go ]; do sleep 0.1; i=$((i+1)); [ $i = 8 ] && exit 5; done";
    let mut vm = Cached::held(&host, spec(&digest, script), Prewarm::None).await;
    vm.start_as(&host, StartTier::Cold).await;
    let again = host.put(&vm.vm, &vm.placement(true)).await;
    assert!(matches!(again, PutVmAnswer::Already { now: Some(VmObservation::Running { .. }) }), "{again:?}");
    let exit = vm.stopped(&host).await;
    assert_eq!((exit.reason, exit.code), (ExitReason::Exited, Some(5)));
    let again = host.put(&vm.vm, &vm.placement(true)).await;
    assert!(matches!(again, PutVmAnswer::Already { now: Some(VmObservation::Stopped { .. }) }), "{again:?}");
    assert_eq!(host.lines(&vm.vm).await, ["up"]);
    vm.start_as(&host, StartTier::Cold).await;
    vm.destroy(&host).await;
    assert!(matches!(host.put(&vm.vm, &vm.placement(true)).await, PutVmAnswer::Already { .. }));
}

#[tokio::test]
async fn a_command_that_is_none_fails_the_start_and_the_vm_stays() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let mut vm = Cached::held(&host, spec(&digest, "true"), Prewarm::None).await;
    vm.spec.command = None;
    vm.spec.image_digest = host.image("missing", crate::host::shell().entrypoint(&["/no/such"]).build()).await;
    vm.generation += 1;
    let answer = host.put(&vm.vm, &vm.placement(true)).await;
    let PutVmAnswer::Admitted { now: Some(VmObservation::Stopped { exit: Some(exit) }) } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert_eq!(exit.message.as_deref(), Some("the image's command was not found: /no/such"));
    vm.spec = spec(&digest, "sleep 1000");
    vm.start_as(&host, StartTier::Cold).await;
    vm.destroy(&host).await;
}

#[tokio::test]
async fn a_start_into_the_preparation_goes_on_with_it() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    // It never accepts.
    let never = VmSpec { port: Some(81), ..spec(&digest, COUNTER) };
    let mut vm = Cached::held(&host, never, Prewarm::Boot).await;
    let page = host.file(&vm.vm, "rootfs/srv/w/index.html");
    host.until("it boots", async || page.exists().then_some(())).await;
    vm.start_as(&host, StartTier::Cold).await;
    vm.stop(&host).await;
    vm.destroy(&host).await;
}

#[tokio::test]
async fn another_engine_or_configuration_is_no_reason_to_restore() {
    let mut host = Host::new(json!({"cpuFactor": 64})).await;
    let engine = host.dir.with_file_name("runsc");
    let write = |text: &str| {
        std::fs::write(&engine, format!("#!/bin/sh\n# {text}\nexec /usr/bin/runsc \"$@\"\n")).expect("written");
        std::fs::set_permissions(&engine, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its own");
    };
    write("one build");
    host.configure(|config| {
        config["runsc"] = json!(engine);
        // Nothing waits: each start is a restore.
        config["cached"] = json!({"waitingMib": 0});
    });
    host.start().await;
    let digest = host.busybox().await;
    let mut vm = Cached::counter(&host, &digest).await;
    let key = host.file(&vm.vm, "prepared/key.json");
    host.until("it is prepared", async || key.exists().then_some(())).await;
    let address = vm.start_as(&host, StartTier::Restored).await;
    let (name, _) = count(&host, address).await;
    vm.stop(&host).await;

    let (_, start) = {
        vm.spec.env.insert("A".into(), "b".into());
        vm.start(&host).await
    };
    assert_eq!(start.tier, StartTier::Cold);
    assert!(start.fallback.is_some_and(|why| why.contains("configuration")));
    vm.stop(&host).await;
    host.until("it is prepared anew", async || key.exists().then_some(())).await;

    host.kill();
    write("another build");
    // The api's wish is there before anything is prepared anew.
    vm.generation += 1;
    let text = std::fs::read_to_string(host.file(&vm.vm, "assignment.json")).expect("readable");
    let mut assignment: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assignment["generation"] = json!(vm.generation);
    assignment["cached"]["run"] = json!(true);
    assignment["startByMs"] = json!(u64::MAX / 2);
    std::fs::write(host.file(&vm.vm, "assignment.json"), assignment.to_string()).expect("written");
    host.start().await;
    let start = host
        .until("it runs", async || match vm.report(&host).await.observation {
            VmObservation::Running { start, .. } => start,
            _ => None,
        })
        .await;
    assert_eq!(start.tier, StartTier::Cold);
    assert!(start.fallback.is_some_and(|why| why.contains("engine")));
    let (other, _) = count(&host, host.running(&vm.vm).await).await;
    assert_ne!(name, other);
    vm.destroy(&host).await;
}

#[tokio::test]
async fn a_torn_memory_image_is_given_up_for_a_cold_start() {
    let mut host = Host::new(json!({"cpuFactor": 64})).await;
    host.configure(|config| config["cached"] = json!({"waitingMib": 0}));
    host.start().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let mut vm = Cached::counter(&host, &digest).await;
    let key = host.file(&vm.vm, "prepared/key.json");
    host.until("it is prepared", async || key.exists().then_some(())).await;
    let file = std::fs::File::options().write(true).open(host.file(&vm.vm, "prepared/memory/checkpoint.img"));
    file.and_then(|file| file.set_len(1000)).expect("cut");
    let (address, start) = vm.start(&host).await;
    assert_eq!(start.tier, StartTier::Cold);
    assert!(start.fallback.is_some_and(|why| why.contains("could not be restored")));
    count(&host, address).await;
    assert!(status(&host).await.restores_failed > 0);
    vm.destroy(&host).await;
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn what_waits_has_a_cap_and_goes_when_memory_is_promised() {
    let mut host = Host::new(json!({"cpuFactor": 64, "memoryMib": 600})).await;
    host.configure(|config| config["cached"] = json!({"waitingMib": 600, "scopeWaitingMib": 600}));
    host.start().await;
    let digest = host.busybox().await;
    let mut first = Cached::counter(&host, &digest).await;
    let mut second = Cached::counter(&host, &digest).await;
    paused(&host, 2).await;
    let waiting = status(&host).await.paused;
    assert!(waiting.memory_mib > 2, "{waiting:?}");
    let large = VmSpec { memory_mib: 600 - 256, ..spec(&digest, "sleep 1000") };
    let large = host.admit(large, None).await;
    host.running(&large).await;
    let little = host.admit(spec(&digest, "sleep 1000"), None).await;
    host.running(&little).await;
    paused(&host, 0).await;
    host.delete(&large, 1).await;
    host.ended(&large).await;
    first.start_as(&host, StartTier::Restored).await;
    first.destroy(&host).await;
    second.start_as(&host, StartTier::Restored).await;
    second.destroy(&host).await;
}

#[tokio::test]
async fn where_an_instance_is_too_large_a_sandbox_waits_for_its_memory() {
    let mut host = Host::new(json!({"cpuFactor": 64})).await;
    host.configure(|config| config["cached"] = json!({"waitingMib": 600, "scopeWaitingMib": 40}));
    host.start().await;
    let digest = host.busybox().await;
    let large = format!("head -c 60000000 /dev/zero | tr '\\0' a > /dev/large; {COUNTER}");
    let mut vm = Cached::held(&host, VmSpec { port: Some(80), ..spec(&digest, &large) }, Prewarm::Auto).await;
    let mut names = Vec::new();
    for _ in 0..2 {
        blank(&host, 1).await;
        assert_eq!(status(&host).await.paused.count, 0);
        let address = vm.start_as(&host, StartTier::Restored).await;
        names.push(count(&host, address).await.0);
        vm.stop(&host).await;
    }
    assert_eq!(names[0], names[1], "both go on from the prepared memory");
    blank(&host, 1).await;
    // A sandbox of another configuration is no place for it.
    vm.spec.env.insert("A".into(), "b".into());
    let (_, start) = vm.start(&host).await;
    assert_eq!(start.tier, StartTier::Cold);
    vm.destroy(&host).await;
}
