//! The part of the host protocol that is about builds.
//!
//! | verb | body | answer |
//! |---|---|---|
//! | `PUT /v1/builds/{buildId}/context?digest=sha256:<hex>` | a tar stream | [`ContextKept`] |
//! | `PUT /v1/builds/{buildId}` | [`PutBuild`] | [`PutBuildAnswer`] |
//! | `DELETE /v1/builds/{buildId}?generation=N` | | [`Accepted`](crate::host::Accepted) |
//! | `POST /v1/builds/{buildId}/logs` | [`LogRequest`](crate::host::LogRequest) | [`LogPage`](crate::host::LogPage) |
//!
//! A build's context comes before the build and is named by its digest. Verbs are idempotent on
//! `(buildId, generation)`. A host that comes back without a build that it had admitted reports it as failed with
//! [`BuildErrorCode::HostLost`]. Secrets travel in [`PutBuild`] alone, and a host keeps them in memory only.

use std::collections::BTreeMap;

use cakework_core::admission::{Amounts, Shortage};
use cakework_core::build::BuildErrorCode;
use cakework_core::id::{BuildId, Generation};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::host::Credential;

/// A context is on the host's disk and is what its digest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextKept {
    /// Bytes of the tar stream.
    pub size_bytes: u64,
}

/// Wants an image to be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutBuild {
    /// The placement.
    pub generation: Generation,
    /// Whose cache is used and filled: opaque, `[A-Za-z0-9]{1,64}`. Nothing of one scope is seen in another.
    pub scope: String,
    /// The Dockerfile's text.
    pub dockerfile: String,
    /// What of the context is left out, in place of the context's own `.dockerignore`.
    pub dockerignore: Option<String>,
    /// Where the files come from.
    pub source: BuildSource,
    /// Values of ARGs.
    pub build_args: BTreeMap<String, String>,
    /// The stage to build; the last one where absent.
    pub target: Option<String>,
    /// Nothing is taken from the cache; what is built is put there.
    pub no_cache: bool,
    /// What `RUN --mount=type=secret` finds.
    pub secrets: Secrets,
    /// Own images that the Dockerfile names as `cakework/<imageId>`: image id → manifest digest.
    pub own_images: BTreeMap<String, String>,
    /// Credentials of registries that the Dockerfile names: host → credential.
    pub registries: BTreeMap<String, Credential>,
    /// Time left for the build, in milliseconds. The host enforces it alone.
    pub remaining_ms: u64,
}

/// Secret values by name. Never printed, wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secrets(Vec<(String, String)>);

impl Secrets {
    /// Secrets of these names and values.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// Where a build's files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", rename_all_fields = "camelCase", tag = "kind")]
pub enum BuildSource {
    /// A tar stream that was put before.
    Context {
        /// Its digest, `sha256:<64 hex>`.
        digest: String,
    },
    /// A repository on the host's configured forge, fetched by the host.
    Git {
        /// `org/repo`.
        repository: String,
        /// A branch, a tag or a commit; the default branch where absent.
        reference: Option<String>,
        /// The folder of the repository that is the context; its root where absent.
        path: Option<String>,
        /// For a private repository.
        token: Option<Token>,
    },
}

/// A repository's token. Never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The host's answer to [`PutBuild`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum PutBuildAnswer {
    /// Its share of the host is reserved and it is on the way.
    Admitted,
    /// This placement was admitted before; a report says where it is.
    Already,
    /// The host has seen a later placement of this build, or a cancellation of this one.
    StaleGeneration {
        /// The highest generation seen.
        highest: Generation,
    },
    /// It does not fit now.
    NoCapacity {
        /// What is missing.
        shortage: Shortage,
        /// What could still be promised.
        free: Amounts,
    },
    /// The context was not put, or is gone: put it again.
    NoContext,
    /// The host takes no new work.
    Draining,
    /// The host can't build.
    Unsupported {
        /// A sentence with the fix.
        reason: String,
    },
}

/// What a build does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildPhase {
    /// Its files arrive.
    Fetching,
    /// Its base images arrive.
    Pulling,
    /// Its steps are executed.
    Building,
    /// Its image is put together.
    Exporting,
}

/// Where a build is on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", rename_all_fields = "camelCase", tag = "state")]
pub enum BuildObservation {
    /// It goes on.
    Running {
        /// What it does.
        phase: BuildPhase,
        /// Steps that are done.
        step: u32,
        /// Steps in all; 0 where they are not known yet.
        steps: u32,
    },
    /// Its image is in the host's store.
    Succeeded {
        /// Manifest digest, `sha256:<64 hex>`.
        digest: String,
        /// Bytes of all its layers.
        size_bytes: u64,
    },
    /// It ended without an image.
    Failed {
        /// Why.
        problem: BuildProblem,
    },
}

/// Why a build failed. It holds no path of the host and no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildProblem {
    /// The word that programs branch on.
    pub code: BuildErrorCode,
    /// A sentence.
    pub message: String,
    /// The Dockerfile's instruction, as it is written there, cut to a readable length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// The instruction's first line in the Dockerfile, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

impl BuildProblem {
    /// A problem that no instruction is to blame for.
    pub fn new(code: BuildErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), instruction: None, line: None }
    }
}

/// One build, as its host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildReport {
    /// The build.
    pub build_id: BuildId,
    /// The placement.
    pub generation: Generation,
    /// Where it is.
    #[serde(flatten)]
    pub observation: BuildObservation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_never_printed() {
        let put = PutBuild {
            generation: Generation::FIRST,
            scope: "a".into(),
            dockerfile: String::new(),
            dockerignore: None,
            source: BuildSource::Git {
                repository: "org/repo".into(),
                reference: None,
                path: None,
                token: Some(Token("geheim".into())),
            },
            build_args: BTreeMap::new(),
            target: None,
            no_cache: false,
            secrets: Secrets::new([("npm".into(), "geheim".into())]),
            own_images: BTreeMap::new(),
            registries: BTreeMap::new(),
            remaining_ms: 1,
        };
        assert!(!format!("{put:?}").contains("geheim"));
        let json = serde_json::to_string(&put).expect("plain data");
        assert_eq!(serde_json::from_str::<PutBuild>(&json).expect("its own form"), put);
    }

    #[test]
    fn a_report_is_flat() {
        let report = BuildReport {
            build_id: "0b8e7f1c-3a53-4a5e-9c0e-2f4d7a1b6c3d".parse().expect("an id"),
            generation: Generation(1),
            observation: BuildObservation::Running { phase: BuildPhase::Building, step: 2, steps: 6 },
        };
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(
            json,
            serde_json::json!({"buildId": "0b8e7f1c-3a53-4a5e-9c0e-2f4d7a1b6c3d", "generation": 1, "state": "running",
                               "phase": "building", "step": 2, "steps": 6})
        );
        assert_eq!(serde_json::from_value::<BuildReport>(json).expect("its own form"), report);
    }
}
