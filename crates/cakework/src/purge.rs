//! `cakework purge`: ends and removes all of an instance, on the host and in its data directory.
//!
//! Invariant: it removes what an instance made and nothing else; what it does not know stays, and is named.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::cli::{Addresses, Overrides, Purge};
use crate::config::{self, Placed};
use crate::identity::Identity;
use crate::instance::{self, Instance, Record};
use crate::{doctor, inventory, print_line};

/// What an instance makes in its data directory; the record goes last, so that a purge that was cut off can be repeated.
const MADE: [&str; 5] = ["agent", "api", "run", "lock", "instance.json"];
const AGENT_WAIT: Duration = Duration::from_secs(10);

/// Purges.
///
/// # Errors
/// A server that runs; something that could not be removed.
pub fn run(options: &Purge) -> anyhow::Result<ExitCode> {
    let overrides = Overrides { config: options.config.clone(), data_dir: options.data_dir.clone() };
    let settings = config::load(&overrides, &Addresses::default())?;
    let dir = settings.data_dir.clone();
    if !rustix::process::geteuid().is_root() {
        bail!("purge ends what root has made: run it as root");
    }
    let Some(record) = instance::record(&dir)? else {
        bail!("{} holds no instance of Cakework; nothing was removed", dir.display());
    };
    let Some(_lock) = instance::lock(&dir)? else {
        bail!("a server runs on {0}: stop it first, with Ctrl-C or `fuser -k -TERM {0}/lock`", dir.display());
    };
    let file = dir.join("run").join(instance::AGENT_LOCK);
    std::fs::create_dir_all(dir.join("run"))?;
    let Some(_agent) = instance::lock_file(&file, AGENT_WAIT)? else {
        bail!("an agent still runs on {}", dir.display());
    };
    let before = holdings(&record, &dir)?;
    if !options.yes && !confirmed(&dir, &before, options.keep_data)? {
        bail!("nothing was removed");
    }
    let instance = Instance {
        dir: dir.clone(),
        id: record.instance_id.clone(),
        pool: record.pool,
        dns_port: record.dns_port,
        api: Identity { uid: record.api_uid, gid: record.api_uid },
        dns: Identity { uid: record.dns_uid, gid: record.dns_uid },
    };
    let placed = Placed { instance: &instance, program: std::env::current_exe()?, dns_port: record.dns_port };
    let config = config::agent(&settings, &placed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cakework_agent::purge(&config)).context("the instance could not be ended")?;
    doctor::sweep(&dir);
    let left = holdings(&record, &dir)?;
    if !left.is_empty() {
        bail!("still there: {}; the data directory was left as it is", left.join(", "));
    }
    for thing in before {
        print_line(&format!("removed {thing}"));
    }
    if options.keep_data {
        print_line(&format!("kept {}", dir.display()));
        return Ok(ExitCode::SUCCESS);
    }
    remove(&dir)?;
    instance::unregister(&record.instance_id)?;
    Ok(ExitCode::SUCCESS)
}

fn holdings(record: &Record, dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = inventory::names_on_host(&record.instance_id)?;
    found.extend(inventory::mounts_below(dir)?.iter().map(|mount| format!("mount {}", mount.display())));
    Ok(found)
}

/// A person is asked; a script has said what it wants.
fn confirmed(dir: &Path, holdings: &[String], keep_data: bool) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    let mut out = std::io::stderr();
    for thing in holdings {
        writeln!(out, "  {thing}")?;
    }
    let too = if keep_data { "" } else { " and remove its data" };
    write!(out, "End all VMs of {}{too}? Write `yes`: ", dir.display())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    for name in MADE {
        let path = dir.join(name);
        let done = match path.symlink_metadata() {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(_) => continue,
        };
        done.with_context(|| format!("{} can't be removed", path.display()))?;
        print_line(&format!("removed {}", path.display()));
    }
    let rest: Vec<_> = std::fs::read_dir(dir)?.flatten().map(|entry| entry.file_name()).collect();
    if !rest.is_empty() {
        print_line(&format!("kept {}: it also holds {rest:?}", dir.display()));
    } else if let Err(error) = std::fs::remove_dir(dir) {
        // A file system of its own, perhaps: it is empty, which is what was asked for.
        print_line(&format!("kept {}, empty: {error}", dir.display()));
    } else {
        print_line(&format!("removed {}", dir.display()));
    }
    Ok(())
}
