//! Logs: from the host that has them. The api keeps no copy of a line.

use cakework_api::logs::{LogLine, Logs};
use cakework_api::time::rfc3339;
use cakework_core::id::VmId;
use cakework_core::logquery::{LogQuery, write_token};
use cakework_wire::host::{LogPage, LogRequest, ProblemCode};

use crate::app::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::host::HostError;

/// A page of a VM's log, also after the VM's end. A VM that no host ever took has no lines.
pub(crate) async fn of_vm(app: &App, caller: &Caller, id: &VmId, query: LogQuery) -> Result<Logs, ApiError> {
    let vm = super::vms::find(app, caller, id).await?;
    let (order, from, to) = (query.order, query.from_ms.map(rfc3339), query.to_ms.map(rfc3339));
    let page = match &vm.host {
        None => LogPage { lines: Vec::new(), next: None },
        Some(host) => match app.host.logs(host, id, &LogRequest { query }).await {
            Err(HostError::Problem(problem)) if problem.code == ProblemCode::Unknown => {
                LogPage { lines: Vec::new(), next: None }
            }
            answer => answer?,
        },
    };
    let line = |line: cakework_wire::host::LogLine| LogLine {
        timestamp: line.timestamp,
        level: line.level,
        message: line.message,
        continues: line.continues,
    };
    let pagination = page.next.map(|position| write_token(position, order));
    Ok(Logs { lines: page.lines.into_iter().map(line).collect(), pagination, from, to })
}
