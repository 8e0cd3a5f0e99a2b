//! One page out of many logs, in the order of time.

use std::path::PathBuf;

use cakework_core::id::VmId;
use cakework_core::logquery::LogQuery;
use cakework_core::logsearch::{Mark, Merge, query_of};
use cakework_wire::host::{FoundLine, FoundPage};

use super::LogError;
use super::find::Needle;
use super::page::{PAGE_MAX_BYTES, read_part};

/// Records read for one page, of all logs together.
const SCAN_MAX_BYTES: u64 = 256 << 20;
/// Records that are read of each log at least, so that a page brings every log on.
const SCAN_MIN_BYTES: u64 = 256 << 10;

/// Reads the page behind `mark` out of the logs of these VMs. Blocks. A VM without a log has no lines.
///
/// # Errors
/// [`LogError`].
pub fn search(logs: &[(VmId, PathBuf)], query: &LogQuery, mark: Option<&Mark>) -> Result<FoundPage, LogError> {
    let needle = Needle::new(&query.contains);
    let scan_max_bytes = (SCAN_MAX_BYTES / logs.len().max(1) as u64).max(SCAN_MIN_BYTES);
    let mut merge = Merge::new(query.order, query.batch as usize);
    for (vm, dir) in logs {
        let Some(mut query) = query_of(vm, query, mark) else { continue };
        merge.narrow(&mut query);
        let part = read_part(dir, &query, &needle, scan_max_bytes)?;
        let mark = |time_ms, position| Mark { time_ms, vm: vm.clone(), position };
        let lines = part.lines.into_iter().map(|(time_ms, position, line)| (mark(time_ms, position), line));
        merge.add(lines, part.stopped.map(|(time_ms, position)| mark(time_ms, position)));
    }
    let (lines, mut next) = merge.finish();
    let mut lines: Vec<_> = lines.into_iter().map(|(mark, line)| FoundLine { mark, line }).collect();
    // A page of one log is cut by its text; so is one of many.
    let mut text_bytes = 0;
    let fits = lines.iter().take_while(|found| {
        let is_first_over = text_bytes >= PAGE_MAX_BYTES;
        text_bytes += found.line.message.len();
        !is_first_over
    });
    let fitting = fits.count();
    if fitting < lines.len() {
        lines.truncate(fitting);
        next = lines.last().map(|found| found.mark.clone());
    }
    Ok(FoundPage { lines, next })
}
