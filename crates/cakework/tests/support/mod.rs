//! A supervisor under test: `cakework serve` on a data directory of its own, looked at through `/proc`.
//!
//! Dropped it is ended and purged, so that a failed test leaves nothing either.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use cakework_testkit::http::free_port;
use cakework_testkit::kernel::Scope;
use cakework_testkit::process::{POLL, Process};
use rustix::process::Signal;
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_cakework");
pub const LIMIT: Duration = Duration::from_secs(20);

/// The program with arguments, in an environment that says nothing about Cakework.
pub fn cakework(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars() {
        if name.starts_with("CAKEWORK_") {
            command.env_remove(name);
        }
    }
    // The width of help.
    command.env_remove("COLUMNS");
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(args: &[&str]) -> Output {
    cakework(args).output().expect("the program runs")
}

/// What it wrote on stdout.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What it wrote on stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until there is something; says what is missing where it never comes.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {LIMIT:?} for {what}");
        std::thread::sleep(POLL);
    }
}

/// Everything here makes kernel objects.
#[track_caller]
pub fn need_root() {
    assert!(rustix::process::geteuid().is_root(), "this test makes real kernel objects: run it as root");
}

/// A temporary directory that everyone may pass.
pub fn open_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("cakework-test-").tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("its own");
    dir
}

/// A supervisor that runs.
pub struct Serve {
    pub data_dir: PathBuf,
    pub listen: String,
    pub edge: String,
    process: Process,
    dir: TempDir,
}

impl Serve {
    /// Starts one on a new data directory and waits for its children.
    pub fn start() -> Self {
        Self::start_in(open_dir())
    }

    /// The same below a directory.
    pub fn start_in(dir: TempDir) -> Self {
        Self::start_with(dir, &[])
    }

    /// The same with environment variables.
    pub fn start_with(dir: TempDir, env: &[(String, String)]) -> Self {
        need_root();
        let address = || format!("127.0.0.1:{}", free_port().expect("a port"));
        let (data_dir, listen, edge) = (dir.path().join("data"), address(), address());
        let process = launch(&data_dir, &listen, &edge, dir.path(), env);
        let serve = Self { data_dir, listen, edge, process, dir };
        serve.wait_for_roles();
        serve
    }

    /// Starts it again after its end, on the same directory and ports.
    pub fn start_again(&mut self) {
        self.process = launch(&self.data_dir, &self.listen, &self.edge, self.dir.path(), &[]);
        self.wait_for_roles();
    }

    fn wait_for_roles(&self) {
        for role in ["agent", "dns", "api"] {
            wait_for(role, || self.pid_of(role));
        }
    }

    /// The supervisor.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A child by its role.
    pub fn pid_of(&self, role: &str) -> Option<u32> {
        let parent = self.process.pid();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .find(|pid| role_of(*pid).as_deref() == Some(role))
    }

    /// Kills a child without a warning and waits for the next.
    pub fn kill_role(&self, role: &str) -> u32 {
        let before = self.pid_of(role).expect("it runs");
        kill(before, Signal::KILL);
        wait_for("the role's next process", || self.pid_of(role).filter(|pid| *pid != before))
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM).expect("a signal");
        let status = self.process.wait(LIMIT).expect("an end");
        assert!(status.success(), "{status}: {}", self.process.output());
    }

    /// `instance.json`.
    pub fn record(&self) -> serde_json::Value {
        let text = std::fs::read(self.data_dir.join("instance.json")).expect("a record");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// Whose objects a census counts.
    pub fn scope(&self) -> Scope {
        Scope::of_data_dir(&self.data_dir).expect("a record")
    }

    /// The data directory as an argument.
    pub fn data(&self) -> &str {
        self.data_dir.to_str().expect("UTF-8")
    }
}

impl Drop for Serve {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server wrote:\n{}", self.process.output());
        }
        if self.process.signal(Signal::TERM).is_err() || self.process.wait(LIMIT).is_err() {
            self.process.kill();
        }
        if self.data_dir.join("instance.json").exists() {
            let purged = run(&["purge", "--yes", "--data-dir", self.data()]);
            if !purged.status.success() {
                eprintln!("purging after a test: {}", stderr(&purged));
            }
        }
    }
}

fn launch(data_dir: &Path, listen: &str, edge: &str, dir: &Path, env: &[(String, String)]) -> Process {
    let data_dir = data_dir.display().to_string();
    let args = ["serve", "--data-dir", &data_dir, "--listen", listen, "--edge-listen", edge].map(str::to_owned);
    Process::start_with_env(Path::new(PROGRAM), &args, env, &log_in(dir)).expect("a process")
}

/// Where the server's words go, of a directory that it is started in.
pub fn log_in(dir: &Path) -> PathBuf {
    dir.join("serve.log")
}

/// Ends a process that a test's own server started.
pub fn kill(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("not zero");
    rustix::process::kill_process(pid, signal).expect("it runs");
}

/// The word after the program's name; none once the process is gone or a zombie.
pub fn role_of(pid: u32) -> Option<String> {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(words.split(|byte| *byte == 0).nth(1)?).into_owned())
}

/// A line of `/proc/PID/status`, such as `Uid` or `CapEff`.
pub fn status_of(pid: u32, field: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
}
