//! What a failed start means to the VM's owner.

/// A sentence about a start that failed with `complaint`, for a VM whose command is `program`.
///
/// The engine's own words name host paths and stay in the operator's log.
pub fn explain(complaint: &str, program: &str) -> String {
    let program: String = program.chars().filter(|c| !c.is_control()).take(200).collect();
    let loading = complaint.contains("failed to load") || complaint.contains("error finding executable");
    if loading && complaint.contains("no such file or directory") {
        format!("the image's command was not found: {program}")
    } else if loading && complaint.contains("permission denied") {
        format!("the image's command may not be executed: {program}")
    } else if loading && complaint.contains("exec format error") {
        format!("the image's command is no program for this machine: {program}")
    } else if loading {
        format!("the image's command could not be started: {program}")
    } else {
        "the sandbox could not be started; the host's operator finds the cause in the agent's log".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_reads_what_is_wrong_with_the_image() {
        let cases = [
            ("error finding executable \"nope\" in PATH [/bin]: no such file or directory", "was not found: app"),
            ("creating process: failed to load /bin/nope: no such file or directory", "was not found: app"),
            ("creating process: failed to load /txt: permission denied", "may not be executed: app"),
            ("creating process: failed to load /bad: exec format error", "no program for this machine: app"),
            ("mounting /data/agent/vms: no such file or directory", "could not be started; the host's operator"),
        ];
        for (complaint, sentence) in cases {
            let said = explain(complaint, "a\npp");
            assert!(said.contains(sentence) && !said.contains('\n'), "{complaint} → {said}");
        }
    }
}
