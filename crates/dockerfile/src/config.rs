//! The part of an image's configuration that a Dockerfile changes, in Docker's words (OCI image spec `config.md`, and
//! Docker's own `Healthcheck`, `Shell` and `OnBuild`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::scope::{get, set};

/// How an image is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// `name`, `uid`, `name:group`, `uid:gid`; root where empty.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub user: String,
    /// `8080/tcp` and the like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`, in the order in which they were first set.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// What is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Directories that are volumes elsewhere; recorded.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub volumes: BTreeMap<String, Empty>,
    /// An absolute path; `/` where empty.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Marks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Such as `SIGTERM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How to ask whether it is well; recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// What runs commands that are not lists; `/bin/sh -c` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Instructions for whoever builds on this image: refused where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub on_build: Vec<String>,
    /// `NAME=value`: ARGs in force. A stage that stands on this one inherits them, so a stage's configuration is handed on
    /// as it is; an image does not have them.
    #[serde(skip)]
    pub args: Vec<String>,
}

/// The value of a set in Docker's JSON: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// How to ask whether an image's program is well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", "…"]`.
    pub test: Vec<String>,
    /// Nanoseconds; 0 is inherited.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// Failures in a row.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

impl Config {
    /// The value of a variable.
    pub fn env(&self, name: &str) -> Option<&str> {
        get(&self.env, name)
    }

    /// Sets a variable, in place of an earlier one of the same name.
    pub fn set_env(&mut self, name: &str, value: &str) {
        set(&mut self.env, name, value);
    }

    /// The names of all variables.
    pub fn env_names(&self) -> BTreeSet<&str> {
        self.env.iter().filter_map(|pair| Some(pair.split_once('=')?.0)).collect()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Go writes empty lists and maps as `null`.
fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(reader: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}
