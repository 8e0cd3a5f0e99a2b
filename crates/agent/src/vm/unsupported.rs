//! What no host can start a VM with. The api has checked it; the agent relies on nobody.

use cakework_core::limit;
use cakework_core::spec::VmSpec;

/// Largest writable disk, in MiB: a TiB.
const DISK_MAX_MIB: u32 = 1 << 20;

/// Why this host can't give what the specification asks for.
pub(super) fn unsupported(spec: &VmSpec) -> Option<String> {
    let hex = spec.image_digest.strip_prefix("sha256:");
    let is_digest = hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let volume = spec.volume_gb.unwrap_or(limit::VOLUME_MIN_GB);
    let command = spec.command.as_deref().unwrap_or_default();
    let wrong = if !is_digest {
        "the image's digest"
    } else if !(limit::CPU_MIN..=limit::CPU_MAX).contains(&spec.cpu) {
        "`cpu`"
    } else if !(limit::MEMORY_MIN_MIB..=limit::MEMORY_MAX_MIB).contains(&spec.memory_mib) {
        "`memory`"
    } else if spec.disk_mib < 16 || spec.disk_mib > DISK_MAX_MIB {
        "the disk's size"
    } else if !(limit::VOLUME_MIN_GB..=limit::VOLUME_MAX_GB).contains(&volume) {
        "the volume's size"
    } else if spec.env.len() > limit::ENV_VARS_MAX
        || spec.env.iter().any(|(name, value)| {
            name.is_empty() || name.contains(['=', '\0']) || value.len() > limit::ENV_VALUE_MAX_BYTES
        })
    {
        "`envVars`"
    } else if command.len() > limit::COMMAND_WORDS_MAX
        || command.iter().map(String::len).sum::<usize>() > limit::COMMAND_TOTAL_MAX_BYTES
    {
        "`command`"
    } else {
        return None;
    };
    Some(format!("{wrong} is not one that a host can start a VM with"))
}
