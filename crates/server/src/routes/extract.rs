//! Extractors: who asks, which object, with which body and parameters. What is wrong is said with its field.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Path, Query, Request};
use cakework_api::problem::ErrorCode;
use cakework_core::id::{BuildId, ImageId, VmId};
use cakework_core::limit;
use futures_util::TryStreamExt as _;
use http::header;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::app::Shared;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::keys::Scope;
use crate::ops;
use crate::ops::once::{Keyed, Keying};

/// Longest time that a body takes to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a body that are read at most to refuse it in words rather than by a broken connection.
const DISCARDED_MAX_BYTES: usize = 256 * 1024 * 1024;

/// A caller who may look.
pub(crate) struct Reader(pub(crate) Caller);
/// A caller who may make and end things.
pub(crate) struct Writer(pub(crate) Caller);

async fn caller(parts: &Parts, app: &Shared, needed: Scope) -> Result<Caller, ApiError> {
    let key = parts.headers.get("x-api-key").map(|value| value.to_str().unwrap_or_default());
    Caller::authenticate(app, key, needed).await
}

impl FromRequestParts<Shared> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        Ok(Self(caller(parts, app, Scope::Read).await?))
    }
}

impl FromRequestParts<Shared> for Writer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        Ok(Self(caller(parts, app, Scope::Write).await?))
    }
}

/// The VM that the path names. What has not the form of an id names none.
pub(crate) struct OfVm(pub(crate) VmId);
/// The image that the path names.
pub(crate) struct OfImage(pub(crate) ImageId);
/// The build that the path names.
pub(crate) struct OfBuild(pub(crate) BuildId);

/// The id that a path of one parameter names.
pub(super) async fn id<T: std::str::FromStr>(parts: &mut Parts, unknown: fn(&str) -> ApiError) -> Result<T, ApiError> {
    let text = Path::<String>::from_request_parts(parts, &()).await.map(|path| path.0).unwrap_or_default();
    let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
    text.parse().map_err(|_| unknown(&shown))
}

impl FromRequestParts<Shared> for OfVm {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        id(parts, |id| ops::vms::unknown(id)).await.map(Self)
    }
}

impl FromRequestParts<Shared> for OfImage {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        id(parts, |id| ops::images::unknown(id)).await.map(Self)
    }
}

impl FromRequestParts<Shared> for OfBuild {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        id(parts, |id| ops::builds::unknown(id)).await.map(Self)
    }
}

/// The parameters of the query string, each at most once.
pub(crate) struct Params(Vec<(String, String)>);

impl FromRequestParts<Shared> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, &()).await;
        let Query(pairs) =
            query.map_err(|_| ApiError::new(ErrorCode::InvalidValue, "The query string can't be read."))?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if pairs[..at].iter().any(|(other, _)| other == name) {
                let name: String = name.chars().take(64).collect();
                let detail = format!("The parameter `{name}` is there more than once.");
                return Err(ApiError::field(ErrorCode::InvalidValue, name, detail));
            }
        }
        Ok(Self(pairs))
    }
}

impl Params {
    /// Takes a parameter out. An empty one counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(at).1).filter(|value| !value.is_empty())
    }

    /// Takes out all parameters `<prefix><key>`.
    pub(crate) fn take_prefixed(&mut self, prefix: &str) -> Vec<(String, String)> {
        let (with, without): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.0 = without;
        with.into_iter().map(|(name, value)| (name[prefix.len()..].to_owned(), value)).collect()
    }

    /// Takes out a whole number in its range.
    pub(crate) fn take_number(&mut self, name: &str, default: u64, least: u64, most: u64) -> Result<u64, ApiError> {
        let Some(text) = self.take(name) else { return Ok(default) };
        text.parse().ok().filter(|value| (least..=most).contains(value)).ok_or_else(|| {
            let detail = format!("`{name}` must be a whole number from {least} to {most}.");
            ApiError::field(ErrorCode::OutOfRange, name, detail)
        })
    }

    /// Refuses what was not taken.
    pub(crate) fn done(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                let detail = format!("This operation has no parameter `{name}`.");
                Err(ApiError::field(ErrorCode::UnknownField, name, detail))
            }
        }
    }
}

/// A JSON body, whatever its content type says.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, ApiError> {
        parse(&read_in_time(request).await?).map(Self)
    }
}

/// A JSON body of a request that makes something, and the key by which it is known if it is sent again.
pub(crate) struct KeyedBody<T>(pub(crate) Option<Keyed>, pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for KeyedBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, ApiError> {
        let keying = keying(&request)?;
        let body = read_in_time(request).await?;
        let keyed = keying.map(|mut keying| {
            keying.update(&body);
            keying.end()
        });
        Ok(Self(keyed, parse(&body)?))
    }
}

/// The key of a request, with the operation that it is for.
pub(super) fn keying(request: &Request) -> Result<Option<Keying>, ApiError> {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    Keying::begin(request.headers(), route)
}

async fn read_in_time(request: Request) -> Result<Vec<u8>, ApiError> {
    let read = tokio::time::timeout(BODY_TIMEOUT, read(request)).await;
    let late = |_| ApiError::new(ErrorCode::BodyTimeout, "The body did not arrive within 30 s.");
    read.map_err(late)?
}

async fn read(request: Request) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    receive(request, limit::BODY_MAX_BYTES, |chunk| {
        body.extend_from_slice(&chunk);
        Ok(())
    })
    .await?;
    Ok(body)
}

/// Passes a body on, piece by piece. One of more than `max_bytes` is refused, and what follows is read and dropped
/// within [`DISCARDED_MAX_BYTES`]: many clients don't look for an answer before they have sent all of their body.
pub(super) async fn receive(
    request: Request,
    max_bytes: usize,
    mut take: impl FnMut(Bytes) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let headers = request.headers();
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let mut over = declared.is_some_and(|bytes| bytes > max_bytes as u64);
    // Who asks before it sends hears the refusal in place of `100 Continue`.
    let asks = headers.contains_key(header::EXPECT);
    let mut chunks = request.into_body().into_data_stream();
    let mut size_bytes = 0;
    loop {
        if over && (asks || size_bytes > DISCARDED_MAX_BYTES) {
            break;
        }
        match chunks.try_next().await {
            Ok(None) => break,
            Ok(Some(chunk)) => {
                size_bytes += chunk.len();
                over |= size_bytes > max_bytes;
                if !over {
                    take(chunk)?;
                }
            }
            Err(_) if over => break,
            Err(_) => return Err(ApiError::new(ErrorCode::InvalidJson, "The body broke off.")),
        }
    }
    if over {
        let detail = format!("A body may have at most {max_bytes} bytes.");
        return Err(ApiError::new(ErrorCode::BodyTooLarge, detail));
    }
    Ok(())
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        explain(&path, error.inner())
    })?;
    deserializer.end().map_err(|error| explain(".", &error))?;
    Ok(value)
}

/// Finds the code and the field of what the JSON reader says.
pub(super) fn explain(path: &str, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    if !error.is_data() {
        return ApiError::new(ErrorCode::InvalidJson, format!("The body is not JSON: {text}."));
    }
    let code = match text.split_once(' ') {
        Some(("unknown", _)) => ErrorCode::UnknownField,
        Some(("missing", _)) => ErrorCode::MissingField,
        Some(("invalid", _)) => ErrorCode::WrongType,
        _ => ErrorCode::InvalidValue,
    };
    // The reader's path ends above a field that is missing; its words name it.
    let named = text.split('`').nth(1).filter(|_| code == ErrorCode::MissingField);
    let field = match (path, named) {
        (".", None) => None,
        (".", Some(named)) => Some(named.to_owned()),
        (path, None) => Some(path.to_owned()),
        (path, Some(named)) => Some(format!("{path}.{named}")),
    };
    let field = field.map(|field| field.chars().take(128).flat_map(char::escape_default).collect());
    let text: String = text.chars().take(400).collect();
    ApiError { field, ..ApiError::new(code, format!("The body can't be read: {text}.")) }
}
