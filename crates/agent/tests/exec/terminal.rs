//! Commands with a terminal.

use cakework_core::exec::{ExecInput, ExecSpec, WindowSize};

use crate::host::{Host, spec};
use crate::session::{Session, gone, sh, words};

#[tokio::test]
async fn a_shell_at_a_terminal_has_its_size_its_signals_and_its_end() {
    let host = Host::started().await;
    let digest = host.busybox().await;
    let vm = host.admit(spec(&digest, "sleep 1000"), None).await;
    host.running(&vm).await;
    let tty = Some(WindowSize { rows: 30, cols: 100 });
    let mut shell = Session::open(&host, &vm, ExecSpec { tty, ..words(&["sh", "-i"]) }).await;
    shell.write(b"stty size; [ -t 0 ] && echo is-a-$TERM\n").await;
    shell.until("30 100\r\n").await;
    shell.until("is-a-xterm-256color\r\n").await;
    shell.input(&ExecInput::Resize(WindowSize { rows: 50, cols: 120 })).await;
    shell.write(b"stty size\n").await;
    shell.until("50 120\r\n").await;
    // Ctrl-C ends what is in front, and not the shell.
    shell.write(b"sleep 4721; echo code-$?\n").await;
    host.until("it sleeps", async || (crate::session::count(&host, &vm, "sleep 4721").await > 0).then_some(())).await;
    shell.write(b"\x03").await;
    gone(&host, &vm, "sleep 4721").await;
    shell.write(b"echo still $((40 + 2))\n").await;
    shell.until("still 42").await;
    shell.write(b"exit 3\n").await;
    assert_eq!(shell.end().await.code, Some(3), "{}", shell.out());
    assert!(shell.stderr.is_empty());
    let mut cat = Session::open(&host, &vm, ExecSpec { tty, ..words(&["cat"]) }).await;
    cat.write(b"line\n").await;
    cat.until("line\r\nline\r\n").await;
    cat.input(&ExecInput::Eof).await;
    assert_eq!(cat.end().await.code, Some(0), "{}", cat.out());
    let mut shell = Session::open(&host, &vm, ExecSpec { tty, ..sh("echo on; sleep 4722; :") }).await;
    shell.until("on").await;
    shell.hang_up();
    gone(&host, &vm, "sleep 4722").await;
    host.delete(&vm, 1).await;
    host.ended(&vm).await;
}
