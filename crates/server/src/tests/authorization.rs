//! `docs/authorization.md`: what every operation answers to every kind of key, as it was answered.
//!
//! `UPDATE_DOCS=1` writes it anew.

use std::path::Path;
use std::time::Duration;

use axum::http::Method;
use serde_json::json;

use super::openapi::operations;
use super::{Answer, TestApp};
use crate::clock::now_ms;
use crate::keys::Scope;

/// Parameters of paths, what [`operations`] fills in for each, and how an object of that kind is said not to be there.
const PARAMETERS: [(&str, &str, &str); 5] = [
    ("{vmId}", "00000000000000", "unknown_vm"),
    ("{imageId}", "01GV2ZFBT345TRTRDK6VHBECCZ", "unknown_image"),
    ("{buildId}", "7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d", "unknown_build"),
    ("{webhookId}", "01GV2ZFBT345TRTRDK6VHBEHHK", "unknown_webhook"),
    ("{eventId}", "01GV2ZFBT345TRTRDK6VHBEVEN", "unknown_delivery"),
];
/// What ends the object that it is tried on.
const ENDS: [&str; 6] =
    ["stopVM", "stopCachedVM", "destroyCachedVM", "destroyCachedVMShort", "cancelBuild", "deleteWebhook"];

/// Longest time that one call is waited for.
const WAIT: Duration = Duration::from_secs(2);

/// One object of each kind that a path names, of the tenant `ann`.
async fn make_objects(api: &TestApp, key: &str) -> [String; 5] {
    let image = api.image_with(|image| image.tenant = Some("ann".into())).await;
    let text = |answer: &serde_json::Value, name: &str| answer[name].as_str().expect(name).to_owned();
    let vm = api.post("/v1/vm/start", key, json!({"imageId": image, "tenant": "ann"})).await.expect(201);
    let files = json!({"dockerfile": "FROM scratch", "files": [], "tenant": "ann"});
    let build = api.post("/v1/image/build/files", key, files).await.expect(201);
    let hook = api.post("/v1/webhook", key, json!({"url": "https://example.com/", "tenant": "ann"})).await.expect(201);
    let hook = text(&hook, "webhookId");
    let ping = api.send(Method::POST, &format!("/v1/webhook/{hook}/test"), Some(key), None).await.expect(202);
    [text(&vm, "id"), image.as_str().to_owned(), text(&build, "buildId"), hook, text(&ping, "eventId")]
}

/// An answer in a cell: who was let in is told apart from who was not, whatever came of it then.
fn cell(answer: &Answer) -> String {
    match answer.status.as_u16() {
        401 | 403 | 404 => format!("{} `{}`", answer.status.as_u16(), answer.code()),
        501 => "not yet".to_owned(),
        _ => "yes".to_owned(),
    }
}

#[tokio::test]
async fn the_table_of_who_may_do_what_is_what_the_server_answers() {
    let api = TestApp::new().await;
    let owner = api.key(Scope::Admin).await;
    let revoked = api.key_with(|key| key.revoked_ms = Some(now_ms())).await;
    let expired = api.key_with(|key| key.expires_ms = Some(now_ms() - 1)).await;
    let read = api.key(Scope::Read).await;
    let tenants_own = api.key_with(|key| key.tenant = Some("ann".into())).await;
    let other_tenant = api.key_with(|key| key.tenant = Some("bob".into())).await;
    let other_account = api.stranger().await;
    let keys: [Option<&str>; 8] = [
        None,
        Some(&revoked),
        Some(&expired),
        Some(&other_account),
        Some(&other_tenant),
        Some(&read),
        Some(&tenants_own),
        Some(&owner),
    ];
    let mut rows = Vec::new();
    let mut objects = make_objects(&api, &owner).await;
    for (method, filled, id, secured) in operations() {
        let (mut template, mut path) = (filled.clone(), filled);
        let mut unknown = None;
        for ((parameter, example, code), object) in PARAMETERS.iter().zip(&objects) {
            unknown = unknown.or(template.contains(example).then_some(*code));
            (template, path) = (template.replace(example, parameter), path.replace(example, object));
        }
        if id == "waitVm" {
            path.push_str("?state=created");
        }
        let mut cells = Vec::new();
        for (at, key) in keys.into_iter().enumerate() {
            if at == keys.len() - 1 && ENDS.contains(&id.as_str()) {
                let made = make_objects(&api, &owner).await;
                for (old, new) in objects.iter().zip(&made) {
                    path = path.replace(old.as_str(), new);
                }
                objects = made;
            }
            // Who is let in may have to wait for the end of a VM, for which there is no host here.
            let answer = tokio::time::timeout(WAIT, api.send(method.clone(), &path, key, None)).await.ok();
            let said = answer.as_ref().map_or("yes".to_owned(), cell);
            if secured {
                match at {
                    0 => assert_eq!(said, "401 `missing_key`", "{id}"),
                    1 => assert_eq!(said, "401 `revoked_key`", "{id}"),
                    2 => assert_eq!(said, "401 `expired_key`", "{id}"),
                    3 | 4 => {
                        let answer = answer.expect("who is not let in hears so at once");
                        let seen = objects.iter().find(|object| answer.body.to_string().contains(object.as_str()));
                        // An error's `instance` is the path that was asked for.
                        assert!(seen.is_none() || answer.status.is_client_error(), "{id} tells of {seen:?}");
                        let hidden = unknown.map(|code| format!("404 `{code}`"));
                        assert!(hidden.is_none_or(|hidden| said == hidden), "{id}: {said}");
                    }
                    _ => assert!(!said.starts_with("401"), "{id}: {said}"),
                }
            }
            cells.push(if secured { said } else { "yes, without a key".to_owned() });
        }
        if ENDS.contains(&id.as_str()) {
            objects = make_objects(&api, &owner).await;
        }
        rows.push(format!("| `{id}` | `{method} {template}` | {} |", cells.join(" | ")));
    }
    let document = format!(
        "# Who may do what\n\nGenerated by asking: each operation of the OpenAPI document with each kind of key, on \
         objects of the tenant `ann`.\n`yes` means that the caller was let in to what is its own, whatever came of the \
         request then. Lists and creations are\nalways of the caller's own account and tenant: `another account` sees \
         and makes only its own there.\n\n\
         | operation | route | no key | revoked | expired | another account | another tenant | read only | the tenant's \
         own | the account's |\n|---|---|---|---|---|---|---|---|---|---|\n{}\n",
        rows.join("\n")
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/authorization.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &document).expect("docs/authorization.md is writable");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, document, "run the test with UPDATE_DOCS=1 and commit docs/authorization.md");
}

/// A route that is not made of its description would be in no table.
#[test]
fn no_route_is_made_beside_the_document() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/routes");
    for entry in std::fs::read_dir(dir).expect("the routes").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("a source");
        for way in [".route(", ".nest(", ".nest_service(", ".route_service("] {
            assert!(!text.contains(way), "{} has {way}", entry.path().display());
        }
    }
}
