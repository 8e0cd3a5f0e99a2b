//! WebSockets through the edge, and upgrades that are none.

use cakework_edge::{EdgeLimits, Target};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, accept_async, client_async};

use crate::support::{Edge, Origin, eventually, field, get, host, limits, vm_id};

/// Sends messages back, and a close frame with its reason.
async fn echo() -> Origin {
    Origin::serve(|conn| async move {
        let mut socket = accept_async(conn.stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await
}

async fn open(edge: &Edge) -> WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>> {
    let stream = MaybeTlsStream::Plain(edge.connect().await.stream);
    let (socket, response) = client_async(format!("ws://{}/chat?a=b", host(1)), stream).await.unwrap();
    assert_eq!(response.status(), 101);
    assert!(response.headers().contains_key("x-request-id"));
    socket
}

#[tokio::test]
async fn a_websocket_passes_messages_and_its_end() {
    let origin = echo().await;
    let edge = Edge::before(&origin).await;
    let mut socket = open(&edge).await;
    assert_eq!(edge.routes.in_flight(&vm_id(1)), 1);
    for size in [0, 1, 125, 126, 70_000, 1 << 20] {
        let message = Message::binary(vec![7; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("p".into()));
    let reason = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    socket.close(Some(reason.clone())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(Some(reason)));
    assert!(socket.next().await.is_none());
    drop(socket);
    eventually("nothing is open", || edge.routes.in_flight(&vm_id(1)) == 0).await;
}

#[tokio::test]
async fn a_websocket_ends_with_its_vm_and_with_the_edge() {
    let origin = echo().await;
    let edge = Edge::before(&origin).await;
    let mut socket = open(&edge).await;
    edge.apply(1, 1, 2, Target::Stopped);
    assert!(!matches!(socket.next().await, Some(Ok(_))), "it is cut");

    edge.apply(1, 2, 1, Target::Ready(origin.address));
    let mut socket = open(&edge).await;
    edge.shutdown.cancel();
    assert!(!matches!(socket.next().await, Some(Ok(_))), "it is cut");
    edge.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn websockets_are_counted_and_the_silent_end() {
    let origin = echo().await;
    let edge = Edge::start(EdgeLimits { upgrades_max: 1, idle_ms: 300, ..limits() }).await;
    edge.apply(1, 1, 1, Target::Ready(origin.address));
    let mut socket = open(&edge).await;
    let asking = get(1, "/").replace("\r\n\r\n", "\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(edge.ask(&asking).await.problem(), (503, "queue_full".into()));
    assert!(!matches!(socket.next().await, Some(Ok(_))), "nothing is said on it");
    eventually("nothing is open", || edge.routes.in_flight(&vm_id(1)) == 0).await;
    open(&edge).await;
}

#[tokio::test]
async fn a_vm_may_refuse_a_websocket() {
    let origin = Origin::fixed("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let edge = Edge::before(&origin).await;
    let asking = get(1, "/").replace("\r\n\r\n", "\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut conn = edge.connect().await;
    for _ in 0..2 {
        conn.write(&asking).await;
        let response = conn.response().await;
        assert_eq!((response.status(), response.text()), (403, "no"));
    }
}

#[tokio::test]
async fn no_other_protocol_is_switched_to() {
    let origin = Origin::mirror().await;
    let edge = Edge::before(&origin).await;
    for fields in
        ["Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk", "Upgrade: websocket"]
    {
        let response = edge.ask(get(1, "/").replace("\r\n\r\n", &format!("\r\n{fields}\r\n\r\n"))).await;
        assert_eq!(response.status(), 200);
        assert_eq!(field(response.text(), "upgrade"), None, "{}", response.text());
        assert_eq!(field(response.text(), "http2-settings"), None);
    }
}
