//! API keys: what an operator can do with them, on the admin socket or offline. A key's secret is shown once, when it
//! is made; the store has its hash.

pub(crate) mod admin;
mod offline;
pub(crate) mod secret;

use cakework_api::time::rfc3339;
use cakework_core::id::{AccountId, KeyId};
use serde::{Deserialize, Serialize};

pub use admin::execute;
pub use offline::offline;
pub(crate) use offline::offline_on;
pub(crate) use offline::serve_lock;

use crate::clock::now_ms;
use crate::store::keys::StoredKey;
use crate::store::{Store, StoreError};

/// Bytes of a key's name.
const NAME_MAX_BYTES: usize = 128;

/// What a key may do: each scope includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look.
    Read,
    /// Make and end things.
    Write,
    /// All of the account.
    Admin,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

/// A word that names no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope is `read`, `write` or `admin`")]
pub struct UnknownScope;

/// What an operator asks for: the body of `POST /keys` on the admin socket too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "command", deny_unknown_fields)]
pub enum KeyCommand {
    /// Makes a key.
    #[serde(rename_all = "camelCase")]
    Create {
        /// What the operator calls it.
        name: String,
        /// What it may do.
        scope: Scope,
        /// Its life; `None` has no end.
        expires_in_secs: Option<u64>,
        /// Whose it is; `None` is the first account.
        account: Option<AccountId>,
    },
    /// Lists all keys, without their secrets.
    List,
    /// Ends a key.
    #[serde(rename_all = "camelCase")]
    Revoke {
        /// Which.
        key_id: KeyId,
    },
}

/// The answer to a [`KeyCommand`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyAnswer {
    /// The new key's secret: shown this once.
    pub secret: Option<String>,
    /// The keys that the command was about.
    pub keys: Vec<KeyRecord>,
}

/// A key without its secret. Times are RFC 3339, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRecord {
    /// Its public name, which is part of the secret's text.
    pub key_id: KeyId,
    /// Whose it is.
    pub account: AccountId,
    /// What the operator calls it.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// When it was made.
    pub created_at: String,
    /// When it ends by itself.
    pub expires_at: Option<String>,
    /// When it was last used, within a minute.
    pub last_used_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
}

/// Why a [`KeyCommand`] failed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A server holds the database: ask it through its admin socket.
    #[error("a server is using this data directory")]
    Served,
    /// No such key or account.
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// The command itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The directory or the database can't be used, or the admin socket broke off.
    #[error(transparent)]
    Io(#[from] anyhow::Error),
}

impl From<StoreError> for KeyError {
    fn from(error: StoreError) -> Self {
        Self::Io(error.into())
    }
}

impl From<StoredKey> for KeyRecord {
    fn from(key: StoredKey) -> Self {
        Self {
            key_id: key.id,
            account: key.account,
            name: key.name,
            scope: key.scope,
            created_at: rfc3339(key.created_ms),
            expires_at: key.expires_ms.map(rfc3339),
            last_used_at: key.last_used_ms.map(rfc3339),
            revoked_at: key.revoked_ms.map(rfc3339),
        }
    }
}

/// Carries a command out on the store.
pub(crate) async fn carry_out(store: &Store, command: KeyCommand) -> Result<KeyAnswer, KeyError> {
    match command {
        KeyCommand::Create { name, scope, expires_in_secs, account } => {
            let account = match account {
                Some(account) if store.has_account(&account).await? => account,
                Some(_) => return Err(KeyError::Unknown("account")),
                None => first_account(store).await?,
            };
            create(store, account, name, scope, expires_in_secs).await
        }
        KeyCommand::List => {
            let keys = store.keys().await?.into_iter().map(KeyRecord::from).collect();
            Ok(KeyAnswer { secret: None, keys })
        }
        KeyCommand::Revoke { key_id } => {
            store.revoke_key(&key_id, now_ms()).await?;
            let key = store.key(&key_id).await?.ok_or(KeyError::Unknown("key"))?;
            tracing::info!(key = %key_id, "key revoked");
            Ok(KeyAnswer { secret: None, keys: vec![key.into()] })
        }
    }
}

/// At the first start: makes an account and its key, and answers the key's text.
pub(crate) async fn first_key(store: &Store) -> Result<Option<String>, KeyError> {
    let id = AccountId::mint(now_ms(), &mut rand::rng());
    if !store.make_first_account(&id, "first", now_ms()).await? {
        return Ok(None);
    }
    Ok(create(store, id, "first".to_owned(), Scope::Admin, None).await?.secret)
}

async fn first_account(store: &Store) -> Result<AccountId, KeyError> {
    if let Some(account) = store.first_account().await? {
        return Ok(account);
    }
    let id = AccountId::mint(now_ms(), &mut rand::rng());
    store.make_first_account(&id, "first", now_ms()).await?;
    store.first_account().await?.ok_or(KeyError::Unknown("account"))
}

async fn create(
    store: &Store,
    account: AccountId,
    name: String,
    scope: Scope,
    expires_in_secs: Option<u64>,
) -> Result<KeyAnswer, KeyError> {
    if name.is_empty() || name.len() > NAME_MAX_BYTES || name.chars().any(char::is_control) {
        return Err(KeyError::Invalid(format!(
            "a key's name has 1 to {NAME_MAX_BYTES} bytes, none a control character"
        )));
    }
    let now_ms = now_ms();
    let id = KeyId::mint(now_ms, &mut rand::rng());
    let (text, secret_hash) = secret::make(&id);
    let key = StoredKey {
        id,
        account,
        tenant: None,
        name,
        scope,
        secret_hash,
        created_ms: now_ms,
        expires_ms: expires_in_secs.map(|secs| now_ms.saturating_add(secs.saturating_mul(1000))),
        last_used_ms: None,
        revoked_ms: None,
    };
    store.insert_key(&key).await?;
    tracing::info!(key = %key.id, scope = scope.as_str(), "key made");
    Ok(KeyAnswer { secret: Some(text), keys: vec![key.into()] })
}
