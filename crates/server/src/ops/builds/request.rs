//! What a build's request may say: every field's range and form, checked before anything is recorded.

use std::collections::BTreeMap;

use cakework_api::build::{BuildImageFromFiles, BuildImageFromGithub};
use cakework_api::problem::ErrorCode;
use cakework_api::secret::{SecretMap, SecretText};
use cakework_core::limit;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::caller::Caller;
use crate::error::ApiError;
use crate::ops::validate;

/// Bytes of a build's `target`.
const TARGET_MAX_BYTES: usize = 128;
/// Bytes of the name of a build argument or a secret.
const NAME_MAX_BYTES: usize = 256;

/// What both kinds of builds are asked for with, checked.
pub(crate) struct Asked {
    pub(crate) dockerfile: String,
    pub(crate) dockerignore: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) no_cache: bool,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tenant: Option<String>,
    pub(crate) hidden: Hidden,
}

/// What of a build may be secret: it rests sealed.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Hidden {
    pub(crate) build_args: BTreeMap<String, String>,
    pub(crate) secrets: BTreeMap<String, String>,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.build_args.values_mut().chain(self.secrets.values_mut()).for_each(|value| value.zeroize());
    }
}

/// A repository, checked.
pub(crate) struct Repository {
    pub(crate) repository: String,
    pub(crate) reference: String,
    pub(crate) path: Option<String>,
    pub(crate) token: Option<Zeroizing<String>>,
}

/// The common part of a build from files.
pub(crate) fn of_files(caller: &Caller, request: BuildImageFromFiles) -> Result<Asked, ApiError> {
    let BuildImageFromFiles {
        dockerfile,
        dockerignore,
        files: _,
        build_args,
        target,
        metadata,
        tenant,
        no_cache,
        secrets,
    } = request;
    let hidden = hidden(build_args, secrets)?;
    asked(caller, dockerfile, dockerignore, target, no_cache, metadata, tenant, hidden)
}

/// Both parts of a build from a repository.
pub(crate) fn of_github(caller: &Caller, request: BuildImageFromGithub) -> Result<(Asked, Repository), ApiError> {
    let BuildImageFromGithub {
        dockerfile,
        dockerignore,
        token,
        repository,
        branch,
        path,
        build_args,
        target,
        metadata,
        tenant,
        no_cache,
        secrets,
    } = request;
    let hidden = hidden(build_args, secrets)?;
    let asked = asked(caller, dockerfile, dockerignore, target, no_cache, metadata, tenant, hidden)?;
    let path = path.as_deref().and_then(|path| folder(path).transpose()).transpose()?;
    let (repository, reference) = (repository_name(repository)?, branch_name(branch)?);
    Ok((asked, Repository { repository, reference, path, token: token_text(token)? }))
}

#[expect(clippy::too_many_arguments, reason = "they are the fields that two requests share")]
fn asked(
    caller: &Caller,
    dockerfile: String,
    dockerignore: Option<String>,
    target: Option<String>,
    no_cache: Option<bool>,
    metadata: Option<BTreeMap<String, String>>,
    tenant: Option<String>,
    hidden: Hidden,
) -> Result<Asked, ApiError> {
    for (field, text) in [("dockerfile", Some(&dockerfile)), ("dockerignore", dockerignore.as_ref())] {
        if text.is_some_and(|text| text.len() > limit::DOCKERFILE_MAX_BYTES) {
            let detail = format!("`{field}` may have at most {} bytes.", limit::DOCKERFILE_MAX_BYTES);
            return Err(ApiError::field(ErrorCode::TooLong, field, detail));
        }
    }
    if dockerfile.trim().is_empty() {
        return Err(ApiError::field(ErrorCode::InvalidValue, "dockerfile", "The Dockerfile is empty."));
    }
    let target = target.filter(|target| !target.is_empty());
    if let Some(target) = &target {
        validate::text("target", target, TARGET_MAX_BYTES)?;
    }
    let metadata = validate::metadata(metadata.unwrap_or_default())?;
    let tenant = caller.tenant_of(tenant.map(validate::tenant).transpose()?)?;
    Ok(Asked { dockerfile, dockerignore, target, no_cache: no_cache.unwrap_or(false), metadata, tenant, hidden })
}

fn hidden(build_args: Option<SecretMap>, secrets: Option<SecretMap>) -> Result<Hidden, ApiError> {
    let (build_args, secrets) = (build_args.unwrap_or_default(), secrets.unwrap_or_default());
    let too_long = |field: String, detail: String| Err(ApiError::field(ErrorCode::TooLong, field, detail));
    let total: usize = build_args.iter().map(|(name, value)| name.len() + value.len()).sum();
    if build_args.len() > limit::BUILD_ARGS_MAX || total > limit::BUILD_ARGS_TOTAL_MAX_BYTES {
        let (count, bytes) = (limit::BUILD_ARGS_MAX, limit::BUILD_ARGS_TOTAL_MAX_BYTES);
        return too_long("buildArgs".to_owned(), format!("A build has at most {count} arguments and {bytes} bytes."));
    }
    for (name, value) in build_args.iter() {
        let is_name = !name.starts_with(|first: char| first.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name.is_empty() || name.len() > NAME_MAX_BYTES || !is_name || value.contains('\0') {
            let detail = "An argument's name is of A-Z, a-z, 0-9 and _, and its value holds no NUL.";
            let field = format!("buildArgs.{}", validate::shown(name));
            return Err(ApiError::field(ErrorCode::InvalidValue, field, detail));
        }
    }
    if secrets.len() > limit::BUILD_SECRETS_MAX {
        return too_long("secrets".to_owned(), format!("A build has at most {} secrets.", limit::BUILD_SECRETS_MAX));
    }
    for (name, value) in secrets.iter() {
        let field = || format!("secrets.{}", validate::shown(name));
        if value.len() > limit::BUILD_SECRET_MAX_BYTES {
            return too_long(field(), format!("A secret has at most {} bytes.", limit::BUILD_SECRET_MAX_BYTES));
        }
        let is_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.bytes().all(is_char) || name.starts_with('.') {
            let detail = "A secret's name is of A-Z, a-z, 0-9, _ - and ., and begins with no dot.";
            return Err(ApiError::field(ErrorCode::InvalidValue, field(), detail));
        }
    }
    let owned = |map: &SecretMap| map.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(Hidden { build_args: owned(&build_args), secrets: owned(&secrets) })
}

fn repository_name(text: String) -> Result<String, ApiError> {
    let is_part = |part: &str| {
        let is_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        !part.is_empty() && part.bytes().all(is_char) && !part.starts_with(['.', '-']) && part.len() <= 100
    };
    let parts: Vec<_> = text.split('/').collect();
    let is_name = parts.len() == 2 && parts.iter().all(|part| is_part(part));
    if is_name && !text.ends_with(".git") {
        return Ok(text);
    }
    let detail = "`repository` must be `org/repo`.";
    Err(ApiError::field(ErrorCode::InvalidValue, "repository", detail))
}

/// What git takes for a name of a branch or a tag (`git check-ref-format`), or a commit.
fn branch_name(text: String) -> Result<String, ApiError> {
    let is_char = |char: char| !char.is_control() && !" ~^:?*[\\".contains(char);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let is_name = text.len() <= limit::SOURCE_NAME_MAX_BYTES
        && text.chars().all(is_char)
        && text.split('/').all(is_part)
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains("..")
        && !text.contains("@{")
        && text != "@";
    if is_name {
        return Ok(text);
    }
    let detail = "`branch` is not the name of a branch, a tag or a commit.";
    Err(ApiError::field(ErrorCode::InvalidValue, "branch", detail))
}

/// A folder in the repository, with one spelling; `None` for its root.
fn folder(text: &str) -> Result<Option<String>, ApiError> {
    if matches!(text, "" | "." | "./" | "/") {
        return Ok(None);
    }
    let path = text.strip_prefix("./").unwrap_or(text);
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    if path.len() <= limit::SOURCE_NAME_MAX_BYTES && path.split('/').all(is_part) {
        return Ok(Some(path.to_owned()));
    }
    let detail = "`path` must be a folder of the repository, such as `services/app`.";
    Err(ApiError::field(ErrorCode::InvalidValue, "path", detail))
}

fn token_text(token: Option<SecretText>) -> Result<Option<Zeroizing<String>>, ApiError> {
    let Some(token) = token.filter(|token| !token.as_str().is_empty()) else { return Ok(None) };
    let text = token.as_str();
    if text.len() > limit::SOURCE_TOKEN_MAX_BYTES {
        let detail = format!("`token` may have at most {} bytes.", limit::SOURCE_TOKEN_MAX_BYTES);
        return Err(ApiError::field(ErrorCode::TooLong, "token", detail));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let detail = "`token` holds a blank or a character beyond ASCII.";
        return Err(ApiError::field(ErrorCode::InvalidValue, "token", detail));
    }
    Ok(Some(Zeroizing::new(text.to_owned())))
}
