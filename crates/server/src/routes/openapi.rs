//! The frame of the OpenAPI document: title, security, and the answer that every failure has.

use std::collections::BTreeMap;

use cakework_api::logs::{LogEvent, Logs};
use cakework_api::problem::{ErrorCode, Problem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi as _};

/// The name of the security scheme.
pub(crate) const KEY: &str = "apiKey";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Cakework",
        description = "Images and VMs for running other people's code. Every failure is `application/problem+json`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem, ErrorCode, Logs, LogEvent)),
    tags(
        (name = "images", description = "Images from registries, and builds."),
        (name = "vms", description = "One-time VMs."),
        (name = "cached VMs", description = "VMs that start again."),
        (name = "snippets", description = "Code without an image."),
        (name = "server", description = "The server itself."),
    ),
)]
struct Base;

/// The document before any route.
pub(crate) fn base() -> OpenApi {
    let mut document = Base::openapi();
    let scheme = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Api-Key")));
    document.components.get_or_insert_default().add_security_scheme(KEY, scheme);
    document
}

/// The header of every operation that makes something.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes what the extractor of bodies reads")]
pub(crate) struct IdempotencyKey {
    /// Of the caller's choice, new for each request: what is sent again with it within 24 hours is not made again, and is
    /// answered as it was.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
}

/// The answer of every operation that fails.
pub(crate) struct Failures;

impl IntoResponses for Failures {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new()
            .description("A problem, with a stable `code`.")
            .content("application/problem+json", content)
            .build();
        BTreeMap::from([("default".to_owned(), RefOr::T(response))])
    }
}
