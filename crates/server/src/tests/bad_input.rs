//! Bad input: each kind has its own code, and nothing is half done.

use std::sync::Arc;

use axum::http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::TestApp;
use crate::keys::Scope;
use crate::routes;

#[tokio::test]
async fn a_start_that_is_wrong_says_what_is() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let image = api.ready_image().await;
    let with = |field: &str, value: Value| {
        let mut body = json!({"imageId": image});
        body[field] = value;
        body
    };
    let many: serde_json::Map<String, Value> = (0..600).map(|n| (format!("N{n}"), json!("x"))).collect();
    let big: serde_json::Map<String, Value> = (0..20).map(|n| (format!("N{n}"), json!("x".repeat(100_000)))).collect();
    let marks: serde_json::Map<String, Value> = (0..33).map(|n| (format!("N{n}"), json!("x"))).collect();
    let cases = [
        (json!("{"), "invalid_json", None),
        (json!("{\"imageId\": \"x\"} x"), "invalid_json", None),
        (json!(""), "invalid_json", None),
        (json!([]), "wrong_type", None),
        (json!({}), "missing_field", Some("imageId")),
        (json!({"imageId": null}), "wrong_type", Some("imageId")),
        (with("colour", json!(1)), "unknown_field", Some("colour")),
        (with("cpu", json!("2")), "wrong_type", Some("cpu")),
        (with("cpu", json!(1.5)), "wrong_type", Some("cpu")),
        (with("cpu", json!(0)), "out_of_range", Some("cpu")),
        (with("cpu", json!(9)), "out_of_range", Some("cpu")),
        (with("memory", json!(255)), "out_of_range", Some("memory")),
        (with("memory", json!(16385)), "out_of_range", Some("memory")),
        (with("port", json!(0)), "out_of_range", Some("port")),
        (with("port", json!(65536)), "out_of_range", Some("port")),
        (with("port", json!(-1)), "out_of_range", Some("port")),
        (with("volumeGB", json!(501)), "out_of_range", Some("volumeGB")),
        (with("timeoutSeconds", json!(0)), "out_of_range", Some("timeoutSeconds")),
        (with("envVars", json!({"A": 1})), "wrong_type", Some("envVars.A")),
        (with("envVars", json!({"": "x"})), "invalid_env", Some("envVars.")),
        (with("envVars", json!({"A=B": "x"})), "invalid_env", Some("envVars.A=B")),
        (with("envVars", json!({"A\u{0}": "x"})), "invalid_env", Some("envVars.A\\u{0}")),
        (with("envVars", json!({"A\nB": "x"})), "invalid_env", Some("envVars.A\\nB")),
        (with("envVars", json!({"A": "x\u{0}"})), "invalid_env", Some("envVars.A")),
        (with("envVars", Value::Object(many)), "too_long", Some("envVars")),
        (with("envVars", Value::Object(big)), "too_long", Some("envVars")),
        (with("envVars", json!({"A": "x".repeat(130_000)})), "too_long", Some("envVars.A")),
        (with("command", json!([])), "invalid_command", Some("command")),
        (with("command", json!(["a", "b\u{0}"])), "invalid_command", Some("command[1]")),
        (with("command", json!("sleep 1")), "wrong_type", Some("command")),
        (with("metadata", Value::Object(marks)), "invalid_metadata", Some("metadata")),
        (with("metadata", json!({"a": "x".repeat(513)})), "invalid_metadata", Some("metadata.a")),
        (with("tenant", json!("")), "invalid_tenant", Some("tenant")),
        (with("tenant", json!("a\nb")), "invalid_tenant", Some("tenant")),
    ];
    for (body, code, field) in cases {
        let shown: String = body.to_string().chars().take(80).collect();
        let answer = api.post("/v1/vm/start", &key, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{shown}: {:#}", answer.body);
        assert_eq!(answer.body["field"].as_str(), field, "{shown}");
    }
    api.post("/v1/vm/start", &key, json!({"imageId": "nonsense"})).await.expect_code(404, "unknown_image");
    let absent = json!({"imageId": "01GV2ZFBT345TRTRDK6VHBECCZ"});
    api.post("/v1/vm/start", &key, absent).await.expect_code(404, "unknown_image");
    let list = api.get("/v1/vms", &key).await.expect(200);
    assert_eq!(list["vms"], json!([]), "nothing was half done");
}

#[tokio::test]
async fn a_command_that_is_wrong_says_what_is() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let image = api.ready_image().await;
    let vm = api.post("/v1/vm/start", &key, json!({"imageId": image})).await.expect(201);
    let path = format!("/v1/vm/{}/exec", vm["id"].as_str().unwrap());
    let with = |field: &str, value: Value| {
        let mut body = json!({"command": "true"});
        body[field] = value;
        body
    };
    let size = |rows: u32, cols: u32| json!({"rows": rows, "cols": cols});
    for (body, code, field) in [
        (json!({}), "missing_field", "command"),
        (with("command", json!([])), "invalid_command", "command"),
        (with("command", json!([""])), "invalid_command", "command"),
        (with("command", json!(7)), "invalid_value", "command"),
        (with("command", json!(["a", "b\u{0}"])), "invalid_command", "command[1]"),
        (with("command", json!("x".repeat(200_000))), "too_long", "command"),
        (with("cwd", json!("app")), "invalid_value", "cwd"),
        (with("cwd", json!("/a\u{0}")), "invalid_value", "cwd"),
        (with("cwd", json!(format!("/{}", "x".repeat(5000)))), "too_long", "cwd"),
        (with("user", json!("")), "invalid_value", "user"),
        (with("envVars", json!({"A=B": "x"})), "invalid_env", "envVars.A=B"),
        (with("timeoutSeconds", json!(0)), "out_of_range", "timeoutSeconds"),
        (with("timeoutSeconds", json!(86_401)), "out_of_range", "timeoutSeconds"),
        (with("tty", size(0, 80)), "out_of_range", "tty"),
        (with("tty", size(24, 70_000)), "invalid_value", "tty"),
        (with("encoding", json!("hex")), "unknown_field", "encoding"),
        (with("stdin", json!("x".repeat((1 << 20) + 1))), "too_long", "stdin"),
        (json!({"command": "cat", "encoding": "base64", "stdin": "%"}), "invalid_value", "stdin"),
        (with("shell", json!("bash")), "unknown_field", "shell"),
    ] {
        let answer = api.post(&path, &key, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{field}: {:#}", answer.body);
        assert_eq!(answer.body["field"], field, "{:#}", answer.body);
    }
    api.post("/v1/vm/00000000000000/exec", &key, json!({"command": "true"})).await.expect_code(404, "unknown_vm");
    api.get("/v1/vm/00000000000000/exec", &key).await.expect_code(404, "unknown_vm");
    api.get(&path, &key).await.expect_code(426, "upgrade_required");
    api.post(&path, &key, json!({"command": "true"})).await.expect_code(409, "vm_not_running");
}

#[tokio::test]
async fn what_is_wrong_about_a_file_is_named() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let image = api.ready_image().await;
    let vm = api.post("/v1/vm/start", &key, json!({"imageId": image})).await.expect(201);
    let files = format!("/v1/vm/{}/files", vm["id"].as_str().unwrap());
    let long = format!("path=/{}", "x".repeat(5000));
    for (method, query, code, field) in [
        (Method::GET, "", "missing_field", "path"),
        (Method::GET, "path=", "missing_field", "path"),
        (Method::GET, "path=a", "invalid_path", "path"),
        (Method::GET, "path=/a%00", "invalid_path", "path"),
        (Method::GET, &long, "invalid_path", "path"),
        (Method::GET, "path=/a&path=/b", "invalid_value", "path"),
        (Method::GET, "path=/a&format=zip", "invalid_value", "format"),
        (Method::GET, "path=/a&mode=644", "unknown_field", "mode"),
        (Method::PUT, "path=/a&mode=rwx", "invalid_value", "mode"),
        (Method::PUT, "path=/a&mode=17777", "invalid_value", "mode"),
        (Method::PUT, "path=/a&directory=yes", "invalid_value", "directory"),
        (Method::PUT, "path=/a&directory=true&format=tar", "invalid_value", "directory"),
        (Method::PUT, "path=/a&format=tar&mode=644", "invalid_value", "mode"),
        (Method::DELETE, "path=/a&recursive=1", "invalid_value", "recursive"),
    ] {
        let answer = api.send(method.clone(), &format!("{files}?{query}"), Some(&key), None).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{method} {query}: {:#}", answer.body);
        assert_eq!(answer.body["field"], field, "{method} {query}");
    }
    api.get(&format!("{files}?path=/a"), &key).await.expect_code(409, "vm_not_running");
    api.get("/v1/vm/00000000000000/files?path=/a", &key).await.expect_code(404, "unknown_vm");
}

#[tokio::test]
async fn ten_megabytes_are_not_kept() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let body = json!({"imageId": "x", "envVars": {"A": "x".repeat(10_000_000)}});
    api.post("/v1/vm/start", &key, body.clone()).await.expect_code(413, "body_too_large");
    api.post("/v1/image/import", &key, body).await.expect_code(413, "body_too_large");
}

#[tokio::test]
async fn who_sends_all_before_it_listens_hears_that_it_was_too_much() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(axum::serve(listener, routes::router(Arc::clone(&api.app))).into_future());
    let body = "x".repeat(10_000_000);
    let head =
        format!("POST /v1/vm/start HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\ncontent-length: {}\r\n", body.len());
    for (rest, sent) in [("\r\n", body.as_str()), ("expect: 100-continue\r\n\r\n", "")] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(format!("{head}{rest}{sent}").as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(std::str::from_utf8(&answer).unwrap(), "HTTP/1.1 413", "{rest:?}");
    }
    served.abort();
}

#[tokio::test]
async fn an_import_that_is_wrong_says_what_is() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    for (body, code, field) in [
        (json!({}), "missing_field", Some("imageUri")),
        (json!({"imageUri": ""}), "invalid_value", Some("imageUri")),
        (json!({"imageUri": "a\nb"}), "invalid_value", Some("imageUri")),
        (json!({"imageUri": "a".repeat(2000)}), "too_long", Some("imageUri")),
        (json!({"imageUri": "a", "password": "x".repeat(20_000)}), "too_long", Some("password")),
        (json!({"imageUri": "a", "password": 1}), "wrong_type", Some("password")),
        (json!({"imageUri": "a", "password": ":p"}), "invalid_value", Some("password")),
        (json!({"imageUri": "a", "password": "u:"}), "invalid_value", Some("password")),
        (json!({"imageUri": "a", "password": format!("{}:p", "u".repeat(257))}), "too_long", Some("password")),
        (json!({"imageUri": "a", "username": "u"}), "missing_field", Some("password")),
        (json!({"imageUri": "a", "username": "u:v", "password": "p"}), "invalid_value", Some("username")),
        (json!({"imageUri": "a", "tenant": ""}), "invalid_tenant", Some("tenant")),
    ] {
        let answer = api.post("/v1/image/import", &key, body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{body}: {:#}", answer.body);
        assert_eq!(answer.body["field"].as_str(), field, "{body}");
    }
    let import = api.post("/v1/image/import", &key, json!({"imageUri": "registry.test/a:1"})).await;
    assert_eq!(import.headers["retry-after"], "2");
    import.expect_code(503, "host_unavailable");
    assert_eq!(api.get("/v1/images", &key).await.expect(200)["images"], json!([]));
}

#[tokio::test]
async fn parameters_that_are_wrong_are_named() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let image = api.ready_image().await;
    let vm = api.post("/v1/vm/start", &key, json!({"imageId": image})).await.expect(201);
    let logs = format!("/v1/vm/{}/logs", vm["id"].as_str().unwrap());
    let wait = format!("/v1/vm/{}/wait", vm["id"].as_str().unwrap());
    for (path, code, field) in [
        ("/v1/vms?status=running".to_owned(), "invalid_value", "status"),
        ("/v1/vms?imageId=x".to_owned(), "invalid_value", "imageId"),
        ("/v1/vms?limit=0".to_owned(), "out_of_range", "limit"),
        ("/v1/vms?limit=1001".to_owned(), "out_of_range", "limit"),
        ("/v1/vms?pagination=x".to_owned(), "invalid_page_token", "pagination"),
        ("/v1/images?pagination=AQAA".to_owned(), "invalid_page_token", "pagination"),
        ("/v1/builds?status=queued".to_owned(), "invalid_value", "status"),
        ("/v1/builds?imageId=x".to_owned(), "invalid_value", "imageId"),
        ("/v1/builds?pagination=x".to_owned(), "invalid_page_token", "pagination"),
        (format!("{logs}?follow=yes"), "invalid_value", "follow"),
        (format!("{logs}?follow=true&order=newest_first"), "invalid_value", "order"),
        ("/v1/vms?stat=started".to_owned(), "unknown_field", "stat"),
        ("/v1/vms?limit=1&limit=2".to_owned(), "invalid_value", "limit"),
        (format!("{logs}?batch=49"), "out_of_range", "batch"),
        (format!("{logs}?order=newest"), "invalid_value", "order"),
        (format!("{logs}?from=yesterday"), "invalid_date", "from"),
        (format!("{logs}?to=2022-13-01T00:00:00Z"), "invalid_date", "to"),
        (format!("{logs}?from=2023-01-02T00:00:00Z&to=2023-01-01T00:00:00Z"), "invalid_date", "from"),
        (format!("{logs}?pagination=AAAA"), "invalid_page_token", "pagination"),
        (format!("{logs}?query={}", "x".repeat(1025)), "too_long", "query"),
        ("/v1/logs?batch=49".to_owned(), "out_of_range", "batch"),
        ("/v1/logs?imageId=x".to_owned(), "invalid_value", "imageId"),
        ("/v1/logs?pagination=AAAA".to_owned(), "invalid_page_token", "pagination"),
        ("/v1/logs?follow=true".to_owned(), "unknown_field", "follow"),
        (wait.clone(), "missing_field", "state"),
        (format!("{wait}?state=up"), "invalid_value", "state"),
        (format!("{wait}?state=started&timeout=56"), "out_of_range", "timeout"),
    ] {
        let answer = api.get(&path, &key).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{path}: {:#}", answer.body);
        assert_eq!(answer.body["field"], field, "{path}");
    }
}

#[tokio::test]
async fn ids_that_are_none_name_nothing() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Admin).await;
    for id in ["00000000000000", "nonsense", "E784996F346483", "..%2f..%2fetc", "%00", "%ff"] {
        api.get(&format!("/v1/vm/{id}"), &key).await.expect_code(404, "unknown_vm");
        api.send(Method::POST, &format!("/v1/vm/{id}/stop"), Some(&key), None).await.expect_code(404, "unknown_vm");
        api.get(&format!("/v1/vm/{id}/logs"), &key).await.expect_code(404, "unknown_vm");
        api.get(&format!("/v1/image/build/{id}"), &key).await.expect_code(404, "unknown_build");
        api.get(&format!("/v1/image/build/{id}/logs?follow=true"), &key).await.expect_code(404, "unknown_build");
        api.get(&format!("/v1/image/{id}"), &key).await.expect_code(404, "unknown_image");
    }
}

#[tokio::test]
async fn paths_and_methods_that_are_none_are_problems_too() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Admin).await;
    let body = api.get("/v1/nothing?x=1", &key).await.expect_code(404, "unknown_route");
    assert_eq!(body["instance"], "/v1/nothing");
    let answer = api.send(Method::DELETE, "/v1/vms", Some(&key), None).await;
    assert_eq!(answer.headers["allow"], "GET,HEAD");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.headers["x-request-id"], answer.body["requestId"].as_str().unwrap());
    let body = answer.expect_code(405, "method_not_allowed");
    for field in ["type", "title", "status", "detail", "instance"] {
        assert!(!body[field].is_null(), "RFC 9457: {field}");
    }
}

#[tokio::test]
async fn a_failure_inside_says_nothing_of_its_cause() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Admin).await;
    api.app.store.close().await;
    let body = api.get("/v1/vms", &key).await.expect_code(500, "internal");
    let text = body.to_string();
    assert!(!text.contains("pool") && !text.contains("database"), "{text}");
}
