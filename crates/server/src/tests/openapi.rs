//! The document and the router are one.

use axum::http::Method;
use cakework_api::problem::ErrorCode;
use serde_json::Value;

use super::TestApp;
use crate::keys::Scope;

/// Every operation of the document: method, path with its parameters filled in, operation id, whether it needs a key.
pub(super) fn operations() -> Vec<(Method, String, String, bool)> {
    let document = serde_json::to_value(crate::openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let path = path
                .replace("{vmId}", "00000000000000")
                .replace("{imageId}", "01GV2ZFBT345TRTRDK6VHBECCZ")
                .replace("{webhookId}", "01GV2ZFBT345TRTRDK6VHBEHHK")
                .replace("{eventId}", "01GV2ZFBT345TRTRDK6VHBEVEN")
                .replace("{buildId}", "7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d");
            assert!(!path.contains('{'), "{path}");
            let method = method.to_ascii_uppercase().parse().unwrap();
            let secured = operation["security"].as_array().is_some_and(|list| !list.is_empty());
            operations.push((method, path, operation["operationId"].as_str().unwrap().to_owned(), secured));
        }
    }
    operations
}

#[tokio::test]
async fn every_operation_of_the_contract_is_there_under_both_forms() {
    let operations = operations();
    let has = |method: Method, path: &str, id: &str| {
        operations.iter().any(|(m, p, i, _)| *m == method && p == path && i == id)
    };
    for (method, path, id) in [
        (Method::POST, "/v1/image/import", "importImage"),
        (Method::POST, "/v1/image/build/files", "buildImageFromFiles"),
        (Method::POST, "/v1/image/build/github", "buildImageFromGithub"),
        (Method::GET, "/v1/image/build/7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d", "getBuild"),
        (Method::POST, "/v1/image/build/7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d", "getBuildByPost"),
        (Method::GET, "/v1/image/build/7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d/logs", "getBuildLogs"),
        (Method::GET, "/v1/function/build/7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d/logs", "getFunctionBuildLogs"),
        (Method::POST, "/v1/vm/start", "startVM"),
        (Method::POST, "/v1/vm/00000000000000/stop", "stopVM"),
        (Method::GET, "/v1/vm/00000000000000", "getVm"),
        (Method::GET, "/v1/vm/00000000000000/logs", "getVMLogs"),
        (Method::GET, "/v1/logs", "searchLogs"),
        (Method::GET, "/v1/vms", "listVMs"),
        (Method::GET, "/vms", "listVMsUnversioned"),
        (Method::POST, "/v1/vm/cache", "cacheVM"),
        (Method::POST, "/v1/vm/cached/00000000000000/start", "startCachedVM"),
        (Method::POST, "/v1/vm/cached/00000000000000/stop", "stopCachedVM"),
        (Method::POST, "/v1/vm/cached/00000000000000/destroy", "destroyCachedVM"),
        (Method::POST, "/v1/vm/00000000000000/destroy", "destroyCachedVMShort"),
        (Method::GET, "/v1/vm/cached/00000000000000/logs", "getCachedVMLogs"),
        (Method::POST, "/v1/vm/00000000000000/suspend", "suspendVM"),
        (Method::POST, "/v1/vm/00000000000000/exec", "execVM"),
        (Method::GET, "/v1/vm/00000000000000/exec", "openExec"),
        (Method::POST, "/v1/vm/00000000000000/exec/ticket", "createExecTicket"),
        (Method::GET, "/v1/vm/00000000000000/files", "readFile"),
        (Method::PUT, "/v1/vm/00000000000000/files", "writeFile"),
        (Method::DELETE, "/v1/vm/00000000000000/files", "removeFile"),
        (Method::POST, "/v1/snippet/run", "runSnippet"),
        (Method::GET, "/v1/image/01GV2ZFBT345TRTRDK6VHBECCZ", "getImage"),
        (Method::GET, "/v1/images", "listImages"),
        (Method::GET, "/v1/vm/00000000000000/wait", "waitVm"),
        (Method::GET, "/openapi.json", "openapi"),
        (Method::GET, "/v1/builds", "listBuilds"),
        (Method::POST, "/v1/image/build/7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d/cancel", "cancelBuild"),
        (Method::POST, "/v1/registry", "putRegistry"),
        (Method::GET, "/v1/registry", "listRegistries"),
        (Method::DELETE, "/v1/registry", "deleteRegistry"),
        (Method::POST, "/v1/webhook", "createWebhook"),
        (Method::GET, "/v1/webhook", "listWebhooks"),
        (Method::GET, "/v1/webhook/01GV2ZFBT345TRTRDK6VHBEHHK", "getWebhook"),
        (Method::DELETE, "/v1/webhook/01GV2ZFBT345TRTRDK6VHBEHHK", "deleteWebhook"),
        (Method::POST, "/v1/webhook/01GV2ZFBT345TRTRDK6VHBEHHK/rotate", "rotateWebhookSecret"),
        (Method::POST, "/v1/webhook/01GV2ZFBT345TRTRDK6VHBEHHK/enable", "enableWebhook"),
        (Method::POST, "/v1/webhook/01GV2ZFBT345TRTRDK6VHBEHHK/test", "testWebhook"),
        (Method::GET, "/v1/webhook/01GV2ZFBT345TRTRDK6VHBEHHK/deliveries", "listWebhookDeliveries"),
        (
            Method::POST,
            "/v1/webhook/01GV2ZFBT345TRTRDK6VHBEHHK/deliveries/01GV2ZFBT345TRTRDK6VHBEVEN/replay",
            "replayWebhookDelivery",
        ),
    ] {
        assert!(has(method.clone(), path, id), "{method} {path} {id}");
    }
    let mut ids: Vec<_> = operations.iter().map(|(_, _, id, _)| id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), operations.len(), "operation ids are unique");
}

/// What the document names is routed; the router is made of the same list, so that it has nothing else.
#[tokio::test]
async fn every_described_operation_is_routed() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Admin).await;
    for (method, path, id, secured) in operations() {
        let answer = api.send(method, &path, Some(&key), None).await;
        assert!(!["unknown_route", "method_not_allowed"].contains(&answer.code()), "{id}: {answer:?}");
        assert_eq!(secured, !["/healthz", "/openapi.json"].contains(&path.as_str()), "{id}");
    }
}

#[tokio::test]
async fn the_document_is_served_and_whole() {
    let api = TestApp::new().await;
    let document = api.send(Method::GET, "/openapi.json", None, None).await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["components"]["schemas"]["Event"].is_object(), "the body of webhooks is described");
    assert_eq!(document, serde_json::to_value(crate::openapi()).unwrap());
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

#[tokio::test]
async fn later_operations_answer_with_their_name() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Write).await;
    let mut later = 0;
    for (method, path, id, _) in operations() {
        let answer = api.send(method, &path, Some(&key), None).await;
        if answer.status == 501 {
            let body = answer.expect_code(501, "not_implemented");
            assert!(body["detail"].as_str().unwrap().contains(&id), "{body}");
            later += 1;
        }
    }
    assert_eq!(later, 1);
}

/// What callers rely on and would miss in `new`, a sentence each.
fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let empty = serde_json::Map::new();
    let object = |value: &Value| value.as_object().cloned().unwrap_or_else(|| empty.clone());
    for (path, item) in object(&old["paths"]) {
        for (method, operation) in object(&item) {
            let now = &new["paths"][&path][&method];
            let name = format!("{} {path}", method.to_uppercase());
            if now.is_null() {
                found.push(format!("{name} is gone"));
                continue;
            }
            if now["operationId"] != operation["operationId"] {
                found.push(format!("{name} has another operation id"));
            }
            let known = |list: &Value, parameter: &Value| {
                list.as_array().into_iter().flatten().any(|one| one["name"] == parameter["name"])
            };
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if !known(&now["parameters"], parameter) {
                    found.push(format!("{name} takes no {} any more", parameter["name"]));
                }
            }
            for parameter in now["parameters"].as_array().into_iter().flatten() {
                if parameter["required"] == true && !known(&operation["parameters"], parameter) {
                    found.push(format!("{name} wants a {}", parameter["name"]));
                }
            }
            for (status, _) in object(&operation["responses"]) {
                if now["responses"][&status].is_null() {
                    found.push(format!("{name} does not answer {status} any more"));
                }
            }
        }
    }
    for (name, schema) in object(&old["components"]["schemas"]) {
        let now = &new["components"]["schemas"][&name];
        for (field, shape) in object(&schema["properties"]) {
            match &now["properties"][&field] {
                Value::Null => found.push(format!("{name} has no {field} any more")),
                other if other["type"] != shape["type"] || other["$ref"] != shape["$ref"] => {
                    found.push(format!("{name}.{field} has another type"));
                }
                _ => {}
            }
        }
        for value in schema["enum"].as_array().into_iter().flatten() {
            if !now["enum"].as_array().into_iter().flatten().any(|other| other == value) {
                found.push(format!("{name} is never {value} any more"));
            }
        }
        for field in now["required"].as_array().into_iter().flatten() {
            if !schema["required"].as_array().into_iter().flatten().any(|other| other == field) {
                found.push(format!("{name} wants {field}"));
            }
        }
    }
    found
}

/// The committed document is the one that is served. `UPDATE_DOCS=1` writes it anew, but nothing that callers would
/// miss goes without `BREAKING=1`.
#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let document = serde_json::to_value(crate::openapi()).unwrap();
    let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let broken = serde_json::from_str(&written).map_or(Vec::new(), |old| breaks(&old, &document));
    let is_declared = std::env::var_os("BREAKING").is_some();
    assert!(broken.is_empty() || is_declared, "callers would miss (BREAKING=1 declares it):\n{}", broken.join("\n"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    assert!(written == text, "run the test with UPDATE_DOCS=1 and commit docs/openapi.json");
}

#[test]
fn what_callers_would_miss_is_found() {
    let document = serde_json::to_value(crate::openapi()).unwrap();
    assert_eq!(breaks(&document, &document), [""; 0]);
    let without = |change: &dyn Fn(&mut Value)| {
        let mut new = document.clone();
        change(&mut new);
        breaks(&document, &new)
    };
    let gone = |pointer: &'static str, name: &'static str| {
        move |new: &mut Value| {
            new.pointer_mut(pointer).and_then(Value::as_object_mut).expect(pointer).remove(name).expect(name);
        }
    };
    assert_eq!(without(&gone("/paths/~1v1~1vms", "get")), ["GET /v1/vms is gone"]);
    assert_eq!(without(&gone("/components/schemas/Vm/properties", "hostname")), ["Vm has no hostname any more"]);
    assert_eq!(
        without(&gone("/paths/~1v1~1vm~1start/post/responses", "201")),
        ["POST /v1/vm/start does not answer 201 any more"]
    );
    let states = |new: &mut Value| {
        new["components"]["schemas"]["VmState"]["enum"].as_array_mut().unwrap().retain(|state| state != "stopped");
        new["components"]["schemas"]["StartVm"]["required"].as_array_mut().unwrap().push("cpu".into());
        new["paths"]["/v1/vms"]["get"]["parameters"][0]["name"] = "image".into();
        new["paths"]["/v1/vms"]["get"]["parameters"][0]["required"] = true.into();
    };
    let expected = [
        "GET /v1/vms takes no \"imageId\" any more",
        "GET /v1/vms wants a \"image\"",
        "StartVm wants \"cpu\"",
        "VmState is never \"stopped\" any more",
    ];
    assert_eq!(without(&states), expected);
    // What is added breaks nobody.
    let added = |new: &mut Value| {
        new["paths"]["/v1/more"] = new["paths"]["/v1/vms"].clone();
        new["components"]["schemas"]["Vm"]["properties"]["more"] = serde_json::json!({"type": "string"});
    };
    assert_eq!(without(&added), [""; 0]);
}

/// Whether a reader is shown a value of a schema: its own example, or one of each thing in it.
fn shows(document: &Value, schema: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        return document.pointer(name.trim_start_matches('#')).is_some_and(|schema| shows(document, schema));
    }
    let parts = |of: &Value| of.as_object().is_some_and(|of| of.values().all(|part| shows(document, part)));
    let items = |of: &Value| of.is_object() && shows(document, of);
    !schema["example"].is_null() || parts(&schema["properties"]) || items(&schema["items"])
}

/// What a reader or a generator of clients needs is there, everywhere.
#[test]
fn the_document_says_what_each_thing_is() {
    let document = serde_json::to_value(crate::openapi()).unwrap();
    let mut missing = Vec::new();
    let tags: Vec<_> = document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].clone()).collect();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{} {path}", method.to_uppercase());
            let mut want = |is_there: bool, what: &str| {
                if !is_there {
                    missing.push(format!("{name}: {what}"));
                }
            };
            let id = operation["operationId"].as_str().unwrap_or_default();
            want(
                id.starts_with(|c: char| c.is_ascii_lowercase()) && id.bytes().all(|b| b.is_ascii_alphanumeric()),
                "operationId",
            );
            want(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "summary");
            want(
                operation["tags"]
                    .as_array()
                    .is_some_and(|own| !own.is_empty() && own.iter().all(|tag| tags.contains(tag))),
                "a tag of the list",
            );
            let responses = operation["responses"].as_object().unwrap();
            for body in responses.values().chain(operation.get("requestBody")) {
                let json = &body["content"]["application/json"]["schema"];
                want(json.is_null() || path == "/openapi.json" || shows(&document, json), "an example of its JSON");
            }
            let is_answer = |status: &String| status.starts_with('2') || ["101", "501"].contains(&&status[..]);
            want(responses.keys().any(is_answer), "what it answers");
            let is_open = operation["security"].as_array().is_none_or(Vec::is_empty);
            want(is_open || responses.contains_key("default"), "failures");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let is_described = parameter["in"] == "path" || parameter["description"].is_string();
                want(is_described, &format!("a description of {}", parameter["name"]));
                want(parameter["schema"].is_object(), &format!("a schema of {}", parameter["name"]));
            }
        }
    }
    let codes: Vec<Value> = ErrorCode::ALL.iter().map(|code| code.as_str().into()).collect();
    assert_eq!(document["components"]["schemas"]["ErrorCode"]["enum"], Value::from(codes));
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if !schema["description"].is_string() {
            missing.push(format!("{name}: a description"));
        }
        for (field, shape) in schema["properties"].as_object().into_iter().flatten() {
            if !shape["description"].is_string() && !shape["$ref"].is_string() && !shape["oneOf"].is_array() {
                missing.push(format!("{name}.{field}: a description"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
