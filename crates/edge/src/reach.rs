//! From a route to a connection: holds a request until its VM is there and its port accepts, within bounds. One that
//! stands still or sleeps is woken.
//!
//! A connection is cut some time after its VM left the place that it leads to, so that it can't go on into whatever
//! is at that address next.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cakework_core::id::{Generation, VmId};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{EdgeLimits, millis};
use crate::door::buffer_bytes;
use crate::flight::{Open, Waiting};
use crate::idle::IdleStream;
use crate::pool::{Pool, Sender};
use crate::problem::Problem;
use crate::routes::{Known, Target};
use crate::wake::{Outcome, WakeFailure, Waker, Wakes};

/// Pauses between attempts to connect to a port that does not accept yet: a part of the time that was waited already,
/// within bounds, so that few attempts add little to it.
const PAUSE_MIN: Duration = Duration::from_millis(4);
const PAUSE_MAX: Duration = Duration::from_millis(50);
const PAUSE_PART: u32 = 32;
/// How long a first attempt may take: a packet to a VM whose network is not up is lost, and the kernel would repeat it
/// only after a second.
const KNOCK_FIRST: Duration = Duration::from_millis(100);

/// Times that one request has its VM woken: one that ends as often as it is started is not started without end.
const WAKES_MAX: usize = 3;

/// A request that can't be sent twice only takes a connection that was used so recently that the VM has hardly
/// closed it.
const FRESH: Duration = Duration::from_secs(1);

/// A VM's port, in one placement.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) vm_id: VmId,
    pub(crate) generation: Generation,
    pub(crate) address: SocketAddr,
}

impl Place {
    pub(crate) fn is(&self, known: &Known) -> bool {
        known.leads_to(&self.vm_id, self.generation, self.address)
    }
}

/// A connection for one request.
pub(crate) struct Reached {
    pub(crate) sender: Sender,
    pub(crate) place: Place,
    /// It served a request before, so the VM may have just closed it.
    pub(crate) reused: bool,
}

/// Which connection a request can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Any: the request can be sent again if the connection turns out to be closed.
    Any,
    /// One that is surely open.
    Fresh,
    /// A new one.
    New,
}

/// Makes and keeps connections to VMs.
pub(crate) struct Reach {
    limits: EdgeLimits,
    pool: Pool,
    wakes: Wakes,
    tasks: TaskTracker,
    /// Ends all connections at once.
    cut: CancellationToken,
}

/// An attempt that failed.
enum Failure {
    /// The port may accept soon.
    NotYet(Problem),
    /// It won't.
    Final(Problem),
}

impl Reach {
    pub(crate) fn new(limits: EdgeLimits, waker: Arc<dyn Waker>, tasks: TaskTracker, cut: CancellationToken) -> Self {
        let pool = Pool::new(limits.pool_max_per_vm, millis(limits.pool_idle_ms));
        let wakes = Wakes::new(waker, tasks.clone(), cut.clone());
        Self { limits, pool, wakes, tasks, cut }
    }

    /// Closes kept connections that are too old.
    pub(crate) fn sweep(&self) {
        self.pool.sweep();
    }

    /// A connection to the VM of this route: a kept one, or a new one as soon as the VM is there and its port accepts.
    pub(crate) async fn reach(
        &self,
        known: &mut watch::Receiver<Known>,
        open: &Open,
        wish: Wish,
    ) -> Result<Reached, Problem> {
        let hold = millis(self.limits.hold_ms);
        let deadline = Instant::now() + hold;
        let mut waiting = None;
        let mut wake: Option<Outcome> = None;
        let mut wakes = 0;
        loop {
            if open.is_quiet() {
                if waiting.is_none() {
                    waiting = Some(self.wait(open)?);
                }
                timeout_at(deadline, open.loud()).await.map_err(|_| NOT_STARTED)?;
            }
            let now = known.borrow_and_update().clone();
            let place = match now.route.target {
                Target::Ready(address) => {
                    wake = None;
                    Some(Place { vm_id: now.route.vm_id, generation: now.route.generation, address })
                }
                Target::Starting => None,
                Target::Dormant | Target::Spilled => {
                    // What was connected to it before may be gone when it is back.
                    self.pool.forget(&now.route.vm_id, now.route.generation);
                    if wake.is_none() && wakes == WAKES_MAX {
                        return Err(Problem::WakeFailed("The VM ended each time that it was started."));
                    }
                    if wake.is_none() {
                        wakes += 1;
                        wake = Some(self.wakes.wake(&now.route.vm_id));
                    }
                    None
                }
                Target::Stopped => return Err(Problem::VmStopped),
            };
            // A port that has had its time to accept is not waited for.
            let until = deadline.min(now.since + hold);
            if let Some(place) = &place {
                if let Some(sender) = self.kept(place, wish) {
                    return Ok(Reached { sender, place: place.clone(), reused: true });
                }
                match self.dial(place, known, self.patience(now.since, hold)).await {
                    Ok(sender) if place.is(&known.borrow()) => {
                        return Ok(Reached { sender, place: place.clone(), reused: false });
                    }
                    Ok(_) => continue,
                    Err(Failure::Final(problem)) => return Err(problem),
                    Err(Failure::NotYet(problem)) if Instant::now() >= until => {
                        return Err(problem);
                    }
                    Err(Failure::NotYet(_)) => {}
                }
            }
            if waiting.is_none() {
                waiting = Some(self.wait(open)?);
            }
            let watched = known.clone();
            let knock = async {
                match &place {
                    Some(place) => self.knock(place, &watched, &now.knocking, until).await,
                    None => {
                        tokio::time::sleep_until(deadline).await;
                        Err(NOT_STARTED)
                    }
                }
            };
            tokio::select! {
                biased;
                changed = known.changed() => changed.map_err(|_| Problem::HostNotFound)?,
                woken = outcome(&mut wake) => {
                    woken.map_err(not_woken)?;
                    wake = None;
                }
                sender = knock => match (sender?, place) {
                    (sender, Some(place)) if place.is(&known.borrow()) => {
                        return Ok(Reached { sender, place, reused: false });
                    }
                    _ => {}
                },
            }
        }
    }

    /// Keeps the connection for the next request once this one's bodies are over.
    pub(crate) fn give_back(self: &Arc<Self>, place: Place, mut sender: Sender) {
        if sender.is_ready() {
            self.pool.put(place.vm_id, place.generation, sender);
            return;
        }
        let reach = Arc::clone(self);
        // Ends with the connection at the latest, and that with its peer, its idle limit or its route.
        self.tasks.spawn(async move {
            if sender.ready().await.is_ok() {
                reach.pool.put(place.vm_id, place.generation, sender);
            }
        });
    }

    /// A place among the requests that wait.
    fn wait<'a>(&self, open: &'a Open) -> Result<Waiting<'a>, Problem> {
        let full = Problem::QueueFull("As many requests as may wait for a VM are waiting already.");
        open.wait(self.limits.queue_max_per_vm, self.limits.queue_max).ok_or(full)
    }

    fn kept(&self, place: &Place, wish: Wish) -> Option<Sender> {
        let max_age = match wish {
            Wish::Any => millis(self.limits.pool_idle_ms),
            Wish::Fresh => FRESH,
            Wish::New => return None,
        };
        self.pool.take(&place.vm_id, place.generation, max_age)
    }

    /// How long a first attempt may take: short while the VM is new, since another follows.
    fn patience(&self, ready_since: Instant, hold: Duration) -> Duration {
        let connect = millis(self.limits.connect_ms);
        if ready_since.elapsed() < hold { KNOCK_FIRST.min(connect) } else { connect }
    }

    /// Tries until the port accepts. One request at a time knocks at a VM; the others wait behind it.
    async fn knock(
        &self,
        place: &Place,
        known: &watch::Receiver<Known>,
        knocking: &Semaphore,
        until: Instant,
    ) -> Result<Sender, Problem> {
        let Ok(Ok(_turn)) = timeout_at(until, knocking.acquire()).await else { return Err(Problem::VmRefused) };
        let connect = millis(self.limits.connect_ms);
        let (begin, mut patience) = (Instant::now(), KNOCK_FIRST.min(connect));
        loop {
            let attempt = self.dial(place, known, patience).await;
            let pause = (begin.elapsed() / PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX);
            match attempt {
                Ok(sender) => return Ok(sender),
                Err(Failure::Final(problem)) => return Err(problem),
                Err(Failure::NotYet(problem)) if Instant::now() + pause >= until => return Err(problem),
                Err(Failure::NotYet(_)) => sleep(pause).await,
            }
            patience = (patience * 2).min(connect);
        }
    }

    /// One attempt. The connection is served by a task of its own until it ends or its place is another's.
    async fn dial(&self, place: &Place, known: &watch::Receiver<Known>, patience: Duration) -> Result<Sender, Failure> {
        let stream = match timeout(patience, TcpStream::connect(place.address)).await {
            Err(_) => return Err(Failure::NotYet(Problem::VmTimeout("The VM did not accept a connection in time."))),
            Ok(Err(error)) if is_not_yet(&error) => return Err(Failure::NotYet(Problem::VmRefused)),
            Ok(Err(error)) => {
                tracing::warn!(vm = %place.vm_id, address = %place.address, %error, "no connection to a VM");
                return Err(Failure::Final(Problem::VmRefused));
            }
            Ok(Ok(stream)) => stream,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY not set");
        }
        let io = TokioIo::new(IdleStream::new(stream, millis(self.limits.idle_ms), ()));
        let mut http = hyper::client::conn::http1::Builder::new();
        http.max_buf_size(buffer_bytes(self.limits.header_max_bytes))
            .max_header_size(self.limits.header_max_bytes)
            .max_headers(self.limits.headers_max);
        let (sender, connection) = http.handshake(io).await.map_err(|_| Failure::NotYet(Problem::VmBadResponse))?;
        let (left, cut) = (self.left(place.clone(), known.clone()), self.cut.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                ended = connection.with_upgrades() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection to a VM broke");
                    }
                }
                () = left => {}
                () = cut.cancelled() => {}
            }
        });
        Ok(sender)
    }

    /// Ends when the route has led elsewhere for the time that open requests have to end, or the sandbox is gone. A VM
    /// that only slept is back before that.
    pub(crate) fn left(
        &self,
        place: Place,
        mut known: watch::Receiver<Known>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let drain = millis(self.limits.drain_ms);
        async move {
            // An error says that the label was removed.
            while known.wait_for(|known| !place.is(known)).await.is_ok() {
                let is_spilled = |known: &Known| known.route.target == Target::Spilled;
                match timeout(drain, known.wait_for(|known| place.is(known) || is_spilled(known))).await {
                    Ok(Ok(known)) if is_spilled(&known) => return,
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => break,
                    Err(_) => return,
                }
            }
            sleep(drain).await;
        }
    }
}

const NOT_STARTED: Problem = Problem::VmTimeout("The VM did not start in the time that a request may wait.");

/// The end of a wake, where one goes on.
async fn outcome(wake: &mut Option<Outcome>) -> Result<(), WakeFailure> {
    let Some(wake) = wake else { return std::future::pending().await };
    match wake.wait_for(Option::is_some).await {
        Ok(woken) => woken.unwrap_or(Err(WakeFailure::Failed)),
        Err(_) => Err(WakeFailure::Failed),
    }
}

fn not_woken(failure: WakeFailure) -> Problem {
    match failure {
        WakeFailure::Stopped => Problem::VmStopped,
        WakeFailure::NoRoom => Problem::WakeFailed("No host has room for the VM at present."),
        WakeFailure::Failed => Problem::WakeFailed("The VM did not come up."),
    }
}

/// What a port says while its sandbox or its app is on the way up.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut
    )
}
