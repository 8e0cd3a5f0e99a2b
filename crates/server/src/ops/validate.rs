//! What a request may say: every field's range and form, checked before anything is done.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use cakework_api::problem::ErrorCode;
use cakework_core::limit;

use crate::error::ApiError;

/// A whole number in its range.
pub(crate) fn number<T: TryFrom<i64> + Copy + Into<i64>>(
    field: &str,
    value: i64,
    range: RangeInclusive<T>,
) -> Result<T, ApiError> {
    let (least, most): (i64, i64) = ((*range.start()).into(), (*range.end()).into());
    T::try_from(value).ok().filter(|_| (least..=most).contains(&value)).ok_or_else(|| {
        ApiError::field(
            ErrorCode::OutOfRange,
            field,
            format!("`{field}` is {value}; it must be from {least} to {most}."),
        )
    })
}

/// Environment variables that Linux can carry and that no line-based format can misread.
pub(crate) fn env(vars: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ApiError> {
    let too_long = |field: String, what: &str, max: usize| {
        Err(ApiError::field(ErrorCode::TooLong, field, format!("{what} may have at most {max} bytes.")))
    };
    if vars.len() > limit::ENV_VARS_MAX {
        let detail = format!("At most {} environment variables are allowed.", limit::ENV_VARS_MAX);
        return Err(ApiError::field(ErrorCode::TooLong, "envVars", detail));
    }
    for (name, value) in &vars {
        let field = || format!("envVars.{}", shown(name));
        if name.len() > limit::ENV_NAME_MAX_BYTES {
            return too_long(field(), "A variable's name", limit::ENV_NAME_MAX_BYTES);
        }
        if value.len() > limit::ENV_VALUE_MAX_BYTES {
            return too_long(field(), "A variable's value", limit::ENV_VALUE_MAX_BYTES);
        }
        if name.is_empty() || name.chars().any(|c| c == '=' || c.is_control()) {
            let detail = "A variable's name is empty or holds `=` or a control character.";
            return Err(ApiError::field(ErrorCode::InvalidEnv, field(), detail));
        }
        if value.contains('\0') {
            return Err(ApiError::field(ErrorCode::InvalidEnv, field(), "The variable's value holds a NUL."));
        }
    }
    let total: usize = vars.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if total > limit::ENV_TOTAL_MAX_BYTES {
        return too_long("envVars".to_owned(), "All variables together", limit::ENV_TOTAL_MAX_BYTES);
    }
    Ok(vars)
}

/// A command that can be executed.
pub(crate) fn command(words: Vec<String>) -> Result<Vec<String>, ApiError> {
    let total: usize = words.iter().map(|word| word.len() + 1).sum();
    if words.len() > limit::COMMAND_WORDS_MAX || total > limit::COMMAND_TOTAL_MAX_BYTES {
        let (count, bytes) = (limit::COMMAND_WORDS_MAX, limit::COMMAND_TOTAL_MAX_BYTES);
        let detail = format!("A command has at most {count} words and {bytes} bytes.");
        return Err(ApiError::field(ErrorCode::TooLong, "command", detail));
    }
    if words.is_empty() || words[0].is_empty() {
        return Err(ApiError::field(ErrorCode::InvalidCommand, "command", "The command's first word is empty."));
    }
    if let Some(at) = words.iter().position(|word| word.contains('\0')) {
        return Err(ApiError::field(ErrorCode::InvalidCommand, format!("command[{at}]"), "The word holds a NUL."));
    }
    Ok(words)
}

/// The builder's marks.
pub(crate) fn metadata(map: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ApiError> {
    if map.len() > limit::METADATA_ENTRIES_MAX {
        let detail = format!("`metadata` may have at most {} entries.", limit::METADATA_ENTRIES_MAX);
        return Err(ApiError::field(ErrorCode::InvalidMetadata, "metadata", detail));
    }
    for (key, value) in &map {
        let bad = |detail: String| {
            Err(ApiError::field(ErrorCode::InvalidMetadata, format!("metadata.{}", shown(key)), detail))
        };
        if key.is_empty() || key.len() > limit::METADATA_KEY_MAX_BYTES || key.chars().any(char::is_control) {
            let max = limit::METADATA_KEY_MAX_BYTES;
            return bad(format!("A key has 1 to {max} bytes, none a control character."));
        }
        if value.len() > limit::METADATA_VALUE_MAX_BYTES || value.contains('\0') {
            return bad(format!("A value has at most {} bytes, none a NUL.", limit::METADATA_VALUE_MAX_BYTES));
        }
    }
    Ok(map)
}

/// The builder's name for one of its end users.
pub(crate) fn tenant(name: String) -> Result<String, ApiError> {
    if name.is_empty() || name.len() > limit::TENANT_MAX_BYTES || name.chars().any(char::is_control) {
        let detail = format!("A tenant has 1 to {} bytes, none a control character.", limit::TENANT_MAX_BYTES);
        return Err(ApiError::field(ErrorCode::InvalidTenant, "tenant", detail));
    }
    Ok(name)
}

/// Text of at most `max` bytes without control characters.
pub(crate) fn text(field: &str, text: &str, max: usize) -> Result<(), ApiError> {
    if text.len() > max {
        return Err(ApiError::field(ErrorCode::TooLong, field, format!("`{field}` may have at most {max} bytes.")));
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        let detail = format!("`{field}` is empty or holds a control character.");
        return Err(ApiError::field(ErrorCode::InvalidValue, field, detail));
    }
    Ok(())
}

/// A name from a request as it may stand in an answer: bounded, in printable characters.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_default).collect()
}
