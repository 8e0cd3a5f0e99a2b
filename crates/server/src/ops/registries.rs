//! Credentials of registries that an account's builds may pull from. They are kept sealed and never shown.
//!
//! They belong to the account: a key that is bound to a tenant neither sees nor changes them.

use cakework_api::problem::ErrorCode;
use cakework_api::registry::{PutRegistry, Registry, RegistryList};
use cakework_api::time::rfc3339;
use cakework_core::limit;
use cakework_core::registry::normal_host;

use super::validate;
use crate::app::App;
use crate::caller::Caller;
use crate::clock::now_ms;
use crate::error::ApiError;
use crate::reconcile::registry_place;
use crate::store::registries::StoredRegistry;

/// Bytes of a registry's user.
const USER_MAX_BYTES: usize = 256;

/// Keeps a registry's credential, in place of the one before.
pub(crate) async fn put(app: &App, caller: &Caller, request: PutRegistry) -> Result<Registry, ApiError> {
    whole_account(caller)?;
    let host = host("host", &request.host)?;
    validate::text("username", &request.username, USER_MAX_BYTES)?;
    if request.username.contains(':') {
        let detail = "A user's name holds no `:` (RFC 7617).";
        return Err(ApiError::field(ErrorCode::InvalidValue, "username", detail));
    }
    let password = request.password.as_str();
    validate::text("password", password, limit::REGISTRY_PASSWORD_MAX_BYTES)?;
    let registry = StoredRegistry {
        password: app.sealer.seal(&registry_place(&caller.account, &host), password.as_bytes()),
        host,
        username: request.username,
        updated_ms: now_ms(),
    };
    if !app.store.put_registry(&caller.account, &registry, limit::REGISTRIES_MAX).await? {
        let detail = format!("An account keeps credentials of at most {} registries.", limit::REGISTRIES_MAX);
        return Err(ApiError::new(ErrorCode::QuotaExceeded, detail));
    }
    Ok(view(registry))
}

/// The registries that there are credentials of.
pub(crate) async fn list(app: &App, caller: &Caller) -> Result<RegistryList, ApiError> {
    whole_account(caller)?;
    let registries = app.store.registries(&caller.account).await?;
    Ok(RegistryList { registries: registries.into_iter().map(view).collect() })
}

/// Erases a registry's credential.
pub(crate) async fn delete(app: &App, caller: &Caller, name: &str) -> Result<(), ApiError> {
    whole_account(caller)?;
    let host = host("host", name)?;
    if app.store.delete_registry(&caller.account, &host).await? {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::UnknownRegistry, format!("There is no credential for {host}.")))
}

fn whole_account(caller: &Caller) -> Result<(), ApiError> {
    if caller.tenant.is_none() {
        return Ok(());
    }
    let detail = "Registries belong to the whole account; the key is bound to a tenant.";
    Err(ApiError::new(ErrorCode::Scope, detail))
}

fn host(field: &str, text: &str) -> Result<String, ApiError> {
    normal_host(text).ok_or_else(|| {
        let detail = format!("`{field}` must be a registry's `host` or `host:port`.");
        ApiError::field(ErrorCode::InvalidValue, field, detail)
    })
}

fn view(registry: StoredRegistry) -> Registry {
    Registry { host: registry.host, username: registry.username, updated_at: rfc3339(registry.updated_ms) }
}
