//! `cakework key …`: through the admin socket of a server that runs, on its database otherwise.
//!
//! Invariant: the secret of a new key goes to stdout alone and nowhere else. Whoever runs this, what it makes belongs to
//! the api's user.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use cakework_core::id::KeyId;
use cakework_server::keys::{self, KeyAnswer, KeyCommand, KeyRecord, Scope};

use crate::cli::{self, Addresses, Key, Overrides};
use crate::{config, identity, instance, print_line, privilege};

/// Runs the command.
///
/// # Errors
/// What the server or the database refuses.
pub fn run(command: Key) -> anyhow::Result<ExitCode> {
    match command {
        Key::Create(options) => {
            let expires_in_secs = options.expires.as_deref().map(seconds).transpose()?;
            let account =
                options.account.map(|id| id.parse()).transpose().context("--account is not an account's id")?;
            let name = options.name;
            let answer = execute(
                &options.overrides,
                KeyCommand::Create { name, scope: options.scope.into(), expires_in_secs, account },
            )?;
            print_line(&answer.secret.context("the server made a key and did not say it")?);
        }
        Key::List(options) => {
            let answer = execute(&options.overrides, KeyCommand::List)?;
            if options.json {
                print_line(&serde_json::to_string_pretty(&answer.keys)?);
            } else {
                table(&answer.keys);
            }
        }
        Key::Revoke(options) => {
            let key_id: KeyId = options.key_id.parse().context("see `cakework key list` for the ids of keys")?;
            execute(&options.overrides, KeyCommand::Revoke { key_id })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Replaces the sealing key.
///
/// # Errors
/// While a server runs; a value that does not open.
pub fn rotate(overrides: &Overrides) -> anyhow::Result<ExitCode> {
    let settings = config::load(overrides, &Addresses::default())?;
    let dir = instance::api_dir(&settings.data_dir);
    become_owner(&settings.data_dir, &dir, false, settings.network.pool)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let count = runtime.block_on(cakework_server::rotate_sealing_key(&dir))?;
    print_line(&format!("{count} secrets are sealed with the new key; backups of before hold the old one"));
    Ok(ExitCode::SUCCESS)
}

fn execute(overrides: &Overrides, command: KeyCommand) -> anyhow::Result<KeyAnswer> {
    let settings = config::load(overrides, &Addresses::default())?;
    let dir = instance::api_dir(&settings.data_dir);
    let may_make = matches!(command, KeyCommand::Create { .. });
    become_owner(&settings.data_dir, &dir, may_make, settings.network.pool)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(keys::execute(&dir, command))?)
}

/// Root becomes the api's user, as the api does, so that the api can read what is made here.
fn become_owner(data_dir: &Path, dir: &Path, may_make: bool, pool: Option<ipnet::Ipv4Net>) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    if !dir.exists() {
        if !may_make {
            bail!("{} has no server's data; name its directory with --data-dir", data_dir.display());
        }
        instance::prepare(data_dir, pool)?;
    }
    let owner = identity::owner(dir).context("the api's directory is gone")?;
    privilege::confine(owner.uid, owner.gid).context("privileges could not be given up")
}

/// `90s`, `15m`, `12h`, `30d`.
fn seconds(text: &str) -> anyhow::Result<u64> {
    let wrong = || format!("{text:?} is not a time: write it like 12h or 30d");
    let (digits, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => bail!(wrong()),
    };
    digits.parse::<u64>().ok().and_then(|count| count.checked_mul(factor)).filter(|secs| *secs > 0).with_context(wrong)
}

fn table(records: &[KeyRecord]) {
    let head = ["KEY ID", "NAME", "SCOPE", "CREATED", "LAST USED", "STATE"].map(str::to_owned);
    let rows = records.iter().map(|record| {
        let state = match (&record.revoked_at, &record.expires_at) {
            (Some(at), _) => format!("revoked {at}"),
            (None, Some(at)) => format!("expires {at}"),
            (None, None) => "valid".to_owned(),
        };
        let scope = cli::Scope::from(record.scope).name();
        let used = record.last_used_at.clone().unwrap_or_else(|| "never".to_owned());
        [record.key_id.to_string(), record.name.clone(), scope.to_owned(), record.created_at.clone(), used, state]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        print_line(cells.join("  ").trim_end());
    }
}

impl From<cli::Scope> for Scope {
    fn from(scope: cli::Scope) -> Self {
        match scope {
            cli::Scope::Read => Self::Read,
            cli::Scope::Write => Self::Write,
            cli::Scope::Admin => Self::Admin,
        }
    }
}

impl From<Scope> for cli::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Read => Self::Read,
            Scope::Write => Self::Write,
            Scope::Admin => Self::Admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_read() {
        assert_eq!(seconds("90s").ok(), Some(90));
        assert_eq!(seconds("30d").ok(), Some(2_592_000));
        for bad in ["", "d", "0d", "5", "5w", "-1h", "99999999999999999999d", "5é"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }
}
