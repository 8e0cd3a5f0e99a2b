//! REST types, problem codes, OpenAPI.
