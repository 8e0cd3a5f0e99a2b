//! Operations of the contract that this build does not have: each answers 501 with its name, to callers who might
//! use it.

use cakework_api::problem::ErrorCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Reader, Writer};
use super::openapi::Failures;
use crate::app::Shared;
use crate::error::ApiError;

fn later(operation: &str) -> ApiError {
    ApiError::new(ErrorCode::NotImplemented, format!("{operation} is not implemented in this version."))
}

/// `function: method "path" = operation, by whom, tag`
macro_rules! later {
    ($($name:ident: $method:tt $path:tt = $operation:tt, $caller:ident, $tag:tt $(, $parameter:tt)?;)*) => {
        $(
            #[doc = concat!("`", $operation, "` is not implemented in this version.")]
            #[utoipa::path($method, path = $path, operation_id = $operation, tag = $tag, security(("apiKey" = [])),
                params($(($parameter = String, Path))?), responses(Failures))]
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
    cache: post "/v1/vm/cache" = "cacheVM", Writer, "cached VMs";
    start: post "/v1/vm/cached/{vmId}/start" = "startCachedVM", Writer, "cached VMs", "vmId";
    stop: post "/v1/vm/cached/{vmId}/stop" = "stopCachedVM", Writer, "cached VMs", "vmId";
    destroy: post "/v1/vm/cached/{vmId}/destroy" = "destroyCachedVM", Writer, "cached VMs", "vmId";
    destroy_short: post "/v1/vm/{vmId}/destroy" = "destroyCachedVMShort", Writer, "cached VMs", "vmId";
    cached_logs: get "/v1/vm/cached/{vmId}/logs" = "getCachedVMLogs", Reader, "cached VMs", "vmId";
    snippet: post "/v1/snippet/run" = "runSnippet", Writer, "snippets";
}
