//! Puts the agent together, starts it and ends it.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use cakework_image::{ImageStore, Unpacker, rootfs};
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::backend::gvisor::Gvisor;
use crate::board::Board;
use crate::build::{self, BuildDir, Builds, Caches};
use crate::cached::{self, HostKey};
use crate::config::AgentConfig;
use crate::engine::{self, Engine, ProbeConfig};
use crate::exec::Execs;
use crate::host::Host;
use crate::net::{Network, Told};
use crate::sys::cgroup::{Cgroups, MONITORS};
use crate::vm::{self, Parts, Registry, VmDir};
use crate::{capacity, serve};

/// Open files that a process inside may have: what a host without `CAP_SYS_RESOURCE` still grants.
const OPEN_FILES_MAX: u64 = 20_000;
/// The pause before the first look for an engine that did not work; each is longer.
const ENGINE_PAUSE_MIN: Duration = Duration::from_secs(5);
/// The longest pause between looks for an engine that did not work.
const ENGINE_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Sandboxes that are asked something at once.
const SANDBOXES_AT_ONCE: usize = 16;

/// Runs the agent until `shutdown`; the VMs run on.
///
/// # Errors
/// Where its directory, the networks, the image store or the socket can't be used. A missing engine is no error: the
/// host protocol says so, and no VM is started.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    // Everything below ends with this one, also where a later step fails.
    let shutdown = shutdown.child_token();
    let _ends_all = shutdown.clone().drop_guard();
    let (host, capacity, cgroups) = tokio::task::spawn_blocking({
        let config = config.clone();
        move || lay_out(&config)
    })
    .await??;
    let probe = ProbeConfig {
        runsc: config.runsc.clone(),
        program: config.program.clone(),
        dir: config.dir.clone(),
        instance: config.instance.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
    };
    let unpacker = Unpacker { program: config.program.clone(), args: vec!["unpack".into()] };
    let key = tokio::task::spawn_blocking({
        let (runsc, boot_id) = (config.runsc.clone(), host.boot_id.clone());
        // Without an engine nothing is prepared that could belong to it.
        move || HostKey::read(&runsc, boot_id)
    });
    let (engine, key, network, images) = tokio::join!(
        engine::probe(&probe),
        key,
        Network::open(config.network.clone()),
        ImageStore::open(&config.dir, config.images.clone(), unpacker.clone()),
    );
    let (network, images) = (network.context("preparing the networks")?, images.context("opening the image store")?);
    let key = key?.or_else(|error| match engine {
        Err(_) => Ok(HostKey::default()),
        Ok(_) => Err(error),
    });
    let key = key.context("reading the engine's program")?;
    let refusal = engine.as_ref().err().map(|gap| format!("{} {}", gap.reason, gap.fix));
    match &engine {
        Ok(engine) => tracing::info!(version = engine.version, canary_ms = engine.canary_ms, "gVisor runs here"),
        Err(gap) => tracing::error!(reason = gap.reason, fix = gap.fix, "no VM can be started on this host"),
    }
    let board = Board::starting_now();
    let parts = Arc::new(Parts {
        images: images.clone(),
        network,
        gvisor: Gvisor::new(config.runsc.clone(), config.runsc_root(), cgroups.clone()),
        cgroups,
        program: config.program.clone(),
        guest: config.guest.clone().unwrap_or_else(|| config.program.clone()),
        logs: config.logs,
        boot_id: host.boot_id.clone(),
        open_files: open_files(),
        told: engine.as_ref().map_or(Told::ByNamespace, Engine::told),
        board: board.clone(),
        execs: Execs::default(),
        shutdown: shutdown.clone(),
    });
    let caps = config.cached.caps(capacity.memory_mib);
    let cached = Arc::new(cached::Shared::new(key, config.network.edge_uid, caps, capacity::cpus()));
    let registry =
        Registry::new(Arc::clone(&parts), Arc::clone(&cached), config.dir.clone(), capacity, refusal, host.draining);
    let builds = Builds::new(Arc::new(building(&config, &parts, unpacker)), registry.clone());
    build::recover(&builds).await.context("taking up the builds that are here")?;
    vm::recover(&parts, &registry, &config.dir).await.context("taking up the VMs that are here")?;
    end_stray_commands(&parts.gvisor, &registry).await;
    board.images(images.reports());
    let collecting = tokio::spawn(build::collect_for_ever(builds.clone()));
    let keep = config.ended_logs;
    let forgetting = tokio::spawn(vm::collect_for_ever(registry.clone(), config.dir.clone(), keep, shutdown.clone()));
    let wiring = tokio::spawn(vm::look_after_networks(registry.clone(), shutdown.clone()));
    let sparing = tokio::spawn(registry.clone().keep_spares());
    let reporting = tokio::spawn(report_images(images.clone(), board.clone(), shutdown.clone()));
    let proving = engine.is_err().then(|| tokio::spawn(end_once_it_works(probe, shutdown.clone())));
    let state = Arc::new(serve::State {
        host: Mutex::new(host),
        dir: config.dir.clone(),
        registry: registry.clone(),
        cached,
        builds: builds.clone(),
        images: images.clone(),
        board,
        engine: engine.ok(),
        shutdown: shutdown.clone(),
    });
    let listener = serve::bind(&config.socket, config.socket_gid)?;
    tracing::info!(socket = %config.socket.display(), "the host protocol is served");
    let served = serve::serve(listener, state, config.network.edge_uid).await;
    shutdown.cancel();
    builds.shutdown().await;
    // Nothing that would need it is left; where that is not so, the next agent sees to it.
    let _ = tokio::task::spawn_blocking({
        let root = config.build_runsc_root();
        move || rootfs::unmount(&root)
    })
    .await;
    registry.shutdown().await;
    images.shutdown().await;
    collecting.await.context("collecting what builds left")?;
    forgetting.await.context("removing old logs")?;
    reporting.await.context("reporting images")?;
    sparing.await.context("making sandboxes ahead")?;
    wiring.await.context("looking after networks")?;
    if let Some(proving) = proving {
        proving.await.context("looking for an engine")?;
    }
    served
}

/// Looks again for an engine that did not work: a disk may have been full, a program missing. Once it works the agent
/// ends, and its successor begins with it.
async fn end_once_it_works(probe: ProbeConfig, shutdown: CancellationToken) {
    let mut pause = ENGINE_PAUSE_MIN;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(ENGINE_PAUSE_MAX);
        match engine::probe(&probe).await {
            Ok(engine) => {
                tracing::info!(version = engine.version, "gVisor runs here now: the agent begins anew with it");
                return shutdown.cancel();
            }
            Err(gap) => tracing::warn!(reason = gap.reason, fix = gap.fix, "there is still no engine that works"),
        }
    }
}

/// Ends the commands that were open when the agent before this one ended: nobody hears them.
async fn end_stray_commands(gvisor: &Gvisor, registry: &Registry) {
    let vms = futures_util::stream::iter(registry.live());
    vms.for_each_concurrent(SANDBOXES_AT_ONCE, async |vm| gvisor.kill_stray_execs(vm.as_str()).await).await;
}

fn building(config: &AgentConfig, vm: &Parts, unpacker: Unpacker) -> build::Parts {
    let gvisor = Gvisor::new(config.runsc.clone(), config.build_runsc_root(), vm.cgroups.clone());
    build::Parts {
        vm: Arc::new(Parts { gvisor, ..vm.clone() }),
        runsc_root: config.build_runsc_root(),
        dir: config.dir.clone(),
        config: config.builds.clone(),
        git: config.git.clone(),
        egress: config.images.egress.clone(),
        ca_file: config.images.ca_file.clone(),
        unpacker,
        caches: Caches::new(Caches::all(&config.dir), config.builds.cache_mount_mib),
        ended: Notify::new(),
    }
}

fn lay_out(config: &AgentConfig) -> anyhow::Result<(Host, cakework_core::admission::Amounts, Cgroups)> {
    let dirs = [
        config.dir.clone(),
        VmDir::all(&config.dir),
        BuildDir::all(&config.dir),
        Caches::all(&config.dir),
        config.runsc_root(),
    ];
    for dir in dirs {
        make_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let host = Host::open(&config.dir).context("reading host.json")?;
    let capacity = capacity::measure(&config.capacity, &config.dir).context("measuring the host")?;
    let cgroups = Cgroups::find(&config.instance, config.cgroup_parent.as_deref()).context("finding cgroups")?;
    cgroups.make(MONITORS, None).context("making the monitors' control group")?;
    engine::sweep(&config.dir, &cgroups).context("removing an old canary")?;
    Ok((host, capacity, cgroups))
}

/// Root's alone: the disks and environments of strangers are in it.
fn make_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

fn open_files() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.maximum.unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX)
}

async fn report_images(images: ImageStore, board: Board, shutdown: CancellationToken) {
    let mut changed = images.changed();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            still_there = changed.changed() => if still_there.is_err() { return },
        }
        board.images(images.reports());
    }
}
