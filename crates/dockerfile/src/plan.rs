//! Which stages a build needs, in which order, and which images they stand on.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::Command;
use crate::fault::{Fault, Place, invalid, shown};
use crate::scope::Globals;
use crate::stage::{FromCommand, Names};
use crate::step::Tree;
use crate::text;

/// What a build passes to its Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Values of ARGs.
    pub build_args: BTreeMap<String, String>,
    /// The stage to build, by name or number; the last one where absent.
    pub target: Option<String>,
    /// In Docker's words, such as `amd64`: for `TARGETARCH` and the like.
    pub architecture: String,
}

/// The stages that are needed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Each after those that it stands on or copies from; the last one is the result.
    pub stages: Vec<Stage>,
    /// What all of them were given.
    pub(crate) inputs: Inputs,
    pub(crate) globals: Globals,
    pub(crate) escape: char,
    /// Of each stage, what its steps need.
    pub(crate) bodies: Vec<Body>,
    images: Vec<Tree>,
}

/// A stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name, or its number in the Dockerfile.
    pub name: String,
    /// What it stands on.
    pub base: Base,
    /// The FROM as it is written, cut to a readable length, and its first line.
    pub text: String,
    /// See [`Self::text`].
    pub line: u32,
    /// Indexes in [`Plan::stages`] of those that it needs, its base included.
    pub needs: BTreeSet<usize>,
    /// How many steps [`crate::Walker`] will yield.
    pub steps: u32,
}

/// What a stage stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image or another stage; never [`Tree::Context`].
    Tree(Tree),
}

/// The steps of a stage, with nothing expanded.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub commands: Vec<(Place, Command)>,
    /// What `--from` of its COPYs and mounts names.
    pub trees: BTreeMap<String, Tree>,
}

impl Plan {
    /// Every image that is needed, as a base or to copy from, each once: [`Tree::Image`] and [`Tree::Own`].
    pub fn images(&self) -> Vec<&Tree> {
        self.images.iter().collect()
    }

    /// How many steps all stages have.
    pub fn steps(&self) -> u32 {
        self.stages.iter().map(|stage| stage.steps).sum()
    }
}

/// Reads a Dockerfile and decides what of it is needed.
///
/// # Errors
/// [`Fault`]: the Dockerfile can't be read, asks for what is not supported (also in a stage that is not needed, where
/// that is seen without expanding it), or has no such target.
pub fn plan(text: &str, inputs: &Inputs) -> Result<Plan, Fault> {
    let document = text::read(text)?;
    let escape = document.escape;
    let (arguments, drafts) = drafts(&document)?;
    let names = Names { names: drafts.iter().map(|draft| draft.from.name.as_deref()).collect() };
    let target = names.target(inputs.target.as_deref()).map_err(|refusal| Place::line(1).fault(refusal))?;
    let mut globals = Globals::new(inputs, drafts[target].from.name.as_deref().unwrap_or("default"));
    for (place, arguments) in arguments {
        globals.declare(&arguments, inputs, escape).map_err(|refusal| place.fault(refusal))?;
    }
    let resolved = drafts
        .iter()
        .enumerate()
        .map(|(number, draft)| draft.resolve(number, &names, &globals, escape))
        .collect::<Result<Vec<_>, _>>()?;

    // A stage needs earlier ones only, so one way back finds all, and their order is one to build them in.
    let mut needed = BTreeSet::from([target]);
    for number in (0..=target).rev() {
        if needed.contains(&number) {
            needed.extend(resolved[number].stages());
        }
    }
    let positions: BTreeMap<usize, usize> = needed.iter().copied().zip(0..).collect();
    let mut plan =
        Plan { stages: Vec::new(), inputs: inputs.clone(), globals, escape, bodies: Vec::new(), images: Vec::new() };
    for (number, (draft, resolved)) in drafts.into_iter().zip(resolved).enumerate() {
        if needed.contains(&number) {
            draft
                .from
                .check_platform(&plan.globals, escape, &inputs.architecture)
                .map_err(|refusal| draft.place.fault(refusal))?;
            plan.take(number, draft, resolved, &positions);
        }
    }
    Ok(plan)
}

impl Plan {
    fn take(&mut self, number: usize, draft: Draft, resolved: Resolved, positions: &BTreeMap<usize, usize>) {
        let needs = resolved.stages().map(|stage| positions[&stage]).collect();
        let place = |tree: Tree| match tree {
            Tree::Stage(stage) => Tree::Stage(positions[&stage]),
            other => other,
        };
        let base = resolved.base.map_or(Base::Scratch, |tree| Base::Tree(place(tree)));
        let trees: BTreeMap<String, Tree> =
            resolved.trees.into_iter().map(|(name, tree)| (name, place(tree))).collect();
        let base_tree = if let Base::Tree(tree) = &base { Some(tree) } else { None };
        for tree in base_tree.into_iter().chain(trees.values()) {
            if matches!(tree, Tree::Image(_) | Tree::Own(_)) && !self.images.contains(tree) {
                self.images.push(tree.clone());
            }
        }
        self.stages.push(Stage {
            name: draft.from.name.unwrap_or_else(|| number.to_string()),
            base,
            text: draft.place.text,
            line: draft.place.line,
            needs,
            steps: u32::try_from(draft.commands.len()).expect("instructions are limited"),
        });
        self.bodies.push(Body { commands: draft.commands, trees });
    }
}

/// A stage as it is written.
struct Draft {
    place: Place,
    from: FromCommand,
    commands: Vec<(Place, Command)>,
}

/// What a stage names; its stages are numbers in the Dockerfile.
struct Resolved {
    base: Option<Tree>,
    trees: BTreeMap<String, Tree>,
}

impl Resolved {
    fn stages(&self) -> impl Iterator<Item = usize> {
        self.base.iter().chain(self.trees.values()).filter_map(|tree| match tree {
            Tree::Stage(stage) => Some(*stage),
            Tree::Context | Tree::Image(_) | Tree::Own(_) => None,
        })
    }
}

impl Draft {
    fn resolve(&self, number: usize, names: &Names<'_>, globals: &Globals, escape: char) -> Result<Resolved, Fault> {
        let base = self.from.image(globals, escape).and_then(|image| names.base(number, &image));
        let base = base.map_err(|refusal| self.place.fault(refusal))?;
        let mut trees = BTreeMap::new();
        for (place, command) in &self.commands {
            let from: Vec<&str> = match command {
                Command::Copy(copy) => copy.from.as_deref().into_iter().collect(),
                Command::Run(run) => run.mounts.iter().filter_map(|mount| mount.from()).collect(),
                _ => continue,
            };
            for name in from {
                let tree = names.source(number, name).map_err(|refusal| place.fault(refusal))?;
                trees.insert(name.to_owned(), tree);
            }
        }
        Ok(Resolved { base, trees })
    }
}

/// What stands before the first FROM, with its place.
type Arguments = Vec<(Place, Vec<(String, Option<String>)>)>;

fn drafts(document: &text::Document) -> Result<(Arguments, Vec<Draft>), Fault> {
    let mut arguments = Arguments::new();
    let mut drafts: Vec<Draft> = Vec::new();
    for instruction in &document.instructions {
        let place = instruction.place.clone();
        if instruction.keyword == "FROM" {
            let from = FromCommand::parse(instruction).map_err(|refusal| place.fault(refusal))?;
            drafts.push(Draft { place, from, commands: Vec::new() });
            continue;
        }
        let command = Command::parse(instruction, document.escape).map_err(|refusal| place.fault(refusal))?;
        match (drafts.last_mut(), command) {
            (Some(draft), command) => draft.commands.push((place, command)),
            (None, Command::Arg(declared)) => arguments.push((place, declared)),
            (None, _) => {
                let message = format!("{} stands before the first FROM. Move it.", shown(&instruction.keyword));
                return Err(place.fault(invalid(message)));
            }
        }
    }
    if drafts.is_empty() {
        return Err(
            Place::line(1).fault(invalid("The Dockerfile has no FROM. Begin with one, such as FROM debian:13."))
        );
    }
    Ok((arguments, drafts))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
