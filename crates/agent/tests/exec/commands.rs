//! What a command is, gets and gives.

use cakework_core::exec::{ExecEnd, ExecInput, ExecSpec};
use cakework_core::spec::VmSpec;
use cakework_wire::host::ProblemCode;

use crate::host::{Host, spec};
use crate::session::{Session, refused, run, sh, words};

#[tokio::test]
async fn a_command_runs_beside_the_vms_own_process() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let env = [("OWN".to_owned(), "vm".to_owned()), ("OTHER".to_owned(), "vm".to_owned())].into();
    let vm = host.admit(VmSpec { env, ..spec(&digest, "echo up; sleep 1000") }, None).await;
    host.running(&vm).await;
    let said = run(&host, &vm, sh("echo out; echo err >&2; exit 7")).await;
    assert_eq!(said, (Some(7), "out\n".into(), "err\n".into()));
    let wanted =
        ExecSpec { env: [("OTHER".to_owned(), "own".to_owned())].into(), ..sh("echo $OWN $OTHER; pwd; id -u") };
    assert_eq!(run(&host, &vm, wanted).await.1, "vm own\n/\n0\n");
    let wanted = ExecSpec { cwd: Some("/bin".into()), user: Some("7:8".into()), ..sh("pwd; id -u; id -g; echo $HOME") };
    assert_eq!(run(&host, &vm, wanted).await.1, "/bin\n7\n8\n/\n");
    assert_eq!(run(&host, &vm, words(&["/bin/echo", "a b", "*", ""])).await.1, "a b * \n");
    // It is in the same VM, and its output is not the VM's log.
    assert_eq!(run(&host, &vm, sh("cat /proc/1/cmdline | tr '\\0' ' '")).await.1, "sleep 1000 ");
    assert_eq!(host.lines(&vm).await, ["up"]);
    host.delete(&vm, 1).await;
    host.ended(&vm).await;
}

#[tokio::test]
async fn input_goes_in_and_its_end_is_heard() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let vm = host.admit(spec(&digest, "sleep 1000"), None).await;
    host.running(&vm).await;
    let mut session = Session::open(&host, &vm, sh("cat; echo end")).await;
    session.write(b"one\n").await;
    session.until("one\n").await;
    session.write(b"two\n").await;
    session.input(&ExecInput::Eof).await;
    let exit = session.end().await;
    assert_eq!((session.out(), exit.code, exit.reason), ("one\ntwo\nend\n".into(), Some(0), ExecEnd::Exited));
    // A megabyte there and back, which no queue on the way holds.
    let mut session = Session::open(&host, &vm, sh("md5sum")).await;
    for _ in 0..32 {
        session.write(&[b'x'; 32 * 1024]).await;
    }
    session.input(&ExecInput::Eof).await;
    session.end().await;
    assert_eq!(session.out(), "b561f87202d04959e37588ee05cf5b10  -\n");
    // What nobody reads is no trouble.
    let mut session = Session::open(&host, &vm, sh("exec 0<&-; sleep 0.2; echo done")).await;
    for _ in 0..8 {
        session.write(&[b'x'; 32 * 1024]).await;
    }
    assert_eq!((session.end().await.code, session.out()), (Some(0), "done\n".into()));
    let mut session = Session::open(&host, &vm, sh("head -c 3000000 /dev/zero")).await;
    assert_eq!((session.end().await.code, session.stdout.len()), (Some(0), 3_000_000));
    host.delete(&vm, 1).await;
    host.ended(&vm).await;
}

#[tokio::test]
async fn what_is_no_command_is_refused_in_words() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let vm = host.admit(spec(&digest, "sleep 1000"), None).await;
    host.running(&vm).await;
    for (wanted, says) in [
        (words(&["no-such-program"]), "no such file"),
        (words(&["/etc/hosts"]), "permission denied"),
        (words(&[]), "empty"),
        (words(&["a\0b"]), "NUL"),
        (words(&[&"x".repeat(200_000)]), "too long"),
        (ExecSpec { cwd: Some("bin".into()), ..sh("pwd") }, "absolute"),
        (ExecSpec { user: Some("nobody-there".into()), ..sh("pwd") }, "user"),
        (ExecSpec { env: [("A=B".to_owned(), String::new())].into(), ..sh("pwd") }, "environment"),
        (ExecSpec { timeout_ms: 0, ..sh("pwd") }, "time"),
    ] {
        let (code, message) = refused(&host, &vm, wanted).await;
        assert!(code == ProblemCode::InvalidCommand && message.contains(says), "{code:?} {message}, not {says}");
    }
    let mut session = Session::connect(&host, &vm).await;
    session.write(b"what").await;
    assert_eq!(session.refusal().await.code, ProblemCode::Protocol);
    let mut session = Session::open_in(&host, &vm, 2, sh("true")).await;
    assert_eq!(session.refusal().await.code, ProblemCode::NotRunning);
    let unknown = cakework_core::id::VmId::mint(&mut rand::rng());
    assert_eq!(refused(&host, &unknown, sh("true")).await.0, ProblemCode::Unknown);
    host.delete(&vm, 1).await;
    host.ended(&vm).await;
    assert_eq!(refused(&host, &vm, sh("true")).await.0, ProblemCode::NotRunning);
}

#[tokio::test]
async fn as_many_commands_are_open_as_may_be() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let vm = host.admit(VmSpec { memory_mib: 512, ..spec(&digest, "sleep 1000") }, None).await;
    host.running(&vm).await;
    let mut open = Vec::new();
    for _ in 0..cakework_core::limit::EXECS_MAX {
        let mut session = Session::open(&host, &vm, words(&["cat"])).await;
        session.write(b"here").await;
        session.until("here").await;
        open.push(session);
    }
    assert_eq!(refused(&host, &vm, sh("true")).await.0, ProblemCode::Busy);
    for mut session in open {
        session.input(&ExecInput::Eof).await;
        assert_eq!(session.end().await.code, Some(0));
    }
    assert_eq!(run(&host, &vm, sh("true")).await.0, Some(0));
    host.delete(&vm, 1).await;
    host.ended(&vm).await;
}
