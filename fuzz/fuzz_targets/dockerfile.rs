//! A Dockerfile: planned and walked through to each step, or refused with its line.
#![no_main]

use std::collections::BTreeMap;

use cakework_dockerfile::{Action, Base, Config, Fault, Inputs, Source, Step, Tree, Walker, plan};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(fault) = walk(text) {
        assert!(fault.line >= 1 && fault.line as usize <= text.split('\n').count(), "{fault}");
        assert!(!fault.message.is_empty() && !fault.message.contains(char::is_control), "{fault}");
    }
});

fn walk(text: &str) -> Result<(), Fault> {
    let build_args = BTreeMap::from([("A".to_owned(), "of the request".to_owned())]);
    let plan = plan(text, &Inputs { build_args, target: None, architecture: "amd64".to_owned() })?;
    let mut ends: Vec<Config> = Vec::new();
    for (number, stage) in plan.stages.iter().enumerate() {
        let config = match &stage.base {
            Base::Tree(Tree::Stage(earlier)) => ends[*earlier].clone(),
            _ => Config::default(),
        };
        let mut walker = Walker::new(&plan, number, config)?;
        while let Some(step) = walker.next() {
            check(&step?);
        }
        assert!(walker.config().working_dir.is_empty() || walker.config().working_dir.starts_with('/'));
        ends.push(walker.config().clone());
    }
    Ok(())
}

/// What a step names stays inside, whatever it was made of.
fn check(step: &Step) {
    match &step.action {
        Action::Copy(copy) => {
            assert!(copy.destination.starts_with('/') && !copy.destination.contains("/../"));
            for source in &copy.sources {
                match source {
                    Source::Path(path) => {
                        assert!(!path.starts_with('/') && path.split('/').all(|part| part != ".."), "{path}");
                    }
                    Source::Inline { name, .. } => assert!(!name.contains('/') && name != "..", "{name}"),
                    Source::Url(url) => assert!(url.starts_with("http"), "{url}"),
                }
            }
        }
        Action::Run(run) => {
            assert!(run.working_dir.starts_with('/') && !run.args.is_empty());
            assert!(run.env.iter().chain(&run.args).all(|word| !word.contains('\0')));
            for mount in &run.mounts {
                assert!(mount.target.as_deref().is_none_or(|target| target.starts_with('/') && target.len() > 1));
            }
        }
        Action::Workdir { path, .. } => assert!(path.starts_with('/')),
        Action::Configure => {}
    }
}
