//! The command line as a person meets it: help, errors with their fix, answers in JSON.

mod support;

use std::collections::BTreeSet;

use support::{cakework, run, stderr, stdout};

#[test]
fn help_reads_well() {
    for (name, args) in [
        ("cakework", &["--help"] as &[_]),
        ("serve", &["serve", "--help"]),
        ("doctor", &["doctor", "--help"]),
        ("key", &["key", "--help"]),
        ("key-create", &["key", "create", "--help"]),
        ("purge", &["purge", "--help"]),
        ("backup", &["backup", "--help"]),
        ("restore", &["restore", "--help"]),
        ("init", &["init", "--help"]),
        ("deploy", &["deploy", "--help"]),
        ("exec", &["exec", "--help"]),
        ("vm", &["vm", "--help"]),
        ("vm-list", &["vm", "list", "--help"]),
        ("cache", &["cache", "--help"]),
        ("webhook", &["webhook", "--help"]),
    ] {
        let output = run(args);
        assert!(output.status.success());
        insta::assert_snapshot!(format!("help-{name}"), stdout(&output));
    }
}

/// The help of every command is a page, too. `UPDATE_DOCS=1` writes it anew.
#[test]
fn the_page_of_commands_is_what_the_program_says() {
    let mut page = "# Every command\n\nWhat `cakework COMMAND --help` says of each. [cli.md](cli.md) tells how they go together.\n".to_owned();
    add_help(&mut page, &[]);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli-reference.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page).expect("written");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/cli-reference.md is not what the program says: UPDATE_DOCS=1 writes it anew");
}

fn add_help(page: &mut String, command: &[&str]) {
    let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
    let help = stdout(&run(&args));
    page.push_str(
        &format!("\n## cakework {}\n\n```text\n{}\n```\n", command.join(" "), help.trim_end())
            .replace("cakework \n", "cakework\n"),
    );
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    for name in names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        let deeper: Vec<&str> = command.iter().copied().chain([name]).collect();
        add_help(page, &deeper);
    }
}

#[test]
fn the_roles_are_hidden_and_refuse_people() {
    let help = stdout(&run(&["--help"]));
    for role in ["agent", "api", "dns", "monitor", "unpack"] {
        assert!(!help.lines().any(|line| line.trim_start().starts_with(role)), "{role} is not for people");
    }
    for role in ["agent", "api", "dns"] {
        let output = run(&[role]);
        assert!(!output.status.success(), "{role} was told nothing");
    }
    assert_eq!(run(&["monitor"]).status.code(), Some(2));
    assert_eq!(run(&["monitor", "--vm-dir", "/nonexistent", "look"]).status.code(), Some(2));
}

#[test]
fn every_configuration_error_has_its_line_and_its_fix() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("cakework.toml");
    let text = "listen = \"127.0.0.1:8080\"\nlisten_edge = \"127.0.0.1:8081\"\n\n[network]\npool = \"10.0.0.0/20\"\n\n\
                [limits]\nvms = \"many\"\n\n[limitz]\nvms = 1\n";
    std::fs::write(&file, text).expect("written");
    let path = file.display().to_string();
    let output = run(&["config", "check", "--config", &path]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!("config-errors", stderr(&output).replace(&path, "FILE"));
    // What refuses the check refuses the server too.
    let serve = run(&["serve", "--config", &path]);
    assert_eq!(stderr(&serve), stderr(&output));
}

#[test]
fn option_stands_over_environment_over_file_over_default() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("cakework.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:7001\"\n").expect("written");
    let path = file.display().to_string();
    let check = |args: &[&str], env: &[(&str, &str)]| {
        let output =
            cakework(&[&["config", "check"], args].concat()).envs(env.iter().copied()).output().expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let env = [("CAKEWORK_LISTEN", "127.0.0.1:7002")];
    assert!(check(&[], &[]).contains("API on 127.0.0.1:8081"));
    assert!(check(&["--config", &path], &[]).contains("API on 127.0.0.1:7001"));
    assert!(check(&["--config", &path], &env).contains("API on 127.0.0.1:7002"));
    assert!(check(&["--config", &path, "--listen", "127.0.0.1:7003"], &env).contains("API on 127.0.0.1:7003"));
}

#[test]
fn the_doctors_json_has_one_shape() {
    support::need_root();
    let dir = support::open_dir();
    let data = dir.path().join("data").display().to_string();
    let output = run(&["doctor", "--json", "--data-dir", &data]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON alone on stdout");
    let checks = report["checks"].as_array().expect("a list");
    // Only systemd knows of the clock.
    let names = checks.iter().filter_map(|check| check["name"].as_str()).filter(|name| *name != "clock");
    let names: BTreeSet<&str> = names.collect();
    let expected = [
        "kernel",
        "cgroups",
        "gvisor",
        "nft",
        "loop",
        "overlay",
        "disk",
        "memory",
        "swap",
        "waiting",
        "port api",
        "port edge",
        "ip_forward",
        "forward",
        "conntrack",
        "git",
        "api user",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    let mut gaps = 0;
    for check in checks {
        let status = check["status"].as_str().expect("a status");
        assert!(["ok", "warn", "gap"].contains(&status), "{check}");
        assert_eq!(check["fix"].is_string(), status != "ok", "what is not right has a fix: {check}");
        assert!(check["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{check}");
        gaps += usize::from(status == "gap");
    }
    assert_eq!(report["ok"], gaps == 0);
    assert_eq!(output.status.code(), Some(i32::from(gaps != 0)));
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("listed").flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "the doctor took away what it made: {left:?}");
}

#[test]
fn the_doctor_names_a_gap_and_fails() {
    support::need_root();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = run(&["doctor", "--json", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let port = report["checks"].as_array().expect("a list").iter().find(|check| check["name"] == "port api");
    let port = port.expect("the check");
    assert_eq!(port["status"], "gap");
    assert!(port["fix"].as_str().is_some_and(|fix| fix.contains("ss -ltnp")), "{port}");
}

#[test]
fn the_doctor_names_a_firewall_that_drops_what_vms_send() {
    support::need_root();
    let dir = support::open_dir();
    let config = dir.path().join("cakework.toml");
    std::fs::write(&config, "[network]\npool = \"10.77.0.0/16\"\n").expect("a file");
    let forward = |rules: &str| {
        let chain = "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'";
        let script = format!("{chain} && {rules} && \"$0\" doctor --json --config \"$1\" --data-dir \"$2\"");
        let data = dir.path().join("data");
        let mut command = std::process::Command::new("unshare");
        let command = command.args(["--net", "sh", "-c", &script, support::PROGRAM]).arg(&config).arg(data);
        let output = command.output().expect("it runs");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let checks = report["checks"].as_array().expect("a list").clone();
        checks.into_iter().find(|check| check["name"] == "forward").expect("the check")
    };
    let found = forward("true");
    assert_eq!(found["status"], "warn");
    assert!(found["detail"].as_str().is_some_and(|detail| detail.contains("ip filter FORWARD")), "{found}");
    let fix = found["fix"].as_str().expect("a fix");
    assert_eq!(forward(fix)["status"], "ok", "what it says repairs it");
}
