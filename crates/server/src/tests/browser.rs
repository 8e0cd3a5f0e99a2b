//! What browsers are told.

use axum::body::Body;
use axum::http::{Method, Request};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::TestApp;
use crate::keys::Scope;
use crate::routes;

async fn ask(api: &TestApp, method: Method, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let router = routes::router(std::sync::Arc::clone(&api.app));
    let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn the_page_of_the_api_is_served_with_all_that_it_needs() {
    let api = TestApp::new().await;
    let (status, headers, _) = ask(&api, Method::GET, "/docs/api", &[]).await;
    assert_eq!((status, headers["location"].to_str().unwrap()), (303, "/docs/api/"));
    let (status, headers, page) = ask(&api, Method::GET, "/docs/api/", &[]).await;
    assert_eq!(status, 200, "{page}");
    assert!(headers["content-security-policy"].to_str().unwrap().contains("connect-src 'self'"));
    // Whatever it names is here, too.
    let names: Vec<_> = page.split(['"', '\'']).filter_map(|word| word.strip_prefix("./")).collect();
    assert!(names.len() >= 3, "{page}");
    for name in names {
        let (status, ..) = ask(&api, Method::GET, &format!("/docs/api/{name}"), &[]).await;
        assert_eq!(status, 200, "{name}");
    }
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    let (_, _, script) = ask(&api, Method::GET, "/docs/api/swagger-initializer.js", &[]).await;
    assert!(script.contains("/openapi.json"), "{script}");
    for hostile in ["/docs/api/..%2f..%2fetc%2fpasswd", "/docs/api/none.js", "/docs/api/%00"] {
        let (status, ..) = ask(&api, Method::GET, hostile, &[]).await;
        assert_eq!(status, 404, "{hostile}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_read_only_what_they_may() {
    let origin = "https://app.example.com";
    let preflight = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-api-key,content-type,idempotency-key"),
    ];
    let closed = TestApp::new().await;
    let key = closed.key(Scope::Read).await;
    let (status, headers, _) = ask(&closed, Method::OPTIONS, "/v1/vm/start", &preflight).await;
    assert_eq!((status, headers.get("access-control-allow-origin")), (405, None));
    let (status, headers, _) = ask(&closed, Method::GET, "/v1/vms", &[("origin", origin), ("x-api-key", &key)]).await;
    assert_eq!((status, headers.get("access-control-allow-origin")), (200, None));

    let open = TestApp::with(|config| config.cors_origins = vec![origin.to_owned()]).await;
    let key = open.key(Scope::Read).await;
    let (status, headers, _) = ask(&open, Method::OPTIONS, "/v1/vm/start", &preflight).await;
    assert_eq!((status, &headers["access-control-allow-origin"]), (200, &origin.parse().unwrap()));
    let allowed = headers["access-control-allow-headers"].to_str().unwrap();
    for name in ["content-type", "x-api-key", "idempotency-key", "last-event-id"] {
        assert!(allowed.split(',').any(|one| one.trim() == name), "{name} in {allowed}");
    }
    assert!(headers.get("access-control-allow-credentials").is_none());
    // Failures can be read, too: their bodies say what to do.
    let (status, headers, body) = ask(&open, Method::GET, "/v1/vms", &[("origin", origin)]).await;
    assert_eq!((status, &headers["access-control-allow-origin"]), (401, &origin.parse().unwrap()), "{body}");
    let other = [("origin", "https://evil.example.com"), ("x-api-key", &key)];
    let (_, headers, _) = ask(&open, Method::GET, "/v1/vms", &other).await;
    assert!(headers.get("access-control-allow-origin").is_none());

    let all = TestApp::with(|config| config.cors_origins = vec!["*".to_owned()]).await;
    let (_, headers, _) = ask(&all, Method::OPTIONS, "/v1/vms", &preflight).await;
    assert_eq!(headers["access-control-allow-origin"], "*");
}
