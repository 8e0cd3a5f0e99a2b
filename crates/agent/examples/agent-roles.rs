//! The agent's roles as processes of their own, for its tests: what the `cakework` program dispatches to.
//!
//! `agent` and `purge` read their configuration from standard input; `monitor` and `unpack` are started by the agent.

use std::path::Path;
use std::process::ExitCode;

use cakework_agent::monitor::Mode;
use cakework_agent::{AgentConfig, engine};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["monitor", "--vm-dir", dir, "boot"] => cakework_agent::monitor::main(Path::new(dir), Mode::Boot),
        ["monitor", "--vm-dir", dir, "attach"] => cakework_agent::monitor::main(Path::new(dir), Mode::Attach),
        ["unpack"] => cakework_image::unpack::child_main(),
        ["agent"] => with_config(|config| async move {
            let shutdown = CancellationToken::new();
            let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            let token = shutdown.clone();
            tokio::spawn(async move {
                term.recv().await;
                token.cancel();
            });
            cakework_agent::run(config, shutdown).await
        }),
        ["purge"] => with_config(|config| async move { cakework_agent::purge(&config).await }),
        ["probe"] => with_config(|config| async move {
            let probe = engine::ProbeConfig {
                runsc: config.runsc,
                program: config.program,
                dir: config.dir,
                instance: config.instance,
                cgroup_parent: None,
            };
            let report = engine::probe(&probe).await.map_err(|gap| format!("{} {}", gap.reason, gap.fix));
            serde_json::to_writer(std::io::stdout(), &report)?;
            Ok(())
        }),
        _ => ExitCode::from(64),
    }
}

fn with_config<F: Future<Output = anyhow::Result<()>>>(role: impl FnOnce(AgentConfig) -> F) -> ExitCode {
    // `RUST_LOG=cakework_agent=debug` tells what a start waits on.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let run = || {
        let config = serde_json::from_reader(std::io::stdin())?;
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(role(config))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
