//! From a stage's instructions to its steps: each is expanded against the configuration that the ones before it made.

use crate::command::Command;
use crate::config::Config;
use crate::configure;
use crate::fault::{Fault, Place, Refusal, unsupported};
use crate::material;
use crate::path;
use crate::plan::{Base, Plan};
use crate::scope::{Scope, get, set};
use crate::step::{Action, Step, Tree};

/// What an image that says nothing is searched for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Walks through a stage.
///
/// Expansion needs what the base image sets, so steps come one by one once that is known.
#[derive(Debug)]
pub struct Walker<'a> {
    plan: &'a Plan,
    stage: usize,
    /// The next one.
    at: usize,
    config: Config,
    /// This stage, not its base, has a CMD.
    cmd_is_own: bool,
    failed: bool,
}

impl<'a> Walker<'a> {
    /// Begins with a stage of the plan on the configuration of its base: of a stage, what [`Self::config`] said at its end.
    ///
    /// # Errors
    /// A base with ONBUILD triggers, which are not supported.
    pub fn new(plan: &'a Plan, stage: usize, base: Config) -> Result<Self, Fault> {
        let from = &plan.stages[stage];
        let mut config = base;
        if !config.on_build.is_empty() {
            let place = Place { text: from.text.clone(), line: from.line };
            return Err(place.fault(unsupported(
                "The image has ONBUILD triggers, which are not supported. Use one without, and write their instructions \
                 into the Dockerfile.",
            )));
        }
        if !matches!(from.base, Base::Tree(Tree::Stage(_))) {
            config.args.clear();
        }
        if get(&config.env, "PATH").is_none() {
            set(&mut config.env, "PATH", PATH);
        }
        Ok(Self { plan, stage, at: 0, config, cmd_is_own: false, failed: false })
    }

    /// The next step; `None` after the last one. After an error it is at its end.
    #[expect(clippy::should_implement_trait, reason = "a walker is not a collection of its steps")]
    pub fn next(&mut self) -> Option<Result<Step, Fault>> {
        if self.failed {
            return None;
        }
        let plan = self.plan;
        let (place, command) = plan.bodies[self.stage].commands.get(self.at)?;
        self.at += 1;
        let step = self.action(command).map(|(action, material)| Step {
            text: place.text.clone(),
            line: place.line,
            action,
            material,
        });
        self.failed = step.is_err();
        Some(step.map_err(|refusal| place.fault(refusal)))
    }

    /// The configuration after the steps so far.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What a command does, and what of that counts for its key.
    fn action(&mut self, command: &Command) -> Result<(Action, Vec<String>), Refusal> {
        let plan = self.plan;
        let trees = &plan.bodies[self.stage].trees;
        let scope = Scope::new(&self.config, plan.escape);
        let mut keyed = Vec::new();
        let action = match command {
            Command::Run(run) => {
                let (run, env) = run.expand(&scope, trees, &plan.inputs.build_args)?;
                keyed = env;
                Action::Run(run)
            }
            Command::Copy(copy) => Action::Copy(copy.expand(&scope, trees)?),
            Command::Workdir(directory) => {
                let path = path::join(&self.config.working_dir, &scope.plain(directory)?);
                self.config.working_dir.clone_from(&path);
                Action::Workdir { path, user: self.config.user.clone() }
            }
            Command::Arg(arguments) => {
                let build_args = &plan.inputs.build_args;
                configure::declare(arguments, &mut self.config, plan.escape, &plan.globals, build_args)?;
                Action::Configure
            }
            other => {
                self.config = configure::apply(other, &self.config, plan.escape, &mut self.cmd_is_own)?;
                Action::Configure
            }
        };
        let material = material::of(&action, &keyed);
        Ok((action, material))
    }
}

#[cfg(test)]
#[path = "walker_tests.rs"]
mod tests;
