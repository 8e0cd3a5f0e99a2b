//! One request's way: hostname, route, connection, headers, bodies. What goes wrong before the VM answered becomes a
//! problem; after that, the client's connection breaks off as the VM's did.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{EXPECT, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::{RequestBody, ResponseBody, expect_continue};
use crate::config::{EdgeConfig, millis};
use crate::headers;
use crate::hostname::{self, NoLabel};
use crate::metrics::EdgeMetrics;
use crate::problem::Problem;
use crate::reach::{Place, Reach, Wish};
use crate::routes::{Known, RouteTable, Target};
use crate::tunnel;

/// Times that a request is sent, over connections that turn out to be closed.
const SENDS_MAX: usize = 3;

/// What all requests share.
pub(crate) struct Proxy {
    pub(crate) config: EdgeConfig,
    pub(crate) metrics: EdgeMetrics,
    pub(crate) routes: RouteTable,
    pub(crate) reach: Arc<Reach>,
    pub(crate) upgrades: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) cut: CancellationToken,
}

/// A failed sending.
enum Unsent {
    /// The VM saw nothing of it: here it is again.
    Whole(Box<Request<RequestBody>>),
    /// It broke off before the answer.
    Broken(hyper::Error),
    /// No answer came.
    Late,
}

impl Proxy {
    /// Answers a request from `client`.
    pub(crate) async fn answer(
        &self,
        client: IpAddr,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let request_id = headers::request_id(request.headers());
        let begin = Instant::now();
        let (mut response, problem) = match self.pass(client, &request_id, request).await {
            Ok(response) => (response, None),
            Err(problem) => {
                tracing::debug!(request = ?request_id, code = problem.code(), "a request failed");
                (problem.response(&request_id), Some(problem))
            }
        };
        self.metrics.answered(response.status().as_u16(), problem, begin.elapsed());
        response.headers_mut().insert(headers::REQUEST_ID, request_id);
        Ok(response)
    }

    async fn pass(
        &self,
        client: IpAddr,
        request_id: &HeaderValue,
        mut request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Problem> {
        if request.method() == Method::CONNECT {
            return Err(Problem::BadRequest("The edge makes no tunnels: CONNECT is not served."));
        }
        let label = hostname::label(request.uri(), request.headers(), &self.config.base_domain).map_err(no_label)?;
        let mut known = self.routes.find(&label).ok_or(Problem::HostNotFound)?;
        let limits = &self.config.limits;
        let vm_id = known.borrow().route.vm_id.clone();
        let full = Problem::QueueFull("As many requests as the VM may have are open.");
        let open = self.routes.flight().begin(&vm_id, limits.requests_max_per_vm).ok_or(full)?;

        let upgrade = match headers::asks_websocket(request.method(), request.headers()) {
            true => Some(self.prepare_upgrade(&mut request)?),
            false => None,
        };
        let (mut request, mut all_sent) = self.rewrite(request, client, request_id, upgrade.is_some())?;
        let again = again(&request);
        let mut wish = if again.is_some() && upgrade.is_none() { Wish::Any } else { Wish::Fresh };
        for _ in 0..SENDS_MAX {
            let reached = self.reach.reach(&mut known, &open, wish).await?;
            let (place, mut sender) = (reached.place, reached.sender);
            wish = Wish::New;
            match self.send(&mut sender, request, &mut all_sent).await {
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    let (on_client, permit) = upgrade.ok_or(Problem::VmBadResponse)?;
                    let left = self.reach.left(place, known);
                    return self.switch(response, on_client, (permit, open), left);
                }
                Ok(mut response) => {
                    self.reach.give_back(place, sender);
                    headers::keep_one_length(response.headers_mut());
                    headers::end_hop(response.headers_mut());
                    *response.version_mut() = Version::HTTP_11;
                    return Ok(response.map(|body| ResponseBody::pass(body, open)));
                }
                Err(Unsent::Whole(whole)) => request = *whole,
                Err(Unsent::Broken(error)) => match &again {
                    // The VM closed a kept connection at the moment that it was taken (RFC 9112 §9.3.1).
                    Some(again) if reached.reused && is_closed(&error) => request = again.to_request(),
                    // Its sandbox is gone, and whatever it did of the request with it: its memory goes on without.
                    Some(again) if known.borrow().route.target == Target::Spilled => request = again.to_request(),
                    _ => return Err(broken(&error, &place, &known)),
                },
                Err(Unsent::Late) => {
                    return Err(Problem::VmTimeout("The VM did not begin to answer in time."));
                }
            }
        }
        Err(Problem::VmBadResponse)
    }

    fn prepare_upgrade(
        &self,
        request: &mut Request<Incoming>,
    ) -> Result<(OnUpgrade, tokio::sync::OwnedSemaphorePermit), Problem> {
        let permit = Arc::clone(&self.upgrades)
            .try_acquire_owned()
            .map_err(|_| Problem::QueueFull("As many WebSockets as the edge may have are open."))?;
        Ok((hyper::upgrade::on(request), permit))
    }

    /// The request as the VM is to read it.
    fn rewrite(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
        request_id: &HeaderValue,
        upgrade: bool,
    ) -> Result<(Request<RequestBody>, oneshot::Receiver<()>), Problem> {
        let limits = &self.config.limits;
        let (parts, incoming) = request.into_parts();
        let (body, all_sent) = RequestBody::pass(incoming);
        let has_body = !body.is_end_stream();
        let mut out = Request::new(body);
        *out.uri_mut() = origin_form(parts.uri)?;
        *out.method_mut() = parts.method;
        let mut fields: HeaderMap = parts.headers;
        let takes_trailers = headers::takes_trailers(&fields);
        headers::end_hop(&mut fields);
        if upgrade {
            headers::say_websocket(&mut fields);
        }
        if takes_trailers {
            headers::say_takes_trailers(&mut fields);
        }
        let trusted = limits.trusted_proxies.iter().any(|net| net.contains(&client));
        headers::say_origin(&mut fields, client, trusted, request_id);
        let waits = fields.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        *out.headers_mut() = fields;
        if waits && has_body && parts.version == Version::HTTP_11 {
            expect_continue(&mut out, limits.continue_ms);
        }
        Ok((out, all_sent))
    }

    /// Sends it and waits for the head of the answer, for a bounded time from the request's last byte.
    async fn send(
        &self,
        sender: &mut crate::pool::Sender,
        request: Request<RequestBody>,
        all_sent: &mut oneshot::Receiver<()>,
    ) -> Result<Response<Incoming>, Unsent> {
        let late = async {
            // The other end is dropped, not used: either way all was sent.
            if !all_sent.is_terminated() {
                let _ = all_sent.await;
            }
            sleep(millis(self.config.limits.response_head_ms)).await;
        };
        tokio::select! {
            answer = sender.try_send_request(request) => answer.map_err(|mut error: TrySendError<_>| {
                match error.take_message() {
                    Some(whole) => Unsent::Whole(Box::new(whole)),
                    None => Unsent::Broken(error.into_error()),
                }
            }),
            () = late => Err(Unsent::Late),
        }
    }

    /// Both sides agreed on a WebSocket.
    fn switch<G: Send + 'static>(
        &self,
        mut response: Response<Incoming>,
        on_client: OnUpgrade,
        guard: G,
        left: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Response<ResponseBody>, Problem> {
        if !headers::is_websocket(response.headers()) {
            return Err(Problem::VmBadResponse);
        }
        let on_vm = hyper::upgrade::on(&mut response);
        self.tasks.spawn(tunnel::run(on_client, on_vm, guard, left, self.cut.clone()));
        headers::end_hop(response.headers_mut());
        headers::say_websocket(response.headers_mut());
        Ok(response.map(|_| ResponseBody::own(bytes::Bytes::new())))
    }
}

/// What is needed to send a request a second time: only a safe one without a body is.
struct Again {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Again {
    fn to_request(&self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::none());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

fn again(request: &Request<RequestBody>) -> Option<Again> {
    (request.method().is_safe() && request.body().is_end_stream()).then(|| Again {
        method: request.method().clone(),
        uri: request.uri().clone(),
        headers: request.headers().clone(),
    })
}

/// The target as an origin server reads it (RFC 9112 §3.2.1, §3.2.4).
fn origin_form(uri: Uri) -> Result<Uri, Problem> {
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = uri.into_parts().path_and_query.or(Some(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).map_err(|_| Problem::BadRequest("The request target is not a path."))
}

fn no_label(why: NoLabel) -> Problem {
    match why {
        NoLabel::NotOneHost => Problem::BadRequest("A request needs exactly one Host header."),
        NoLabel::Disagrees => Problem::BadRequest("The request target and the Host header name different hosts."),
        NoLabel::Unknown => Problem::HostNotFound,
    }
}

/// The VM closed the connection and had sent no whole head.
fn is_closed(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_closed() || error.is_canceled() || io_kind(error).is_some()
}

fn broken(error: &hyper::Error, place: &Place, known: &watch::Receiver<Known>) -> Problem {
    tracing::debug!(vm = %place.vm_id, %error, "a VM gave no answer");
    if !place.is(&known.borrow()) {
        return Problem::VmStopped;
    }
    match io_kind(error) {
        Some(std::io::ErrorKind::TimedOut) => Problem::VmTimeout("No byte moved between the edge and the VM."),
        _ => Problem::VmBadResponse,
    }
}

fn io_kind(error: &hyper::Error) -> Option<std::io::ErrorKind> {
    std::error::Error::source(error)?.downcast_ref::<std::io::Error>().map(std::io::Error::kind)
}
