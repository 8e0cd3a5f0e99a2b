//! Who asks: authentication by key, and what the key allows.
//!
//! Authorization is a function of (account, tenant): an object of another account, or of another tenant than the one
//! a key is bound to, does not exist for the caller.

use cakework_api::problem::ErrorCode;
use cakework_core::id::AccountId;

use crate::app::App;
use crate::clock::now_ms;
use crate::error::ApiError;
use crate::keys::{Scope, secret};

/// The last use of a key is written when the one on record is older than this.
const LAST_USE_STEP_MS: u64 = 60_000;

/// An authenticated caller.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) account: AccountId,
    /// The key is bound to this tenant.
    pub(crate) tenant: Option<String>,
}

impl Caller {
    /// The caller who sent this key, if the key allows what `needed` says.
    pub(crate) async fn authenticate(app: &App, key: Option<&str>, needed: Scope) -> Result<Self, ApiError> {
        let Some(key) = key else {
            return Err(ApiError::new(ErrorCode::MissingKey, "The header X-Api-Key is missing."));
        };
        let invalid = || ApiError::new(ErrorCode::InvalidKey, "The key in X-Api-Key is not known.");
        let (id, secret) = secret::read(key).ok_or_else(invalid)?;
        let stored = app.store.key(&id).await?.ok_or_else(invalid)?;
        if !secret::matches(secret, &stored.secret_hash) {
            return Err(invalid());
        }
        let now_ms = now_ms();
        if stored.revoked_ms.is_some() {
            return Err(ApiError::new(ErrorCode::RevokedKey, format!("The key {id} was revoked.")));
        }
        if stored.expires_ms.is_some_and(|end| end <= now_ms) {
            return Err(ApiError::new(ErrorCode::ExpiredKey, format!("The key {id} has expired.")));
        }
        app.rates.count(&id, &stored.account)?;
        if stored.scope < needed {
            let (has, needed) = (stored.scope.as_str(), needed.as_str());
            return Err(ApiError::new(
                ErrorCode::Scope,
                format!("This needs a key with the scope `{needed}`; the key {id} has `{has}`."),
            ));
        }
        if stored.last_used_ms.is_none_or(|last| last + LAST_USE_STEP_MS <= now_ms)
            && let Err(error) = app.store.touch_key(&id, now_ms).await
        {
            tracing::warn!(key = %id, error = %error, "the last use of a key was not noted");
        }
        Ok(Self { account: stored.account, tenant: stored.tenant })
    }

    /// Whether an object of the caller's account exists for the caller.
    pub(crate) fn sees(&self, tenant: Option<&str>) -> bool {
        self.tenant.is_none() || self.tenant.as_deref() == tenant
    }

    /// The tenant of what a request makes or asks for: a bound key's own, whatever the request names.
    pub(crate) fn tenant_of(&self, named: Option<String>) -> Result<Option<String>, ApiError> {
        match (&self.tenant, named) {
            (None, named) => Ok(named),
            (Some(bound), None) => Ok(Some(bound.clone())),
            (Some(bound), Some(named)) if *bound == named => Ok(Some(named)),
            (Some(_), Some(_)) => {
                Err(ApiError::field(ErrorCode::InvalidTenant, "tenant", "The key is bound to another tenant."))
            }
        }
    }
}
