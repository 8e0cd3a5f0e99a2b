//! One page out of the logs of many VMs of an account: from the hosts that have them.

use std::collections::{BTreeMap, HashMap};

use cakework_api::logs::{FoundLine, FoundLogs};
use cakework_api::problem::ErrorCode;
use cakework_api::time::rfc3339;
use cakework_core::id::{HostId, VmId};
use cakework_core::limit::LOG_SEARCH_VMS_MAX;
use cakework_core::logquery::LogQuery;
use cakework_core::logsearch::{Mark, Merge};
use cakework_wire::host::SearchLogs;

use super::logs::line;
use crate::app::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::store::vms::VmFilter;

/// The page behind `after` out of the logs of the VMs that the filter leaves.
pub(crate) async fn search(
    app: &App,
    caller: &Caller,
    filter: VmFilter,
    query: LogQuery,
    after: Option<Mark>,
) -> Result<FoundLogs, ApiError> {
    let filter = VmFilter { tenant: caller.tenant_of(filter.tenant)?, ..filter };
    let range = (query.from_ms, query.to_ms);
    let logged = app.store.vms_logged(&caller.account, &filter, range, LOG_SEARCH_VMS_MAX + 1).await?;
    if logged.len() > LOG_SEARCH_VMS_MAX {
        let detail = format!("The search leaves more than {LOG_SEARCH_VMS_MAX} VMs, and goes through no more at once.");
        return Err(ApiError::new(ErrorCode::SearchTooWide, detail));
    }
    let mut tenants: HashMap<VmId, Option<String>> = HashMap::with_capacity(logged.len());
    let mut hosts: BTreeMap<HostId, Vec<VmId>> = BTreeMap::new();
    for one in logged {
        hosts.entry(one.host).or_default().push(one.id.clone());
        tenants.insert(one.id, one.tenant);
    }
    let (order, from, to) = (query.order, query.from_ms.map(rfc3339), query.to_ms.map(rfc3339));
    let mut merge = Merge::new(order, query.batch as usize);
    for (host, vms) in hosts {
        let request = SearchLogs { vms, query: query.clone(), after: after.clone() };
        let page = app.host.search_logs(&host, &request).await?;
        merge.add(page.lines.into_iter().map(|found| (found.mark, found.line)), page.next);
    }
    let (lines, next) = merge.finish();
    let found = |(mark, found): (Mark, _)| FoundLine {
        tenant: tenants.get(&mark.vm).cloned().flatten(),
        vm_id: mark.vm.to_string(),
        line: line(found),
    };
    let lines = lines.into_iter().map(found).collect();
    Ok(FoundLogs { lines, pagination: next.map(|mark| mark.write(order)), from, to })
}
