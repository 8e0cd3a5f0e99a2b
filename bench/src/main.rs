//! `cakework-bench`: what Cakework costs, always beside what it stands on, measured in the same run.
//!
//! Each subcommand prints one table in Markdown. Times are wall clock, taken where a user would take them: at a
//! client outside the server. A server is either given (`--url`, `--edge`, `--key`, `--data-dir`) or started for the
//! run from a release binary (`--program`), below `TMPDIR`, which so decides the file system that is measured.
//! It needs root and the packages of `scripts/setup.sh --tests`.
#![allow(clippy::print_stdout)]

mod build;
mod buildah;
mod cached;
mod client;
mod cycles;
mod get;
mod import;
mod logs;
mod memory;
mod sandbox;
mod start;
mod stats;
mod subject;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::subject::Access;

/// Measures Cakework beside what it stands on.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    access: Access,
    /// Runs of each side, taken in turns; medians want 10 at least.
    #[arg(long, global = true, default_value_t = 11)]
    runs: usize,
    /// Measures only what Cakework stands on, without a server.
    #[arg(long, global = true)]
    floor_only: bool,
}

#[derive(Subcommand)]
enum What {
    /// From startVM to the first byte of HTTP at a client, beside `runsc create` and `start` of the same bundle.
    Start,
    /// importImage of some 425 MB until ready, beside `skopeo copy` and `umoci unpack`, on the file system of TMPDIR.
    Import,
    /// getVm with few and with 10,000 VMs in the database.
    Get,
    /// Log lines of a VM: written, read in pages, searched; beside a pipe and grep.
    Logs {
        /// How many, at most ten million.
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
        lines: u64,
    },
    /// Memory of the server's processes at rest.
    Memory,
    /// Cached VMs: paused, restored and cold starts beside `crun run`, wakes beside a bare resume, fifty at once, exec.
    Cached,
    /// Starts and stops of a cached VM, imports and builds: what is held afterwards beside what was held before.
    Cycles {
        /// Starts and stops.
        #[arg(long, default_value_t = 1000)]
        cycles: usize,
        /// Imports, and as many builds.
        #[arg(long, default_value_t = 50)]
        images: usize,
    },
    /// Builds: a RUN beside `runsc run`, a Dockerfile of six steps beside buildah, cached, changed, and four at once.
    Build,
    /// The command line's own time, a deployment of a change, and what the TypeScript SDK adds to a call.
    Client,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let table = match args.what {
        What::Start => start::measure(&args.access, args.runs, args.floor_only).await?,
        What::Import => import::measure(&args.access, args.runs, args.floor_only).await?,
        What::Get => get::measure(&args.access).await?,
        What::Cached => cached::measure(&args.access, args.runs).await?,
        What::Cycles { cycles, images } => cycles::measure(&args.access, cycles, images).await?,
        What::Build => build::measure(&args.access, args.runs).await?,
        What::Logs { lines } => logs::measure(&args.access, args.runs, lines).await?,
        What::Client => client::measure(&args.access, args.runs).await?,
        What::Memory => memory::measure(&args.access).await?,
    };
    println!("{table}");
    Ok(())
}
