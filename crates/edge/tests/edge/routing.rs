//! Which VM a request gets to, and what it is told where there is none.

use cakework_edge::{EdgeLimits, Target};

use crate::support::{DOMAIN, Edge, Origin, get, host, label, limits, vm_id};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn each_name_leads_to_its_own_vm() {
    let one = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").await;
    let two = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo").await;
    let edge = Edge::before(&one).await;
    edge.apply(2, 1, 1, Target::Ready(two.address));
    let mut conn = edge.connect().await;
    for (number, text) in [(1, "one"), (2, "two"), (1, "one"), (2, "two")] {
        conn.write(get(number, "/")).await;
        assert_eq!(conn.response().await.text(), text);
    }
    assert_eq!((one.accepted(), two.accepted()), (1, 1), "connections are kept, each for its VM");
}

#[tokio::test]
async fn case_port_and_final_dot_do_not_matter() {
    let origin = Origin::mirror().await;
    let edge = Edge::before(&origin).await;
    let name = host(1);
    for host in [name.to_uppercase(), format!("{name}."), format!("{name}:8080"), format!("{name}.:1")] {
        let response = edge.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(response.status(), 200, "{host}");
        assert!(response.text().contains(&format!("host: {host}\r\n")), "the VM reads the name as it was said");
    }
}

#[tokio::test]
async fn no_name_leads_past_the_table() {
    let origin = Origin::fixed(OK).await;
    let edge = Edge::before(&origin).await;
    for host in [
        origin.address.to_string(),
        edge.address.to_string(),
        "localhost".to_owned(),
        "169.254.169.254".to_owned(),
        DOMAIN.to_owned(),
        host(9),
        format!("x.{}", host(1)),
        format!("{}@{}", host(1), origin.address),
        String::new(),
    ] {
        let response = edge.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(response.problem(), (404, "host_not_found".into()), "{host}");
    }
    let (name, address) = (host(1), origin.address);
    for request in [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {name}\r\nHost: {name}\r\n\r\n"),
        format!("GET http://{address}/ HTTP/1.1\r\nHost: {name}\r\n\r\n"),
        format!("GET http://{name}:22/ HTTP/1.1\r\nHost: {name}\r\n\r\n"),
        format!("CONNECT {address} HTTP/1.1\r\nHost: {name}\r\n\r\n"),
        format!("CONNECT {name}:80 HTTP/1.1\r\nHost: {name}\r\n\r\n"),
    ] {
        assert_eq!(edge.ask(&request).await.problem(), (400, "bad_request".into()), "{request}");
    }
    assert_eq!(origin.accepted(), 0);
    let whole = edge.ask(format!("GET http://{name}/a?b HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
    assert_eq!(whole.status(), 200, "the same requests do get through with the right name");
}

#[tokio::test]
async fn a_vm_that_stopped_is_said_to_be() {
    let origin = Origin::fixed(OK).await;
    let edge = Edge::before(&origin).await;
    assert_eq!(edge.get(1).await.text(), "ok");
    edge.apply(1, 1, 2, Target::Stopped);
    assert_eq!(edge.get(1).await.problem(), (503, "vm_stopped".into()));
    edge.routes.remove(&label(1), 3);
    assert_eq!(edge.get(1).await.problem(), (404, "host_not_found".into()));
}

#[tokio::test]
async fn a_new_generation_never_gets_the_old_connection() {
    let old = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold").await;
    let new = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew").await;
    let edge = Edge::before(&old).await;
    assert_eq!(edge.get(1).await.text(), "old");
    edge.apply(1, 2, 1, Target::Ready(new.address));
    assert_eq!(edge.get(1).await.text(), "new");

    // The same address in another generation is another VM's, too: its kept connection is not taken.
    edge.apply(1, 3, 1, Target::Ready(new.address));
    assert_eq!(edge.get(1).await.text(), "new");
    assert_eq!((old.accepted(), new.accepted()), (1, 2));
    // Nor is it by another VM that got the address.
    edge.apply(2, 3, 1, Target::Ready(new.address));
    assert_eq!(edge.get(2).await.text(), "new");
    assert_eq!(new.accepted(), 3);
}

#[tokio::test]
async fn a_connection_is_cut_some_time_after_its_vm_left() {
    let origin = Origin::serve(|mut conn| async move {
        conn.head().await;
        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin").await;
        conn.rest().await;
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut conn = edge.connect().await;
    conn.write(get(1, "/")).await;
    let head = conn.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(conn.take(5).await, b"begin");
    assert_eq!(edge.routes.in_flight(&vm_id(1)), 1);
    edge.apply(1, 2, 1, Target::Ready(origin.address));
    assert_eq!(conn.rest().await, b"", "the response breaks off, so that the client knows");
    assert_eq!(edge.routes.in_flight(&vm_id(1)), 0);
}

#[tokio::test]
async fn shutdown_lets_open_requests_end_and_cuts_the_rest() {
    let origin = Origin::serve(|mut conn| async move {
        let head = conn.head().await.unwrap();
        conn.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nbegi").await;
        if head.starts_with("GET /ends ") {
            conn.write("nend").await;
        }
        conn.rest().await;
    })
    .await;
    let edge = Edge::start(limits()).await;
    edge.apply(1, 1, 1, Target::Ready(origin.address));
    let (mut ends, mut hangs) = (edge.connect().await, edge.connect().await);
    ends.write(get(1, "/ends")).await;
    hangs.write(get(1, "/hangs")).await;
    assert!(hangs.head().await.is_some());
    edge.shutdown.cancel();
    assert_eq!(ends.response().await.text(), "beginend");
    assert_eq!(hangs.rest().await, b"begi");
    edge.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_for_kept_connections() {
    let origin = Origin::mirror().await;
    let edge = Edge::start(EdgeLimits { drain_ms: 600_000, pool_idle_ms: 600_000, ..limits() }).await;
    edge.apply(1, 1, 1, Target::Ready(origin.address));
    assert_eq!(edge.get(1).await.status(), 200);
    edge.shutdown.cancel();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), edge.served).await;
    ended.expect("nothing is open but what is kept for the next request").unwrap().unwrap();
}
