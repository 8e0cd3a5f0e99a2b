//! `cakework doctor`: what this machine lacks to run VMs, each with the command that repairs it.
//!
//! Invariant: a row says `ok` only for what was really done or really read; what a check makes, it takes away.

mod around;
mod engine;
mod host;
mod row;
mod space;
mod storage;
mod waiting;

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

pub use row::{Row, Status};
pub use storage::sweep;

use crate::cli::Doctor;
use crate::config::{self, Settings};
use crate::identity;
use crate::print_line;

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    checks: &'a [Row],
}

/// Checks everything and prints it; the exit code says whether there is a gap.
///
/// # Errors
/// A configuration that can't be used.
pub fn run(options: &Doctor) -> anyhow::Result<ExitCode> {
    let settings = config::load(&options.overrides, &options.addresses)?;
    let mut rows = quick(&settings);
    rows.insert(2, engine::gvisor(&settings));
    let ok = rows.iter().all(|row| row.status != Status::Gap);
    if options.json {
        print_line(&serde_json::to_string_pretty(&Report { ok, checks: &rows })?);
    } else {
        for row in &rows {
            row.print();
        }
        print_line(if ok {
            "\nThis machine can run VMs."
        } else {
            "\nThis machine can't run VMs until the gaps are closed."
        });
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All checks but the engine's canary, which the agent runs by itself when it starts.
pub fn quick(settings: &Settings) -> Vec<Row> {
    let mut rows = vec![host::kernel(), host::cgroups()];
    if rustix::process::geteuid().is_root() {
        rows.push(host::nft());
        rows.extend(storage::overlay_and_loop(&settings.data_dir));
    } else {
        let why = "VMs are made by root, and so are these checks";
        for name in ["nft", "loop", "overlay"] {
            rows.push(Row::gap(name, why, "sudo cakework doctor"));
        }
    }
    rows.push(space::disk(&settings.data_dir));
    rows.push(space::memory());
    rows.push(around::swap());
    rows.push(waiting::row(settings));
    rows.push(host::port("port api", settings.listen, &settings.data_dir));
    rows.push(host::port("port edge", settings.edge_listen, &settings.data_dir));
    rows.push(host::forwarding());
    if rustix::process::geteuid().is_root() {
        rows.push(around::forward(settings));
    }
    rows.push(around::conntrack());
    rows.extend(around::clock());
    rows.push(host::git());
    rows.push(reach(&settings.data_dir));
    rows
}

fn reach(data_dir: &Path) -> Row {
    match identity::barrier(data_dir) {
        None => Row::ok("api user", format!("an unprivileged user reaches {}", data_dir.display())),
        Some(_) => Row::warn(
            "api user",
            "the API would run as uid 0 without capabilities rather than as a user of its own",
            unreachable_hint(data_dir),
        ),
    }
}

/// Why an unprivileged user can't reach the data directory, and what to do.
pub fn unreachable_hint(data_dir: &Path) -> String {
    match identity::barrier(data_dir) {
        Some(barrier) => format!("chmod o+x {}, or choose a --data-dir such as /var/lib/cakework", barrier.display()),
        None => "start it again".to_owned(),
    }
}
