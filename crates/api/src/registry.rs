//! Registries that an account's builds may pull from.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::secret::SecretText;

/// Keeps a registry's credential for the account's builds.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"host": "registry.example.com", "username": "ann", "password": "the registry's"}))]
pub struct PutRegistry {
    /// The registry, as `host` or `host:port`.
    #[schema(max_length = 260, example = "registry.example.com")]
    pub host: String,
    /// The user; `AWS` for ECR.
    #[schema(max_length = 256)]
    pub username: String,
    /// The password or token. It is kept sealed and never shown again.
    #[schema(value_type = String, max_length = 16384)]
    pub password: SecretText,
}

/// A registry that the account's builds may pull from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"host": "registry.example.com", "username": "ann", "updatedAt": "2026-01-05T14:00:00Z"}))]
pub struct Registry {
    /// The registry, in its one spelling.
    pub host: String,
    /// The user.
    pub username: String,
    /// When its credential was last set.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// The registries, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegistryList {
    /// The registries.
    pub registries: Vec<Registry>,
}
