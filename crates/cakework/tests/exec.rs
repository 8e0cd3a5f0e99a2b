//! Commands in VMs, end to end: the real program, by a client of the API.

mod support;

use cakework_testkit::images::{Compression, Format, python_app};
use cakework_testkit::{Auth, Registry, Server};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use support::{PROGRAM, need_root};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a string, not {value}"))
}

async fn exec(server: &Server, id: &str, body: Value) -> Value {
    server.post(&format!("/v1/vm/{id}/exec"), body).await.expect("an answer").ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_vms_of_both_kinds() {
    need_root();
    let registry = Registry::start(Auth::Basic).await.expect("a registry");
    let image = python_app(Format::Oci, Compression::Gzip).expect("an image").build();
    registry.push("team/app", "v1", &image).await.expect("pushed");
    let server = Server::start(cakework_testkit::server::Options::new(PROGRAM)).await.expect("a server");
    let imported =
        server.import(&registry.reference("team/app", "v1"), registry.password()).await.expect("an answer").ok();
    let app = json!({"imageId": imported["imageId"], "port": 8080, "envVars": {"TOKEN": "t0k3n"}});
    let once = server.post("/v1/vm/start", app.clone()).await.expect("an answer").ok();
    let id = text(&once["id"]);
    let script = "import os, sys; print(os.environ['TOKEN'], os.environ['MORE']); print(sys.stdin.read()[::-1], \
                  file=sys.stderr); sys.exit(5)";
    let wanted = json!({"command": ["python3", "-c", script], "envVars": {"MORE": "more"}, "stdin": "abc"});
    let said = exec(&server, id, wanted).await;
    let exit = json!({"code": 5, "reason": "exited"});
    assert_eq!(said, json!({"exit": exit, "stdout": "t0k3n more\n", "stderr": "cba\n"}), "{}", server.log());
    let wanted = json!({"command": "head -c 2000000 /dev/zero; printf '\\377' >&2", "encoding": "base64"});
    let said = exec(&server, id, wanted).await;
    assert_eq!((&said["stdoutMissing"], &said["stderr"]), (&json!(2_000_000 - (1 << 20)), &json!("/w==")));
    let said = exec(&server, id, json!({"command": "sleep 60", "timeoutSeconds": 1})).await;
    assert_eq!(said["exit"], json!({"signal": 9, "reason": "timeout"}));
    let refused = server.post(&format!("/v1/vm/{id}/exec"), json!({"command": ["no-such"]})).await.expect("an answer");
    assert_eq!((refused.status, &refused.json["code"]), (400, &json!("invalid_command")), "{}", refused.text);

    // A cached one is woken for a command, and only one that runs.
    let cached = server.post("/v1/vm/cache", app).await.expect("an answer").ok();
    let cached = text(&cached["id"]);
    let path = format!("/v1/vm/{cached}/exec");
    let refused = server.post(&path, json!({"command": "true"})).await.expect("an answer");
    assert_eq!((refused.status, &refused.json["code"]), (409, &json!("vm_not_running")), "{}", refused.text);
    server.post(&format!("/v1/vm/cached/{cached}/start"), json!({})).await.expect("an answer").ok();
    exec(&server, cached, json!({"command": "echo kept > /tmp/kept"})).await;
    server.post(&format!("/v1/vm/{cached}/suspend"), json!({})).await.expect("an answer").ok();
    assert_eq!(exec(&server, cached, json!({"command": "cat /tmp/kept"})).await["stdout"], "kept\n");

    streams(&server, id).await;
    terminal(&server, id).await;
    files(&server, id).await;
    for (id, call) in [(id, "stop"), (cached, "destroy")] {
        server.post(&format!("/v1/vm/{id}/{call}"), json!({})).await.expect("an answer").ok();
    }
    let refused = server.post(&path, json!({"command": "true"})).await.expect("an answer");
    assert_eq!((refused.status, &refused.json["code"]), (409, &json!("vm_over")), "{}", refused.text);
}

async fn streams(server: &Server, id: &str) {
    let request = reqwest::Client::new()
        .post(format!("{}/v1/vm/{id}/exec", server.url()))
        .header("x-api-key", server.key())
        .header("accept", "text/event-stream")
        .json(&json!({"command": "printf 'a\\342\\202'; sleep 0.3; printf '\\254b'; echo err >&2; exit 3"}));
    let events = request.send().await.expect("an answer").text().await.expect("events");
    let data = |name: &str| {
        let lines: Vec<&str> = events.lines().collect();
        let of = lines.windows(2).filter(|pair| pair[0] == format!("event: {name}"));
        let datas = of.map(|pair| serde_json::from_str::<Value>(pair[1].trim_start_matches("data: ")).expect("JSON"));
        datas.collect::<Vec<_>>()
    };
    let stdout: String = data("stdout").iter().map(|data| text(&data["data"]).to_owned()).collect();
    assert_eq!(stdout, "a\u{20ac}b", "{events}");
    assert_eq!(data("stderr"), [json!({"data": "err\n"})]);
    assert_eq!(data("exit"), [json!({"code": 3, "reason": "exited"})]);
}

async fn terminal(server: &Server, id: &str) {
    let url = format!("{}/v1/vm/{id}/exec", server.url().replacen("http", "ws", 1));
    let mut request = url.as_str().into_client_request().expect("a request");
    request.headers_mut().insert("x-api-key", server.key().parse().expect("a value"));
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("a WebSocket");
    let wanted =
        json!({"command": "read name; stty size; echo hello $name; sleep 60", "tty": {"rows": 40, "cols": 90}});
    socket.send(Message::text(wanted.to_string())).await.expect("sent");
    let mut out = String::new();
    let mut last = Value::Null;
    socket.send(Message::text(json!({"type": "resize", "rows": 50, "cols": 99}).to_string())).await.expect("sent");
    socket.send(Message::binary(b"\0ann\n".to_vec())).await.expect("sent");
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(bytes) => {
                assert_eq!(bytes[0], 1);
                out.push_str(&String::from_utf8_lossy(&bytes[1..]));
                if out.ends_with("hello ann\r\n") {
                    socket
                        .send(Message::text(json!({"type": "signal", "signal": "INT"}).to_string()))
                        .await
                        .expect("sent");
                }
            }
            Message::Text(text) => last = serde_json::from_str(&text).expect("JSON"),
            _ => {}
        }
    }
    assert!(out.contains("50 99\r\n"), "{out:?}");
    assert_eq!((&last["type"], &last["exit"]["reason"]), (&json!("exit"), &json!("exited")), "{last} {out:?}");
    // As a browser does: without a key, by a ticket that somebody with one has made.
    let made = server.post(&format!("/v1/vm/{id}/exec/ticket"), json!({})).await.expect("an answer").ok();
    let ticket = text(&made["ticket"]);
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("{url}?ticket={ticket}")).await.expect("a WebSocket");
    socket.send(Message::text(json!({"command": []}).to_string())).await.expect("sent");
    let Some(Ok(Message::Text(answer))) = socket.next().await else { panic!("no answer") };
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("invalid_command")), "{answer}");
}

async fn files(server: &Server, id: &str) {
    let client = reqwest::Client::new();
    let at = |method: reqwest::Method, query: &str| {
        let request = client.request(method, format!("{}/v1/vm/{id}/files?{query}", server.url()));
        request.header("x-api-key", server.key())
    };
    let large: Vec<u8> = (0..2_000_000u32).map(|n| (n % 251) as u8).collect();
    let written =
        at(reqwest::Method::PUT, "path=/srv/new/file&mode=640").body(large.clone()).send().await.expect("sent");
    let status = written.status();
    let written: Value = serde_json::from_str(&written.text().await.expect("text")).expect("JSON");
    assert_eq!(
        (status.as_u16(), &written["size"], &written["mode"]),
        (200, &json!(2_000_000), &json!("0640")),
        "{written}"
    );
    let read = at(reqwest::Method::GET, "path=/srv/new/file").send().await.expect("an answer");
    let headers = read.headers().clone();
    assert_eq!(read.bytes().await.expect("bytes"), large);
    assert_eq!(
        (&headers["content-length"], &headers["x-file-mode"]),
        (&"2000000".parse().expect("a value"), &"0640".parse().expect("a value"))
    );
    let list = server.get(&format!("/v1/vm/{id}/files?path=/srv/new")).await.expect("an answer").ok();
    assert_eq!(
        (&list["entries"][0]["name"], &list["directory"]["kind"]),
        (&json!("file"), &json!("directory")),
        "{list}"
    );
    let archive = at(reqwest::Method::GET, "path=/srv/new&format=tar").send().await.expect("an answer");
    let archive = archive.bytes().await.expect("an archive");
    let unpacked =
        at(reqwest::Method::PUT, "path=/srv/again&format=tar").body(archive).send().await.expect("an answer");
    assert_eq!(unpacked.status(), 200, "{}", unpacked.text().await.unwrap_or_default());
    assert_eq!(
        at(reqwest::Method::GET, "path=/srv/again/file").send().await.expect("sent").bytes().await.expect("bytes"),
        large
    );
    let kept = at(reqwest::Method::DELETE, "path=/srv/again").send().await.expect("an answer");
    assert_eq!(kept.status(), 409);
    let gone = at(reqwest::Method::DELETE, "path=/srv/again&recursive=true").send().await.expect("an answer");
    assert_eq!(gone.status(), 204);
    let missing = server.get(&format!("/v1/vm/{id}/files?path=/srv/again")).await.expect("an answer");
    assert_eq!((missing.status, &missing.json["code"]), (404, &json!("unknown_file")), "{}", missing.text);
}
