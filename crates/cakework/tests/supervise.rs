//! The supervisor's life with real processes: privileges, restarts, ends, two instances, nothing left over.

mod support;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use cakework_testkit::kernel::Census;
use rustix::process::Signal;
use support::{PROGRAM, Serve, open_dir, role_of, run, status_of, stderr, stdout, wait_for};

const NO_CAPABILITIES: &str = "0000000000000000";

/// The uid that a role ends up with, once it has given up its capabilities.
fn confined_uid(serve: &Serve, role: &str) -> u32 {
    let pid = serve.pid_of(role).expect("it runs");
    wait_for("a process without capabilities", || {
        let bare = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
            .iter()
            .all(|set| status_of(pid, set).as_deref() == Some(NO_CAPABILITIES));
        (bare && status_of(pid, "NoNewPrivs")? == "1").then_some(())
    });
    let uids = status_of(pid, "Uid").expect("a uid");
    let mut uids = uids.split_whitespace().map(|uid| uid.parse::<u32>().expect("a number"));
    let first = uids.next().expect("four of them");
    assert!(uids.all(|uid| uid == first), "the process could go back to another uid");
    assert_eq!(status_of(pid, "Groups").as_deref(), Some(""), "no group but its own");
    first
}

#[test]
fn api_and_dns_are_nobody_and_the_directories_are_theirs() {
    let serve = Serve::start();
    let (api, dns) = (confined_uid(&serve, "api"), confined_uid(&serve, "dns"));
    assert!(api != 0 && dns != 0 && api != dns, "{api} {dns}");
    let agent = serve.pid_of("agent").expect("it runs");
    assert_eq!(status_of(agent, "Uid").as_deref(), Some("0\t0\t0\t0"));
    for (name, owner, mode) in [("", 0, 0o711), ("run", 0, 0o711), ("agent", 0, 0o700), ("api", api, 0o700)] {
        let found = serve.data_dir.join(name).metadata().expect("made");
        assert_eq!((found.uid(), found.permissions().mode() & 0o7777), (owner, mode), "{name:?}");
    }
}

#[test]
fn where_the_api_cannot_pass_it_stays_root_without_a_capability() {
    let dir = open_dir();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("set");
    let mut serve = Serve::start_in(dir);
    assert_eq!(confined_uid(&serve, "api"), 0);
    assert_ne!(confined_uid(&serve, "dns"), 0);
    let log = serve.process().output();
    assert!(log.contains("chmod o+x"), "the log says how to repair it: {log}");
}

#[test]
fn a_killed_child_is_started_again() {
    let serve = Serve::start();
    for role in ["agent", "api", "dns", "agent"] {
        serve.kill_role(role);
    }
}

#[test]
fn sigterm_ends_all_children_and_is_a_success() {
    let mut serve = Serve::start();
    let children = ["agent", "dns", "api"].map(|role| serve.pid_of(role).expect("it runs"));
    serve.stop();
    assert_eq!(children.map(role_of), [None, None, None]);
    serve.start_again();
}

#[test]
fn children_die_with_a_killed_supervisor_and_the_next_starts_at_once() {
    let mut serve = Serve::start();
    let children = ["agent", "dns", "api"].map(|role| serve.pid_of(role).expect("it runs"));
    for role in ["api", "dns"] {
        // The death signal is asked for last of all.
        confined_uid(&serve, role);
    }
    wait_for("the agent to be up", || serve.process().output().contains(r#""role":"agent""#).then_some(()));
    let before = serve.record();
    serve.process().kill();
    for child in children {
        wait_for("a child's end", || role_of(child).is_none().then_some(()));
    }
    serve.start_again();
    assert_eq!(serve.record()["instanceId"], before["instanceId"]);
    assert_eq!(serve.record()["pool"], before["pool"]);
}

#[test]
fn one_directory_has_one_server_and_no_purge_beside_it() {
    let serve = Serve::start();
    let other = run(&["serve", "--data-dir", serve.data(), "--listen", "127.0.0.1:1", "--edge-listen", "127.0.0.1:2"]);
    assert!(!other.status.success());
    assert!(stderr(&other).contains("a server already runs on"), "{}", stderr(&other));
    let purge = run(&["purge", "--yes", "--data-dir", serve.data()]);
    assert!(!purge.status.success());
    assert!(stderr(&purge).contains("stop it first"), "{}", stderr(&purge));
    assert!(serve.data_dir.join("instance.json").exists());
    for role in ["agent", "api", "dns"] {
        assert!(serve.pid_of(role).is_some(), "{role} was not disturbed");
    }
}

#[test]
fn a_taken_port_is_named_before_anything_starts() {
    support::need_root();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let dir = open_dir();
    let data = dir.path().join("data").display().to_string();
    let output = run(&["serve", "--data-dir", &data, "--listen", &address, "--edge-listen", "127.0.0.1:2"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains(&format!("{address} can't be listened on")), "{}", stderr(&output));
    let purged = run(&["purge", "--data-dir", &data]);
    assert!(purged.status.success(), "{}", stderr(&purged));
}

#[test]
fn no_key_is_made_where_stdout_is_the_journals() {
    let dir = open_dir();
    let journal = support::log_in(dir.path());
    std::fs::File::create(&journal).expect("a file");
    let found = journal.metadata().expect("it was just made");
    let socket = dir.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(support::LIMIT)).expect("a timeout");
    let env = [
        ("JOURNAL_STREAM".to_owned(), format!("{}:{}", found.dev(), found.ino())),
        ("NOTIFY_SOCKET".to_owned(), socket.display().to_string()),
    ];
    let mut serve = Serve::start_with(dir, &env);
    let mut said = [0; 64];
    let length = manager.recv(&mut said).expect("the manager is told");
    assert_eq!(String::from_utf8_lossy(&said[..length]).trim(), "READY=1");
    let output = wait_for("the line that says so", || {
        Some(serve.process().output()).filter(|output| output.contains("ready: API"))
    });
    assert!(!output.contains("cw_"), "{output}");
    let made = run(&["key", "create", "--data-dir", serve.data()]);
    assert!(stdout(&made).starts_with("cw_"), "{}", stderr(&made));
    let list = stdout(&run(&["key", "list", "--data-dir", serve.data()]));
    assert_eq!(list.matches("admin").count(), 1, "{list}");
}

#[test]
fn a_purge_that_keeps_data_leaves_nothing_else() {
    let mut serve = Serve::start();
    let (scope, before) = (serve.scope(), serve.record());
    wait_for("a database", || serve.data_dir.join("api/cakework.db").exists().then_some(()));
    serve.stop();
    let purged = run(&["purge", "--yes", "--keep-data", "--data-dir", serve.data()]);
    assert!(purged.status.success(), "{}", stderr(&purged));
    assert!(Census::take(&scope).expect("a count").is_empty());
    assert!(serve.data_dir.join("api/cakework.db").exists());
    serve.start_again();
    assert_eq!(serve.record(), before, "it is the same instance");
}

#[test]
fn two_instances_share_nothing_and_a_purge_leaves_nothing() {
    let (mut one, two) = (Serve::start(), Serve::start());
    let (first, second) = (one.record(), two.record());
    for field in ["instanceId", "pool", "apiUid", "dnsUid", "dnsPort"] {
        assert_ne!(first[field], second[field], "{field}");
    }
    let scope = one.scope();
    assert!(!Census::take(&scope).expect("a count").is_empty(), "its processes at least");
    let beside: Vec<_> = ["agent", "api", "dns"].iter().map(|role| two.pid_of(role)).collect();

    one.stop();
    let purged = run(&["purge", "--yes", "--data-dir", one.data()]);
    assert!(purged.status.success(), "{}", stderr(&purged));
    assert!(stdout(&purged).contains("removed "), "it says what it did");
    let left: Vec<String> = Census::take(&scope).expect("a count").objects().map(ToString::to_string).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!one.data_dir.exists());
    assert!(!std::path::Path::new("/run/cakework").join(format!("{}.json", text(&first["instanceId"]))).exists());
    assert_eq!(beside, ["agent", "api", "dns"].map(|role| two.pid_of(role)), "the other one goes on");
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().expect("a string")
}

#[test]
fn purge_removes_only_what_an_instance_made() {
    support::need_root();
    let dir = open_dir();
    let strange = run(&["purge", "--yes", "--data-dir", &dir.path().display().to_string()]);
    assert!(!strange.status.success());
    assert!(stderr(&strange).contains("holds no instance"), "{}", stderr(&strange));

    let mut serve = Serve::start();
    std::fs::write(serve.data_dir.join("mine.txt"), "kept").expect("written");
    serve.stop();
    let purged = run(&["purge", "--yes", "--data-dir", serve.data()]);
    assert!(purged.status.success(), "{}", stderr(&purged));
    assert!(stdout(&purged).contains("mine.txt"), "{}", stdout(&purged));
    assert_eq!(std::fs::read(serve.data_dir.join("mine.txt")).expect("kept"), b"kept");
}

#[test]
fn without_root_it_says_what_to_do() {
    support::need_root();
    // The program itself may lie where nobody else can read.
    let dir = open_dir();
    let program = dir.path().join("cakework");
    std::fs::copy(PROGRAM, &program).expect("copied");
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
        .arg(&program)
        .args(["serve", "--data-dir", "/tmp/cakework-nobody"])
        .output()
        .expect("setpriv comes with util-linux");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("sudo cakework serve"), "{}", stderr(&output));
}

#[test]
fn a_second_interrupt_does_not_wait_for_a_child_that_hangs() {
    let mut serve = Serve::start();
    let agent = serve.pid_of("agent").expect("it runs");
    // A stopped process takes no SIGTERM; one that is yet to stop takes it first.
    support::kill(agent, Signal::STOP);
    wait_for("the agent to stop", || status_of(agent, "State")?.starts_with('T').then_some(()));
    serve.process().signal(Signal::INT).expect("a signal");
    wait_for("the others' end", || serve.pid_of("api").is_none().then_some(()));
    assert!(serve.process().ended().expect("asked").is_none(), "it waits for the agent");
    serve.process().signal(Signal::INT).expect("a signal");
    serve.process().wait(Duration::from_secs(10)).expect("no more waiting");
    assert_eq!(role_of(agent), None);
}
