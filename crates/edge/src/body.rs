//! Bodies on their way: each frame is passed on when the other side takes it, and none is kept.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::{oneshot, watch};

use crate::config::millis;
use crate::flight::Open;

type Gate = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A request's body on its way to a VM.
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    /// Keeps the body back until the VM asked for it.
    gate: Option<Gate>,
    /// Dropped when the last frame was taken.
    sent: Option<oneshot::Sender<()>>,
}

impl RequestBody {
    /// A body that is passed on, and a signal that ends when all of it was.
    pub(crate) fn pass(incoming: Incoming) -> (Self, oneshot::Receiver<()>) {
        let (sent, all_sent) = oneshot::channel();
        (Self { incoming: Some(incoming), gate: None, sent: Some(sent) }, all_sent)
    }

    /// No body.
    pub(crate) fn none() -> Self {
        Self { incoming: None, gate: None, sent: None }
    }
}

/// Keeps the body back until the VM says 100 (Continue), or for `continue_ms` (RFC 9110 §10.1.1: the VM may be one
/// that never says so). The client is told to go on when the body is first asked for.
pub(crate) fn expect_continue(request: &mut Request<RequestBody>, continue_ms: u64) {
    let (open, mut opened) = watch::channel(false);
    hyper::ext::on_informational(request, move |informational| {
        if informational.status() == http::StatusCode::CONTINUE {
            open.send_replace(true);
        }
    });
    request.body_mut().gate = Some(Box::pin(async move {
        tokio::select! {
            Ok(_) = opened.wait_for(|open| *open) => {}
            () = tokio::time::sleep(millis(continue_ms)) => {}
        }
    }));
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        if let Some(gate) = &mut body.gate {
            std::task::ready!(gate.as_mut().poll(cx));
            body.gate = None;
        }
        let Some(incoming) = &mut body.incoming else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(incoming).poll_frame(cx));
        if frame.is_none() || body.incoming.as_ref().is_some_and(Body::is_end_stream) {
            body.sent = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// A response's body on its way to a client.
pub(crate) enum ResponseBody {
    /// The edge's own.
    Own(Full<Bytes>),
    /// The VM's; the request counts as open until it ends.
    Vm { incoming: Incoming, _open: Open },
}

impl ResponseBody {
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self::Own(Full::new(bytes))
    }

    pub(crate) fn pass(incoming: Incoming, open: Open) -> Self {
        Self::Vm { incoming, _open: open }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Self::Vm { incoming, .. } => Pin::new(incoming).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(full) => full.is_end_stream(),
            Self::Vm { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(full) => full.size_hint(),
            Self::Vm { incoming, .. } => incoming.size_hint(),
        }
    }
}
