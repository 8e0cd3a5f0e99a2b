//! Requests that are sent again and carried out once: the header `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! The key is put on record in the transaction that makes what the request asks for, and the answer after it. So a crash
//! between the two is answered by what was made, and a request that failed has made nothing and left no key. What is kept
//! is sealed: bodies and answers may hold secrets.

use axum::response::{IntoResponse as _, Response};
use cakework_api::problem::ErrorCode;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::caller::Caller;
use crate::clock::now_ms;
use crate::error::ApiError;
use crate::store::keyed::{Claim, KeyedRequest, RequestKey};

/// The request's header.
pub(crate) const HEADER: &str = "idempotency-key";
/// Says in an answer that it was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const KEY_MAX_BYTES: usize = 255;
/// For how long a key is remembered.
pub(crate) const KEPT_MS: u64 = 24 * 3600 * 1000;

/// A request's key and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyed {
    key: String,
    /// SHA-256 of operation and body.
    fingerprint: [u8; 32],
}

/// Takes in what a request asks for.
pub(crate) struct Keying {
    key: String,
    hash: Sha256,
}

impl Keying {
    /// Of a request to `operation`, if it has a key.
    pub(crate) fn begin(headers: &HeaderMap, operation: &str) -> Result<Option<Self>, ApiError> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let key = value.to_str().ok().filter(|key| {
            !key.is_empty() && key.len() <= KEY_MAX_BYTES && key.bytes().all(|byte| byte.is_ascii_graphic())
        });
        match (key, values.next()) {
            (Some(key), None) => {
                let hash = Sha256::new_with_prefix(operation).chain_update([0]);
                Ok(Some(Self { key: key.to_owned(), hash }))
            }
            _ => {
                let detail = format!(
                    "`Idempotency-Key` must be there once, with 1 to {KEY_MAX_BYTES} visible ASCII characters, such as a \
                     UUID."
                );
                Err(ApiError::field(ErrorCode::InvalidValue, "Idempotency-Key", detail))
            }
        }
    }

    /// The next bytes of its body.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// Its body is whole.
    pub(crate) fn end(self) -> Keyed {
        Keyed { key: self.key, fingerprint: self.hash.finalize().into() }
    }
}

/// Carries out a request that makes something, with `make`. Where one with its key made it before, answers as that was
/// answered, or, if that was cut off, with what was made: `made` of its id.
pub(crate) async fn once<T: Serialize>(
    app: &App,
    caller: &Caller,
    keyed: Option<Keyed>,
    make: impl AsyncFnOnce(Option<&Claim>) -> Result<T, ApiError>,
    made: impl AsyncFnOnce(&str) -> Result<T, ApiError>,
) -> Result<Response, ApiError> {
    let Some(Keyed { key, fingerprint }) = keyed else {
        return Ok(answer(body(&make(None).await?)));
    };
    let key = RequestKey { account: caller.account.clone(), tenant: caller.tenant.clone().unwrap_or_default(), key };
    let now_ms = now_ms();
    let since_ms = now_ms.saturating_sub(KEPT_MS);
    if let Some(before) = app.store.keyed_request(&key, since_ms).await? {
        return again(app, &key, fingerprint, before, made).await;
    }
    let request = app.sealer.seal(&request_place(&key), &fingerprint);
    let claim = Claim { key, request, now_ms, since_ms };
    let body = body(&make(Some(&claim)).await?);
    let sealed = app.sealer.seal(&answer_place(&claim.key), &body);
    // What was made stands, and is what a repeated request is answered with.
    if let Err(error) = app.store.keep_answer(&claim.key, &sealed).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the answer to a request with a key was not kept");
    }
    Ok(answer(body))
}

async fn again<T: Serialize>(
    app: &App,
    key: &RequestKey,
    fingerprint: [u8; 32],
    before: KeyedRequest,
    made: impl AsyncFnOnce(&str) -> Result<T, ApiError>,
) -> Result<Response, ApiError> {
    let open = |place: String, sealed: &[u8]| app.sealer.open_sealed(&place, sealed).map_err(ApiError::internal);
    if **open(request_place(key), &before.request)? != fingerprint {
        let detail = format!("The key made {} by a request that asked for something else.", before.object);
        return Err(ApiError::new(ErrorCode::IdempotencyConflict, detail));
    }
    let body = match before.answer {
        Some(sealed) => open(answer_place(key), &sealed)?.to_vec(),
        None => body(&made(&before.object).await?),
    };
    let mut response = answer(body);
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

fn body(made: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(made).expect("answers are plain data")
}

fn answer(body: Vec<u8>) -> Response {
    (StatusCode::CREATED, [(CONTENT_TYPE, "application/json")], body).into_response()
}

fn request_place(RequestKey { account, tenant, key }: &RequestKey) -> String {
    format!("keyed_requests.request/{account}/{key}/{tenant}")
}

fn answer_place(RequestKey { account, tenant, key }: &RequestKey) -> String {
    format!("keyed_requests.answer/{account}/{key}/{tenant}")
}
