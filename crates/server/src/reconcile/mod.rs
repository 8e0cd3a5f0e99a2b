//! Reconcilers: what makes the hosts' reality follow the record, and the record follow what the hosts report.
//!
//! ```text
//!  watch   host's reports ──> record        (list + watch; a new incarnation ends what the old one had)
//!  vms     record's wishes ──> host         (hold, place, stop, destroy; deadlines)
//!  idle    record's wishes ──> host         (sleep)
//!  images  record's wishes ──> host         (pull)
//!  builds  record's wishes ──> host         (turns, placement, cancellation; deadlines)
//!  webhooks  events of the record ──> the builders' endpoints
//!  follow  record's changes ──> routes of the edge, and whoever waits
//! ```
//! They take no input: each looks at the record, by timer and when poked, so that recovery and the normal path are one
//! path. A host that is away proves nothing.

mod build_wish;
pub(crate) mod builds;
pub(crate) mod follow;
pub(crate) mod idle;
pub(crate) mod images;
pub(crate) mod observe;
pub(crate) mod place;
pub(crate) mod vms;
pub(crate) mod watch;
pub(crate) mod webhooks;
mod webhooks_body;
pub(crate) mod webhooks_send;

use std::time::Duration;

use cakework_core::id::{AccountId, BuildId, ImageId, VmId};

/// Time between the deadline that the host enforces on a start and the api's own.
pub(crate) const START_MARGIN_MS: u64 = 15_000;
/// Time between two looks without a poke.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// Time that a claim holds: longer than one call to a host takes.
const CLAIM_MS: u64 = 10_000;

/// Where a VM's environment is sealed to.
pub(crate) fn env_place(id: &VmId) -> String {
    format!("vms.env/{id}")
}

/// Where an image's credential is sealed to.
pub(crate) fn credential_place(id: &ImageId) -> String {
    format!("images.credential/{id}")
}

/// Where a build's arguments and secrets are sealed to.
pub(crate) fn build_secrets_place(id: &BuildId) -> String {
    format!("builds.secrets/{id}")
}

/// Where a build's token is sealed to.
pub(crate) fn build_token_place(id: &BuildId) -> String {
    format!("builds.token/{id}")
}

/// Where a registry's password is sealed to.
pub(crate) fn registry_place(account: &AccountId, host: &str) -> String {
    format!("registries.password/{account}/{host}")
}

/// Time until the next attempt: doubling, from 100 ms to 5 s.
fn backoff_ms(attempts: u64) -> u64 {
    (100 << attempts.min(6)).min(5_000)
}

#[cfg(test)]
mod tests {
    #[test]
    fn attempts_get_rarer_and_never_stop() {
        let steps: Vec<u64> = (0..8).map(super::backoff_ms).collect();
        assert_eq!(steps, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(super::backoff_ms(u64::MAX), 5_000);
    }
}
