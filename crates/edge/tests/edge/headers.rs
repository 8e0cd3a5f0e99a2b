//! Header fields, end to end, and the framing that is not a body.

use cakework_edge::{EdgeLimits, Target};

use crate::support::{Edge, Origin, field, host, limits};

#[tokio::test]
async fn the_vm_reads_what_the_edge_knows() {
    let origin = Origin::mirror().await;
    let edge = Edge::before(&origin).await;
    let request = format!(
        "GET /a%2Fb?c=d&&e HTTP/1.1\r\nHost: {}\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\
         X-Forwarded-For: 10.1.2.3\r\nX_Forwarded_For: 10.1.2.4\r\nForwarded: for=10.1.2.5\r\nX-Real-Ip: 10.1.2.6\r\n\
         X-Forwarded-Proto: https\r\nX-Request-Id: my-id.1\r\nCookie: a=b\r\n\r\n",
        host(1)
    );
    let response = edge.ask(&request).await;
    let seen = response.text();
    assert!(seen.starts_with("GET /a%2Fb?c=d&&e HTTP/1.1\r\n"), "{seen}");
    assert!(!seen.contains("10.1.2") && !seen.to_lowercase().contains("x-secret"), "{seen}");
    assert!(!seen.to_lowercase().contains("keep-alive"), "{seen}");
    assert_eq!(field(seen, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(field(seen, "x-forwarded-proto"), Some("http"));
    assert_eq!(field(seen, "x-forwarded-host"), Some(host(1).as_str()));
    assert_eq!(field(seen, "x-request-id"), Some("my-id.1"));
    assert_eq!(field(seen, "cookie"), Some("a=b"));
    assert_eq!(response.field("x-request-id"), Some("my-id.1"));
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let origin = Origin::mirror().await;
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let edge = Edge::start(EdgeLimits { trusted_proxies, ..limits() }).await;
    edge.apply(1, 1, 1, Target::Ready(origin.address));
    let fields = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https";
    let response = edge.ask(format!("GET / HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\n", host(1))).await;
    assert_eq!(field(response.text(), "x-forwarded-for"), Some("203.0.113.7, 127.0.0.1"));
    assert_eq!(field(response.text(), "x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn a_response_loses_only_what_is_its_connections() {
    let origin = Origin::fixed(
        "HTTP/1.1 200 Fine\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=1\r\n\
         Set-Cookie: b=2\r\nX-Request-Id: the-vms\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let edge = Edge::before(&origin).await;
    let response = edge.get(1).await;
    let head = response.head.to_lowercase();
    assert!(!head.contains("x-hop") && !head.contains("keep-alive") && !head.contains("the-vms"), "{head}");
    assert_eq!(head.matches("set-cookie: ").count(), 2);
    assert_eq!(response.text(), "ok");
}

#[tokio::test]
async fn answers_without_a_body_have_none_and_the_connection_goes_on() {
    let origin = Origin::serve(|mut conn| async move {
        while let Some(head) = conn.head().await {
            let answer = match head.split(' ').nth(1).unwrap() {
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            };
            conn.write(answer).await;
        }
    })
    .await;
    let edge = Edge::before(&origin).await;
    let mut conn = edge.connect().await;
    for (method, path, status) in [("GET", "/204", 204), ("GET", "/304", 304), ("HEAD", "/head", 200)] {
        conn.write(format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n\r\n", host(1))).await;
        let head = conn.head().await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let length = (method == "HEAD").then_some("12345");
        assert_eq!(field(&head, "content-length"), length, "{head}");
        assert_eq!(field(&head, "transfer-encoding"), None, "{head}");
        conn.write(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(1))).await;
        assert_eq!(conn.response().await.text(), "ok", "after {path}");
    }
    assert_eq!(origin.accepted(), 1);
    // A problem for HEAD has no body either.
    conn.write(format!("HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(9))).await;
    assert!(conn.head().await.unwrap().starts_with("HTTP/1.1 404 "));
    assert_eq!(conn.rest().await, b"");
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_what_it_reads() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let edge = Edge::before(&origin).await;
    let mut conn = edge.connect().await;
    conn.write(format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", host(1))).await;
    let head = conn.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.0 200 ") && field(&head, "transfer-encoding").is_none(), "{head}");
    assert_eq!(conn.rest().await, b"ok");
}
