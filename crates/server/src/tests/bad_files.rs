//! Bad input of builds: every kind has its code and names its entry, and nothing is recorded or left on the disk.

use serde_json::{Value, json};

use super::TestApp;
use crate::keys::Scope;

#[tokio::test]
async fn files_that_are_wrong_are_named() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let file = |dir: &str, name: &str| json!({"dir": dir, "name": name, "content": "x"});
    let with = |field: &str, value: Value| {
        let mut file = file(".", "b");
        file[field] = value;
        file
    };
    let cases = [
        (file("/etc", "passwd"), "invalid_file", "files[1].dir"),
        (file("../..", "x"), "invalid_file", "files[1].dir"),
        (file("a/../b", "x"), "invalid_file", "files[1].dir"),
        (file(".", "a/b"), "invalid_file", "files[1].name"),
        (file(".", ""), "invalid_file", "files[1].name"),
        (file(".", "a\u{0}b"), "invalid_file", "files[1].name"),
        (file(".", "a\nb"), "invalid_file", "files[1].name"),
        (file(".", ".wh.a"), "invalid_file", "files[1].name"),
        (file(".", "a"), "file_conflict", "files[1].name"),
        (file("a", "b"), "file_conflict", "files[1].name"),
        (file(".", "A"), "file_case", "files[1].name"),
        (with("mode", json!(512)), "out_of_range", "files[1].mode"),
        (with("mode", json!(-1)), "out_of_range", "files[1].mode"),
        (with("mode", json!("0644")), "wrong_type", "files[1].mode"),
        (with("encoding", json!("hex")), "unknown_field", "files[1].encoding"),
        (with("owner", json!("root")), "unknown_field", "files[1].owner"),
        (with("content", json!(null)), "wrong_type", "files[1].content"),
        (json!({"dir": ".", "name": "b"}), "missing_field", "files[1].content"),
        (json!({"dir": ".", "name": "b", "content": "####", "encoding": "base64"}), "invalid_file", "files[1].content"),
        (json!(3), "wrong_type", "files[1]"),
    ];
    for (bad, code, field) in cases {
        let body = json!({"dockerfile": "FROM scratch", "files": [file(".", "a"), bad]});
        let answer = api.post("/v1/image/build/files", &key, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{bad}: {:#}", answer.body);
        assert_eq!(answer.body["field"], field, "{bad}");
    }
    nothing_is_left(&api, &key).await;
}

#[tokio::test]
async fn too_much_is_refused() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let many: Vec<_> = (0..10_001).map(|n| json!({"dir": "d", "name": n.to_string(), "content": ""})).collect();
    let body = json!({"dockerfile": "FROM scratch", "files": many});
    let refused = api.post("/v1/image/build/files", &key, body).await.expect_code(400, "too_many_files");
    assert_eq!(refused["field"], "files");
    // More than 100 MiB decoded, in a body that is still read.
    let half = "x".repeat(53 << 20);
    let files = json!([{"dir": ".", "name": "a", "content": half}, {"dir": ".", "name": "b", "content": half}]);
    let body = json!({"dockerfile": "FROM scratch", "files": files});
    let refused = api.post("/v1/image/build/files", &key, body).await.expect_code(400, "files_too_large");
    assert_eq!(refused["field"], "files[1].content");
    let body = Value::String(" ".repeat((160 << 20) + 1));
    api.post("/v1/image/build/files", &key, body).await.expect_code(413, "body_too_large");
    nothing_is_left(&api, &key).await;
}

#[tokio::test]
async fn builds_that_are_wrong_say_what_is() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let files = json!({"dockerfile": "FROM scratch", "files": []});
    let github = json!({"dockerfile": "FROM scratch", "repository": "org/repo", "branch": "main"});
    let with = |base: &Value, field: &str, value: Value| {
        let mut body = base.clone();
        body[field] = value;
        body
    };
    let many: serde_json::Map<String, Value> = (0..200).map(|n| (format!("N{n}"), json!("x"))).collect();
    let mut cases = vec![
        ("files", json!("{"), "invalid_json", None),
        ("files", json!("{\"dockerfile\":\"a\""), "invalid_json", None),
        ("files", json!("{\"dockerfile\":\"a\",\"files\":[]} x"), "invalid_json", None),
        ("files", json!("{\"dockerfile\":\"a\",\"files\":[],\"files\":[]}"), "invalid_value", None),
        ("files", json!([]), "wrong_type", None),
        ("files", json!({"files": []}), "missing_field", Some("dockerfile")),
        ("files", json!({"dockerfile": "a"}), "missing_field", Some("files")),
        ("files", with(&files, "files", json!({})), "wrong_type", Some("files")),
        ("files", with(&files, "files", json!(null)), "wrong_type", Some("files")),
        ("files", with(&files, "token", json!("x")), "unknown_field", Some("token")),
        ("github", with(&github, "files", json!([])), "unknown_field", Some("files")),
        ("github", with(&github, "token", json!("a b")), "invalid_value", Some("token")),
        ("github", with(&github, "token", json!("x".repeat(5000))), "too_long", Some("token")),
        ("github", with(&github, "token", json!(["geheim"])), "wrong_type", Some("token")),
    ];
    for repository in ["", "repo", "a/b/c", "../x", "a/..", "-a/b", "a b/c", "a/b.git", "https://h/a/b", "a/\u{0}"] {
        cases.push(("github", with(&github, "repository", json!(repository)), "invalid_value", Some("repository")));
    }
    for branch in ["", "-x", "a..b", "a b", "a~1", "/a", "a/", "a.lock", "@", "x@{1}", "a\nb", "a/.b", &"x".repeat(300)]
    {
        cases.push(("github", with(&github, "branch", json!(branch)), "invalid_value", Some("branch")));
    }
    for path in ["..", "a/../b", "/a", "a//b", "a\u{0}"] {
        cases.push(("github", with(&github, "path", json!(path)), "invalid_value", Some("path")));
    }
    for (kind, base) in [("files", &files), ("github", &github)] {
        let secrets = json!({"a": "x".repeat(70_000)});
        cases.extend([
            (kind, with(base, "dockerfile", json!(" ")), "invalid_value", Some("dockerfile")),
            (kind, with(base, "dockerfile", json!("x".repeat(1_100_000))), "too_long", Some("dockerfile")),
            (kind, with(base, "dockerignore", json!("x".repeat(1_100_000))), "too_long", Some("dockerignore")),
            (kind, with(base, "buildArgs", json!({"1A": ""})), "invalid_value", Some("buildArgs.1A")),
            (kind, with(base, "buildArgs", json!({"A": "\u{0}"})), "invalid_value", Some("buildArgs.A")),
            (kind, with(base, "buildArgs", json!({"A": "x".repeat(300_000)})), "too_long", Some("buildArgs")),
            (kind, with(base, "buildArgs", Value::Object(many.clone())), "too_long", Some("buildArgs")),
            (kind, with(base, "buildArgs", json!("geheim")), "wrong_type", Some("buildArgs")),
            (kind, with(base, "secrets", json!({"a/b": "x"})), "invalid_value", Some("secrets.a/b")),
            (kind, with(base, "secrets", json!({"..": "x"})), "invalid_value", Some("secrets...")),
            (kind, with(base, "secrets", secrets), "too_long", Some("secrets.a")),
            (kind, with(base, "secrets", Value::Object(many.clone())), "too_long", Some("secrets")),
            (kind, with(base, "secrets", json!(["geheim"])), "wrong_type", Some("secrets")),
            (kind, with(base, "target", json!("a\nb")), "invalid_value", Some("target")),
            (kind, with(base, "metadata", json!({"": "x"})), "invalid_metadata", Some("metadata.")),
            (kind, with(base, "tenant", json!("")), "invalid_tenant", Some("tenant")),
            (kind, with(base, "noCache", json!("no")), "wrong_type", Some("noCache")),
        ]);
    }
    for (kind, body, code, field) in cases {
        let shown: String = body.to_string().chars().take(120).collect();
        let answer = api.post(&format!("/v1/image/build/{kind}"), &key, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{shown}: {:#}", answer.body);
        assert_eq!(answer.body["field"].as_str(), field, "{shown}");
        assert!(!answer.body.to_string().contains("geheim"), "{:#}", answer.body);
    }
    nothing_is_left(&api, &key).await;
}

async fn nothing_is_left(api: &TestApp, key: &str) {
    assert_eq!(api.get("/v1/builds", key).await.expect(200)["builds"], json!([]));
    let left = std::fs::read_dir(api.dir.path().join("contexts")).unwrap().count();
    assert_eq!(left, 0, "nothing is on the disk");
}
