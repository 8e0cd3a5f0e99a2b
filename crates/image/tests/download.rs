//! Files from URLs that a stranger wrote, over a small server that answers as told.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use cakework_image::egress::{Download, EgressConfig, download};
use cakework_testkit::images::digest;
use cakework_wire::host::{AgentProblem, ProblemCode};
use common::PATIENCE;
use common::server::{Answer, Server};

/// The server's address, and no other that is not public.
fn loopback() -> EgressConfig {
    EgressConfig { allow: vec!["127.0.0.1/32".parse().unwrap()], ..EgressConfig::default() }
}

async fn server() -> Server {
    Server::start(|asked, own| -> Answer {
        let to = |url: String| (302, vec![("location".into(), url)], Vec::new());
        match asked.path.split('?').next().unwrap() {
            "/file.bin" => {
                let modified = ("last-modified".into(), "Sun, 06 Nov 1994 08:49:37 GMT".into());
                (200, vec![modified], b"content".to_vec())
            }
            "/named" => {
                let disposition = ("content-disposition".into(), "attachment; filename=\"real.tgz\"".into());
                (200, vec![disposition], b"content".to_vec())
            }
            "/hop" => to(format!("http://{own}/file.bin")),
            "/round" => to("/round".into()),
            "/private" => to("http://10.11.12.13/secret".into()),
            "/metadata" => to("http://169.254.169.254/latest".into()),
            "/mapped" => to("http://[::ffff:127.0.0.2]/".into()),
            "/other-loopback" => to("http://127.0.0.2:1/".into()),
            "/name" => to("http://localhost.localdomain.invalid/".into()),
            "/file-scheme" => to("file:///etc/passwd".into()),
            "/password" => to(format!("http://user:geheim@{own}/file.bin")),
            "/broken" => (500, Vec::new(), Vec::new()),
            _ => (404, Vec::new(), Vec::new()),
        }
    })
    .await
}

/// What came, and whether a file is there.
async fn fetch(url: &str, egress: &EgressConfig, max_bytes: u64) -> Result<Download, AgentProblem> {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("download");
    let result = download(egress, None, url, &to, max_bytes, PATIENCE).await;
    match &result {
        Ok(download) => assert_eq!(digest(&fs::read(&to).unwrap()), download.digest),
        Err(problem) => {
            assert!(!to.exists(), "half a file is left of {url}");
            assert!(!problem.message.contains("geheim"), "{}", problem.message);
        }
    }
    result
}

#[tokio::test]
async fn a_file_arrives_with_its_name_and_age() {
    let server = server().await;
    let whole = fetch(&format!("http://{}/file.bin?token=geheim", server.host), &loopback(), 7).await.unwrap();
    let expected = Download {
        digest: digest(b"content"),
        size_bytes: 7,
        modified_secs: Some(784_111_777),
        file_name: Some("file.bin".into()),
    };
    assert_eq!(whole, expected);
    let named = fetch(&format!("http://{}/named", server.host), &loopback(), 7).await.unwrap();
    assert_eq!((named.file_name.as_deref(), named.modified_secs), (Some("real.tgz"), None));
    let hopped = fetch(&format!("http://{}/hop", server.host), &loopback(), 7).await.unwrap();
    assert_eq!(hopped.file_name.as_deref(), Some("file.bin"));
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_wherever_they_come_up() {
    let server = server().await;
    let port = server.host.rsplit(':').next().unwrap();
    let refused = |url: String, egress: EgressConfig| async move { fetch(&url, &egress, 100).await.unwrap_err() };
    for host in ["127.0.0.1", "127.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let problem = refused(format!("http://{host}:{port}/file.bin?key=geheim"), EgressConfig::default()).await;
        assert_eq!(problem.code, ProblemCode::EgressDenied, "{host}: {}", problem.message);
    }
    assert_eq!(server.asked().len(), 0, "nobody connected");
    for path in ["private", "metadata", "mapped", "other-loopback"] {
        let problem = refused(format!("http://{}/{path}?key=geheim", server.host), loopback()).await;
        assert_eq!(problem.code, ProblemCode::EgressDenied, "{path}: {}", problem.message);
        assert!(problem.message.contains("may reach"), "{}", problem.message);
    }
    for path in ["file-scheme", "password", "round"] {
        let problem = refused(format!("http://{}/{path}?key=geheim", server.host), loopback()).await;
        assert_eq!(problem.code, ProblemCode::ImageReference, "{path}: {}", problem.message);
    }
    assert!(server.asked().iter().filter(|asked| asked.path.starts_with("/round")).count() <= 6);
    // The name is fine and what it leads to is allowed.
    let named = fetch(&format!("http://localhost:{port}/file.bin"), &loopback(), 100).await;
    assert_eq!(named.unwrap().size_bytes, 7);
}

#[tokio::test]
async fn urls_that_are_none_are_refused_in_words() {
    for url in ["", "ftp://example.com/x", "file:///etc/passwd", "http://", "http://u:geheim@8.8.8.8/", "x"] {
        let problem = fetch(url, &loopback(), 100).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::ImageReference, "{url}");
    }
    let long = format!("http://8.8.8.8/{}", "x".repeat(9000));
    assert_eq!(fetch(&long, &loopback(), 100).await.unwrap_err().code, ProblemCode::ImageReference);
}

#[tokio::test]
async fn answers_that_are_no_file_are_told_apart() {
    let server = server().await;
    for (path, max_bytes, code) in [
        ("absent", 100, ProblemCode::ImageNotFound),
        ("broken", 100, ProblemCode::RegistryUnavailable),
        ("name", 100, ProblemCode::RegistryUnavailable),
        ("file.bin", 6, ProblemCode::ImageTooLarge),
    ] {
        let problem = fetch(&format!("http://{}/{path}?key=geheim", server.host), &loopback(), max_bytes).await;
        assert_eq!(problem.unwrap_err().code, code, "{path}");
    }
}

/// A server that never ends its answer.
async fn endless(pause: Duration) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let mut next = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while next.is_ok() {
            tokio::time::sleep(pause).await;
            next = stream.write_all(&[0; 4096]).await;
        }
    });
    host
}

#[tokio::test]
async fn an_answer_without_end_is_cut_by_size_and_by_time() {
    let host = endless(Duration::ZERO).await;
    let problem = fetch(&format!("http://{host}/x"), &loopback(), 1 << 20).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::ImageTooLarge);

    let host = endless(Duration::from_millis(20)).await;
    let (dir, began) = (tempfile::tempdir().unwrap(), Instant::now());
    let to = dir.path().join("download");
    let url = format!("http://{host}/x");
    let slow = download(&loopback(), None, &url, &to, 1 << 30, Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(slow.code, ProblemCode::RegistryUnavailable);
    assert!(began.elapsed() < Duration::from_secs(20) && !to.exists());
}

#[tokio::test]
async fn what_is_there_already_is_not_replaced() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("download");
    fs::write(&to, "mine").unwrap();
    let url = format!("http://{}/file.bin", server.host);
    assert!(download(&loopback(), None, &url, &to, 100, PATIENCE).await.is_err());
    assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
}
