//! WebSockets: once both sides agreed, bytes pass either way until one side ends.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{self, AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::millis;

/// Longest time for both sides to give up HTTP after the VM agreed.
const SWITCH_MAX_MS: u64 = 10_000;
/// Longest time that one side goes on after the other has ended: a WebSocket's end is both sides' (RFC 6455 §7.1.1).
const LINGER_MAX_MS: u64 = 5_000;

/// Passes bytes both ways until one side is done, `left` ends, or `cut`. `guard` counts the tunnel while it is open.
/// A silent one ends by the idle limit of its sockets.
pub(crate) async fn run<G>(
    client: OnUpgrade,
    vm: OnUpgrade,
    guard: G,
    left: impl Future<Output = ()>,
    cut: CancellationToken,
) {
    let _guard = guard;
    let switched = timeout(millis(SWITCH_MAX_MS), async { tokio::try_join!(client, vm) }).await;
    let Ok(Ok((client, vm))) = switched else {
        tracing::debug!("a WebSocket was agreed on, but one side did not switch");
        return;
    };
    let (client_reads, client_writes) = split(TokioIo::new(client));
    let (vm_reads, vm_writes) = split(TokioIo::new(vm));
    let both = async {
        let (to_vm, to_client) = (copy(client_reads, vm_writes), copy(vm_reads, client_writes));
        let (mut to_vm, mut to_client) = (std::pin::pin!(to_vm), std::pin::pin!(to_client));
        let linger = millis(LINGER_MAX_MS);
        tokio::select! {
            () = &mut to_vm => drop(timeout(linger, to_client).await),
            () = &mut to_client => drop(timeout(linger, to_vm).await),
        }
    };
    tokio::select! {
        () = both => {}
        () = left => {}
        () = cut.cancelled() => {}
    }
}

/// Passes bytes one way, and their end.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let copied = match io::copy(&mut from, &mut to).await {
        Ok(_) => to.shutdown().await,
        Err(error) => Err(error),
    };
    if let Err(error) = copied {
        tracing::debug!(%error, "a WebSocket broke");
    }
}
