//! FROM, and the names of trees: what a stage stands on, and what `--from` means.

use cakework_core::id::ImageId;

use crate::fault::{Refusal, invalid, shown, unsupported};
use crate::flag::Flags;
use crate::scope::Globals;
use crate::step::Tree;
use crate::text::{Instruction, SPACES};
use crate::words::{Budget, Lex};

/// The account's own images are in this repository.
const OWN: &str = "cakework/";
const SCRATCH: &str = "scratch";
const REFERENCE_MAX_BYTES: usize = 512;

/// A FROM, with nothing expanded.
#[derive(Debug)]
pub(crate) struct FromCommand {
    image: String,
    /// In lower case.
    pub name: Option<String>,
    platform: Option<String>,
}

impl FromCommand {
    pub fn parse(instruction: &Instruction) -> Result<Self, Refusal> {
        let mut flags = Flags::new(&instruction.flags);
        let platform = flags.one("platform")?;
        flags.end("FROM")?;
        let words: Vec<&str> = instruction.rest.split(SPACES).filter(|word| !word.is_empty()).collect();
        let (image, name) = match words.as_slice() {
            [image] => (*image, None),
            [image, keyword, name] if keyword.eq_ignore_ascii_case("AS") => (*image, Some(name.to_ascii_lowercase())),
            _ => return Err(invalid("FROM is followed by an image, and where the stage has a name by AS and that.")),
        };
        if let Some(name) = &name {
            let mut letters = name.chars();
            let valid = letters.next().is_some_and(|letter| letter.is_ascii_lowercase())
                && letters
                    .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_.".contains(letter));
            if !valid {
                return Err(invalid(format!(
                    "{} can't be a stage's name. Begin it with a letter, and use letters, digits, `-`, `_` and `.`.",
                    shown(name)
                )));
            }
        }
        Ok(Self { image: image.to_owned(), name, platform })
    }

    /// The image, where the ARGs before the first FROM are known.
    pub fn image(&self, globals: &Globals, escape: char) -> Result<String, Refusal> {
        let image = Lex::new(escape, globals, &Budget::new()).word(&self.image)?;
        if image.is_empty() {
            return Err(invalid(format!(
                "{} is empty. Set the variables that it uses: by an ARG with a value before the first FROM.",
                shown(&self.image)
            )));
        }
        Ok(image)
    }

    /// Refuses another platform than the one that builds run on.
    pub fn check_platform(&self, globals: &Globals, escape: char, architecture: &str) -> Result<(), Refusal> {
        let Some(platform) = &self.platform else { return Ok(()) };
        let platform = Lex::new(escape, globals, &Budget::new()).word(platform)?.to_ascii_lowercase();
        let asked = match platform.split('/').collect::<Vec<_>>().as_slice() {
            ["linux"] => architecture,
            ["linux", asked] | [asked] => asked,
            ["linux", asked @ ("arm64" | "aarch64"), "v8"] | ["linux", asked @ ("amd64" | "x86_64"), "v1"] => asked,
            _ => "",
        };
        let asked = match asked {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        if asked == architecture {
            return Ok(());
        }
        Err(unsupported(format!(
            "--platform={} is not supported: images are built for linux/{architecture}. Remove the flag.",
            shown(&platform)
        )))
    }
}

/// Which stages there are, to look names up.
pub(crate) struct Names<'a> {
    /// Of all stages, in order.
    pub names: Vec<Option<&'a str>>,
}

impl Names<'_> {
    /// The stage that is built: by name or number, or the last one.
    pub fn target(&self, target: Option<&str>) -> Result<usize, Refusal> {
        let Some(target) = target.filter(|target| !target.is_empty()) else { return Ok(self.names.len() - 1) };
        self.position(target, self.names.len())
            .or_else(|| target.parse().ok().filter(|number| *number < self.names.len()))
            .ok_or_else(|| invalid(format!("There is no stage {} to build. Check `target`.", shown(target))))
    }

    /// What a stage stands on; `None` is scratch. The result's stages are numbers in the Dockerfile.
    pub fn base(&self, stage: usize, image: &str) -> Result<Option<Tree>, Refusal> {
        match self.position(image, stage) {
            Some(earlier) => Ok(Some(Tree::Stage(earlier))),
            None if image == SCRATCH => Ok(None),
            None => tree(image).map(Some),
        }
    }

    /// What `--from` or a mount's `from` means.
    pub fn source(&self, stage: usize, name: &str) -> Result<Tree, Refusal> {
        if let Some(earlier) = self.position(name, stage) {
            return Ok(Tree::Stage(earlier));
        }
        if let Ok(number) = name.parse::<usize>() {
            if number < stage {
                return Ok(Tree::Stage(number));
            }
            return Err(self.not_earlier(name, number < self.names.len()));
        }
        if self.position(name, self.names.len()).is_some() {
            return Err(self.not_earlier(name, true));
        }
        if name == SCRATCH {
            return Err(invalid("There is nothing in scratch to copy from. Name a stage or an image."));
        }
        tree(name)
    }

    /// The last stage of this name before another.
    fn position(&self, name: &str, before: usize) -> Option<usize> {
        self.names[..before].iter().rposition(|other| other.is_some_and(|other| other.eq_ignore_ascii_case(name)))
    }

    fn not_earlier(&self, name: &str, exists: bool) -> Refusal {
        invalid(if exists {
            format!("The stage {} is not finished here. Move it before this stage.", shown(name))
        } else {
            format!("There is no stage {}: the Dockerfile has {}.", shown(name), self.names.len())
        })
    }
}

/// An image by its name.
fn tree(image: &str) -> Result<Tree, Refusal> {
    if let Some(id) = image.strip_prefix(OWN) {
        return match id.parse::<ImageId>() {
            Ok(id) => Ok(Tree::Own(id.to_string())),
            Err(_) => Err(invalid(format!("{} is not the id of an image. Write {OWN} and an image id.", shown(image)))),
        };
    }
    if image.is_empty() || image.len() > REFERENCE_MAX_BYTES || !image.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(format!("{} is no image reference.", shown(image))));
    }
    Ok(Tree::Image(image.to_owned()))
}
