//! Requests that wait: for a VM that starts, for a port that does not accept yet, for an answer.

use cakework_edge::{EdgeLimits, Target};

use crate::support::{Conn, Edge, Origin, eventually, get, label, limits, vm_id};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A connection with a request that waits.
async fn held(edge: &Edge, count: usize) -> Conn {
    let mut conn = edge.connect().await;
    conn.write(get(1, "/")).await;
    eventually("the request waits", || edge.routes.in_flight(&vm_id(1)) == count).await;
    conn
}

/// An address where nobody listens.
async fn closed_port() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_request_for_a_starting_vm_is_held_until_it_is_ready() {
    let origin = Origin::fixed(OK).await;
    let edge = Edge::start(limits()).await;
    edge.apply(1, 1, 1, Target::Starting);
    let mut conn = held(&edge, 1).await;
    edge.apply(1, 1, 2, Target::Ready(origin.address));
    assert_eq!(conn.response().await.text(), "ok");
    eventually("nothing is open", || edge.routes.in_flight(&vm_id(1)) == 0).await;
}

#[tokio::test]
async fn a_held_request_learns_of_the_vms_end() {
    let edge = Edge::start(limits()).await;
    edge.apply(1, 1, 1, Target::Starting);
    let (mut first, mut second) = (held(&edge, 1).await, held(&edge, 2).await);
    edge.apply(1, 1, 2, Target::Stopped);
    assert_eq!(first.response().await.problem(), (503, "vm_stopped".into()));
    assert_eq!(second.response().await.problem(), (503, "vm_stopped".into()));
    edge.apply(1, 2, 1, Target::Starting);
    let mut third = held(&edge, 1).await;
    edge.routes.remove(&label(1), 9);
    assert_eq!(third.response().await.problem(), (404, "host_not_found".into()));
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_queue() {
    let edge = Edge::start(limits()).await;
    edge.apply(1, 1, 1, Target::Starting);
    drop(held(&edge, 1).await);
    eventually("nothing is open", || edge.routes.in_flight(&vm_id(1)) == 0).await;
}

#[tokio::test]
async fn the_queue_has_an_end() {
    for limits in [EdgeLimits { queue_max_per_vm: 2, ..limits() }, EdgeLimits { queue_max: 2, ..limits() }] {
        let edge = Edge::start(limits).await;
        edge.apply(1, 1, 1, Target::Starting);
        let _waiting = (held(&edge, 1).await, held(&edge, 2).await);
        let response = edge.get(1).await;
        assert_eq!(response.problem(), (503, "queue_full".into()));
        assert_eq!(response.field("retry-after"), Some("1"));
    }
    let edge = Edge::start(EdgeLimits { requests_max_per_vm: 1, ..limits() }).await;
    edge.apply(1, 1, 1, Target::Starting);
    let _waiting = held(&edge, 1).await;
    assert_eq!(edge.get(1).await.problem(), (503, "queue_full".into()));
}

#[tokio::test]
async fn holding_has_an_end() {
    let edge = Edge::start(EdgeLimits { hold_ms: 100, ..limits() }).await;
    edge.apply(1, 1, 1, Target::Starting);
    assert_eq!(edge.get(1).await.problem(), (504, "vm_timeout".into()));
    edge.apply(1, 1, 2, Target::Ready(closed_port().await));
    assert_eq!(edge.get(1).await.problem(), (502, "vm_refused".into()));
}

#[tokio::test]
async fn a_port_that_refuses_is_tried_until_it_accepts() {
    let address = closed_port().await;
    let edge = Edge::start(limits()).await;
    edge.apply(1, 1, 1, Target::Ready(address));
    let (mut first, mut second) = (held(&edge, 1).await, held(&edge, 2).await);
    let _origin = Origin::on(address, |mut conn| async move {
        conn.head().await;
        conn.write(OK).await;
    })
    .await;
    assert_eq!(first.response().await.text(), "ok");
    assert_eq!(second.response().await.text(), "ok");
}

#[tokio::test]
async fn a_held_request_follows_its_vm_to_another_generation() {
    let origin = Origin::fixed(OK).await;
    let edge = Edge::start(limits()).await;
    edge.apply(1, 1, 1, Target::Ready(closed_port().await));
    let mut conn = held(&edge, 1).await;
    edge.apply(1, 2, 1, Target::Ready(origin.address));
    assert_eq!(conn.response().await.text(), "ok");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_timeout_that_counts_from_the_last_byte() {
    let origin = Origin::serve(|mut conn| async move {
        conn.rest().await;
    })
    .await;
    let edge = Edge::start(EdgeLimits { response_head_ms: 200, ..limits() }).await;
    edge.apply(1, 1, 1, Target::Ready(origin.address));
    assert_eq!(edge.get(1).await.problem(), (504, "vm_timeout".into()));

    // An upload may take longer than the answer to it.
    let origin = Origin::serve(|mut conn| async move {
        conn.head().await;
        assert_eq!(conn.take(4).await, b"slow");
        conn.write(OK).await;
    })
    .await;
    edge.apply(1, 2, 1, Target::Ready(origin.address));
    let mut conn = edge.connect().await;
    conn.write(get(1, "/").replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\n")).await;
    for byte in *b"slow" {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        conn.write([byte]).await;
    }
    assert_eq!(conn.response().await.text(), "ok");
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_no_http_is_a_bad_gateway() {
    for answer in ["", "HTTP/1.1 200 O", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n"] {
        let origin = Origin::serve(move |mut conn| async move {
            conn.head().await;
            conn.write(answer).await;
        })
        .await;
        let edge = Edge::before(&origin).await;
        assert_eq!(edge.get(1).await.problem(), (502, "vm_bad_response".into()), "{answer:?}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_vm_closed_is_replaced_without_the_client_noticing() {
    // Closes each connection when the second request on it arrives, without an answer.
    let origin = Origin::serve(|mut conn| async move {
        conn.head().await;
        conn.write(OK).await;
        conn.head().await;
    })
    .await;
    let edge = Edge::before(&origin).await;
    for _ in 0..3 {
        assert_eq!(edge.get(1).await.text(), "ok");
    }
    assert_eq!(origin.accepted(), 3);
    // A request that changes something is not sent twice.
    let response = edge.ask(get(1, "/").replace("GET", "POST")).await;
    assert_eq!(response.problem(), (502, "vm_bad_response".into()));
    assert_eq!(origin.accepted(), 3);
}
