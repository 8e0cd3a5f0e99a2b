//! The forwarder against real sockets on loopback: a name server that is there, one that lies, and one that is not.

use std::future::Future;
use std::str::FromStr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::task::JoinHandle;

use super::*;

const WAIT: Duration = Duration::from_secs(10);

/// Asks that have no answer in time fail the test instead of holding it.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, what).await.expect("within the test's deadline")
}

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

async fn start(upstreams: Vec<SocketAddr>, limits: DnsLimits) -> Running {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run(DnsConfig { port, upstreams, limits }, shutdown.clone()));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    soon(async {
        while TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    Running { address, shutdown, task }
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        soon(self.task).await.expect("no panic").expect("a clean end");
    }
}

fn query(name: &str) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).expect("a name"), RecordType::A));
    message
}

/// Answers every question with 203.0.113.7; over UDP, a forged answer with another id goes ahead of it.
async fn name_server() -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = tcp.local_addr().expect("bound");
    let udp = UdpSocket::bind(address).await.expect("the same port");
    let answer = |bytes: &[u8]| {
        let mut message = Message::from_vec(bytes).expect("a question");
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name().clone();
        message.add_answer(Record::from_rdata(name, 60, RData::A(A::new(203, 0, 113, 7))));
        message
    };
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            let genuine = answer(&buffer[..length]);
            let mut forged = genuine.clone();
            forged.metadata.id ^= 1;
            forged.answers[0].data = RData::A(A::new(198, 51, 100, 66));
            for message in [forged, genuine] {
                udp.send_to(&message.to_vec().expect("encodable"), from).await.expect("sent");
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            while let Ok(bytes) = read_framed(&mut stream, 2048).await {
                let message = answer(&bytes).to_vec().expect("encodable");
                write_framed(&mut stream, &message).await.expect("sent");
            }
        }
    });
    address
}

async fn ask_udp(server: SocketAddr, bytes: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    socket.connect(server).await.expect("connected");
    socket.send(bytes).await.expect("sent");
    let mut buffer = [0; 2048];
    let length = soon(socket.recv(&mut buffer)).await.expect("an answer");
    Message::from_vec(&buffer[..length]).expect("a message")
}

fn assert_genuine(answer: &Message) {
    assert_eq!(answer.metadata.id, 4711);
    assert_eq!(answer.answers.len(), 1);
    assert_eq!(answer.answers[0].data, RData::A(A::new(203, 0, 113, 7)));
}

#[tokio::test]
async fn questions_are_answered_over_udp_and_tcp_and_forged_answers_are_not_taken() {
    let running = start(vec![name_server().await], DnsLimits::default()).await;
    let bytes = query("app.example.com.").to_vec().expect("encodable");
    assert_genuine(&ask_udp(running.address, &bytes).await);
    let mut stream = TcpStream::connect(running.address).await.expect("connected");
    for _ in 0..2 {
        soon(write_framed(&mut stream, &bytes)).await.expect("sent");
        let answer = soon(read_framed(&mut stream, 2048)).await.expect("an answer");
        assert_genuine(&Message::from_vec(&answer).expect("a message"));
    }
    running.stop().await;
}

#[tokio::test]
async fn the_second_upstream_answers_for_the_first() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let nobody = closed.local_addr().expect("bound");
    drop(closed);
    let running = start(vec![nobody, name_server().await], DnsLimits::default()).await;
    assert_genuine(&ask_udp(running.address, &query("a.").to_vec().expect("encodable")).await);
    running.stop().await;
}

#[tokio::test]
async fn without_an_upstream_the_guest_is_told_so() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let limits = DnsLimits { upstream_timeout_ms: 50, ..DnsLimits::default() };
    let running = start(vec![silent.local_addr().expect("bound")], limits).await;
    let answer = ask_udp(running.address, &query("a.").to_vec().expect("encodable")).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(answer.metadata.id, 4711);
    running.stop().await;
}

#[tokio::test]
async fn over_its_share_a_guest_is_told_so_at_once() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    // Longer than the test waits: an answer within it was not the upstream's timeout.
    let limits = DnsLimits { queries_per_vm: 1, upstream_timeout_ms: 3_600_000, ..DnsLimits::default() };
    let running = start(vec![silent.local_addr().expect("bound")], limits).await;
    let bytes = query("a.").to_vec().expect("encodable");
    let first = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    first.send_to(&bytes, running.address).await.expect("sent");
    soon(silent.recv(&mut [0; 2048])).await.expect("the first question holds the share");
    assert_eq!(ask_udp(running.address, &bytes).await.metadata.response_code, ResponseCode::ServFail);
    running.stop().await;
}
