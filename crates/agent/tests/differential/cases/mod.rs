//! The Dockerfiles, with their files, and what is known to differ.

mod config;
mod copy;
mod everyday;
mod run;
mod stages;
mod words;

use cakework_testkit::images::Entry;

use crate::builder::Recipe;

/// A Dockerfile that both sides build. `$BASE` is busybox with a user `app`, 1000:1000.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: &'static str,
    /// What it shows, a few words.
    pub what: &'static str,
    pub recipe: Recipe,
    /// It is what people write, and is built in every run.
    pub is_everyday: bool,
    /// Both refuse it.
    pub is_refused: bool,
    /// One of them refuses it.
    pub differs_in_refusal: bool,
    /// What differs: `tree <path>`, `config <field>` or `refusal`.
    pub known: Vec<&'static str>,
    /// Why.
    pub reason: &'static str,
}

/// All of them; names are in the order in which the other side builds.
pub fn all() -> Vec<Case> {
    let mut all = [everyday::cases(), copy::cases(), run::cases(), words::cases(), config::cases(), stages::cases()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>();
    all.sort_by_key(|case| (!case.is_everyday, case.name));
    assert!(all.windows(2).all(|pair| pair[0].name != pair[1].name), "a name twice");
    all
}

fn case(name: &'static str, what: &'static str, dockerfile: &str) -> Case {
    Case {
        name,
        what,
        recipe: Recipe::new(dockerfile),
        is_everyday: false,
        is_refused: false,
        differs_in_refusal: false,
        known: Vec::new(),
        reason: "",
    }
}

impl Case {
    fn file(self, path: &str, content: &str) -> Self {
        self.entry(Entry::file(path, content))
    }

    fn entry(mut self, entry: Entry) -> Self {
        self.recipe = self.recipe.entry(entry);
        self
    }

    fn mode(self, path: &str, mode: u32) -> Self {
        self.entry(Entry::File { path: path.into(), mode, bytes: path.as_bytes().to_vec() })
    }

    fn arg(mut self, name: &str, value: &str) -> Self {
        self.recipe = self.recipe.arg(name, value);
        self
    }

    fn target(mut self, target: &str) -> Self {
        self.recipe.put.target = Some(target.into());
        self
    }

    fn everyday(mut self) -> Self {
        self.is_everyday = true;
        self
    }

    fn refused(mut self) -> Self {
        self.is_refused = true;
        self
    }

    /// Both build it, and these are not the same.
    fn differs(mut self, known: &[&'static str], reason: &'static str) -> Self {
        (self.known, self.reason) = (known.to_vec(), reason);
        self
    }

    /// One of the two refuses it.
    fn only_one(mut self, reason: &'static str) -> Self {
        (self.known, self.reason, self.differs_in_refusal) = (vec!["refusal"], reason, true);
        self
    }
}
