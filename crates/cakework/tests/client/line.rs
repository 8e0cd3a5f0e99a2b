//! A line between the program and its server that breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cakework_testkit::Server;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

/// A line to a server that cuts each connection after so many bytes of its answers; its address, and how many came.
pub async fn bad_line(server: &Server, cut: fn(usize) -> usize) -> (String, Arc<AtomicUsize>) {
    let far = server.url().trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let left = cut(counted.fetch_add(1, Ordering::SeqCst) + 1);
            let far = far.clone();
            tokio::spawn(async move { carry(near, TcpStream::connect(far).await?, left).await });
        }
    });
    (url, count)
}

async fn carry(near: TcpStream, far: TcpStream, left: usize) -> std::io::Result<()> {
    let ((mut near_in, mut near_out), (far_in, mut far_out)) = (near.into_split(), far.into_split());
    let up = tokio::spawn(async move { tokio::io::copy(&mut near_in, &mut far_out).await });
    let done = tokio::io::copy(&mut far_in.take(left as u64), &mut near_out).await;
    up.abort();
    done.map(drop)
}
