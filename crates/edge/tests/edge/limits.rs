//! What ends a client that is too slow, too large or too many.

use cakework_edge::{EdgeLimits, Target};

use crate::support::{Edge, Origin, eventually, get, host, limits};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn edge(limits: EdgeLimits) -> (Edge, Origin) {
    let origin = Origin::fixed(OK).await;
    let edge = Edge::start(limits).await;
    edge.apply(1, 1, 1, Target::Ready(origin.address));
    (edge, origin)
}

#[tokio::test]
async fn a_head_has_a_size() {
    let (edge, origin) = edge(EdgeLimits { header_max_bytes: 8192, headers_max: 20, ..limits() }).await;
    let large = format!("GET / HTTP/1.1\r\nHost: {}\r\nX: {}\r\n\r\n", host(1), "x".repeat(9000));
    assert_eq!(edge.ask(large).await.status(), 431);
    let many = format!("GET / HTTP/1.1\r\nHost: {}\r\n{}\r\n", host(1), "X: 1\r\n".repeat(20));
    assert_eq!(edge.ask(many).await.status(), 431);
    let path = format!("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(9000), host(1));
    assert!(matches!(edge.ask(path).await.status(), 414 | 431));
    assert_eq!(origin.accepted(), 0);
    let fits = format!("GET / HTTP/1.1\r\nHost: {}\r\n{}\r\n", host(1), "X: 1\r\n".repeat(15));
    assert_eq!(edge.ask(fits).await.status(), 200);
}

#[tokio::test]
async fn a_vms_head_has_a_size_too() {
    let origin = Origin::serve(|mut conn| async move {
        conn.head().await;
        conn.write(format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(40_000))).await;
        conn.rest().await;
    })
    .await;
    let edge = Edge::before(&origin).await;
    assert_eq!(edge.get(1).await.problem(), (502, "vm_bad_response".into()));
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let (edge, _origin) = edge(EdgeLimits { header_read_ms: 200, ..limits() }).await;
    let mut slow = edge.connect().await;
    slow.write("GET / HTTP/1.1\r\nHost: ").await;
    assert!(!String::from_utf8(slow.rest().await).unwrap().contains("200"));
    let mut silent = edge.connect().await;
    assert_eq!(silent.rest().await, b"");
    // So is a kept connection without a next request.
    let mut kept = edge.connect().await;
    kept.write(get(1, "/")).await;
    assert_eq!(kept.response().await.text(), "ok");
    assert_eq!(kept.rest().await, b"");
}

#[tokio::test]
async fn a_body_that_stalls_is_cut() {
    let origin = Origin::serve(|mut conn| async move {
        conn.head().await;
        conn.rest().await;
    })
    .await;
    let edge = Edge::start(EdgeLimits { idle_ms: 200, ..limits() }).await;
    edge.apply(1, 1, 1, Target::Ready(origin.address));
    let mut conn = edge.connect().await;
    conn.write(get(1, "/").replace("\r\n\r\n", "\r\nContent-Length: 10\r\n\r\nhalf")).await;
    let answer = String::from_utf8(conn.rest().await).unwrap();
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn one_client_has_so_many_connections() {
    let (edge, _origin) = edge(EdgeLimits { connections_max_per_client: 2, ..limits() }).await;
    let (mut first, mut second) = (edge.connect().await, edge.connect().await);
    for conn in [&mut first, &mut second] {
        conn.write(get(1, "/")).await;
        assert_eq!(conn.response().await.text(), "ok");
    }
    assert_eq!(edge.connect().await.rest().await, b"", "a third one is closed");
    drop(first);
    let mut answered = false;
    for _ in 0..200 {
        let mut conn = edge.connect().await;
        conn.write(get(1, "/")).await;
        answered = conn.head().await.is_some();
        if answered {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(answered, "the place of one that ended is free again");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let (edge, _origin) = edge(EdgeLimits { connections_max: 1, ..limits() }).await;
    let mut first = edge.connect().await;
    first.write(get(1, "/")).await;
    assert_eq!(first.response().await.text(), "ok");
    let mut second = edge.connect().await;
    second.write(get(1, "/")).await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), second.head()).await;
    assert!(early.is_err(), "there is no place");
    drop(first);
    assert_eq!(second.response().await.text(), "ok");
}

#[tokio::test]
async fn kept_connections_are_let_go() {
    let closed = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&closed);
    let origin = Origin::serve(move |mut conn| {
        let count = std::sync::Arc::clone(&count);
        async move {
            conn.head().await;
            conn.write(OK).await;
            conn.rest().await;
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    })
    .await;
    let edge = Edge::start(EdgeLimits { pool_idle_ms: 1, ..limits() }).await;
    edge.apply(1, 1, 1, Target::Ready(origin.address));
    assert_eq!(edge.get(1).await.text(), "ok");
    eventually("the kept connection is closed", || closed.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
}
