//! How a VM ended, from what was asked, what the kernel counted and what the monitor saw. Pure.

use cakework_core::lifecycle::{Exit, ExitReason};

use super::record::Cause;
use crate::monitor::plan::Exited;

/// What the agent knows of an end.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The sandbox ran.
    pub ran: bool,
    /// Why the agent ended it.
    pub cause: Option<Cause>,
    /// Why it could not be started.
    pub failure: Option<&'a str>,
    /// It ran in this boot of the host.
    pub same_boot: bool,
}

/// Tells the ends apart. Our own wish comes first, since the sandbox ended after it; then the kernel's counter of kills
/// for want of memory, since no exit code tells those; then what the process said. What nobody saw is `unknown`.
pub fn classify(known: Known<'_>, oom_kills: u64, exited: Option<Exited>) -> Exit {
    let Exited { code, signal } = exited.unwrap_or_default();
    let oom = oom_kills > 0;
    let reason = if let (false, None, Some(failure)) = (known.ran, known.cause, known.failure) {
        return Exit::start_failed(failure);
    } else if let Some(cause) = known.cause {
        match cause {
            Cause::Asked => ExitReason::Stopped,
            Cause::Timeout => ExitReason::Timeout,
        }
    } else if !known.same_boot {
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

    const RAN: Known<'static> = Known { ran: true, cause: None, failure: None, same_boot: true };

    #[test]
    fn the_ends_are_told_apart() {
        let code = |code| Some(Exited { code: Some(code), signal: None });
        let killed = Some(Exited { code: None, signal: Some(9) });
        let asked = Known { cause: Some(Cause::Asked), ..RAN };
        let timeout = Known { cause: Some(Cause::Timeout), ..RAN };
        let failed = Known { ran: false, failure: Some("why"), ..RAN };
        let early = Known { cause: Some(Cause::Asked), ..failed };
        let lost = |known| Known { same_boot: false, ..known };
        let cases = [
            (RAN, 0, code(3), ExitReason::Exited, Some(3), None),
            (RAN, 1, killed, ExitReason::Oom, None, Some(9)),
            (RAN, 1, code(2), ExitReason::Oom, Some(2), None),
            (RAN, 0, None, ExitReason::Unknown, None, None),
            (RAN, 0, Some(Exited::default()), ExitReason::Unknown, None, None),
            (lost(RAN), 0, None, ExitReason::HostLost, None, None),
            (asked, 1, code(0), ExitReason::Stopped, Some(0), None),
            (lost(asked), 0, None, ExitReason::Stopped, None, None),
            (timeout, 0, killed, ExitReason::Timeout, None, Some(9)),
            (failed, 0, None, ExitReason::StartFailed, None, None),
            (early, 0, None, ExitReason::Stopped, None, None),
        ];
        for (known, oom, exited, reason, code, signal) in cases {
            let exit = classify(known, oom, exited);
            assert_eq!((exit.reason, exit.code, exit.signal), (reason, code, signal), "{known:?} {exited:?}");
        }
    }

    #[test]
    fn an_oom_kill_is_said_even_if_another_reason_comes_first() {
        let asked = Known { cause: Some(Cause::Asked), ..RAN };
        assert!(classify(asked, 1, None).oom);
        assert!(!classify(asked, 0, None).oom);
    }
}
