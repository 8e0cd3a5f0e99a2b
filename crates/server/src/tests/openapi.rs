//! The document and the router are one.

use axum::http::Method;

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
