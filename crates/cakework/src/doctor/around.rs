//! Checks of what else the host does: its firewall, its table of connections, its swap, its clock.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::row::Row;
use crate::config::Settings;
use crate::instance;

/// Connections that a host with some VMs has open at once, at the least.
const CONNECTIONS_MIN: u64 = 65_536;
/// Seconds that a command may take.
const COMMAND_SECS: &str = "3";

/// What `nft -j list chains` says, as far as it is looked at (libnftables-json(5)).
#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    chain: Option<Chain>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
    policy: Option<String>,
}

impl Chain {
    /// Whether it drops forwarded packets that none of its rules accepts, whatever other tables say. Ours never do.
    fn drops_forwarded(&self) -> bool {
        let is_base = self.hook.as_deref() == Some("forward") && self.policy.as_deref() == Some("drop");
        is_base && matches!(self.family.as_str(), "ip" | "inet") && !self.table.starts_with("cw")
    }

    fn words(&self) -> [&str; 3] {
        [&self.family, &self.table, &self.name]
    }
}

/// Whether another firewall, such as Docker's or ufw's, stands between VMs and the internet.
pub fn forward(settings: &Settings) -> Row {
    let Some(text) = said_by(&["nft", "-j", "list", "chains"]) else {
        return Row::warn("forward", "the host's rules can't be read", "nft list ruleset");
    };
    let Ok(listing) = serde_json::from_str::<Listing>(&text) else {
        return Row::warn("forward", "the host's rules can't be read", "nft list ruleset");
    };
    let pool = instance::record(&settings.data_dir).ok().flatten().map(|record| record.pool);
    let pool = pool.or(settings.network.pool).map(|pool| pool.to_string());
    let dropping = listing.nftables.into_iter().filter_map(|object| object.chain).filter(Chain::drops_forwarded);
    for chain in dropping {
        let words = chain.words();
        let rules = said_by(&[&["nft", "list", "chain"], &words[..]].concat()).unwrap_or_default();
        if pool.as_ref().is_some_and(|pool| rules.contains(&format!("saddr {pool}"))) {
            continue;
        }
        let (chain, pool) = (words.join(" "), pool.unwrap_or_else(|| "NETWORK_POOL".to_owned()));
        return Row::warn(
            "forward",
            format!("the chain {chain} drops what it does not accept: VMs may not reach the internet"),
            format!("nft insert rule {chain} ip saddr {pool} accept; nft insert rule {chain} ip daddr {pool} accept"),
        );
    }
    Row::ok("forward", "no other firewall drops what VMs send")
}

/// Whether the kernel can follow as many connections as VMs make.
pub fn conntrack() -> Row {
    let number = |name: &str| {
        let text = std::fs::read_to_string(Path::new("/proc/sys/net/netfilter").join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let (Some(most), Some(count)) = (number("nf_conntrack_max"), number("nf_conntrack_count")) else {
        return Row::ok("conntrack", "no connection is followed yet; the kernel chooses how many may be");
    };
    judge_conntrack(most, count)
}

fn judge_conntrack(most: u64, count: u64) -> Row {
    let wanted = (most * 2).max(CONNECTIONS_MIN * 4);
    let fix = format!("sysctl -w net.netfilter.nf_conntrack_max={wanted}, and the same in /etc/sysctl.d");
    if most < CONNECTIONS_MIN {
        Row::warn("conntrack", format!("the host follows {most} connections at most: VMs share them"), fix)
    } else if count > most / 10 * 8 {
        Row::warn("conntrack", format!("{count} of {most} connections are in use"), fix)
    } else {
        Row::ok("conntrack", format!("{count} of {most} connections are in use"))
    }
}

/// Whether VMs' memory, secrets in it included, may be written to the host's swap.
pub fn swap() -> Row {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps.lines().count() < 2 {
        return Row::ok("swap", "off");
    }
    let root = Path::new("/sys/fs/cgroup");
    let is_limited =
        root.join("cgroup.controllers").exists() || root.join("memory/memory.memsw.limit_in_bytes").exists();
    if is_limited {
        Row::ok("swap", "on; VMs have none of it")
    } else {
        let fix = "swapoff -a, or boot with swapaccount=1";
        Row::warn("swap", "on, and this kernel can't keep VMs' memory out of it", fix)
    }
}

/// Whether the clock follows a time server, where systemd knows.
pub fn clock() -> Option<Row> {
    let said = said_by(&["timedatectl", "show", "--property=NTPSynchronized", "--value"])?;
    match said.trim() {
        "yes" => Some(Row::ok("clock", "it follows a time server")),
        "no" => Some(Row::warn(
            "clock",
            "it follows no time server: certificates, signatures of webhooks and expiry dates go by it",
            "apt-get install systemd-timesyncd, and timedatectl set-ntp true",
        )),
        _ => None,
    }
}

/// What a command says, if it ends well and in time. It has no word with the service manager: systemd's own tell it of
/// their failures.
fn said_by(words: &[&str]) -> Option<String> {
    let mut command = Command::new("timeout");
    command.env_remove("NOTIFY_SOCKET");
    let output = command.arg(COMMAND_SECS).args(words).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn only_foreign_chains_that_drop_what_is_forwarded_are_named() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 2, "type": "filter",
                       "hook": "forward", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "cwabcd", "name": "filter", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "fw", "name": "fwd", "hook": "forward", "policy": "accept"}},
            {"chain": {"family": "ip6", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER", "handle": 4}}]}"#;
        let listing: Listing = serde_json::from_str(text).unwrap();
        let chains = listing.nftables.into_iter().filter_map(|object| object.chain).filter(Chain::drops_forwarded);
        assert_eq!(chains.map(|chain| chain.words().join(" ")).collect::<Vec<_>>(), ["ip filter FORWARD"]);
    }

    #[test]
    fn few_connections_and_many_in_use_are_said() {
        for (most, count, status) in [
            (262_144, 10, Status::Ok),
            (65_536, 52_000, Status::Ok),
            (65_536, 53_000, Status::Warn),
            (8_192, 0, Status::Warn),
        ] {
            assert_eq!(judge_conntrack(most, count).status, status, "{most} {count}");
        }
    }
}
