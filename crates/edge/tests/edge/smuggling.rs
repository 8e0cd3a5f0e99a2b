//! Requests that two servers could read differently: a real listener sees which bytes get through.

use std::sync::{Arc, Mutex};

use crate::support::{Edge, Origin, get, host};

/// Everything that an origin was sent, by connection.
type Seen = Arc<Mutex<Vec<u8>>>;

/// Records all bytes, and answers as often as an empty line ends in them, as the most lenient server would.
async fn recorder() -> (Origin, Seen) {
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let origin = Origin::serve(move |mut conn| {
        let record = Arc::clone(&record);
        async move {
            while let Some(head) = conn.head().await {
                record.lock().unwrap().extend(head.as_bytes());
                conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
            let rest = conn.rest().await;
            record.lock().unwrap().extend(rest);
        }
    })
    .await;
    (origin, seen)
}

#[tokio::test]
async fn a_request_of_unclear_length_is_refused() {
    const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    for fields in [
        "Content-Length: 0\r\nContent-Length: 35",
        "Content-Length: 0, 35",
        "Content-Length: +35",
        "Content-Length: -1",
        "Content-Length: 0x10",
        "Content-Length: 99999999999999999999",
        "Content-Length:",
        "Content-Length : 35",
        "Content-Length\t: 35",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: \x0bchunked",
        "X: 1\r\n Transfer-Encoding: chunked",
        "X: 1\rTransfer-Encoding: chunked",
        "X: \0\r\nTransfer-Encoding: chunked",
        "X\u{e9}: 1",
    ] {
        let (origin, seen) = recorder().await;
        let edge = Edge::before(&origin).await;
        let mut conn = edge.connect().await;
        conn.write(format!("POST / HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\n0\r\n\r\n{HIDDEN}", host(1))).await;
        let answer = String::from_utf8(conn.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{fields:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{fields:?}: the connection ends there");
        assert_eq!(seen.lock().unwrap().len(), 0, "{fields:?}");
    }
}

/// What a server may repair (RFC 9112 §6.1, §6.3) reaches the VM repaired: with one length, and whole.
#[tokio::test]
async fn a_length_that_is_said_twice_is_said_once() {
    let hidden = get(1, "/hidden");
    let length = hidden.len();
    let chunked = format!("{length:X}\r\n{hidden}\r\n0\r\n\r\n");
    for (fields, body) in [
        ("Content-Length: 4\r\nTransfer-Encoding: chunked".to_owned(), &chunked),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4".to_owned(), &chunked),
        (format!("Content-Length: {length}\r\nContent-Length: {length}"), &hidden),
    ] {
        let expected = body.clone();
        let origin = Origin::serve(move |mut conn| {
            let expected = expected.clone();
            async move {
                let head = conn.head().await.unwrap().to_lowercase();
                let lengths = head.matches("content-length:").count() + head.matches("transfer-encoding:").count();
                assert_eq!(lengths, 1, "{head}");
                assert_eq!(String::from_utf8(conn.take(expected.len()).await).unwrap(), expected);
                conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                assert_eq!(conn.rest().await, b"");
            }
        })
        .await;
        let edge = Edge::before(&origin).await;
        let request = format!("POST / HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\n{body}", host(1));
        assert_eq!(edge.ask(request).await.text(), "ok");
    }
}

#[tokio::test]
async fn chunks_that_are_none_break_the_request_off() {
    for chunks in [
        "1\r\nA0\r\n\r\n",
        "-1\r\nA\r\n0\r\n\r\n",
        "0x1\r\nA\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nA\r\n0\r\n\r\n",
        "1 x\r\nA\r\n0\r\n\r\n",
        "1\nA\n0\n\n",
        "\r\n\r\n",
        "g\r\n",
    ] {
        let (origin, seen) = recorder().await;
        let edge = Edge::before(&origin).await;
        let mut conn = edge.connect().await;
        let hidden = get(1, "/hidden");
        let fields = "Transfer-Encoding: chunked";
        conn.write(format!("POST / HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\n{chunks}{hidden}", host(1))).await;
        let answer = String::from_utf8(conn.rest().await).unwrap();
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{chunks:?}: {answer}");
        drop(edge);
        let seen = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
        assert!(!seen.contains("hidden"), "{chunks:?}: {seen}");
    }
}

#[tokio::test]
async fn a_body_that_looks_like_a_request_stays_a_body() {
    let origin = Origin::serve(|mut conn| async move {
        let head = conn.head().await.unwrap();
        let length = crate::support::content_length(&head).unwrap();
        assert_eq!(conn.take(length).await, get(1, "/hidden").as_bytes());
        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(conn.head().await.unwrap().split(' ').nth(1), Some("/next"), "and the next request is the next");
        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext").await;
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut conn = edge.connect().await;
    let body = get(1, "/hidden");
    // Naming the length as the connection's own would take it away from the VM.
    let fields = format!("Connection: content-length, keep-alive\r\nContent-Length: {}", body.len());
    conn.write(format!("POST / HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\n{body}{}", host(1), get(1, "/next"))).await;
    assert_eq!(conn.response().await.text(), "ok");
    assert_eq!(conn.response().await.text(), "next");
}

#[tokio::test]
async fn a_response_of_two_lengths_has_one() {
    let origin = Origin::fixed(
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
    )
    .await;
    let edge = Edge::before(&origin).await;
    let mut conn = edge.connect().await;
    for _ in 0..2 {
        conn.write(get(1, "/")).await;
        let response = conn.response().await;
        assert_eq!(response.field("content-length"), None, "{}", response.head);
        assert_eq!(response.text(), "whole");
    }
}
