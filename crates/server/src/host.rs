//! The client of the host protocol: the only way that the api reaches a host.
//!
//! Every call has a timeout and a bound on what it reads. A call that fails says nothing about what the host did.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use cakework_core::id::{BuildId, Generation, HostId, VmId};
use cakework_wire::build::{ContextKept, PutBuild, PutBuildAnswer};
use cakework_wire::host::{
    Accepted, AgentProblem, CachedStatus, ClaimSpare, Claimed, EndVm, FoundPage, HostStatus, ImageReport, LogPage,
    LogRequest, PROTOCOL, PROTOCOL_HEADER, PullImage, PutVm, PutVmAnswer, Reply, ResolveImage, ResolvedImage,
    SearchLogs, SleepAnswer, SleepVm, VmReport, WAKE_WAIT_MAX_MS, WakeVm, WatchPage,
};
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;

/// For verbs that the agent answers from memory or one write to its disk.
const SHORT: Duration = Duration::from_secs(4);
/// For a VM's memory to stand still.
const SLEEP: Duration = Duration::from_secs(10);
/// For a page of logs.
const LOGS: Duration = Duration::from_secs(20);
/// For manifest and config from a registry.
const RESOLVE: Duration = Duration::from_secs(40);
/// For a build's files, on the way to the host's disk.
const CONTEXT: Duration = Duration::from_secs(60);
/// Beyond the time that a watch is held.
const WATCH_MARGIN: Duration = Duration::from_secs(10);
/// Bytes of an answer: a page of a thousand lines of 64 KiB, escaped.
const ANSWER_MAX_BYTES: usize = 160 * 1024 * 1024;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// The agent says no.
    #[error("{}", .0.message)]
    Problem(AgentProblem),
    /// Nobody answered in time, or not in a form that is understood: what was asked for may have happened or not.
    #[error("the host can't be reached: {0}")]
    Away(String),
}

impl HostError {
    pub(crate) fn away(error: impl std::fmt::Display) -> Self {
        Self::Away(error.to_string())
    }
}

/// What cached VMs hold that do not run, as the agent on `socket` says; `None` where none answers.
pub async fn waiting(socket: &Path) -> Option<CachedStatus> {
    HostClient::new(socket).ok()?.cached().await.ok()
}

/// A client of one host's agent.
#[derive(Debug, Clone)]
pub(crate) struct HostClient {
    http: reqwest::Client,
}

impl HostClient {
    /// A client of the agent that listens on `socket`, now or later.
    pub(crate) fn new(socket: &Path) -> anyhow::Result<Self> {
        // The first one that is installed stays; it is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .no_proxy()
            .connect_timeout(SHORT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("the host client can't be made")?;
        Ok(Self { http })
    }

    /// What the host is and has.
    pub(crate) async fn status(&self) -> Result<Reply<HostStatus>, HostError> {
        call(self.request(Method::GET, "host"), SHORT).await
    }

    /// What cached VMs hold on the host that do not run.
    pub(crate) async fn cached(&self) -> Result<CachedStatus, HostError> {
        Ok(call::<CachedStatus>(self.request(Method::GET, "host/cached"), SHORT).await?.body)
    }

    /// What changed on the host after `after`; held for at most `wait`.
    pub(crate) async fn watch(&self, after: u64, wait: Duration) -> Result<Reply<WatchPage>, HostError> {
        let path = format!("watch?after={after}&wait_ms={}", wait.as_millis());
        call(self.request(Method::GET, &path), wait + WATCH_MARGIN).await
    }

    /// Asks for a sandbox that was made ahead: the id that the VM is to have.
    pub(crate) async fn claim_spare(&self, claim: &ClaimSpare) -> Result<Option<VmId>, HostError> {
        Ok(call::<Claimed>(self.request(Method::POST, "spares/claim").json(claim), SHORT).await?.body.vm_id)
    }

    /// Wants a VM to be on `host`. Takes as long as the wish says that the answer may wait.
    pub(crate) async fn put_vm(&self, host: &HostId, id: &VmId, vm: &PutVm) -> Result<Reply<PutVmAnswer>, HostError> {
        let wait = Duration::from_millis(vm.wait_ms);
        of(host, call(self.request(Method::PUT, &format!("vms/{id}")).json(vm), SHORT + wait).await?)
    }

    /// Wants a VM, or the run of a cached one, to end: with grace, or now.
    pub(crate) async fn stop_vm(&self, host: &HostId, id: &VmId, end: &EndVm) -> Result<Reply<Accepted>, HostError> {
        of(host, call(self.request(Method::POST, &format!("vms/{id}/stop")).json(end), SHORT).await?)
    }

    /// Wants a running VM to sleep.
    pub(crate) async fn sleep_vm(
        &self,
        host: &HostId,
        id: &VmId,
        sleep: &SleepVm,
    ) -> Result<Reply<SleepAnswer>, HostError> {
        of(host, call(self.request(Method::POST, &format!("vms/{id}/sleep")).json(sleep), SLEEP).await?)
    }

    /// Wants a sleeping VM to go on; answers where it is then.
    pub(crate) async fn wake_vm(
        &self,
        host: &HostId,
        id: &VmId,
        generation: Generation,
    ) -> Result<Reply<VmReport>, HostError> {
        let request = self.request(Method::POST, &format!("vms/{id}/wake")).json(&WakeVm { generation });
        of(host, call(request, SHORT + Duration::from_millis(WAKE_WAIT_MAX_MS)).await?)
    }

    /// Wants a VM to be gone.
    pub(crate) async fn delete_vm(
        &self,
        host: &HostId,
        id: &VmId,
        generation: Generation,
    ) -> Result<Reply<Accepted>, HostError> {
        of(host, call(self.request(Method::DELETE, &format!("vms/{id}?generation={generation}")), SHORT).await?)
    }

    /// A page of a VM's log.
    pub(crate) async fn logs(&self, host: &HostId, id: &VmId, query: &LogRequest) -> Result<LogPage, HostError> {
        let request = self.request(Method::POST, &format!("vms/{id}/logs")).json(query);
        Ok(of(host, call(request, LOGS).await?)?.body)
    }

    /// A page out of the logs of many VMs.
    pub(crate) async fn search_logs(&self, host: &HostId, search: &SearchLogs) -> Result<FoundPage, HostError> {
        Ok(of(host, call(self.request(Method::POST, "logs/search").json(search), LOGS).await?)?.body)
    }

    /// What a reference names.
    pub(crate) async fn resolve(&self, image: &ResolveImage) -> Result<ResolvedImage, HostError> {
        Ok(call::<ResolvedImage>(self.request(Method::POST, "images/resolve").json(image), RESOLVE).await?.body)
    }

    /// Wants an image's layers on the host.
    pub(crate) async fn pull(&self, digest: &str, image: &PullImage) -> Result<ImageReport, HostError> {
        let request = self.request(Method::PUT, &format!("images/{digest}")).json(image);
        Ok(call::<ImageReport>(request, RESOLVE).await?.body)
    }

    /// Where an image is on the host.
    pub(crate) async fn image(&self, digest: &str) -> Result<ImageReport, HostError> {
        Ok(call::<ImageReport>(self.request(Method::GET, &format!("images/{digest}")), SHORT).await?.body)
    }

    /// Puts a build's context on `host`.
    pub(crate) async fn put_context(
        &self,
        host: &HostId,
        id: &BuildId,
        digest: &str,
        context: tokio::fs::File,
    ) -> Result<Reply<ContextKept>, HostError> {
        let path = format!("builds/{id}/context?digest={digest}");
        let request = self.request(Method::PUT, &path).body(reqwest::Body::from(context));
        of(host, call(request, CONTEXT).await?)
    }

    /// Wants an image to be built on `host`.
    pub(crate) async fn put_build(
        &self,
        host: &HostId,
        id: &BuildId,
        build: &PutBuild,
    ) -> Result<Reply<PutBuildAnswer>, HostError> {
        of(host, call(self.request(Method::PUT, &format!("builds/{id}")).json(build), SHORT).await?)
    }

    /// Wants a build to end.
    pub(crate) async fn delete_build(
        &self,
        host: &HostId,
        id: &BuildId,
        generation: Generation,
    ) -> Result<Reply<Accepted>, HostError> {
        of(host, call(self.request(Method::DELETE, &format!("builds/{id}?generation={generation}")), SHORT).await?)
    }

    /// A page of a build's log.
    pub(crate) async fn build_logs(
        &self,
        host: &HostId,
        id: &BuildId,
        query: &LogRequest,
    ) -> Result<LogPage, HostError> {
        let request = self.request(Method::POST, &format!("builds/{id}/logs")).json(query);
        Ok(of(host, call(request, LOGS).await?)?.body)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://agent/v1/{path}")).header(PROTOCOL_HEADER, PROTOCOL)
    }
}

/// An answer of another host than the one that was meant is none.
fn of<T>(host: &HostId, reply: Reply<T>) -> Result<Reply<T>, HostError> {
    if reply.host_id == *host { Ok(reply) } else { Err(HostError::away("another host answers in its place")) }
}

async fn call<T: DeserializeOwned>(request: RequestBuilder, longest: Duration) -> Result<Reply<T>, HostError> {
    let mut response = request.timeout(longest).send().await.map_err(|error| HostError::Away(chain(&error)))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| HostError::Away(chain(&error)))? {
        if body.len() + chunk.len() > ANSWER_MAX_BYTES {
            return Err(HostError::away("the answer is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(HostError::away);
    }
    Err(refusal(status, &body))
}

/// What an answer that is no success says.
pub(crate) fn refusal(status: reqwest::StatusCode, body: &[u8]) -> HostError {
    match serde_json::from_slice(body) {
        Ok(problem) => HostError::Problem(problem),
        Err(_) => HostError::Away(format!("status {status}")),
    }
}

/// The whole chain of an error: the client's own words leave the cause out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
