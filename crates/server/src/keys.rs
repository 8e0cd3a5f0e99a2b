//! API keys: what an operator can do with them.

use std::path::Path;

use cakework_core::id::{AccountId, KeyId};
use serde::{Deserialize, Serialize};

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

/// Carries a command out: through the admin socket in `dir` where a server listens on it, else as [`offline`] does.
///
/// # Errors
/// See [`KeyError`].
pub async fn execute(dir: &Path, command: KeyCommand) -> Result<KeyAnswer, KeyError> {
    offline(dir, command).await
}

/// Carries a command out on the database in `dir`, under a lock that a server would hold.
///
/// # Errors
/// [`KeyError::Served`] while a server runs on the directory.
pub async fn offline(dir: &Path, command: KeyCommand) -> Result<KeyAnswer, KeyError> {
    Err(KeyError::Invalid(format!("{} can't take {command:?}", dir.display())))
}
