//! Requests to VMs that stand still or sleep, and VMs that are put to sleep between requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cakework_core::id::{Generation, VmId};
use cakework_edge::{EdgeLimits, Route, RouteTable, Target, WakeFailure, Waker, Waking};
use tokio::sync::Semaphore;

use crate::support::{Conn, Edge, Origin, eventually, get, host, label, limits, vm_id};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Does what a test says for each wake of VM 1, once it lets it.
struct Script {
    routes: RouteTable,
    wakes: AtomicU64,
    go: Semaphore,
    outcome: Result<Target, WakeFailure>,
}

impl Script {
    fn new(outcome: Result<Target, WakeFailure>) -> Arc<Self> {
        Arc::new(Self { routes: RouteTable::new(), wakes: AtomicU64::new(0), go: Semaphore::new(0), outcome })
    }

    fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::SeqCst)
    }

    fn go(&self) {
        self.go.add_permits(Semaphore::MAX_PERMITS >> 1);
    }

    fn apply(&self, seq: u64, target: Target) {
        self.routes.apply(label(1), Route { vm_id: vm_id(1), generation: Generation(1), seq, target });
    }
}

struct Scripted(Arc<Script>);

impl Waker for Scripted {
    fn wake(&self, id: &VmId) -> Waking {
        assert_eq!(*id, vm_id(1));
        let script = Arc::clone(&self.0);
        Box::pin(async move {
            let wake = script.wakes.fetch_add(1, Ordering::SeqCst) + 1;
            drop(script.go.acquire().await);
            script.apply(wake * 10, script.outcome?);
            Ok(())
        })
    }
}

/// An edge whose VM 1 is dormant.
async fn dormant(limits: EdgeLimits, script: &Arc<Script>) -> Edge {
    script.apply(1, Target::Dormant);
    Edge::start_with(limits, script.routes.clone(), Arc::new(Scripted(Arc::clone(script)))).await
}

async fn sent(edge: &Edge) -> Conn {
    let mut conn = edge.connect().await;
    conn.write(get(1, "/")).await;
    conn
}

#[tokio::test]
async fn two_hundred_requests_wake_a_vm_once_and_are_all_answered() {
    let origin = Origin::fixed(OK).await;
    let script = Script::new(Ok(Target::Ready(origin.address)));
    let edge = dormant(EdgeLimits::default(), &script).await;
    let mut conns = Vec::new();
    for _ in 0..200 {
        conns.push(sent(&edge).await);
    }
    eventually("all wait", || edge.routes.in_flight(&vm_id(1)) == 200).await;
    script.go();
    for conn in &mut conns {
        assert_eq!(conn.response().await.text(), "ok");
    }
    assert_eq!(script.wakes(), 1);
    // It sleeps again: the next request wakes it again.
    script.apply(11, Target::Dormant);
    assert_eq!(edge.get(1).await.text(), "ok");
    assert_eq!(script.wakes(), 2);
}

#[tokio::test]
async fn a_wake_goes_on_without_the_request_that_asked_for_it() {
    let origin = Origin::fixed(OK).await;
    let script = Script::new(Ok(Target::Ready(origin.address)));
    let edge = dormant(limits(), &script).await;
    let conn = sent(&edge).await;
    eventually("it is woken", || script.wakes() == 1).await;
    drop(conn);
    eventually("nothing is open", || edge.routes.in_flight(&vm_id(1)) == 0).await;
    script.go();
    assert_eq!(edge.get(1).await.text(), "ok");
    assert_eq!(script.wakes(), 1);
}

#[tokio::test]
async fn a_wake_that_fails_is_said_and_the_next_request_tries_again() {
    for (failure, status, code) in [
        (WakeFailure::Failed, 503, "wake_failed"),
        (WakeFailure::NoRoom, 503, "wake_failed"),
        (WakeFailure::Stopped, 503, "vm_stopped"),
    ] {
        let script = Script::new(Err(failure));
        let edge = dormant(limits(), &script).await;
        let (mut first, mut second) = (sent(&edge).await, sent(&edge).await);
        eventually("both wait", || edge.routes.in_flight(&vm_id(1)) == 2).await;
        script.go();
        for conn in [&mut first, &mut second] {
            assert_eq!(conn.response().await.problem(), (status, code.into()));
        }
        assert_eq!(script.wakes(), 1);
        assert_eq!(edge.get(1).await.problem(), (status, code.into()));
        assert_eq!(script.wakes(), 2);
    }
}

#[tokio::test]
async fn a_vm_that_ends_as_often_as_it_is_started_is_not_started_without_end() {
    let script = Script::new(Ok(Target::Dormant));
    let edge = dormant(limits(), &script).await;
    script.go();
    let response = edge.get(1).await;
    assert_eq!(response.problem(), (503, "wake_failed".into()));
    assert_eq!(response.field("retry-after"), Some("1"));
    assert_eq!(script.wakes(), 3);
}

#[tokio::test]
async fn a_wake_that_does_not_end_is_waited_for_within_bounds() {
    let script = Script::new(Ok(Target::Dormant));
    let edge = dormant(EdgeLimits { hold_ms: 100, queue_max_per_vm: 1, ..limits() }, &script).await;
    let mut conn = sent(&edge).await;
    eventually("it waits", || script.wakes() == 1).await;
    assert_eq!(conn.response().await.problem(), (504, "vm_timeout".into()));
    let mut conn = sent(&edge).await;
    eventually("it waits", || edge.routes.in_flight(&vm_id(1)) == 1).await;
    assert_eq!(edge.get(1).await.problem(), (503, "queue_full".into()));
    assert_eq!(conn.response().await.problem(), (504, "vm_timeout".into()));
    assert_eq!(script.wakes(), 1, "it still goes on");
    edge.shutdown.cancel();
    edge.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn nothing_is_quiet_under_a_slow_request_and_what_comes_meanwhile_waits() {
    let body = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&body);
    let origin = Origin::serve(move |mut conn| {
        let gate = Arc::clone(&gate);
        async move {
            while conn.head().await.is_some() {
                conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
                gate.acquire().await.unwrap().forget();
                conn.write("k").await;
            }
        }
    })
    .await;
    let script = Script::new(Ok(Target::Ready(origin.address)));
    script.go();
    let edge = dormant(limits(), &script).await;
    let mut slow = sent(&edge).await;
    assert!(slow.head().await.is_some(), "its answer has begun");
    assert!(edge.routes.quiet(&vm_id(1)).is_none());
    assert_eq!(edge.routes.idle_for(&label(1)), None);
    body.add_permits(1);
    assert_eq!(slow.take(2).await, b"ok");
    eventually("nothing is open", || edge.routes.in_flight(&vm_id(1)) == 0).await;

    let quiet = edge.routes.quiet(&vm_id(1)).expect("nothing is open");
    let mut held = sent(&edge).await;
    eventually("it waits", || edge.routes.in_flight(&vm_id(1)) == 1).await;
    // It fell asleep; the request that came meanwhile wakes it.
    script.apply(11, Target::Dormant);
    assert_eq!(script.wakes(), 1);
    drop(quiet);
    body.add_permits(1);
    assert_eq!(held.response().await.text(), "ok");
    assert_eq!(script.wakes(), 2);

    // It did not: the request goes on to it.
    let quiet = edge.routes.quiet(&vm_id(1)).expect("nothing is open");
    let mut held = sent(&edge).await;
    eventually("it waits", || edge.routes.in_flight(&vm_id(1)) == 1).await;
    drop(quiet);
    body.add_permits(1);
    assert_eq!(held.response().await.text(), "ok");
    assert_eq!(script.wakes(), 2);
}

#[tokio::test]
async fn a_short_sleep_cuts_no_open_answer() {
    let origin = Origin::serve(|mut conn| async move {
        conn.head().await;
        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
        conn.rest().await;
    })
    .await;
    let ready = Target::Ready(origin.address);
    let script = Script::new(Ok(ready));
    script.go();
    let edge = dormant(EdgeLimits { drain_ms: 300, ..limits() }, &script).await;
    let mut conn = sent(&edge).await;
    assert!(conn.head().await.is_some());
    assert_eq!(conn.take(1).await, b"o");
    // Another process put it to sleep under the answer, and it was woken for it.
    script.apply(11, Target::Dormant);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    script.apply(12, ready);
    let cut = tokio::time::timeout(std::time::Duration::from_millis(700), conn.take(1)).await;
    assert!(cut.is_err(), "it is still open");
    script.apply(13, Target::Dormant);
    assert_eq!(conn.take(1).await, b"", "one that stays away is left");
}

#[tokio::test]
async fn a_request_to_a_sandbox_that_is_gone_is_not_held() {
    let asked = Arc::new(AtomicU64::new(0));
    let origin = Origin::serve(move |mut conn| {
        let asked = Arc::clone(&asked);
        async move {
            conn.head().await;
            // It is asked, and its memory goes to the disk before it answers: each first time.
            if asked.fetch_add(1, Ordering::SeqCst) != 1 {
                conn.rest().await;
            }
            conn.write(OK).await;
        }
    })
    .await;
    let script = Script::new(Ok(Target::Ready(origin.address)));
    script.go();
    // Nothing else ends it.
    let long = 3_600_000;
    let edge = dormant(EdgeLimits { drain_ms: long, response_head_ms: long, idle_ms: long, ..limits() }, &script).await;
    let patience = std::time::Duration::from_secs(30);
    // What may be sent again is, once the VM is back; of the other nobody knows what became.
    let mut conn = sent(&edge).await;
    eventually("it is asked", || origin.accepted() == 1).await;
    script.apply(11, Target::Spilled);
    let answer = tokio::time::timeout(patience, conn.response()).await.expect("an answer");
    assert_eq!((answer.status(), script.wakes()), (200, 2));
    let post = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", host(1));
    conn.write(post).await;
    eventually("it is asked", || origin.accepted() == 3).await;
    script.apply(21, Target::Spilled);
    let answer = tokio::time::timeout(patience, conn.response()).await.expect("an answer");
    assert_eq!(answer.problem(), (503, "vm_stopped".to_owned()));
}
