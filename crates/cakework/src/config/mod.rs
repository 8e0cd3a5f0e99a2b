//! The configuration: options over environment over file over defaults, checked as a whole.
//!
//! Invariant: whatever leaves this module has passed every rule; nothing downstream reads a file or the environment.

mod file;
mod problem;
mod resolve;
mod rules;
mod settings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use problem::{Invalid, Problem};
pub use resolve::{Placed, agent, api, dns};
pub use settings::Settings;

use crate::cli::{Addresses, Overrides};

/// Read where no other file is named.
pub const DEFAULT_FILE: &str = "/etc/cakework/config.toml";
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The settings that hold.
///
/// # Errors
/// Everything that is wrong, with lines.
pub fn load(overrides: &Overrides, addresses: &Addresses) -> Result<Settings, Invalid> {
    let (file, text) = match &overrides.config {
        Some(file) => (Some(file.clone()), Some(read(file)?)),
        None if Path::new(DEFAULT_FILE).exists() => {
            let file = PathBuf::from(DEFAULT_FILE);
            let text = read(&file)?;
            (Some(file), Some(text))
        }
        None => (None, None),
    };
    let text = text.unwrap_or_default();
    let (mut settings, mut problems) = file::parse(&text);
    apply(&mut settings, overrides, addresses);
    for (key, message, fix) in rules::broken(&settings) {
        // A key that could not even be read has had its say.
        if !problems.iter().any(|problem| problem.key.as_deref() == Some(key)) {
            problems.push(Problem { line: file::line_of_key(&text, key), key: Some(key.to_owned()), message, fix });
        }
    }
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() { Ok(settings) } else { Err(Invalid { file, problems }) }
}

/// `cakework config check`
///
/// # Errors
/// As [`load`].
pub fn check(overrides: &Overrides, addresses: &Addresses) -> anyhow::Result<ExitCode> {
    let settings = load(overrides, addresses)?;
    crate::print_line(&format!(
        "ok: data in {}, API on {}, edge on {}",
        settings.data_dir.display(),
        settings.listen,
        settings.edge_listen
    ));
    Ok(ExitCode::SUCCESS)
}

fn apply(settings: &mut Settings, overrides: &Overrides, addresses: &Addresses) {
    if let Some(dir) = &overrides.data_dir {
        // On the command line a relative path means what it means to the shell.
        settings.data_dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    }
    if let Some(listen) = addresses.listen {
        settings.listen = listen;
    }
    if let Some(listen) = addresses.edge_listen {
        settings.edge_listen = listen;
    }
    if let Some(domain) = &addresses.base_domain {
        settings.base_domain.clone_from(domain);
    }
    if let Some(url) = &addresses.public_url {
        settings.public_url = Some(url.clone());
    }
}

fn read(file: &Path) -> Result<String, Invalid> {
    use std::io::Read as _;
    let mut text = String::new();
    let done = std::fs::File::open(file).and_then(|open| open.take(FILE_MAX_BYTES).read_to_string(&mut text));
    match done {
        Ok(_) => Ok(text),
        Err(error) => Err(Invalid {
            file: Some(file.to_owned()),
            problems: vec![Problem {
                line: None,
                key: None,
                message: format!("can't be read: {error}"),
                fix: "name a readable TOML file with --config".to_owned(),
            }],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_stands_over_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "listen = \"127.0.0.1:9001\"\nbase_domain = \"a.example\"\n").expect("written");
        let overrides = Overrides { config: Some(file), data_dir: None };
        let addresses =
            Addresses { listen: Some("127.0.0.1:9002".parse().expect("an address")), ..Addresses::default() };
        let settings = load(&overrides, &addresses).expect("right");
        assert_eq!(settings.listen.port(), 9002);
        assert_eq!(settings.base_domain, "a.example");
        assert_eq!(settings.edge_listen, Settings::default().edge_listen);
    }
}
