//! `git http-backend` as a CGI program (RFC 3875): one request in, one answer out.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use bytes::Bytes;
use hyper::{Request, Response};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Lets git answer a request for what is below `root`.
pub async fn answer(root: &Path, request: &Request<Bytes>) -> Result<Response<Bytes>> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REQUEST_METHOD", request.method().as_str())
        .env("PATH_INFO", request.uri().path())
        .env("QUERY_STRING", request.uri().query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", request.body().len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("running git http-backend")?;
    let mut input = child.stdin.take().context("it is piped")?;
    let body = request.body().clone();
    let give = async move {
        // A program that has heard enough has answered.
        let _ = input.write_all(&body).await;
    };
    let ((), output) = tokio::join!(give, child.wait_with_output());
    parse(&output?.stdout)
}

/// Header lines, a blank line, the body; `Status` is 200 where it is not said.
fn parse(output: &[u8]) -> Result<Response<Bytes>> {
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").context("git http-backend gave no headers")?;
    let mut answer = Response::builder();
    for line in std::str::from_utf8(&output[..end])?.lines() {
        let (name, value) = line.split_once(": ").context("a header has a value")?;
        answer = if name.eq_ignore_ascii_case("status") {
            answer.status(value.split(' ').next().unwrap_or_default())
        } else {
            answer.header(name, value)
        };
    }
    Ok(answer.body(Bytes::copy_from_slice(&output[end + 4..]))?)
}
