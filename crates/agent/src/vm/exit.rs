//! How a VM ended, from what was asked, what the kernel counted and what the monitor saw. Pure.

use cakework_core::lifecycle::{Exit, ExitReason};

use super::record::{Cause, Record};
use crate::monitor::plan::Exited;

/// Tells the ends apart. Our own wish comes first, since the sandbox ended after it; then the kernel's counter of kills
/// for want of memory, since no exit code tells those; then what the process said. What nobody saw is `unknown`.
pub fn classify(record: &Record, same_boot: bool, oom_kills: u64, exited: Option<Exited>) -> Exit {
    let Exited { code, signal } = exited.unwrap_or_default();
    let oom = oom_kills > 0;
    let reason = if record.sandbox.is_none() && record.cause.is_none() && record.failure.is_some() {
        return Exit::start_failed(record.failure.clone().unwrap_or_default());
    } else if let Some(cause) = record.cause {
        match cause {
            Cause::Asked => ExitReason::Stopped,
            Cause::Timeout => ExitReason::Timeout,
        }
    } else if !same_boot {
        return Exit::only(ExitReason::HostLost);
    } else if oom {
        ExitReason::Oom
    } else if code.is_some() || signal.is_some() {
        ExitReason::Exited
    } else {
        ExitReason::Unknown
    };
    Exit { code, signal, oom, reason, message: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::ProcessRef;
    use cakework_core::id::Generation;
    use cakework_core::phase::Phase;

    fn record() -> Record {
        Record {
            generation: Generation::FIRST,
            boot_id: "b".into(),
            phase: Phase::Cleaning,
            address: None,
            monitor: None,
            sandbox: Some(ProcessRef { pid: 7, start_time: 7 }),
            end_by_ms: None,
            kill_by_ms: None,
            cause: None,
            failure: None,
            exit: None,
        }
    }

    #[test]
    fn the_ends_are_told_apart() {
        let code = |code| Some(Exited { code: Some(code), signal: None });
        let killed = Some(Exited { code: None, signal: Some(9) });
        let asked = Record { cause: Some(Cause::Asked), ..record() };
        let timeout = Record { cause: Some(Cause::Timeout), ..record() };
        let failed = Record { sandbox: None, failure: Some("why".into()), ..record() };
        let early = Record { sandbox: None, cause: Some(Cause::Asked), failure: Some("why".into()), ..record() };
        let cases = [
            (record(), true, 0, code(3), ExitReason::Exited, Some(3), None),
            (record(), true, 1, killed, ExitReason::Oom, None, Some(9)),
            (record(), true, 1, code(2), ExitReason::Oom, Some(2), None),
            (record(), true, 0, None, ExitReason::Unknown, None, None),
            (record(), true, 0, Some(Exited::default()), ExitReason::Unknown, None, None),
            (record(), false, 0, None, ExitReason::HostLost, None, None),
            (asked.clone(), true, 1, code(0), ExitReason::Stopped, Some(0), None),
            (asked, false, 0, None, ExitReason::Stopped, None, None),
            (timeout, true, 0, killed, ExitReason::Timeout, None, Some(9)),
            (failed, true, 0, None, ExitReason::StartFailed, None, None),
            (early, true, 0, None, ExitReason::Stopped, None, None),
        ];
        for (record, same_boot, oom, exited, reason, code, signal) in cases {
            let exit = classify(&record, same_boot, oom, exited);
            assert_eq!((exit.reason, exit.code, exit.signal), (reason, code, signal), "{record:?} {exited:?}");
        }
    }

    #[test]
    fn an_oom_kill_is_said_even_if_another_reason_comes_first() {
        let asked = Record { cause: Some(Cause::Asked), ..record() };
        assert!(classify(&asked, true, 1, None).oom);
        assert!(!classify(&asked, true, 0, None).oom);
    }
}
