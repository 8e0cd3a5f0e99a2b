//! The monitor as a real process, with real FIFOs, kills and full disks.
//!
//! Most tests boot a shell script that stands in for `runsc … run --detach`: it leaves a writer behind that holds the
//! FIFOs, notes its id and ends. One boots the real engine; the agent's own tests exercise it further. They need root.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cakework_core::id::Generation;
use cakework_core::logquery::{LogQuery, Order};
use cakework_wire::host::LogLine;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::plan::{Control, Exited};
use super::*;
use crate::logs::{self, LogConfig};

const PID_FILE: &str = "run/runsc.pid";
const ENV_DIR: &str = "CAKEWORK_TEST_MONITOR_DIR";
const ENV_MODE: &str = "CAKEWORK_TEST_MONITOR_MODE";
const WAIT: Duration = Duration::from_secs(30);

#[test]
#[ignore = "not a test: the monitor's process of the other tests"]
fn role() {
    let dir = PathBuf::from(std::env::var_os(ENV_DIR).expect("started by another test"));
    let mode = if std::env::var(ENV_MODE).is_ok_and(|mode| mode == "boot") { Mode::Boot } else { Mode::Attach };
    match run(&dir, mode) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            answer(&Answer::Failed { message: format!("{error:#}") });
            std::process::exit(1)
        }
    }
}

/// A VM's directory. What runs in it ends with it.
struct Vm {
    dir: tempfile::TempDir,
}

/// A monitor and what it answered. Killed when dropped.
struct Monitor {
    child: Child,
    answer: Answer,
}

impl Vm {
    fn new(script: &str) -> Self {
        Self::with(script, LogConfig::default())
    }

    /// `script` runs as the sandbox.
    fn with(script: &str, logs: LogConfig) -> Self {
        assert!(rustix::process::geteuid().is_root(), "tests of the monitor make mount namespaces: run them as root");
        let vm = Self { dir: tempfile::tempdir().expect("a directory") };
        fs::create_dir(vm.path("run")).expect("a directory");
        // A shell may reap its child, which an engine that detaches does not: the script outlives the shell.
        let waits = "while [ ! -e run/boot.json ]; do sleep 0.01; done";
        fs::write(vm.path("sandbox.sh"), format!("{waits}\n{script}")).expect("a script");
        let pid_file = vm.path(PID_FILE);
        let boot = format!("cd {}; sh sandbox.sh & echo $! > {}", vm.dir.path().display(), pid_file.display());
        vm.plan(vec!["/bin/sh".into(), "-c".into(), boot], None, logs);
        vm
    }

    fn plan(&self, command: Vec<String>, control: Option<Control>, logs: LogConfig) {
        let plan = Plan {
            generation: Generation(3),
            command,
            pid_file: self.path(PID_FILE),
            control,
            boot_timeout_ms: 20_000,
            logs,
        };
        fs::write(self.path(PLAN_FILE), serde_json::to_vec(&plan).expect("plain data")).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, mode: &str) -> Monitor {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "monitor::tests::role", "--ignored", "--nocapture", "--test-threads=1"])
            .env(ENV_DIR, self.dir.path())
            .env(ENV_MODE, mode)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("a monitor");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = stdout.lines().map(|line| line.expect("UTF-8"));
        // libtest has begun the line with the name of the test.
        let line = lines.find_map(|line| Some(line[line.find('{')?..].to_owned())).expect("an answer");
        assert_eq!(lines.next(), None, "the pipe stays open");
        let answer: Answer = serde_json::from_str(&line).expect("an answer");
        Monitor { child, answer }
    }

    fn boot(&self) -> Monitor {
        let monitor = self.start("boot");
        assert!(matches!(monitor.answer, Answer::Started(_)), "{:?}", monitor.answer);
        monitor
    }

    fn lines(&self) -> Vec<LogLine> {
        let mut ask = LogQuery {
            contains: String::new(),
            batch: 1000,
            order: Order::OldestFirst,
            from_ms: None,
            to_ms: None,
            after: None,
        };
        let mut all = Vec::new();
        loop {
            let page = logs::read_page(&self.path(LOG_DIR), &ask).expect("readable");
            all.extend(page.lines);
            ask.after = page.next;
            if page.next.is_none() {
                return all;
            }
        }
    }

    fn texts(&self) -> Vec<String> {
        self.lines().into_iter().map(|line| line.message).collect()
    }

    fn exited(&self) -> Exited {
        read_json(&self.path(EXIT_FILE)).expect("written by a monitor that is done")
    }

    fn wait_for_line(&self, text: &str) {
        wait_until(&format!("the line {text:?}"), || self.texts().iter().any(|line| line == text));
    }

    /// Ends the sandbox of a script that waits for this.
    fn end(&self) {
        fs::write(self.path("end"), "").expect("written");
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let Ok(noted) = fs::read_to_string(self.path(PID_FILE)) else { return };
        let Some(pid) = noted.trim().parse().ok().and_then(Pid::from_raw) else { return };
        // Only what is still the script of this directory.
        let cwd = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
        if cwd.is_ok_and(|cwd| cwd == self.dir.path()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Monitor {
    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    fn wait(mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the monitor is done", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        let status = status.expect("waited for");
        assert_eq!(status.signal(), None);
        status.code()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {WAIT:?} until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const UNTIL_END: &str = "while [ ! -e end ]; do sleep 0.02; done\n";

#[test]
fn output_and_exit_code_are_kept() {
    let vm = Vm::new("echo out; echo err >&2; echo '{\"level\":\"WARN\"}'; printf partial; exit 7");
    let monitor = vm.boot();
    assert_eq!(monitor.wait(), Some(0));
    assert_eq!(vm.exited(), Exited { code: Some(7), signal: None });
    let mut said: Vec<_> = vm.lines().into_iter().map(|line| (line.level, line.message)).collect();
    said.sort();
    let line = |level: &str, text: &str| (level.to_owned(), text.to_owned());
    let expected =
        [line("error", "err"), line("info", "out"), line("info", "partial"), line("warn", "{\"level\":\"WARN\"}")];
    assert_eq!(said, expected);
    let times: Vec<_> = vm.lines().iter().map(|line| line.timestamp).collect();
    assert!(times.is_sorted() && times[0] > 1_600_000_000_000);
}

#[test]
fn a_killed_sandbox_says_by_which_signal() {
    let vm = Vm::new(&format!("echo up\n{UNTIL_END}"));
    let monitor = vm.boot();
    vm.wait_for_line("up");
    let Answer::Started(booted) = &monitor.answer else { panic!("not started") };
    assert_eq!(&read_json::<Booted>(&vm.path(BOOT_FILE)).expect("noted"), booted);
    kill_process(Pid::from_raw(booted.sandbox_pid).expect("an id"), Signal::KILL).expect("killed");
    assert_eq!(monitor.wait(), Some(0));
    assert_eq!(vm.exited(), Exited { code: None, signal: Some(9) });
}

/// A set of signals of one thread: `SigBlk` or `SigIgn` of proc_pid_status(5).
fn signals(status: &Path, field: &str) -> u64 {
    let text = fs::read_to_string(status).expect("procfs");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).expect("hex")
}

#[test]
fn the_signals_of_a_stop_are_blocked_in_it_and_not_in_the_sandbox() {
    let vm = Vm::new(&format!("trap 'echo term; exit 5' TERM\necho up\n{UNTIL_END}"));
    let monitor = vm.boot();
    vm.wait_for_line("up");
    let bit = |signal: Signal| 1u64 << (signal.as_raw() - 1);
    let stop = bit(Signal::TERM) | bit(Signal::INT) | bit(Signal::HUP);
    // libtest adds a thread of its own to this process, which a monitor does not have.
    let tasks = fs::read_dir(format!("/proc/{}/task", monitor.child.id())).expect("procfs");
    let statuses: Vec<_> = tasks.map(|task| task.expect("a task").path().join("status")).collect();
    assert!(statuses.iter().any(|status| signals(status, "SigBlk") & stop == stop));
    assert!(signals(&statuses[0], "SigIgn") & bit(Signal::PIPE) != 0);

    let Answer::Started(booted) = &monitor.answer else { panic!("not started") };
    let sandbox = PathBuf::from(format!("/proc/{}/status", booted.sandbox_pid));
    let inherited = bit(Signal::TERM) | bit(Signal::PIPE);
    assert_eq!(signals(&sandbox, "SigIgn") & inherited, 0);
    // A shell blocks all of them for the moment in which it forks.
    wait_until("the sandbox blocks none", || signals(&sandbox, "SigBlk") & inherited == 0);
    kill_process(Pid::from_raw(booted.sandbox_pid).expect("an id"), Signal::TERM).expect("sent");
    assert_eq!(monitor.wait(), Some(0));
    assert_eq!(vm.exited(), Exited { code: Some(5), signal: None });
    assert_eq!(vm.texts(), ["up", "term"]);
}

#[test]
fn a_failed_boot_says_why_and_leaves_no_sandbox_noted() {
    let vm = Vm::new("");
    vm.plan(vec!["/bin/sh".into(), "-c".into(), "echo this is why >&2; exit 3".into()], None, LogConfig::default());
    let monitor = vm.start("boot");
    let Answer::Failed { message } = &monitor.answer else { panic!("it can't have started") };
    assert!(message.contains("this is why") && message.contains('3'), "{message}");
    assert_eq!(monitor.wait(), Some(1));
    assert!(!vm.path(BOOT_FILE).exists() && !vm.path(EXIT_FILE).exists());

    vm.plan(vec!["/bin/true".into()], None, LogConfig::default());
    let monitor = vm.start("boot");
    assert!(
        matches!(&monitor.answer, Answer::Failed { message } if message.contains("pid file")),
        "{:?}",
        monitor.answer
    );
    vm.plan(vec!["/no/such/program".into()], None, LogConfig::default());
    let monitor = vm.start("boot");
    assert!(
        matches!(&monitor.answer, Answer::Failed { message } if message.contains("/no/such")),
        "{:?}",
        monitor.answer
    );

    let plan = json!({"generation": 1, "command": ["/bin/sleep", "60"], "pidFile": "/nowhere", "control": null, "bootTimeoutMs": 50, "logs": {}});
    fs::write(vm.path(PLAN_FILE), plan.to_string()).expect("written");
    let monitor = vm.start("boot");
    assert!(matches!(&monitor.answer, Answer::Failed { message } if message.contains("50 ms")), "{:?}", monitor.answer);
}

#[test]
fn ten_kills_lose_no_more_than_what_was_in_flight_and_double_nothing() {
    // Whole lines by one write each, as most programs do; slow enough for ten kills.
    let unlimited = LogConfig { lines_per_second: 1 << 40, total_bytes: 1 << 40, ..LogConfig::default() };
    let script = "n=0; while [ ! -e end ]; do echo line $n; n=$((n+1)); [ $((n % 40)) = 0 ] && sleep 0.01; done; echo last $n; exit 7";
    let vm = Vm::with(script, unlimited);
    let mut monitor = vm.boot();
    for kill in 1..=10 {
        let before = vm.texts().len();
        wait_until("more lines", || vm.texts().len() > before + 100);
        monitor.kill();
        monitor = vm.start("attach");
        assert!(matches!(monitor.answer, Answer::Started(_)), "{:?}", monitor.answer);
        let gaps = || vm.texts().iter().filter(|line| line.contains("was restarted")).count();
        wait_until("the gap is noted", || gaps() == kill);
    }
    vm.end();
    assert_eq!(monitor.wait(), Some(0));
    assert_eq!(vm.exited(), Exited::default(), "nobody could know");

    let texts = vm.texts();
    let (mut next, mut jumps, mut after_gap) = (0u64, 0, true);
    for text in &texts {
        match text.strip_prefix("line ").and_then(|number| number.parse::<u64>().ok()) {
            Some(number) => {
                assert!(number == next || after_gap && number > next, "line {number} after line {next} without a gap");
                jumps += u64::from(number != next);
                (next, after_gap) = (number + 1, false);
            }
            None if text.contains("was restarted") => after_gap = true,
            // The rest of a line whose beginning was in flight.
            None if after_gap => {}
            None => assert_eq!(*text, format!("last {next}"), "a line was torn"),
        }
    }
    assert!(jumps <= 10);
    assert!(texts.last().expect("lines").starts_with("last "));
}

#[test]
fn an_id_that_was_given_out_again_is_not_the_sandbox() {
    let vm = Vm::new(&format!("echo up\n{UNTIL_END}"));
    let mut monitor = vm.boot();
    vm.wait_for_line("up");
    monitor.kill();
    let booted: Booted = read_json(&vm.path(BOOT_FILE)).expect("noted");
    // The process lives, but it is another one than was noted.
    let others = [
        Booted { start_time: booted.start_time + 1, ..booted.clone() },
        Booted { boot_id: "another boot".into(), ..booted },
    ];
    for other in others {
        write_json(&vm.path(BOOT_FILE), &other).expect("written");
        let _ = fs::remove_file(vm.path(EXIT_FILE));
        assert_eq!(vm.start("attach").wait(), Some(0));
        assert_eq!(vm.exited(), Exited::default());
    }
    // Once that is noted, nothing is done again.
    let lines = vm.lines();
    assert_eq!(vm.start("attach").wait(), Some(0));
    assert_eq!(vm.lines(), lines);
}

#[test]
fn what_a_dead_sandbox_left_in_the_fifos_is_kept() {
    let vm = Vm::new("echo first; while [ ! -e more ]; do sleep 0.02; done; echo second; printf third; exit 4");
    let mut monitor = vm.boot();
    vm.wait_for_line("first");
    monitor.kill();
    // Nobody but this test holds the FIFOs open when the sandbox has ended.
    let _held = [
        boot::open_fifo(&vm.path(STDOUT_FIFO)).expect("a FIFO"),
        boot::open_fifo(&vm.path(STDERR_FIFO)).expect("a FIFO"),
    ];
    fs::write(vm.path("more"), "").expect("written");
    let Answer::Started(Booted { sandbox_pid: pid, .. }) = monitor.answer else { panic!("not started") };
    wait_until("the sandbox is gone", || !fs::exists(format!("/proc/{pid}")).unwrap_or(true));
    assert_eq!(vm.start("attach").wait(), Some(0));
    let texts = vm.texts();
    assert_eq!((texts[0].as_str(), &texts[2..]), ("first", ["second".to_owned(), "third".to_owned()].as_slice()));
    assert_eq!(vm.exited(), Exited::default());
}

#[test]
fn one_monitor_at_a_time() {
    let vm = Vm::new(&format!("echo up\n{UNTIL_END}"));
    let first = vm.boot();
    vm.wait_for_line("up");
    let second = vm.start("attach");
    assert!(matches!(&second.answer, Answer::Failed { message } if message.contains("another monitor")));
    assert_eq!(second.wait(), Some(1));
    vm.end();
    assert_eq!(first.wait(), Some(0));
    assert_eq!(vm.texts(), ["up"]);
}

#[test]
fn a_flood_is_cut_and_told_and_every_line_is_accounted_for() {
    let config = LogConfig { lines_per_second: 50, burst_lines: 200, ..LogConfig::default() };
    let vm = Vm::with("seq 1 20000; sleep 0.6; echo calm", config);
    assert_eq!(vm.boot().wait(), Some(0));
    let texts = vm.texts();
    let dropped: u64 = texts
        .iter()
        .filter(|text| text.contains("dropped"))
        .map(|text| text.split(' ').next().expect("a count").parse::<u64>().expect("a count"))
        .sum();
    let kept = texts.iter().filter(|text| !text.contains("dropped")).count() as u64;
    assert_eq!(dropped + kept, 20_001);
    assert!(kept >= 200 && dropped > 10_000, "{kept} kept");
    assert_eq!(texts.last().expect("lines"), "calm");
}

#[test]
fn segments_rotate_and_the_oldest_go() {
    let config = LogConfig { segment_bytes: 64 * 1024, total_bytes: 256 * 1024, ..LogConfig::default() };
    let vm = Vm::with("seq 1 20000; exit 0", config);
    assert_eq!(vm.boot().wait(), Some(0));
    let texts = vm.texts();
    let first: usize = texts[0].parse().expect("a number");
    assert!(first > 1 && texts.len() > 1000);
    assert_eq!(texts, (first..=20_000).map(|n| n.to_string()).collect::<Vec<_>>());
    let sizes: Vec<u64> = fs::read_dir(vm.path(LOG_DIR))
        .expect("a log")
        .map(|file| file.expect("a file").metadata().expect("a file").len())
        .collect();
    assert!(sizes.len() > 1 && sizes.iter().sum::<u64>() <= 256 * 1024, "{sizes:?}");
}

#[test]
fn a_full_disk_drops_lines_and_a_gap_says_so_once_there_is_room() {
    // What is sent is more than the disk and the pipe hold together: once it is sent, lines were dropped.
    let script = format!("echo before; while [ ! -e full ]; do sleep 0.02; done\nseq 1 60000; touch sent\n{UNTIL_END}");
    let vm = Vm::with(&format!("{script}echo after"), LogConfig { burst_lines: 100_000, ..LogConfig::default() });
    let logs = vm.path(LOG_DIR);
    fs::create_dir(&logs).expect("a directory");
    rustix::mount::mount("tmpfs", &logs, "tmpfs", rustix::mount::MountFlags::empty(), Some(c"size=128k"))
        .expect("a tmpfs");
    let mounted = Unmount(logs.clone());
    let monitor = vm.boot();
    vm.wait_for_line("before");
    fs::write(vm.path("full"), "").expect("written");
    wait_until("all is sent", || vm.path("sent").exists());
    // Room for all that is still in the pipe, and more.
    rustix::mount::mount_remount(&logs, rustix::mount::MountFlags::empty(), c"size=16m").expect("remounted");
    wait_until("the gap is told", || vm.texts().iter().any(|text| text.contains("no room")));
    vm.end();
    assert_eq!(monitor.wait(), Some(0));
    let texts = vm.texts();
    assert_eq!((texts[0].as_str(), texts.last().expect("lines").as_str()), ("before", "after"));
    let numbers: Vec<u64> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    assert!(numbers.len() < 60_000, "the disk was not full");
    assert!(numbers.is_sorted() && numbers.windows(2).all(|pair| pair[0] < pair[1]), "a line is torn or doubled");
    drop(mounted);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
#[allow(clippy::print_stderr)]
fn it_holds_no_mount_of_others_and_little_memory() {
    let other = tempfile::tempdir().expect("a directory");
    let mounted = Unmount(other.path().to_owned());
    rustix::mount::mount("tmpfs", other.path(), "tmpfs", rustix::mount::MountFlags::empty(), None).expect("a tmpfs");
    let vm = Vm::new(&format!("seq 1 5000; head -c 300000 /dev/zero | tr '\\0' x; echo; echo up\n{UNTIL_END}"));
    let monitor = vm.boot();
    vm.wait_for_line("up");
    drop(mounted);
    let pid = monitor.child.id();
    let holds = |path: &Path| {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("procfs");
        mounts.lines().any(|line| line.split(' ').nth(4) == path.to_str())
    };
    assert!(!holds(other.path()) && !holds(Path::new("/proc/sys/net")));
    let memory = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("procfs");
    let dirty = memory.lines().find(|line| line.starts_with("Private_Dirty")).expect("a field");
    eprintln!("{dirty}");
    vm.end();
    assert_eq!(monitor.wait(), Some(0));
}

/// A real sandbox's leftovers go with the test.
struct Engine {
    root: PathBuf,
    id: String,
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = Command::new("runsc").arg("--root").arg(&self.root).args(["delete", "-force", &self.id]).output();
    }
}

#[test]
fn the_engine_tells_the_exit_code_to_its_parent_and_to_a_later_monitor() {
    for kill in [false, true] {
        let vm = Vm::new("");
        let root = vm.path("bundle/rootfs");
        fs::create_dir_all(root.join("bin")).expect("a directory");
        for name in ["sh", "sleep"] {
            fs::copy("/usr/bin/busybox", root.join("bin").join(name)).expect("busybox-static is installed");
        }
        let script = "echo out; echo err >&2; while [ ! -e /end ]; do sleep 0.05; done; echo bye; exit 7";
        let namespaces = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({"type": kind}));
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": namespaces},
        });
        fs::write(vm.path("bundle/config.json"), config.to_string()).expect("written");
        let id = vm.dir.path().file_name().expect("a name").to_str().expect("UTF-8").trim_start_matches('.').to_owned();
        let engine = Engine { root: vm.path("runsc"), id: id.clone() };
        let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
        let command = [
            "runsc",
            "--root",
            &text(vm.path("runsc")),
            "--platform=systrap",
            "--network=none",
            "--overlay2=none",
            "--file-access=shared",
            "--ignore-cgroups",
            "run",
            "--detach",
            "--pid-file",
            &text(vm.path(PID_FILE)),
            "--bundle",
            &text(vm.path("bundle")),
            &id,
        ];
        let socket = vm.path(&format!("runsc/runsc-{id}.sock"));
        let control = Control { socket: socket.clone(), container: id.clone() };
        vm.plan(command.map(str::to_owned).to_vec(), Some(control), LogConfig::default());
        let mut monitor = vm.boot();
        vm.wait_for_line("out");
        vm.wait_for_line("err");
        assert!(
            socket.exists(),
            "{:?}",
            fs::read_dir(vm.path("runsc"))
                .expect("a directory")
                .map(|entry| entry.expect("an entry").file_name())
                .collect::<Vec<_>>()
        );
        if kill {
            monitor.kill();
            monitor = vm.start("attach");
        }
        fs::write(root.join("end"), "").expect("written");
        assert_eq!(monitor.wait(), Some(0));
        assert_eq!(vm.exited(), Exited { code: Some(7), signal: None }, "killed: {kill}");
        let texts = vm.texts();
        // The two streams have no order between them.
        assert!(
            ["out", "err", "bye"].iter().all(|said| texts.iter().filter(|text| text == said).count() == 1),
            "{texts:?}"
        );
        drop(engine);
    }
}
