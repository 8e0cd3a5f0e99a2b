//! A child process of a fixture. It never outlives the test: dropped it is killed and reaped, and the
//! kernel kills it when the test's process dies without unwinding.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How often a wait looks again.
pub const POLL: Duration = Duration::from_millis(20);

/// A running child whose two output streams go to one file.
pub struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `program` with `args`; both output streams are appended to `output`.
    pub fn start(program: &Path, args: &[String], output: &Path) -> Result<Self> {
        Self::start_with_env(program, args, &[], output)
    }

    /// The same with `env` added to the environment.
    ///
    /// Call it on a thread that lives as long as the child should: `PR_SET_PDEATHSIG` (prctl(2)) means the thread.
    pub fn start_with_env(program: &Path, args: &[String], env: &[(String, String)], output: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(output).context("opening the child's output")?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {} through setpriv (util-linux)", program.display()))?;
        Ok(Self { child, output: output.to_owned() })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The status if the child has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// What the child has written so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Sends `signal`; a child that has ended already is fine.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            let pid =
                i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a child's pid is positive")?;
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// Waits for the end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "process {} still runs after {limit:?}:\n{}", self.pid(), self.output());
            std::thread::sleep(POLL);
        }
    }

    /// Kills the child and reaps it.
    pub fn kill(&mut self) {
        // Both fail only when the child has been reaped already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end; an error carries what it wrote on stderr.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, stderr.trim());
    Ok(output)
}
