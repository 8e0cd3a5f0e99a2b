//! What a command of a stranger sees: gVisor's kernel and its own image, and nothing of the host.

use cakework_testkit::images::Entry;

use crate::builder::{Builds, Recipe};

/// A process of the host, for as long as it is looked for.
struct Canary(std::process::Child);

impl Drop for Canary {
    fn drop(&mut self) {
        // It may be gone: then there is nothing to end.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[tokio::test]
async fn a_command_sees_the_sandbox_and_nothing_of_the_host() {
    let builds = Builds::started().await;
    // What a command would find if it ran on the host.
    let canary = tempfile::NamedTempFile::new().expect("a file");
    let canary_path = canary.path().display().to_string();
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let process = Canary(std::process::Command::new("sleep").arg("31337").spawn().expect("sleep starts"));
    let recipe = Recipe::new(
        "FROM $BASE
         ARG CANARY
         ARG PORT
         RUN grep -q '4.4.0' /proc/version && dmesg | grep -qi gvisor && echo in gVisor
         RUN test ! -e $CANARY && test ! -e /work && test ! -e /root/.cargo && echo no file of the host
         RUN test $(ps | wc -l) -lt 8 && ! ps | grep -q 'sleep [3]1337' && echo no process of the host
         RUN for host in 127.0.0.1 10.0.0.1 169.254.42.1 169.254.169.254; do \
                 if nc -w 2 $host $PORT < /dev/null; then echo reached $host; exit 1; fi; done; echo no listener of the host
         RUN for node in /node /dev/node; do (mknod $node b 7 0 && head -c 1 $node) 2> /dev/null && exit 1; rm -f $node; done; \
             mount -t proc none /mnt 2> /dev/null && exit 1; echo no device of the host",
    )
    .arg("CANARY", &canary_path)
    .arg("PORT", &port.to_string());
    let outcome = builds.good(&recipe).await;
    let wanted = [
        "in gVisor",
        "no file of the host",
        "no process of the host",
        "no listener of the host",
        "no device of the host",
    ];
    for line in wanted {
        assert!(outcome.says(line), "{line}: {}", outcome.text());
    }
    // The same looks find them on the host.
    let found = std::process::Command::new("sh").args(["-c", "ps ax | grep -q 'sleep [3]1337'"]).status();
    assert!(found.expect("a shell").success());
    drop(process);
    assert!(canary.path().exists() && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert!(!std::fs::read_to_string("/proc/version").expect("a kernel").contains("4.4.0"));
}

#[tokio::test]
async fn a_command_without_a_network_has_none() {
    let builds = Builds::started().await;
    let recipe = Recipe::new(
        "FROM $BASE
         RUN test -e /sys/class/net/eth0 || ip addr | grep -q 10.0.0.2 && echo with an address
         RUN --network=none ip addr | grep -q 10.0.0.2 && exit 1; echo without
         RUN ip addr | grep -q 10.0.0.2 && echo with one again",
    );
    let outcome = builds.good(&recipe).await;
    for line in ["with an address", "without", "with one again"] {
        assert!(outcome.says(line), "{line}: {}", outcome.text());
    }
}

#[tokio::test]
async fn links_of_a_context_lead_nowhere_outside() {
    let builds = Builds::started().await;
    let canary = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(canary.path(), "of the host").expect("written");
    let path = canary.path().to_str().expect("a path");
    let up = format!("{}{path}", "../".repeat(12));
    let link = |name: &str, to: &str| Entry::symlink(name, to);
    for dockerfile in [
        "FROM $BASE\nCOPY link /x\nRUN cat /x\n".to_owned(),
        "FROM $BASE\nCOPY up /x\nRUN cat /x\n".to_owned(),
        "FROM $BASE\nADD link /x\n".to_owned(),
        "FROM $BASE\nRUN --mount=type=bind,source=link,target=/x cat /x\n".to_owned(),
        "FROM $BASE\nRUN --mount=type=bind,source=up,target=/x,rw echo written > /x\n".to_owned(),
        format!("FROM $BASE AS a\nRUN ln -s {path} /link\nFROM $BASE\nCOPY --from=a /link /x\n"),
        format!(
            "FROM $BASE AS a\nRUN ln -s {path} /link\nFROM $BASE\nRUN --mount=type=bind,from=a,source=/link,target=/x,rw echo written > /x\n"
        ),
    ] {
        let recipe = Recipe::new(&dockerfile).entry(link("link", path)).entry(link("up", &up));
        let problem = builds.bad(&recipe).await;
        assert!(problem.line.is_some(), "{dockerfile}: {problem:?}");
    }
    // Where a directory of the image leads out, what is copied there stays inside.
    let dockerfile = format!(
        "FROM $BASE\nRUN ln -s {path} /out && ln -s / /root-of\nCOPY a /root-of/tmp/a\nCOPY a /out\nRUN true\n"
    );
    builds.build(&Recipe::new(&dockerfile).file("a", "of the build")).await;
    assert_eq!(std::fs::read_to_string(canary.path()).expect("there"), "of the host");
    assert!(!std::path::Path::new("/tmp/a").exists());
}
