//! RUN: a command of a stranger, in the sandbox.
//!
//! ```text
//! layers + scenery + changes ─overlay─> root ─bundle─> monitor ─> sandbox ─> exit code
//! ```
//! Invariants: nothing of the command is executed outside of the sandbox; what is put there for it to find lies below
//! its changes or is mounted over them; its log has one writer at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cakework_core::build::BuildErrorCode;
use cakework_core::limit;
use cakework_dockerfile::Run;
use cakework_image::rootfs;
use tokio::time::timeout;

use super::ending::Ending;
use super::execute::{Executor, blocking};
use super::mounts::{Mounts, Placed};
use super::scenery::{Kind, Scenery, SceneryError};
use super::stage::Built;
use crate::backend::gvisor;
use crate::backend::gvisor::bundle::{self, FirstProcess};
use crate::monitor::plan::{Answer, Exited, Plan};
use crate::net::GUEST;
use crate::sys::clock;
use crate::sys::file::{self, Survives};
use crate::vm::{self, Begin, clean};

/// The name of every build's machine, so that nothing in a layer depends on which it was.
const HOSTNAME: &str = "build";
/// Longest time for a sandbox to boot.
const BOOT_TIMEOUT_MS: u64 = 60_000;
/// How long a monitor may take to write down the rest of the output and the end.
const MONITOR_WAIT: Duration = Duration::from_secs(5);
/// What the engine mounts on in every sandbox.
const ENGINE_DIRS: [&str; 3] = ["/proc", "/sys", "/dev"];

impl Executor<'_> {
    /// Runs a command on the root that these layers make; what it changes is in `changes`.
    ///
    /// # Errors
    /// It can't be started, ends with a code other than 0, or is ended.
    pub async fn run(&mut self, run: &Run, layers: &[PathBuf], changes: &Path, built: &[Built]) -> Result<(), Ending> {
        let mounts = self.mounts(run, built).await?;
        let (vms, sandbox) = (&self.parts.vm, &self.job.assignment.sandbox);
        let network = async {
            // The engine takes the address away from the namespace: it is set again for each command.
            if run.no_network {
                Ok(None)
            } else {
                vms.network.attach(sandbox, self.job.assignment.slot, None).await.map(Some)
            }
        };
        let root = self.lay_out_root(run, layers, changes, mounts);
        let (network, root) = tokio::join!(network, root);
        let (network, (mounts, placed)) = (network?, root?);
        let netns = network.map(|attachment| attachment.netns);
        self.write_bundle(run, placed, netns).await?;
        self.check().await?;
        self.log.hand_over();
        self.command(run).await?;
        let (root, points) = (self.job.dir.vm().rootfs(), mounts.points());
        blocking("unmount a command's root", move || {
            let mut all = std::iter::once(&root).chain(points.iter().rev());
            all.try_for_each(|point| rootfs::unmount(point))
                .map_err(|error| Ending::rootfs(BuildErrorCode::Internal, error))
        })
        .await
    }

    /// Mounts the root, with all that others are mounted on in it.
    async fn lay_out_root(
        &self,
        run: &Run,
        layers: &[PathBuf],
        changes: &Path,
        mut mounts: Mounts,
    ) -> Result<(Mounts, Placed), Ending> {
        let (dir, mut layers, changes, run) = (self.job.dir.clone(), layers.to_vec(), changes.to_owned(), run.clone());
        blocking("lay out a command's root", move || {
            let host = |error| Ending::host("lay out a command's root", error);
            let failed = |error| Ending::rootfs(BuildErrorCode::CommandFailed, error);
            let (root, tree) = (dir.vm().rootfs(), dir.views().join("below"));
            let tree = if layers.is_empty() {
                dir.empty()
            } else {
                rootfs::mount_layers(&layers, &tree).map_err(failed)?;
                tree
            };
            file::remove(&dir.scenery()).map_err(host)?;
            let scenery = Scenery::new(&tree, &dir.scenery()).map_err(host)?;
            let placed = place(&scenery, &mut mounts, &run, &dir.vm().bundle());
            let is_empty = scenery.is_empty().map_err(host)?;
            drop(scenery);
            rootfs::unmount(&tree).map_err(failed)?;
            let placed = placed?;
            if !is_empty {
                layers.push(dir.scenery());
            }
            rootfs::mount_overlay(&layers, &changes, &root).map_err(failed)?;
            let user = rootfs::find_user(&root, &run.user).map_err(failed)?;
            rootfs::make_dir(&root, &run.working_dir, 0o755).map_err(failed)?;
            Ok((mounts, Placed { user: Some(user), ..placed }))
        })
        .await
    }

    async fn write_bundle(&self, run: &Run, placed: Placed, netns: Option<PathBuf>) -> Result<(), Ending> {
        let process = process(run, &placed)?;
        let (parts, dir, assignment) = (Arc::clone(self.parts), self.job.dir.clone(), self.job.assignment.clone());
        blocking("write a command's bundle", move || {
            let (vm, sandbox) = (dir.vm(), assignment.sandbox.as_str());
            let (root, cgroup) = (vm.rootfs(), parts.vm.cgroups.path_of(sandbox));
            let places = bundle::Parts {
                root: &root,
                mounts: &placed.mounts,
                netns: netns.as_deref(),
                cgroup: &cgroup,
                memory_mib: parts.config.memory_mib,
                open_files: parts.vm.open_files,
            };
            let user = placed.user.as_ref().ok_or_else(|| Ending::host("find a user", "there is none"))?;
            let config = bundle::config(&process, user, HOSTNAME, places);
            let left_ms = assignment.deadline_ms.saturating_sub(clock::boottime_ms());
            let plan = Plan {
                generation: assignment.generation,
                command: parts.vm.gvisor.run_command(sandbox, &vm.bundle(), &vm.pid_file(), placed.access),
                pid_file: vm.pid_file(),
                control: Some(parts.vm.gvisor.control(sandbox)),
                boot_timeout_ms: left_ms.clamp(1, BOOT_TIMEOUT_MS),
                logs: parts.vm.logs,
            };
            file::write_json(&vm.bundle().join("config.json"), &config, Survives::Process)
                .and_then(|()| file::write_json(&vm.plan(), &plan, Survives::Process))
                .map_err(|error| Ending::host("write a command's bundle", error))
        })
        .await
    }

    /// Lets a monitor run the bundle, and waits for its end.
    async fn command(&self, run: &Run) -> Result<(), Ending> {
        let (parts, dir) = (Arc::clone(self.parts), self.job.dir.vm().clone());
        let group = self.job.assignment.sandbox.as_str();
        let killed_before = parts.vm.cgroups.oom_kills(group);
        let started = blocking("start a monitor", move || {
            vm::start_monitor(&parts.vm.program, &parts.vm.cgroups, &dir, Begin::Boot)
                .map_err(|error| Ending::host("start a monitor", error))
        })
        .await?;
        let (monitor, dir) = (started.process, self.job.dir.vm());
        let program = run.args.first().map_or("", String::as_str);
        let answer = match self.unless_stopped(vm::answer(started.stdout)).await {
            Ok(answer) => answer,
            Err(stopped) => {
                // It could still be about to make a sandbox: the cleaning looks for one when it is gone.
                monitor.kill();
                let _ = timeout(MONITOR_WAIT, monitor.ended()).await;
                return Err(stopped);
            }
        };
        let failed = match answer {
            Some(Answer::Started(_)) => None,
            Some(Answer::Failed { message }) => {
                tracing::info!(%message, "a command did not start");
                Some(gvisor::explain(&message, program))
            }
            None => {
                tracing::error!(last_words = vm::last_words(dir), "a build's monitor ended without an answer");
                return Err(Ending::host("run a command", "its monitor ended without an answer"));
            }
        };
        if let Some(sentence) = failed {
            monitor.ended().await;
            return Err(Ending::new(
                BuildErrorCode::CommandFailed,
                format!("The command could not be run: {sentence}."),
            ));
        }
        let stopped = self.unless_stopped(monitor.ended()).await;
        let vms = &self.parts.vm;
        // Its helpers go a moment later than itself, and hold the root's files until then.
        let gone = clean::end_sandbox(vms, &self.job.assignment.sandbox, false).await;
        if stopped.is_err() {
            // What it has written so far is in the log, too.
            let _ = timeout(MONITOR_WAIT, monitor.ended()).await;
            monitor.kill();
        }
        stopped?;
        gone.map_err(|error| Ending::host("end a sandbox", error))?;
        vms.gvisor.forget(group).map_err(|error| Ending::host("forget a sandbox", error))?;
        let oom = vms.cgroups.oom_kills(group) > killed_before;
        judge(vm::exited(dir), oom, self.parts.config.memory_mib)
    }
}

/// What a command's end means.
fn judge(exited: Option<Exited>, oom: bool, memory_mib: u32) -> Result<(), Ending> {
    match exited.unwrap_or_default() {
        Exited { code: Some(0), .. } => Ok(()),
        _ if oom => Err(Ending::new(
            BuildErrorCode::OutOfMemory,
            format!("The command used more than the {memory_mib} MiB of memory that a build has."),
        )),
        Exited { code: Some(code), .. } => {
            Err(Ending::new(BuildErrorCode::CommandFailed, format!("The command ended with exit code {code}.")))
        }
        Exited { code: None, .. } => Err(Ending::host("run a command", "its sandbox was killed")),
    }
}

/// Makes the places that things are mounted on, and the files that every command finds.
fn place(scenery: &Scenery, mounts: &mut Mounts, run: &Run, bundle: &Path) -> Result<Placed, Ending> {
    let host = |error| Ending::host("lay out a command's root", error);
    for path in ENGINE_DIRS {
        scenery.place(path, Kind::Dir).map_err(unusable)?;
    }
    for (at, (path, content, mode)) in bundle::files(HOSTNAME, GUEST.address, GUEST.resolver).into_iter().enumerate() {
        if content.is_empty() {
            // The engine lays a file system in memory over an empty directory; with this in it, it does not.
            scenery.place(path, Kind::File).map_err(unusable)?;
            continue;
        }
        let source = bundle.join(format!("file-{at}"));
        write(&source, content.as_bytes(), mode).map_err(host)?;
        mounts.add_file(source, path);
    }
    for (at, script) in run.scripts.iter().enumerate() {
        let source = bundle.join(format!("script-{at}"));
        write(&source, script.content.as_bytes(), 0o755).map_err(host)?;
        mounts.add_file(source, &script.path);
    }
    mounts.place(scenery)
}

fn write(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, content)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// What stands in the way of a mount.
pub fn unusable(error: SceneryError) -> Ending {
    match error {
        SceneryError::Unusable { .. } => Ending::new(BuildErrorCode::CommandFailed, format!("{error}.")),
        SceneryError::Host(error) => Ending::host("lay out a command's root", error),
    }
}

fn process(run: &Run, placed: &Placed) -> Result<FirstProcess, Ending> {
    let home = placed.user.as_ref().map_or("/", |user| user.home.as_str());
    let mut env = vec![bundle::DEFAULT_PATH.to_owned(), format!("HOME={home}")];
    for variable in run.env.iter().chain(&placed.env) {
        bundle::set(&mut env, variable.clone());
    }
    let refused = |message: &str| Err(Ending::new(BuildErrorCode::CommandFailed, message));
    if run.args.first().is_none_or(String::is_empty) {
        return refused("The command is empty.");
    }
    if run.args.iter().chain(&env).any(|text| text.contains('\0')) {
        return refused("The command or its environment holds a NUL byte.");
    }
    if env.iter().map(|variable| variable.len() + 1).sum::<usize>() > limit::ENV_TOTAL_MAX_BYTES {
        return refused("The command's environment is too large.");
    }
    Ok(FirstProcess { args: run.args.clone(), env, cwd: run.working_dir.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_command_are_told_apart() {
        let code = |code| Some(Exited { code: Some(code), signal: None });
        let word = |exited, oom| judge(exited, oom, 64).map_err(|ending| ending.problem().code.as_str());
        assert_eq!(word(code(0), false), Ok(()));
        assert_eq!(word(code(0), true), Ok(()), "what it ran may have been killed, and it went on");
        assert_eq!(word(code(3), false), Err("command_failed"));
        assert_eq!(word(code(137), true), Err("out_of_memory"));
        assert_eq!(word(Some(Exited { code: None, signal: Some(9) }), true), Err("out_of_memory"));
        assert_eq!(word(None, false), Err("internal"));
    }
}
