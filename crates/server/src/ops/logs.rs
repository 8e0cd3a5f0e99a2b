//! Logs: from the host that has them. The api keeps no copy of a line.

use cakework_api::logs::{LogLine, Logs};
use cakework_api::time::rfc3339;
use cakework_core::id::{BuildId, HostId, VmId};
use cakework_core::lifecycle::VmState;
use cakework_core::logquery::{LogQuery, write_token};
use cakework_wire::build::BuildProblem;
use cakework_wire::host::{LogLine as HostLine, LogPage, LogRequest, ProblemCode};

use crate::app::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::host::HostError;

/// Whose log it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Log {
    Vm(VmId),
    Build(BuildId),
}

/// What the record says of a log.
pub(crate) struct Kept {
    host: Option<HostId>,
    /// Why a build failed, and when.
    problem: Option<(BuildProblem, u64)>,
    /// Nothing is added to it any more.
    pub(crate) over: bool,
    /// The word for where its owner is.
    pub(crate) word: &'static str,
}

/// A page of a log, also after its owner's end. What no host ever took has no lines.
pub(crate) async fn page(app: &App, caller: &Caller, log: &Log, query: LogQuery) -> Result<Logs, ApiError> {
    let kept = kept(app, caller, log).await?;
    let (order, from, to) = (query.order, query.from_ms.map(rfc3339), query.to_ms.map(rfc3339));
    let page = read(app, log, &kept, query).await?;
    let pagination = page.next.map(|position| write_token(position, order));
    Ok(Logs { lines: page.lines.into_iter().map(line).collect(), pagination, from, to })
}

/// What the record says of a log that exists for the caller.
pub(crate) async fn kept(app: &App, caller: &Caller, log: &Log) -> Result<Kept, ApiError> {
    match log {
        Log::Vm(id) => {
            let vm = super::vms::find(app, caller, id).await?;
            let word = cakework_api::vm::VmState::from(vm.state).as_str();
            Ok(Kept { host: vm.host, problem: None, over: vm.state == VmState::Destroyed, word })
        }
        Log::Build(id) => {
            let build = super::builds::find(app, caller, id).await?;
            let word = cakework_api::build::BuildStatus::from(build.state).as_str();
            let problem = build.error.map(|problem| (problem, build.updated_ms));
            Ok(Kept { host: build.host, problem, over: build.state.is_over(), word })
        }
    }
}

/// Asks the host for a page.
pub(crate) async fn read(app: &App, log: &Log, kept: &Kept, query: LogQuery) -> Result<LogPage, HostError> {
    let request = LogRequest { query };
    let page = match (&kept.host, log) {
        (None, _) => None,
        (Some(host), Log::Vm(id)) => Some(app.host.logs(host, id, &request).await),
        (Some(host), Log::Build(id)) => Some(app.host.build_logs(host, id, &request).await),
    };
    match page {
        None => Ok(untaken(kept, &request.query)),
        Some(Err(HostError::Problem(problem))) if problem.code == ProblemCode::Unknown => {
            Ok(untaken(kept, &request.query))
        }
        Some(answer) => answer,
    }
}

/// The log of what no host took: why a build failed before.
fn untaken(kept: &Kept, query: &LogQuery) -> LogPage {
    let line = kept.problem.as_ref().map(|(problem, at_ms)| {
        let place = problem.line.map(|line| format!("Dockerfile line {line}: ")).unwrap_or_default();
        HostLine {
            timestamp: *at_ms,
            level: "error".to_owned(),
            message: format!("{place}{}", problem.message),
            continues: false,
        }
    });
    let is_meant = |line: &HostLine| {
        line.message.to_lowercase().contains(&query.contains.to_lowercase())
            && query.from_ms.is_none_or(|from| line.timestamp >= from)
            && query.to_ms.is_none_or(|to| line.timestamp <= to)
            && query.after.is_none()
    };
    LogPage { lines: line.into_iter().filter(is_meant).collect(), next: None }
}

/// The API's words for a line.
pub(crate) fn line(line: HostLine) -> LogLine {
    LogLine { timestamp: line.timestamp, level: line.level, message: line.message, continues: line.continues }
}
