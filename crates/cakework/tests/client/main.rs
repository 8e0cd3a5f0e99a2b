//! The commands of builders and end users, as they are typed: the real program against a real server, at a terminal where
//! there would be one.

mod line;
mod page;
mod person;
#[path = "../support/mod.rs"]
mod support;
mod terminal;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use cakework_testkit::process::Process;
use line::bad_line;
use person::{Person, path};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{LIMIT, PROGRAM, cakework, stderr, stdout, wait_for};
use terminal::Terminal;

#[tokio::test(flavor = "multi_thread")]
async fn from_init_to_a_running_logged_and_reachable_app() {
    let person = Person::new().await;
    person.login().await;
    let profiles = person.folder("config/cakework/profiles.toml");
    assert_eq!(std::fs::metadata(&profiles).expect("kept").permissions().mode() & 0o777, 0o600);
    let password = person.registry.password();
    let registry = person.registry.host().to_owned();
    let set =
        person.run_with(&["registry", "set", &registry, "--username", "AWS"], &[], &format!("{password}\n")).await;
    Person::said(&set);
    assert!(person.ok(&["registry", "list"]).await.contains("AWS"));

    let app = person.folder("my-app");
    let dir = path(&app);
    person.ok(&["init", dir]).await;
    let base = person.base();
    let deployed = person.run(&["deploy", "-C", dir, "--build-arg", &base]).await;
    let url = Person::said(&deployed);
    let hostname = url.trim_start_matches("http://").split(':').next().expect("a host").to_owned();
    assert_eq!(person.server.fetch(&hostname, "/").await.expect("an answer").text, "Hello from Cakework\n");
    let told = stderr(&deployed);
    for word in ["sent", "[3/4] COPY . .", "built", "started", "answers", "200 after"] {
        assert!(told.contains(word), "no {word:?} in:\n{told}");
    }
    assert!(!told.contains('\u{1b}') && !url.contains('\u{1b}'), "no colour where there is no terminal: {told}");
    assert_eq!(person.ok(&["open", "-C", dir]).await, url);
    assert!(person.ok(&["logs", "-C", dir]).await.contains("listening on 8080"));

    let exec = person
        .run_with(
            &["exec", "-C", dir, "-w", "/tmp", "-e", "A=b", "--", "sh", "-c", "cat; pwd; echo $A >&2; exit 7"],
            &[],
            "typed",
        )
        .await;
    assert_eq!((exec.status.code(), stdout(&exec).as_str(), stderr(&exec).as_str()), (Some(7), "typed/tmp\n", "b\n"));
    assert_eq!(person.run(&["exec", "-C", dir, "--", "no-such-program"]).await.status.code(), Some(127));
    assert_eq!(person.run(&["exec", "-C", dir, "--timeout", "1", "--", "sleep", "9"]).await.status.code(), Some(124));

    // A change comes under a new hostname; what was there before goes once that answers.
    let main = std::fs::read_to_string(app.join("main.py")).expect("read");
    std::fs::write(app.join("main.py"), main.replace("Hello", "Goodbye")).expect("written");
    let next = person.ok(&["deploy", "-C", dir, "--build-arg", &base, "--json"]).await;
    let next: Value = serde_json::from_str(&next).expect("JSON");
    let hostname = next["hostname"].as_str().expect("a hostname");
    assert_eq!(person.server.fetch(hostname, "/").await.expect("an answer").text, "Goodbye from Cakework\n");
    let list: Value = serde_json::from_str(&person.ok(&["vm", "list", "--json"]).await).expect("JSON");
    assert_eq!(list.as_array().expect("a list").len(), 1);
    // One that does not come up leaves it as it was.
    std::fs::write(app.join("main.py"), "print('I can not')\nraise SystemExit(3)\n").expect("written");
    let failed = person.run(&["deploy", "-C", dir, "--build-arg", &base]).await;
    assert_eq!(failed.status.code(), Some(1), "{}", stderr(&failed));
    assert!(
        stderr(&failed).contains("I can not") && stderr(&failed).contains("goes on as it was"),
        "{}",
        stderr(&failed)
    );
    assert_eq!(person.server.fetch(hostname, "/").await.expect("an answer").text, "Goodbye from Cakework\n");
    let ran = person.run(&["run", "-C", dir, "--build-arg", &base]).await;
    assert_eq!((ran.status.code(), stdout(&ran).as_str()), (Some(3), "I can not\n"), "{}", stderr(&ran));
    let ran = person
        .run(&["run", "-C", dir, "--build-arg", &base, "--", "python3", "-c", "import os; os.kill(os.getpid(), 15)"])
        .await;
    assert_eq!(ran.status.code(), Some(128 + 15), "{}", stderr(&ran));
    std::fs::write(app.join("Dockerfile"), format!("FROM {}\nRUN echo said before; exit 9\n", &base[5..]))
        .expect("written");
    let failed = person.run(&["deploy", "-C", dir]).await;
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        stderr(&failed).contains("said before") && stderr(&failed).contains("error: Dockerfile:2: "),
        "{}",
        stderr(&failed)
    );
    person.ok(&["logout"]).await;
    assert!(!std::fs::read_to_string(&profiles).expect("kept").contains(person.server.key()));
}

#[tokio::test(flavor = "multi_thread")]
async fn builders_images_vms_files_and_webhooks() {
    let person = Person::new().await;
    person.login().await;
    let reference = person.registry.reference("team/python", "3");
    let refused = person.run(&["image", "import", &reference]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("hint: set CAKEWORK_REGISTRY_PASSWORD"), "{}", stderr(&refused));
    let password = [("CAKEWORK_REGISTRY_PASSWORD", person.registry.password())];
    let image = Person::said(&person.run_with(&["image", "import", &reference], &password, "").await);
    assert!(person.ok(&["image", "list"]).await.contains(&image));
    assert_eq!(
        serde_json::from_str::<Value>(&person.ok(&["image", "show", &image]).await).expect("JSON")["state"],
        "ready"
    );

    let vm = person
        .ok(&["vm", "start", &image, "-m", "plan=free", "--", "sh", "-c", "echo said; echo wrong >&2; sleep 600"])
        .await;
    let listed = person.ok(&["vm", "list", "-m", "plan=free"]).await;
    assert!(listed.starts_with("VM ID") && listed.contains(&vm) && listed.contains("once"), "{listed}");
    assert_eq!(person.ok(&["vm", "list", "-m", "plan=paid", "--json"]).await, "[]");
    wait_for("two lines", || {
        let output = cakework(&["vm", "logs", &vm, "--json"]).envs(person.env()).output().expect("it runs");
        (stdout(&output).lines().count() == 2).then_some(())
    });
    let logs = person.ok(&["vm", "logs", &vm, "--query", "WRONG"]).await;
    assert!(logs.ends_with(" wrong") && logs.lines().count() == 1, "{logs}");
    assert_eq!(person.ok(&["vm", "logs", &vm, "-n", "1"]).await.lines().count(), 1);
    assert_eq!(person.ok(&["vm", "logs", &vm, "--since", "2100-01-01T00:00:00Z"]).await, "");

    // Files and folders, there and back.
    let folder = person.folder("data");
    std::fs::create_dir_all(folder.join("sub")).expect("made");
    std::fs::write(folder.join("sub/bytes"), [0, 255, 10]).expect("written");
    std::fs::write(folder.join("run.sh"), "#!/bin/sh\necho ran\n").expect("written");
    std::fs::set_permissions(folder.join("run.sh"), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    person.ok(&["vm", "cp", path(&folder), &format!("{vm}:/tmp/data")]).await;
    person.ok(&["vm", "cp", path(&folder.join("run.sh")), &format!("{vm}:/tmp/")]).await;
    assert_eq!(person.ok(&["vm", "exec", &vm, "--", "sh", "-c", "/tmp/run.sh; /tmp/data/run.sh"]).await, "ran\nran");
    let back = person.folder("back");
    person.ok(&["vm", "cp", &format!("{vm}:/tmp/data"), path(&back)]).await;
    assert_eq!(std::fs::read(back.join("sub/bytes")).expect("there"), [0, 255, 10]);
    person.ok(&["vm", "cp", &format!("{vm}:/tmp/data/run.sh"), path(&back)]).await;
    for (from, into, code) in
        [("a", "b", 2), (&format!("{vm}:/none")[..], "x", 4), ("/none", &format!("{vm}:/tmp/x")[..], 2)]
    {
        assert_eq!(person.run(&["vm", "cp", from, into]).await.status.code(), Some(code), "{from} {into}");
    }
    let ended = person.run(&["vm", "stop", &vm, "00000000000000"]).await;
    assert_eq!(ended.status.code(), Some(4), "all are tried, the first failure counts");
    assert!(stderr(&ended).contains(&format!("stopped    {vm}")), "{}", stderr(&ended));
    assert!(!person.ok(&["vm", "list"]).await.contains(&vm) && person.ok(&["vm", "list", "--all"]).await.contains(&vm));

    let cached = person.ok(&["cache", "create", &image, "--idle-timeout", "600", "--", "sleep", "600"]).await;
    for (call, state) in [("start", "started"), ("suspend", "asleep"), ("start", "started"), ("stop", "stopped")] {
        person.ok(&["cache", call, &cached]).await;
        assert!(person.ok(&["vm", "list"]).await.contains(state), "{call}");
    }
    person.ok(&["cache", "destroy", &cached]).await;
    assert_eq!(person.run(&["cache", "start", &cached]).await.status.code(), Some(5), "a conflict");

    let made = person.run(&["webhook", "create", "https://example.com/", "-e", "build.failed"]).await;
    let secret = Person::said(&made);
    assert!(secret.starts_with("whsec_") && secret.lines().count() == 1, "{secret}");
    let listed = person.ok(&["webhook", "list"]).await;
    assert!(listed.contains("build.failed") && listed.contains("enabled") && !listed.contains(&secret), "{listed}");
    let id = listed.lines().nth(1).and_then(|row| row.split_whitespace().next()).expect("an id").to_owned();
    assert_ne!(person.ok(&["webhook", "rotate", &id]).await, secret);
    person.ok(&["webhook", "delete", &id]).await;

    let folder = person.folder("built");
    person.ok(&["init", path(&folder), "-t", "dockerfile"]).await;
    std::fs::write(
        folder.join("Dockerfile"),
        format!("FROM cakework/{image}\nRUN --mount=type=secret,id=S test $(wc -c < /run/secrets/S) = 6\n"),
    )
    .expect("written");
    let unset = person.run(&["build", path(&folder), "--secret", "S"]).await;
    assert_eq!(unset.status.code(), Some(2), "{}", stderr(&unset));
    let built = person.run_with(&["build", path(&folder), "--secret", "S"], &[("S", "hidden")], "").await;
    assert_eq!(Person::said(&built).len(), 26);
    assert!(!stderr(&built).contains("hidden"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_exit_code_and_its_fix() {
    let person = Person::new().await;
    let url = person.server.url();
    let key = [("CAKEWORK_URL", url.as_str()), ("CAKEWORK_API_KEY", person.server.key())];
    let empty = person.folder("empty");
    std::fs::create_dir_all(&empty).expect("made");
    let linked = person.folder("linked");
    Person::said(&person.run(&["init", path(&linked)]).await);
    std::os::unix::fs::symlink("/etc/passwd", linked.join("link")).expect("a link");
    for (args, env, code, word) in [
        (&["vm", "list"] as &[&str], &[][..], 3, "hint: run `cakework login`"),
        (
            &["vm", "list"],
            &[("CAKEWORK_URL", url.as_str()), ("CAKEWORK_API_KEY", "cw_wrong")],
            3,
            "hint: Check the header",
        ),
        (&["vm", "list", "--url", "http://127.0.0.1:9"], &[("CAKEWORK_API_KEY", "cw_wrong")], 6, "can't be reached: "),
        (&["vm", "list", "--url", "ftp://x"], &[("CAKEWORK_API_KEY", "x")], 2, "is not the URL of a server"),
        (&["vm", "list", "--profile", "none"], &[], 2, "hint: make it: cakework login --profile none"),
        (&["vm", "show", "00000000000000"], &key, 4, "error: "),
        (&["vm", "show", ".."], &key, 2, "is not an id"),
        (&["vm", "start", "01GV2ZFBT345TRTRDK6VHBECCZ", "--cpu", "99"], &key, 1, "cpu"),
        (&["vm", "start", "x", "-e", "nothing"], &key, 2, "is not NAME=VALUE"),
        (&["vm", "logs", "00000000000000", "-n", "many"], &key, 2, "hint: write a number, or all"),
        (&["deploy", "-C", path(&empty)], &key, 2, "hint: make one: cakework init"),
        (&["deploy", "-C", path(&linked)], &key, 2, "link (a link)"),
        (&["init", path(&linked)], &[], 2, "nothing is written over"),
        (&["build", path(&empty)], &key, 2, "Dockerfile can't be read"),
        (&["build", "--github", "a/b"], &key, 2, "--branch"),
        (&["nonsense"], &[], 2, "unrecognized subcommand"),
        (&["login", &url], &[("CAKEWORK_API_KEY", "cw_wrong")], 3, "error: "),
        (&["logout"], &[], 4, "there is no profile"),
    ] {
        let output = person.run_with(args, env, "").await;
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: no {word:?} in {said}");
        assert!(!said.contains("cw_wrong"), "{args:?}: {said}");
        assert_eq!(stdout(&output), "", "{args:?}");
    }
    assert!(!person.folder("config/cakework/profiles.toml").exists(), "a key that was refused is not kept");
    // A full disk is an error like any other.
    let full = cakework(&["vm", "list", "--json"])
        .envs(person.env())
        .envs(key)
        .stdout(std::fs::File::options().write(true).open("/dev/full").expect("a device"))
        .output()
        .expect("it runs");
    assert!(full.status.success() || full.status.code() == Some(1), "{}", stderr(&full));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_followed_over_a_line_that_breaks_has_each_line_once() {
    const LINES: usize = 2000;
    let person = Person::new().await;
    person.login().await;
    let imported =
        person.server.import(&person.registry.reference("team/python", "3"), person.registry.password()).await;
    let image = imported.expect("an answer").ok()["imageId"].as_str().expect("an id").to_owned();
    let script = format!("import time\nfor n in range({LINES}):\n  print('line', n, flush=True)\n  time.sleep(0.001)");
    let vm = person.ok(&["vm", "start", &image, "--", "python3", "-c", &script]).await;
    let (url, connections) = bad_line(&person.server, |count| 3000 + count * 7919 % 20_000).await;
    let env = [("CAKEWORK_URL", url.as_str()), ("CAKEWORK_API_KEY", person.server.key())];
    let output = person.run_with(&["vm", "logs", "-f", "-n", "all", "--json", &vm], &env, "").await;
    let text = Person::said(&output);
    let seen: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["message"].as_str().expect("text").to_owned())
        .collect();
    let expected: Vec<String> = (0..LINES).map(|n| format!("line {n}")).collect();
    assert_eq!(seen, expected);
    assert!(connections.load(Ordering::SeqCst) > 5, "{connections:?}");
    assert_eq!(person.ok(&["vm", "logs", "-n", "all", &vm]).await.lines().count(), LINES);
    // Answers that are lost on their way make nothing twice.
    let (url, _) = bad_line(&person.server, |count| if count % 2 == 1 { 0 } else { usize::MAX }).await;
    let env = [("CAKEWORK_URL", url.as_str()), ("CAKEWORK_API_KEY", person.server.key())];
    let once =
        Person::said(&person.run_with(&["vm", "start", &image, "-m", "of=once", "--", "sleep", "600"], &env, "").await);
    let list: Value = serde_json::from_str(&person.ok(&["vm", "list", "-m", "of=once", "--json"]).await).expect("JSON");
    assert_eq!(list.as_array().expect("a list").len(), 1);
    person.ok(&["vm", "stop", &once]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_what_it_began() {
    let person = Person::new().await;
    person.login().await;
    let app = person.project("app").await;
    let start = |words: &[&str]| {
        let mut args: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        args.extend(["-C".to_owned(), path(&app).to_owned(), "--build-arg".to_owned(), person.base()]);
        Process::start_with_env(Path::new(PROGRAM), &args, &person.env(), &person.folder("said")).expect("a process")
    };
    let mut running = start(&["run"]);
    wait_for("its words", || running.output().contains("listening on 8080").then_some(()));
    running.signal(Signal::INT).expect("a signal");
    assert_eq!(running.wait(LIMIT).expect("an end").code(), Some(130), "{}", running.output());
    assert_eq!(person.ok(&["vm", "list", "--json"]).await, "[]");
    let mut file = std::fs::File::options().append(true).open(app.join("Dockerfile")).expect("a file");
    file.write_all(b"RUN echo sleeping; sleep 600\n").expect("written");
    let mut building = start(&["deploy"]);
    wait_for("the step", || building.output().contains("sleep 600").then_some(()));
    building.signal(Signal::INT).expect("a signal");
    assert_eq!(building.wait(LIMIT).expect("an end").code(), Some(130), "{}", building.output());
    let builds = person.server.get("/v1/builds?limit=1").await.expect("an answer").ok();
    assert_eq!(builds["builds"][0]["status"], "failed", "it is cancelled");
    assert_eq!(person.ok(&["vm", "list", "--json"]).await, "[]");
}

/// What a person sees, in tmux: bars and spinners that end in facts, a shell in a VM with the terminal's own size.
#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_steps_are_shown_and_a_shell_is_one() {
    let person = Person::new().await;
    person.login().await;
    let app = person.project("app").await;
    let mut file = std::fs::File::options().append(true).open(app.join("Dockerfile")).expect("a file");
    let long = "that is much longer than the terminal is wide, ".repeat(2);
    file.write_all(format!("RUN for n in 1 2 3; do echo \"words $n {long}\"; sleep 0.5; done\n").as_bytes())
        .expect("written");
    let terminal = Terminal::open(&person, 70, 30);
    terminal.types(&format!("cd {}; clear", path(&app)));
    terminal.types(&format!("cakework deploy --build-arg {}; echo ended with $?", person.base()));
    terminal.shows("words 2");
    let screen = terminal.shows("ended with 0");
    let at = |word: &str| {
        screen.iter().position(|line| line.starts_with(word)).unwrap_or_else(|| panic!("no {word}: {screen:#?}"))
    };
    let order = [at("✓ sent"), at("✓ 0."), at("✓ built"), at("✓ started"), at("✓ answers"), at("http://")];
    assert!(order.is_sorted(), "{screen:#?}");
    assert!(!screen.iter().any(|line| line.contains("words 3")), "a spinner leaves nothing: {screen:#?}");
    terminal.types("clear; cakework exec -- sh");
    terminal.shows("#");
    terminal.types("stty size; test -t 0 && echo at a ter''minal; exit 5");
    terminal.shows("30 70");
    terminal.shows("at a terminal");
    terminal.types("echo ended with $?");
    terminal.shows("ended with 5");
    // The terminal is as it was: what is typed is seen.
    terminal.types("stty -a | grep -o ' echo '");
    terminal.shows(" echo");
    terminal.types("clear; cakework logs -f");
    terminal.shows("listening on 8080");
    terminal.keys("C-c");
    terminal.types("echo ended with $?");
    terminal.shows("ended with 130");
}

/// What programs read of a list is what the API says.
#[tokio::test(flavor = "multi_thread")]
async fn lists_are_the_apis_own_in_json() {
    let person = Person::new().await;
    person.login().await;
    let imported =
        person.server.import(&person.registry.reference("team/python", "3"), person.registry.password()).await;
    let image = imported.expect("an answer").ok();
    person
        .server
        .post("/v1/vm/cache", json!({"imageId": image["imageId"], "prewarm": "none"}))
        .await
        .expect("an answer")
        .ok();
    for (args, api, field) in [
        (&["vm", "list", "--json"], "/v1/vms", "vms"),
        (&["image", "list", "--json"], "/v1/images", "images"),
        (&["webhook", "list", "--json"], "/v1/webhook", "webhooks"),
        (&["registry", "list", "--json"], "/v1/registry", "registries"),
    ] {
        let listed: Value = serde_json::from_str(&person.ok(args).await).expect("JSON");
        assert_eq!(listed, person.server.get(api).await.expect("an answer").ok()[field], "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_manual_pages_are_there() {
    let dir = tempfile::tempdir().expect("a directory");
    for shell in ["bash", "zsh", "fish"] {
        let output = support::run(&["completions", shell]);
        assert!(output.status.success() && stdout(&output).contains("cakework"), "{shell}");
        if shell == "bash" {
            let file = dir.path().join("completions");
            std::fs::write(&file, &output.stdout).expect("written");
            let words = "source \"$1\"; COMP_WORDS=(cakework vm l); COMP_CWORD=2; _cakework cakework l vm; echo \"${COMPREPLY[@]}\"";
            let said =
                std::process::Command::new("bash").args(["-c", words, "bash"]).arg(&file).output().expect("bash runs");
            assert_eq!(stdout(&said).trim(), "list logs", "{}", stderr(&said));
        }
    }
    let output = support::run(&["man", path(dir.path())]);
    assert!(output.status.success(), "{}", stderr(&output));
    for page in ["cakework.1", "cakework-deploy.1", "cakework-vm-list.1"] {
        let text = std::fs::read_to_string(dir.path().join(page)).expect(page);
        assert!(text.contains(".TH"), "{page}");
    }
    // The roles that nobody types are in none of them.
    assert!(!dir.path().join("cakework-agent.1").exists());
}
