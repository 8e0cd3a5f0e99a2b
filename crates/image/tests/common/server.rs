//! A server that answers as told, and remembers what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// A request: its path with query, and its headers by lower-case name.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub headers: HashMap<String, String>,
}

/// What is answered: status, headers, body.
pub type Answer = (u16, Vec<(String, String)>, Vec<u8>);

/// A server that answers each request by a function and remembers it. It ends with the test's runtime.
pub struct Server {
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub async fn start(answer: impl Fn(&Asked, &str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (own, seen, answer) = (host.clone(), Arc::clone(&asked), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (own, seen, answer) = (own.clone(), Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut lines = Vec::new();
                    loop {
                        let mut line = String::new();
                        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                            return;
                        }
                        if line.trim().is_empty() {
                            break;
                        }
                        lines.push(line.trim().to_owned());
                    }
                    let path = lines[0].split(' ').nth(1).unwrap().to_owned();
                    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
                    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
                    let request = Asked { path, headers };
                    let (status, headers, body) = answer(&request, &own);
                    seen.lock().unwrap().push(request);
                    let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
                    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
                    // An answer may promise more than it holds.
                    if !headers.iter().any(|(name, _)| name == "content-length") {
                        head.push_str(&format!("content-length: {}\r\n", body.len()));
                    }
                    head.push_str("\r\n");
                    // The client may have heard enough.
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(&body).await;
                });
            }
        });
        Self { host, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}
