//! What is for browsers: the API's page, and which other pages may call it.
//!
//! Invariant: without `cors_origins` no page of another origin reads an answer; cookies are never a credential, so that
//! nothing can be done in a visitor's name.

use std::time::Duration;

use axum::Router;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::app::Shared;

/// The page shows the document of this server with its own scripts, and sends nothing elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// How long a browser need not ask again what it may send.
const PREFLIGHT_AGE: Duration = Duration::from_secs(10 * 60);

/// The page of the API at `/docs/api`.
pub(super) fn page() -> Router<Shared> {
    let config = Config::from("/openapi.json")
        .try_it_out_enabled(true)
        .persist_authorization(false)
        .display_operation_id(true)
        .doc_expansion("list")
        .validator_url("none");
    let header = |name, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    Router::from(SwaggerUi::new("/docs/api").config(config))
        .layer(header(CONTENT_SECURITY_POLICY, POLICY))
        .layer(header(REFERRER_POLICY, "no-referrer"))
        .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
}

/// What pages of these origins may do (the Fetch standard's CORS protocol); nothing without any.
pub(super) fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::from(Any)
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let name = HeaderName::from_static;
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers([CONTENT_TYPE, name("x-api-key"), name("idempotency-key"), name("last-event-id")])
            .expose_headers([
                RETRY_AFTER,
                name("x-request-id"),
                name("idempotency-replayed"),
                name("x-file-mode"),
                name("x-file-uid"),
                name("x-file-gid"),
            ])
            .max_age(PREFLIGHT_AGE),
    )
}
