//! Which images a Dockerfile needs: known before a host is asked, so that own images and credentials go with the build.

use std::collections::BTreeSet;

use cakework_core::build::BuildErrorCode;
use cakework_core::registry::host_of;
use cakework_dockerfile::{Fault, FaultCode, Inputs, Tree};
use cakework_wire::build::BuildProblem;

/// The images that a Dockerfile needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Ids of the account's own, as the Dockerfile says them.
    pub(crate) own: BTreeSet<String>,
    /// Registries of the others, as the Dockerfile spells them.
    pub(crate) registries: BTreeSet<String>,
}

/// Reads a Dockerfile's needs. Pure.
pub(crate) type Planner = fn(&str, &Inputs) -> Result<Needs, BuildProblem>;

/// The needs of a Dockerfile; the problem names the instruction that is wrong.
pub(crate) fn needs_of(dockerfile: &str, inputs: &Inputs) -> Result<Needs, BuildProblem> {
    let plan = cakework_dockerfile::plan(dockerfile, inputs).map_err(problem)?;
    let mut needs = Needs::default();
    for tree in plan.images() {
        match tree {
            Tree::Own(id) => {
                needs.own.insert(id.clone());
            }
            Tree::Image(reference) => {
                needs.registries.insert(host_of(reference).to_owned());
            }
            Tree::Context | Tree::Stage(_) => {}
        }
    }
    Ok(needs)
}

/// What hosts run, in Docker's words: an api and its hosts are of one architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn problem(fault: Fault) -> BuildProblem {
    let code = match fault.code {
        FaultCode::Invalid => BuildErrorCode::DockerfileInvalid,
        FaultCode::Unsupported => BuildErrorCode::DockerfileUnsupported,
    };
    BuildProblem {
        code,
        message: fault.message,
        instruction: Some(fault.instruction).filter(|text| !text.is_empty()),
        line: Some(fault.line).filter(|line| *line > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_keeps_its_instruction_and_line() {
        let fault = |instruction: &str, line| Fault {
            code: FaultCode::Unsupported,
            message: "No.".into(),
            instruction: instruction.into(),
            line,
        };
        let named = problem(fault("ADD --x a b", 3));
        assert_eq!(named.code, BuildErrorCode::DockerfileUnsupported);
        assert_eq!((named.instruction.as_deref(), named.line), (Some("ADD --x a b"), Some(3)));
        assert_eq!((problem(fault("", 0)).instruction, problem(fault("", 0)).line), (None, None));
    }
}
