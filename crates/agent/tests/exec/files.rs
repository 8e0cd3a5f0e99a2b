//! A VM's files, through the host protocol.

use cakework_core::id::{Generation, HostId, VmId};
use cakework_core::spec::VmSpec;
use cakework_testkit::kernel::Census;
use cakework_wire::files::{Entry, EntryKind, FileAnswer, FileOp, FileRefusal, FileWish, Listing};
use serde_json::json;

use crate::host::{Host, spec};
use crate::session::{gone, run, sh};

/// An answer: what is said, and what came out.
async fn files(host: &Host, vm: &VmId, op: FileOp, body: &[u8]) -> Result<(Entry, Vec<u8>), (FileRefusal, String)> {
    let (status, all, whole) = ask(host, vm, 1, op, body).await;
    assert_eq!((status, whole), (200, true), "{}\n{}", String::from_utf8_lossy(&all), host.said());
    let at = all.iter().position(|byte| *byte == b'\n').expect("a line");
    match serde_json::from_slice(&all[..at]).expect("an answer") {
        FileAnswer::Done(entry) => Ok((entry, all[at + 1..].to_vec())),
        FileAnswer::Refused { code, message } => Err((code, message)),
    }
}

async fn ask(host: &Host, vm: &VmId, generation: u64, op: FileOp, body: &[u8]) -> (u16, Vec<u8>, bool) {
    let host_id = host.call("GET", "/v1/host", None).await.body["hostId"].clone();
    let host_id: HostId = serde_json::from_value(host_id).expect("an id");
    let wish = json!(FileWish { host_id, generation: Generation(generation), op }).to_string();
    let escaped: String = wish.bytes().map(|byte| format!("%{byte:02x}")).collect();
    host.send_bytes(&format!("/v1/vms/{vm}/files?wish={escaped}"), body.to_vec().into()).await
}

fn read(path: &str) -> FileOp {
    FileOp::Read { path: path.into() }
}

fn write(path: &str, mode: Option<u32>) -> FileOp {
    FileOp::Write { path: path.into(), mode }
}

#[tokio::test]
async fn files_go_in_and_out_of_a_vm_whose_image_has_no_program_for_it() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let before = Census::take(&host.scope()).expect("a census");
    let vm = host.admit(VmSpec { volume_gb: Some(1), ..spec(&digest, "sleep 1000") }, None).await;
    host.running(&vm).await;
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let (entry, _) = files(&host, &vm, write("/data/new/large", Some(0o750)), &large).await.expect("written");
    assert_eq!((entry.kind, entry.size, entry.mode), (EntryKind::File, 3_000_000, 0o750));
    let (entry, bytes) = files(&host, &vm, read("/data/new/large"), b"").await.expect("read");
    assert!(entry.size == 3_000_000 && bytes == large);
    // The VM's own process sees it, and what it writes is seen.
    let (_, out, _) =
        run(&host, &vm, sh("wc -c < /data/new/large; echo back > /back; stat -c %a:%u /data/new/large")).await;
    assert_eq!(out, "3000000\n750:0\n");
    assert_eq!(files(&host, &vm, read("/back"), b"").await.expect("read").1, b"back\n");
    let (entry, bytes) = files(&host, &vm, read("/data"), b"").await.expect("listed");
    let listing: Listing = serde_json::from_slice(&bytes).expect("a listing");
    assert_eq!((entry.kind, listing.entries[0].name.as_str(), listing.truncated), (EntryKind::Directory, "new", false));
    let (_, packed) = files(&host, &vm, FileOp::Pack { path: "/data".into() }, b"").await.expect("packed");
    files(&host, &vm, FileOp::Unpack { path: "/again".into() }, &packed).await.expect("unpacked");
    assert_eq!(files(&host, &vm, read("/again/new/large"), b"").await.expect("read").1, large);
    let remove = |path: &str, recursive| FileOp::Remove { path: path.into(), recursive };
    assert_eq!(files(&host, &vm, remove("/again", false), b"").await.expect_err("no").0, FileRefusal::NotEmpty);
    files(&host, &vm, remove("/again", true), b"").await.expect("removed");
    assert_eq!(files(&host, &vm, read("/again"), b"").await.expect_err("gone").0, FileRefusal::NotFound);
    let mut empty = files(&host, &vm, write("/empty", None), b"").await.expect("written").0;
    assert_eq!(files(&host, &vm, read("/empty"), b"").await.expect("read"), (empty.clone(), Vec::new()));
    empty = files(&host, &vm, FileOp::MakeDir { path: "/a/b".into(), mode: Some(0o700) }, b"").await.expect("made").0;
    assert_eq!((empty.kind, empty.mode), (EntryKind::Directory, 0o700));
    host.delete(&vm, 1).await;
    host.ended(&vm).await;
    host.assert_nothing_since(&before);
}

#[tokio::test]
async fn hostile_paths_stay_in_the_vm_and_hold_nobody_up() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let script = "ln -s ../../../../../../etc/hostname /out; mkfifo /pipe; ln -s /loop /loop
        dd of=/sparse bs=1048576 seek=1048576 count=0 2>/dev/null; ln -s / /d; echo up; sleep 1000";
    let vm = host.admit(spec(&digest, script), None).await;
    host.running(&vm).await;
    host.says(&vm, "up").await;
    // Whatever the links say, it is the VM's own.
    let own = format!("{vm}\n").into_bytes();
    for path in
        ["/out", "/etc/../etc/hostname", "/d/d/d/etc/hostname", "/proc/self/root/etc/hostname", "/../../etc/hostname"]
    {
        assert_eq!(files(&host, &vm, read(path), b"").await.expect("read").1, own, "{path}");
    }
    for (path, code) in [
        ("/pipe", FileRefusal::Kind),
        ("/dev/zero", FileRefusal::Kind),
        ("/loop", FileRefusal::Kind),
        ("/sparse", FileRefusal::TooLarge),
        ("/etc/hostname/x", FileRefusal::Kind),
        ("/nothing", FileRefusal::NotFound),
    ] {
        assert_eq!(files(&host, &vm, read(path), b"").await.expect_err("refused").0, code, "{path}");
    }
    for path in ["/pipe", "/dev/zero", "/", "/etc/", "/proc/self/mem"] {
        files(&host, &vm, write(path, None), b"x").await.expect_err(path);
    }
    let full = files(&host, &vm, write("/full", None), &vec![1; 300 << 20]).await.expect_err("refused");
    assert_eq!(full.0, FileRefusal::DiskFull, "{}", full.1);
    assert_eq!(files(&host, &vm, read("/full"), b"").await.expect_err("not there").0, FileRefusal::NotFound);
    for (path, body) in [("relative", &b""[..]), ("/nul\0", b"")] {
        assert_eq!(ask(&host, &vm, 1, read(path), body).await.0, 400);
    }
    assert_eq!(ask(&host, &vm, 2, read("/"), b"").await.0, 409);
    gone(&host, &vm, "cakework").await;
    host.delete(&vm, 1).await;
    host.ended(&vm).await;
}
