//! The lives of VMs on a host: real sandboxes, disks, networks and monitors, through the host protocol.

use crate::host::{Host, http, shell, spec};
use cakework_core::lifecycle::ExitReason;
use cakework_core::spec::VmSpec;
use cakework_testkit::kernel::Census;

#[tokio::test]
async fn a_vm_is_what_image_and_request_say_and_leaves_nothing() {
    let host = Host::started().await;
    let image = shell().env(&["PATH=/bin", "FROM=image", "OVER=image"]).user("app").workdir("/srv/app").build();
    let digest = host.image("app", image).await;
    let before = Census::take(&host.scope()).expect("a census");
    let script = "mkdir /tmp/www; memory=$(awk '/MemTotal/ {print $2}' /proc/meminfo)
                  echo $FROM $OVER $(id -u) $(id -g) $PWD $HOME $(hostname) $memory > /tmp/www/index.html
                  httpd -f -p 8080 -h /tmp/www";
    let wanted =
        VmSpec { port: Some(8080), env: [("OVER".to_owned(), "request".to_owned())].into(), ..spec(&digest, script) };
    let vm = host.admit(wanted, None).await;
    let address = host.running(&vm).await;
    let page = host.until("the app answers", async || http(address, 8080).await).await;
    assert_eq!(page, format!("image request 1000 1000 /srv/app /home/app {vm} 262144"), "with its limit in KiB");
    host.delete(&vm, 1).await;
    assert_eq!(host.ended(&vm).await.reason, ExitReason::Stopped);
    host.assert_nothing_since(&before);
    let mut kept: Vec<_> = std::fs::read_dir(host.file(&vm, "")).expect("its directory").flatten().collect();
    kept.sort_by_key(std::fs::DirEntry::file_name);
    let kept: Vec<_> = kept.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(kept, ["assignment.json", "logs", "record.json"]);
}

/// As a restart of another firewall does, which begins with `flush ruleset`.
#[tokio::test]
async fn rules_that_another_program_flushed_come_back_under_vms_that_run() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let script = "mkdir /tmp/www; echo here > /tmp/www/index.html; httpd -f -p 8080 -h /tmp/www";
    let vm = host.admit(VmSpec { port: Some(8080), ..spec(&digest, script) }, None).await;
    let address = host.running(&vm).await;
    host.until("the app answers", async || http(address, 8080).await).await;
    let table = format!("cw{}", host.instance);
    let flush = format!("delete table inet {table}; delete table netdev {table}");
    let flushed = std::process::Command::new("nft").arg(flush).status().expect("nft runs");
    assert!(flushed.success());
    let soon = std::time::Duration::from_millis(300);
    let reached = std::net::TcpStream::connect_timeout(&(address, 8080).into(), soon);
    assert!(reached.is_err(), "it is cut off, not let loose");
    host.until("the app answers again", async || http(address, 8080).await).await;
    assert!(host.said().contains("firewall rules were missing"));
}

#[tokio::test]
async fn the_ends_of_vms_are_told_apart() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let with = |script: &str| spec(&digest, script);
    let exits = host.admit(with("echo bye; exit 7"), None).await;
    let signalled = host.admit(with("kill -SEGV $$"), None).await;
    let missing = VmSpec { command: None, ..with("") };
    let missing =
        VmSpec { image_digest: host.image("missing", shell().entrypoint(&["/no/such"]).build()).await, ..missing };
    let missing = host.admit(missing, None).await;
    // A file on the shared-memory file system is memory.
    let greedy = host.admit(with("cat /dev/zero | head -c 400m | tail -c 400m > /dev/null"), None).await;
    let polite = host.admit(with("trap 'echo polite; exit 3' TERM; echo up; while :; do sleep 0.1; done"), None).await;
    let stubborn = VmSpec { stop_grace_ms: 500, ..with("trap '' TERM; echo up; while :; do sleep 0.1; done") };
    let stubborn = host.admit(stubborn, None).await;
    let short = VmSpec { stop_grace_ms: 0, ..with("sleep 1000") };
    let short = host.admit(short, Some(1500)).await;
    for vm in [&polite, &stubborn] {
        host.says(vm, "up").await;
        host.stop(vm).await;
    }

    let exit = host.ended(&exits).await;
    assert_eq!((exit.reason, exit.code, exit.oom), (ExitReason::Exited, Some(7), false));
    assert_eq!(host.lines(&exits).await, ["bye"]);
    let exit = host.ended(&signalled).await;
    assert_eq!((exit.reason, exit.code), (ExitReason::Exited, Some(128 + 11)));
    let exit = host.ended(&missing).await;
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert_eq!(exit.message.as_deref(), Some("the image's command was not found: /no/such"));
    let exit = host.ended(&greedy).await;
    assert_eq!((exit.reason, exit.oom), (ExitReason::Oom, true));
    let exit = host.ended(&polite).await;
    assert_eq!((exit.reason, exit.code), (ExitReason::Stopped, Some(3)));
    assert_eq!(host.lines(&polite).await, ["up", "polite"]);
    assert_eq!(host.ended(&stubborn).await.reason, ExitReason::Stopped);
    assert_eq!(host.ended(&short).await.reason, ExitReason::Timeout);
}

#[tokio::test]
async fn a_full_disk_is_an_error_inside_and_a_volume_is_another_disk() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let script = "dd if=/dev/zero of=/tmp/large bs=1M count=500 2>/dev/null; echo disk $?
                  echo more > /data/file && dd if=/dev/zero of=/data/large bs=1M count=300 2>/dev/null; echo volume $?
                  cat /data/file; ls -A /data; sleep 1000";
    let vm = host.admit(VmSpec { volume_gb: Some(1), memory_mib: 512, ..spec(&digest, script) }, None).await;
    for line in ["disk 1", "volume 0", "more", "file"] {
        host.says(&vm, line).await;
    }
    host.running(&vm).await;
    host.delete(&vm, 1).await;
    host.ended(&vm).await;
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn a_vm_that_is_deleted_while_it_starts_leaves_nothing() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    // Each is deleted a little later than the one before: somewhere between admission and running.
    for pause_ms in (0..200).step_by(25) {
        let vm = host.admit(spec(&digest, "sleep 1000"), None).await;
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        host.delete(&vm, 1).await;
        assert_eq!(host.ended(&vm).await.reason, ExitReason::Stopped);
    }
    host.assert_nothing_since(&before);
}
