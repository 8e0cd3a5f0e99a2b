//! Builds.

use std::collections::BTreeMap;

use cakework_core::build as record;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::secret::{SecretMap, SecretText};

/// Builds an image from files.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "dockerfile": "FROM docker.io/library/python:3.12-slim\nCOPY . /app\nCMD [\"python3\", \"/app/handlers.py\"]",
    "files": [{"dir": ".", "name": "handlers.py", "content": "print('hello')\n"}],
    "tenant": "ann", "metadata": {"handler": "order_created"},
}))]
pub struct BuildImageFromFiles {
    /// The Dockerfile's text. It is not among the files that the image sees.
    #[schema(max_length = 1048576)]
    pub dockerfile: String,
    /// What of the files is left out, in place of a `.dockerignore` among them.
    #[serde(default)]
    #[schema(max_length = 1048576)]
    pub dockerignore: Option<String>,
    /// The files. They are read one by one as [`BuildFile`], since all of them together may be large.
    #[schema(value_type = Vec<BuildFile>, max_items = 10000)]
    pub files: IgnoredAny,
    /// Values of the Dockerfile's ARGs.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub build_args: Option<SecretMap>,
    /// The stage to build; the last one where absent.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub target: Option<String>,
    /// The builder's own marks; `listBuilds` filters by them.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// The builder's end user whose build this is.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub tenant: Option<String>,
    /// Nothing is taken from the cache.
    #[serde(default)]
    #[schema(default = false)]
    pub no_cache: Option<bool>,
    /// What `RUN --mount=type=secret` finds, by its `id`. It is in no layer and no log.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub secrets: Option<SecretMap>,
}

/// A file of a build.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildFile {
    /// Its directory: `.` for the root, or a relative path such as `src/app`.
    #[schema(example = ".")]
    pub dir: String,
    /// Its name in the directory.
    #[schema(example = "handlers.js")]
    pub name: String,
    /// Its content, as `encoding` says.
    pub content: String,
    /// How `content` stands for bytes.
    #[serde(default)]
    pub encoding: Encoding,
    /// Its permissions, as a number (420 is 0644); 0644 where absent.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 511, default = 420)]
    pub mode: Option<i64>,
}

/// How text stands for bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The text itself.
    #[default]
    Utf8,
    /// RFC 4648, the standard alphabet.
    Base64,
}

/// Builds an image from a repository on GitHub.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "repository": "org/repo", "branch": "main", "dockerfile": "FROM docker.io/library/node:22-slim\nCOPY . /app\n",
    "path": "services/web", "token": "github's, for a private one", "buildArgs": {"NODE_ENV": "production"},
}))]
pub struct BuildImageFromGithub {
    /// The Dockerfile's text; one in the repository is not used.
    #[schema(max_length = 1048576)]
    pub dockerfile: String,
    /// What of the repository is left out, in place of its own `.dockerignore`.
    #[serde(default)]
    #[schema(max_length = 1048576)]
    pub dockerignore: Option<String>,
    /// A token that may read the repository. It is kept sealed, and erased when the repository has been fetched.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 4096)]
    pub token: Option<SecretText>,
    /// The repository.
    #[schema(example = "org/repo")]
    pub repository: String,
    /// A branch, a tag or a commit.
    #[schema(example = "main")]
    pub branch: String,
    /// The folder of the repository that is built; its root where absent.
    #[serde(default)]
    #[schema(max_length = 256)]
    pub path: Option<String>,
    /// Values of the Dockerfile's ARGs.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub build_args: Option<SecretMap>,
    /// The stage to build; the last one where absent.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub target: Option<String>,
    /// The builder's own marks; `listBuilds` filters by them.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// The builder's end user whose build this is.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub tenant: Option<String>,
    /// Nothing is taken from the cache.
    #[serde(default)]
    #[schema(default = false)]
    pub no_cache: Option<bool>,
    /// What `RUN --mount=type=secret` finds, by its `id`. It is in no layer and no log.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub secrets: Option<SecretMap>,
}

/// A build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "buildId": "7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d", "status": "created", "phase": "building",
    "progress": {"step": 2, "steps": 5}, "tenant": "ann", "metadata": {"handler": "order_created"},
    "createdAt": "2026-01-05T14:00:00Z", "updatedAt": "2026-01-05T14:00:02Z",
}))]
pub struct Build {
    /// The build.
    #[schema(example = "7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d")]
    pub build_id: String,
    /// The image, once the build has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Where it is.
    pub status: BuildStatus,
    /// What it does at the moment, while it is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<BuildPhase>,
    /// How far its steps are, once they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<BuildError>,
    /// The builder's own marks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub metadata: BTreeMap<String, String>,
    /// The builder's end user whose build this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// When it was asked for.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it last changed.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// Where a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BuildStatus {
    /// It waits for its turn, or goes on.
    Created,
    /// Its image is there.
    Succeeded,
    /// It has none: `error` says why.
    Failed,
}

impl BuildStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Created, Self::Succeeded, Self::Failed];

    /// The word in requests and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// The recorded states that this word stands for.
    pub const fn recorded(self) -> &'static [record::BuildState] {
        match self {
            Self::Created => &[record::BuildState::Queued, record::BuildState::Building],
            Self::Succeeded => &[record::BuildState::Succeeded],
            Self::Failed => &[record::BuildState::Failed],
        }
    }
}

impl From<record::BuildState> for BuildStatus {
    fn from(state: record::BuildState) -> Self {
        match state {
            record::BuildState::Queued | record::BuildState::Building => Self::Created,
            record::BuildState::Succeeded => Self::Succeeded,
            record::BuildState::Failed => Self::Failed,
        }
    }
}

impl std::str::FromStr for BuildStatus {
    type Err = record::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(record::UnknownState)
    }
}

/// What a build does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BuildPhase {
    /// It waits for its turn.
    Queued,
    /// Its files arrive.
    Fetching,
    /// Its base images arrive.
    Pulling,
    /// Its steps are executed.
    Building,
    /// Its image is put together.
    Exporting,
}

/// How far a build's steps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Steps that are done.
    pub step: u32,
    /// Steps in all.
    pub steps: u32,
}

/// Why a build failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildError {
    /// The word that programs branch on.
    #[schema(example = "command_failed")]
    pub code: String,
    /// A sentence.
    pub message: String,
    /// The Dockerfile's instruction, as it is written there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "RUN npm install")]
    pub instruction: Option<String>,
    /// The instruction's first line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// A page of builds, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildList {
    /// The builds.
    pub builds: Vec<Build>,
    /// Token of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "the next page's token")]
    pub pagination: Option<String>,
}
