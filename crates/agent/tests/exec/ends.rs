//! How commands end: by time, by signals, with their client, their VM or their agent; and sleep.

use cakework_core::cached::{Prewarm, StartTier};
use cakework_core::exec::{ExecEnd, ExecInput, ExecSpec};
use cakework_core::spec::VmSpec;
use cakework_testkit::kernel::Census;
use cakework_wire::host::{ProblemCode, SleepAnswer, VmObservation};

use crate::cached::{Cached, LASTING, count as page};
use crate::host::{Host, spec};
use crate::session::{Session, gone, run, sh, words};

#[tokio::test]
async fn time_signals_and_a_client_that_goes_end_a_command() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let vm = host.admit(spec(&digest, "sleep 1000"), None).await;
    host.running(&vm).await;
    // Its children end with it.
    let wanted = ExecSpec { timeout_ms: 700, ..sh("echo begun; sh -c 'sleep 4711; :'; :") };
    let mut session = Session::open(&host, &vm, wanted).await;
    let exit = session.end().await;
    assert_eq!((exit.reason, exit.signal, session.out().as_str()), (ExecEnd::Timeout, Some(9), "begun\n"));
    gone(&host, &vm, "sleep 4711").await;
    let mut session =
        Session::open(&host, &vm, sh("trap 'echo told; exit 5' TERM; echo on; while :; do sleep 0.05; done")).await;
    session.until("on\n").await;
    session.input(&ExecInput::Signal { signal: "SIGTERM".into() }).await;
    assert_eq!((session.end().await.code, session.out()), (Some(5), "on\ntold\n".into()));
    let mut session = Session::open(&host, &vm, words(&["sleep", "4712"])).await;
    session.input(&ExecInput::Signal { signal: "no such".into() }).await;
    session.input(&ExecInput::Signal { signal: "2".into() }).await;
    assert_eq!(session.end().await.signal, Some(2));
    let mut session = Session::open(&host, &vm, sh("echo on; sleep 4713; :")).await;
    session.until("on\n").await;
    session.hang_up();
    gone(&host, &vm, "sleep 4713").await;
    // Endless output to a client that takes none: its time still ends it.
    let wanted = ExecSpec { timeout_ms: 1500, ..words(&["yes", "4714"]) };
    let mut session = Session::open(&host, &vm, wanted).await;
    session.until("4714").await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    gone(&host, &vm, "yes 4714").await;
    host.delete(&vm, 1).await;
    host.ended(&vm).await;
}

#[tokio::test]
async fn a_command_ends_with_its_vm_and_leaves_nothing() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let vm = host.admit(spec(&digest, "sleep 1000"), None).await;
    host.running(&vm).await;
    let mut session = Session::open(&host, &vm, sh("echo on; sleep 1000")).await;
    session.until("on\n").await;
    host.delete(&vm, 1).await;
    // The sandbox may still say how its last processes ended: killed with all of it.
    let end = session.end().await;
    assert!(end.reason == ExecEnd::VmEnded || (end.reason, end.signal) == (ExecEnd::Exited, Some(9)), "{end:?}");
    host.ended(&vm).await;
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn a_new_agent_ends_the_commands_of_the_one_before() {
    let mut host = Host::started().await;
    let digest = host.busybox().await;
    let vm = host.admit(spec(&digest, "sleep 1000"), None).await;
    host.running(&vm).await;
    let mut session = Session::open(&host, &vm, sh("echo on; sleep 4715; :")).await;
    session.until("on\n").await;
    host.kill();
    host.start().await;
    gone(&host, &vm, "sleep 4715").await;
    assert_eq!(run(&host, &vm, sh("echo still")).await.1, "still\n");
    host.delete(&vm, 1).await;
    host.ended(&vm).await;
}

#[tokio::test]
async fn a_vm_with_an_open_command_does_not_sleep_and_one_that_sleeps_opens_none() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let mut vm = Cached::held(&host, VmSpec { port: Some(80), ..spec(&digest, LASTING) }, Prewarm::None).await;
    let address = vm.start_as(&host, StartTier::Cold).await;
    page(&host, address).await;
    let generation = vm.generation;
    let mut session = Session::open_in(&host, &vm.vm, generation, words(&["cat"])).await;
    session.write(b"on").await;
    session.until("on").await;
    assert!(matches!(vm.sleep(&host, None, false).await, SleepAnswer::Busy { .. }));
    session.input(&ExecInput::Eof).await;
    session.end().await;
    assert!(matches!(vm.sleep(&host, Some(60_000), false).await, SleepAnswer::Busy { .. }), "it was open just now");
    assert!(matches!(vm.sleep(&host, None, true).await, SleepAnswer::Asleep { .. }));
    assert_eq!(vm.report(&host).await.observation, VmObservation::Asleep { spilled: true });
    let mut late = Session::open_in(&host, &vm.vm, generation, words(&["true"])).await;
    assert_eq!(late.refusal().await.code, ProblemCode::NotRunning);
    vm.wake(&host).await;
    let mut session = Session::open_in(&host, &vm.vm, generation, sh("sleep 4716 & echo left")).await;
    assert_eq!((session.end().await.code, session.out()), (Some(0), "left\n".into()));
    // What it left behind holds its pipes, which no memory image can give back: it sleeps where it is.
    assert!(matches!(vm.sleep(&host, None, true).await, SleepAnswer::Asleep { .. }));
    assert_eq!(vm.report(&host).await.observation, VmObservation::Asleep { spilled: false });
    vm.wake(&host).await;
    page(&host, address).await;
    vm.destroy(&host).await;
}
