//! A door for the fuzz target to what reads a caller's request before anything is done.

use cakework_api::exec::{Command, Exec};
use cakework_api::vm::StartVm;

use crate::ops::builds::paths::Paths;
use crate::ops::validate;
use crate::store::page::Cursor;

/// A body, a list of paths, a cursor.
pub fn requests(text: &str) {
    if let Some(cursor) = Cursor::read(text) {
        assert_eq!(Cursor::read(&cursor.write()), Some(cursor));
    }
    if let Ok(start) = serde_json::from_str::<StartVm>(text) {
        let env = start.env_vars.map(validate::env);
        if let Some(Ok(env)) = env {
            assert!(env.iter().all(|(name, value)| !name.contains(['=', '\0', '\n']) && !value.contains('\0')));
        }
        let _ = (start.metadata.map(validate::metadata), start.tenant.map(validate::tenant));
    }
    if let Ok(Exec { command: Command::Words(words), .. }) = serde_json::from_str(text)
        && let Ok(words) = validate::command(words)
    {
        assert!(!words[0].is_empty() && words.iter().all(|word| !word.contains('\0')));
    }
    let mut paths = Paths::default();
    for line in text.lines() {
        let (dir, name) = line.rsplit_once('/').unwrap_or(("", line));
        if let Ok(path) = paths.add(dir, name) {
            assert!(!path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path}");
        }
    }
}
