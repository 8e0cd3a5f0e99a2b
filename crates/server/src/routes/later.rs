//! Operations of the contract that this build does not have: each answers 501 with its name, to callers who might
//! use it.

use cakework_api::problem::ErrorCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::Writer;
use super::openapi::Failures;
use crate::app::Shared;
use crate::error::ApiError;

fn later(operation: &str) -> ApiError {
    ApiError::new(ErrorCode::NotImplemented, format!("{operation} is not implemented in this version."))
}

/// `function: method "path" = operation, by whom, tag`
macro_rules! later {
    ($($name:ident: $method:tt $path:tt = $operation:tt, $caller:ident, $tag:tt;)*) => {
        $(
            #[doc = concat!("`", $operation, "` is not implemented in this version.")]
            #[utoipa::path($method, path = $path, operation_id = $operation, tag = $tag, security(("apiKey" = [])),
                summary = concat!("`", $operation, "` is not implemented in this version."),
                responses((status = 501, description = "This version does not have it."), Failures))]
            async fn $name(_: $caller) -> ApiError {
                later($operation)
            }
        )*

        pub(super) fn routes() -> OpenApiRouter<Shared> {
            OpenApiRouter::new()$(.routes(routes!($name)))*
        }
    };
}

later! {
    snippet: post "/v1/snippet/run" = "runSnippet", Writer, "snippets";
}
