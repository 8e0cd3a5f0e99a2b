//! The host protocol's promises: admission, generations, tombstones, watching, and refusals.

use crate::host::{Host, body, put, spec};
use cakework_core::admission::Shortage;
use cakework_core::id::{Generation, VmId};
use cakework_core::lifecycle::ExitReason;
use cakework_core::spec::VmSpec;
use cakework_wire::host::{HostStatus, ProblemCode, PutVm, PutVmAnswer, VmObservation};
use http_body_util::Full;
use serde_json::json;

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn the_last_memory_is_promised_once() {
    let mut host = Host::new(json!({"memoryMib": 512, "cpuFactor": 64})).await;
    host.start().await;
    let waiting = spec(DIGEST, "true");
    let first = host.admit(waiting.clone(), None).await;
    let vms = [VmId::mint(&mut rand::rng()), VmId::mint(&mut rand::rng())];
    let wanted = put(1, waiting);
    let (one, other) = tokio::join!(host.put(&vms[0], &wanted), host.put(&vms[1], &wanted));
    let refused = |answer: &PutVmAnswer| matches!(answer, PutVmAnswer::NoCapacity { shortage: Shortage::Memory, free } if free.memory_mib == 0);
    assert!(
        (one == PutVmAnswer::Admitted { now: None } && refused(&other))
            || (other == PutVmAnswer::Admitted { now: None } && refused(&one)),
        "{one:?} {other:?}"
    );
    // What was promised stays so over a restart of the agent, and comes back with a VM's end.
    host.kill();
    host.start().await;
    let status: HostStatus = body(host.call("GET", "/v1/host", None).await);
    assert_eq!((status.reserved.memory_mib, status.reserved.slots), (512, 2));
    host.delete(&first, 1).await;
    assert_eq!(host.ended(&first).await.reason, ExitReason::Stopped);
    let status: HostStatus = body(host.call("GET", "/v1/host", None).await);
    assert_eq!(status.reserved.memory_mib, 256);
}

#[tokio::test]
async fn earlier_placements_and_buried_ones_are_refused_also_after_a_restart() {
    let mut host = Host::started().await;
    let waiting = || spec(DIGEST, "true");
    let vm = VmId::mint(&mut rand::rng());
    assert_eq!(host.put(&vm, &put(3, waiting())).await, PutVmAnswer::Admitted { now: None });
    assert_eq!(host.put(&vm, &put(3, waiting())).await, PutVmAnswer::Already { now: None });
    assert_eq!(host.put(&vm, &put(2, waiting())).await, PutVmAnswer::StaleGeneration { highest: Generation(3) });
    let unknown = VmId::mint(&mut rand::rng());
    host.delete(&unknown, 2).await;
    // A wish about an earlier placement is no wish about this one.
    host.delete(&vm, 2).await;
    host.kill();
    host.start().await;
    assert_eq!(host.put(&vm, &put(2, waiting())).await, PutVmAnswer::StaleGeneration { highest: Generation(3) });
    assert_eq!(host.put(&vm, &put(3, waiting())).await, PutVmAnswer::Already { now: None });
    for generation in [1, 2] {
        let answer = host.put(&unknown, &put(generation, waiting())).await;
        assert_eq!(answer, PutVmAnswer::StaleGeneration { highest: Generation(2) });
    }
    assert!(matches!(host.report(&unknown).await.expect("a report").observation, VmObservation::Ended { .. }));
    assert_eq!(host.report(&vm).await.expect("a report").observation, VmObservation::Starting);
    // A later placement ends the earlier one, and takes its place.
    assert_eq!(host.put(&vm, &put(4, waiting())).await, PutVmAnswer::Admitted { now: None });
    assert_eq!(host.put(&unknown, &put(3, waiting())).await, PutVmAnswer::Admitted { now: None });
}

#[tokio::test]
async fn a_vm_whose_image_does_not_come_ends_by_its_own_deadline() {
    let mut host = Host::started().await;
    let late = VmId::mint(&mut rand::rng());
    let wanted = PutVm { start_remaining_ms: 1500, ..put(1, spec(DIGEST, "true")) };
    assert_eq!(host.put(&late, &wanted).await, PutVmAnswer::Admitted { now: None });
    // The deadline goes on while no agent looks.
    host.kill();
    host.start().await;
    let exit = host.ended(&late).await;
    assert_eq!(exit.reason, ExitReason::StartFailed, "{exit:?}");
    let status: HostStatus = body(host.call("GET", "/v1/host", None).await);
    assert_eq!(status.reserved.slots, 0);
}

#[tokio::test]
async fn a_watch_wakes_on_a_change_and_numbers_grow_over_a_restart() {
    let mut host = Host::started().await;
    let first = host.watch(0, 0).await;
    assert!(first.resync && first.vms.is_empty());
    let (page, vm) = tokio::join!(host.watch(first.seq, 30_000), host.admit(spec(DIGEST, "true"), None));
    assert!(!page.resync && page.seq > first.seq);
    assert_eq!(page.vms.iter().map(|report| &report.vm_id).collect::<Vec<_>>(), [&vm]);
    host.kill();
    host.start().await;
    let after = host.watch(page.seq, 0).await;
    assert!(after.resync && after.seq > page.seq && after.vms.len() == 1);
}

#[tokio::test]
async fn what_a_host_can_not_take_is_refused_in_words() {
    let host = Host::started().await;
    for (what, refused) in [
        ("digest", VmSpec { image_digest: "sha256:../../etc".into(), ..spec(DIGEST, "true") }),
        ("memory", VmSpec { memory_mib: 64, ..spec(DIGEST, "true") }),
        ("cpu", VmSpec { cpu: 9, ..spec(DIGEST, "true") }),
        ("env", VmSpec { env: [("A=B".to_owned(), String::new())].into(), ..spec(DIGEST, "true") }),
    ] {
        let answer = host.put(&VmId::mint(&mut rand::rng()), &put(1, refused)).await;
        assert!(matches!(&answer, PutVmAnswer::Unsupported { reason } if reason.contains(what)), "{answer:?}");
    }
    let drained: HostStatus = body(host.call("PUT", "/v1/host/drain", Some(json!({"draining": true}))).await);
    assert!(drained.draining);
    let vm = VmId::mint(&mut rand::rng());
    assert_eq!(host.put(&vm, &put(1, spec(DIGEST, "true"))).await, PutVmAnswer::Draining);
    for (method, path, sent) in [
        ("PUT", "/v1/vms/nonsense", Some(json!(put(1, spec(DIGEST, "true"))))),
        ("PUT", &*format!("/v1/vms/{vm}"), Some(json!({"generation": "one"}))),
        ("DELETE", &*format!("/v1/vms/{vm}"), None),
        ("GET", "/v1/nothing", None),
    ] {
        let answer = host.call(method, path, sent).await;
        assert_eq!(answer.body["code"], json!(ProblemCode::Protocol), "{method} {path}: {}", answer.body);
    }
    let old = hyper::Request::builder().uri("/v1/host").header("host", "agent").body(Full::default());
    let answer = host.send(old.expect("a request")).await.expect("an answer");
    assert_eq!((answer.status, &answer.body["code"]), (400, &json!(ProblemCode::Protocol)));
    let logs = host
        .call(
            "POST",
            "/v1/vms/00000000000000/logs",
            Some(json!({"query": {"contains": "", "batch": 50,
        "order": "oldest_first", "from_ms": null, "to_ms": null, "fromMs": null, "toMs": null, "after": null}})),
        )
        .await;
    assert!(logs.status >= 400);
}

#[tokio::test]
async fn an_engine_is_proven_or_the_gap_is_named() {
    let host = Host::new(json!({})).await;
    let proven = host.role("probe", |_| ());
    assert_eq!(proven["Ok"]["platform"], "systrap", "{proven}");
    let missing = host.role("probe", |config| config["runsc"] = json!("/no/runsc"));
    assert!(missing["Err"].as_str().is_some_and(|gap| gap.contains("not found")), "{missing}");
    let no_engine = host.role("probe", |config| config["runsc"] = json!("/bin/false"));
    assert!(no_engine["Err"].as_str().is_some_and(|gap| gap.contains("version")), "{no_engine}");
    // A platform that does not work hangs without a word.
    let scripts = tempfile::tempdir().expect("a directory");
    let hangs = scripts.path().join("runsc");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && exec echo runsc version release-20990101.0\nexec sleep 600\n";
    std::fs::write(&hangs, script).expect("written");
    std::fs::set_permissions(&hangs, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its own");
    let begin = std::time::Instant::now();
    let hung = host.role("probe", |config| config["runsc"] = json!(hangs));
    assert!(hung["Err"].as_str().is_some_and(|gap| gap.contains("could not run")), "{hung}");
    assert!(begin.elapsed().as_secs() < 30, "the canary has a deadline");
    let broken = host.role("probe", |config| config["program"] = json!("/bin/true"));
    assert!(broken["Err"].as_str().is_some_and(|gap| gap.contains("could not run")), "{broken}");
    let left: Vec<_> = std::fs::read_dir(&host.dir).expect("its directory").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
