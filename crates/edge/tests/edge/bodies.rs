//! Bodies in both directions: passed on as they come, kept back when the other side does not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::support::{Edge, Origin, eventually, field, get, host};

const TOTAL_BYTES: usize = 100 << 20;
/// What sockets on the way may hold: four buffers, each as large as the kernel lets them grow, and some.
const IN_FLIGHT_MAX_BYTES: usize = 48 << 20;
const RSS_GROWTH_MAX_BYTES: usize = 24 << 20;
/// A write that takes longer than this is taken to be stalled.
const STALL: Duration = Duration::from_millis(500);

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn rss_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Writes `TOTAL_BYTES`, and counts them.
async fn write_all(stream: &mut tokio::net::TcpStream, written: &AtomicUsize) {
    let piece = vec![b'x'; 64 << 10];
    while written.load(Ordering::SeqCst) < TOTAL_BYTES {
        stream.writable().await.unwrap();
        if let Ok(count) = stream.try_write(&piece) {
            written.fetch_add(count, Ordering::SeqCst);
        }
    }
}

/// Waits until nothing more is written for a while.
async fn stalled(written: &AtomicUsize) -> usize {
    loop {
        let before = written.load(Ordering::SeqCst);
        let more = async {
            while written.load(Ordering::SeqCst) == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(STALL, more).await.is_err() {
            return before;
        }
    }
}

#[tokio::test]
async fn an_upload_waits_for_a_vm_that_does_not_read() {
    let read = Arc::new(Semaphore::new(0));
    let may_read = Arc::clone(&read);
    let origin = Origin::serve(move |mut conn| {
        let may_read = Arc::clone(&may_read);
        async move {
            conn.head().await;
            let _permit = may_read.acquire().await.unwrap();
            let mut left = TOTAL_BYTES;
            while left > 0 {
                let piece = conn.take(left.min(1 << 20)).await.len();
                assert_ne!(piece, 0, "the upload broke off");
                left -= piece;
            }
            conn.write(OK).await;
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut conn = edge.connect().await;
    let before = rss_bytes();
    conn.write(get(1, "/").replace("\r\n\r\n", &format!("\r\nContent-Length: {TOTAL_BYTES}\r\n\r\n"))).await;
    let written = AtomicUsize::new(0);
    let control = async {
        let count = stalled(&written).await;
        assert!(count > 0 && count < IN_FLIGHT_MAX_BYTES, "{count} bytes are under way");
        read.add_permits(1);
    };
    tokio::join!(write_all(&mut conn.stream, &written), control);
    assert_eq!(conn.response().await.text(), "ok");
    let growth = rss_bytes().saturating_sub(before);
    assert!(growth < RSS_GROWTH_MAX_BYTES, "{growth} bytes of memory");
}

#[tokio::test]
async fn a_download_waits_for_a_client_that_does_not_read() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let origin = Origin::serve(move |mut conn| {
        let count = Arc::clone(&count);
        async move {
            conn.head().await;
            conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL_BYTES}\r\n\r\n")).await;
            write_all(&mut conn.stream, &count).await;
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut conn = edge.connect().await;
    let before = rss_bytes();
    conn.write(get(1, "/")).await;
    let count = stalled(&written).await;
    assert!(count > 0 && count < IN_FLIGHT_MAX_BYTES, "{count} bytes are under way");
    assert!(conn.head().await.unwrap().starts_with("HTTP/1.1 200 "));
    let mut left = TOTAL_BYTES;
    while left > 0 {
        let piece = conn.take(left.min(1 << 20)).await.len();
        assert_ne!(piece, 0, "the download broke off");
        left -= piece;
    }
    let growth = rss_bytes().saturating_sub(before);
    assert!(growth < RSS_GROWTH_MAX_BYTES, "{growth} bytes of memory");
}

#[tokio::test]
async fn events_pass_one_by_one_both_ways() {
    // Answers each chunk with an event, so that a side which waits for more before it passes one on hangs.
    let origin = Origin::serve(|mut conn| async move {
        let head = conn.head().await.unwrap();
        assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
        conn.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        loop {
            let chunk = conn.chunk().await;
            conn.write(format!("{:x}\r\n", chunk.len()).as_bytes()).await;
            conn.write([&chunk[..], b"\r\n"].concat()).await;
            if chunk.is_empty() {
                break;
            }
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut conn = edge.connect().await;
    conn.write(format!("POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", host(1))).await;
    let head = conn.head().await.unwrap();
    assert_eq!(field(&head, "content-type"), Some("text/event-stream"));
    for number in 0..20 {
        let event = format!("data: {number}\n\n");
        conn.write(format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert_eq!(conn.chunk().await, event.as_bytes());
    }
    conn.write("0\r\n\r\n").await;
    assert_eq!(conn.chunk().await, b"");
}

#[tokio::test]
async fn trailers_are_passed_on_both_ways() {
    let origin = Origin::serve(|mut conn| async move {
        let head = conn.head().await.unwrap();
        assert_eq!(field(&head, "te"), Some("trailers"), "{head}");
        assert_eq!(conn.chunk().await, b"body");
        assert_eq!(conn.chunk().await, b"");
        assert_eq!(conn.head().await.unwrap(), "x-sum: 1\r\n\r\n");
        conn.write("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        conn.write("2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n").await;
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut conn = edge.connect().await;
    let fields = "TE: trailers\r\nConnection: TE\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked";
    conn.write(format!("POST / HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\n", host(1))).await;
    conn.write("4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    assert!(conn.head().await.unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!((conn.chunk().await, conn.chunk().await), (b"ok".to_vec(), Vec::new()));
    assert_eq!(conn.head().await.unwrap(), "x-sum: 2\r\n\r\n");
}

/// A request with a body that waits to be asked for.
fn expecting(path: &str) -> String {
    get(1, path).replace("GET", "POST").replace("\r\n\r\n", "\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
}

#[tokio::test]
async fn a_body_is_sent_when_the_vm_asks_for_it() {
    let asked = Arc::new(Semaphore::new(0));
    let may_ask = Arc::clone(&asked);
    let origin = Origin::serve(move |mut conn| {
        let may_ask = Arc::clone(&may_ask);
        async move {
            while let Some(head) = conn.head().await {
                assert_eq!(field(&head, "expect"), Some("100-continue"));
                if head.contains("/refused ") {
                    conn.write("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await;
                    assert_eq!(conn.rest().await, b"", "and no body is sent");
                } else if head.contains("/asked ") {
                    may_ask.acquire().await.unwrap().forget();
                    conn.write("HTTP/1.1 100 Continue\r\n\r\n").await;
                    assert_eq!(conn.take(4).await, b"body");
                    conn.write(OK).await;
                } else {
                    assert_eq!(conn.take(4).await, b"body", "an old server says nothing and waits");
                    conn.write(OK).await;
                }
            }
        }
    })
    .await;
    let edge = Edge::before(&origin).await;

    let mut conn = edge.connect().await;
    conn.write(expecting("/asked")).await;
    eventually("the VM has the head", || origin.accepted() == 1).await;
    asked.add_permits(1);
    assert_eq!(conn.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    conn.write("body").await;
    assert_eq!(conn.response().await.text(), "ok");

    let refused = edge.ask(expecting("/refused")).await;
    assert_eq!((refused.status(), refused.text()), (413, "no"), "the client is not asked for a body");

    let mut conn = edge.connect().await;
    conn.write(expecting("/silent")).await;
    assert_eq!(conn.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    conn.write("body").await;
    assert_eq!(conn.response().await.text(), "ok");
}

#[tokio::test]
async fn a_client_that_breaks_off_is_not_mistaken_for_a_whole_body() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let origin = Origin::serve(move |mut conn| {
        let count = Arc::clone(&count);
        async move {
            conn.head().await;
            assert_eq!(conn.rest().await, b"4\r\nhalf\r\n", "the last chunk never came");
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut conn = edge.connect().await;
    conn.write(format!("POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", host(1))).await;
    conn.write("4\r\nhalf\r\n").await;
    eventually("the VM is reached", || origin.accepted() == 1).await;
    drop(conn);
    eventually("the VM's connection ends", || ended.load(Ordering::SeqCst) == 1).await;
}
