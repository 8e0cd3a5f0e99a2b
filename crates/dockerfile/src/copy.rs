//! COPY and ADD.

use std::collections::BTreeMap;

use crate::command::words;
use crate::fault::{Refusal, invalid, shown, unsupported};
use crate::flag::Flags;
use crate::heredoc;
use crate::ignore::{Ignore, Pattern};
use crate::mount::octal;
use crate::path;
use crate::run::is_file_name;
use crate::scope::Scope;
use crate::step::{Copy, Source, Tree};
use crate::text::{Instruction, json};

/// A COPY or ADD, with nothing expanded.
#[derive(Debug, Clone)]
pub(crate) struct CopyCommand {
    /// `--from`.
    pub from: Option<String>,
    sources: Vec<SourceCommand>,
    destination: String,
    owner: Option<String>,
    mode: Option<String>,
    exclude: Vec<String>,
    add: bool,
    checksum: Option<String>,
}

#[derive(Debug, Clone)]
enum SourceCommand {
    Word(String),
    Inline { name: String, content: String, expand: bool },
}

impl CopyCommand {
    pub fn parse(instruction: &Instruction, flags: &mut Flags) -> Result<Self, Refusal> {
        let add = instruction.keyword == "ADD";
        let keyword = &instruction.keyword;
        let owner = flags.one("chown")?;
        let mode = flags.one("chmod")?;
        let exclude = flags.all("exclude")?;
        // The result is the same with --link; only what can be taken from the cache differs.
        flags.switch("link")?;
        let (mut from, mut checksum) = (None, None);
        if add {
            checksum = flags.one("checksum")?;
            flags.refuse_on("keep-git-dir", "ADD does not clone repositories.")?;
            flags.refuse("unpack", "Unpack with RUN tar.")?;
        } else {
            from = flags.one("from")?;
            flags.refuse_on("parents", "Name the destination of each directory.")?;
        }
        if from.as_deref().is_some_and(|from| from.is_empty() || from.contains('$')) {
            return Err(invalid(
                "--from is a stage or an image, without variables. Name the image with FROM … AS, and use that name.",
            ));
        }
        for pattern in &exclude {
            Ignore::patterns(std::iter::once(pattern.as_str()))?;
        }
        let mut words = words(&instruction.rest)?;
        let Some(destination) = words.pop().filter(|_| !words.is_empty()) else {
            return Err(invalid(format!("{keyword} needs a source and a destination.")));
        };
        let sources = sources(words, &destination, instruction)?;
        if from.is_some() && sources.iter().any(|source| matches!(source, SourceCommand::Inline { .. })) {
            return Err(invalid("A here-document can't be copied --from somewhere. Use two instructions."));
        }
        Ok(Self { from, sources, destination, owner, mode, exclude, add, checksum })
    }

    /// With everything expanded. `trees` are those that `--from` may name.
    pub fn expand(&self, scope: &Scope<'_>, trees: &BTreeMap<String, Tree>) -> Result<Copy, Refusal> {
        let from = self.from.as_ref().and_then(|name| trees.get(name)).cloned().unwrap_or(Tree::Context);
        let sources: Vec<Source> =
            self.sources.iter().map(|source| self.source(source, scope)).collect::<Result<_, _>>()?;
        let destination = scope.plain(&self.destination)?;
        let word = |flag: &Option<String>| flag.as_deref().map(|text| scope.plain(text)).transpose();
        let owner = word(&self.owner)?.filter(|owner| !owner.is_empty());
        let mode = word(&self.mode)?.filter(|mode| !mode.is_empty()).map(|mode| chmod(&mode)).transpose()?;
        let checksum = word(&self.checksum)?.filter(|checksum| !checksum.is_empty());
        if let Some(checksum) = &checksum {
            check_digest(checksum)?;
            if !matches!(sources.as_slice(), [Source::Url(_)]) {
                return Err(invalid("--checksum needs exactly one source, a URL."));
            }
        }
        Ok(Copy {
            from,
            sources,
            destination: path::destination(&scope.config.working_dir, &destination),
            owner,
            mode,
            exclude: self.exclude.clone(),
            add: self.add,
            checksum,
        })
    }

    fn source(&self, source: &SourceCommand, scope: &Scope<'_>) -> Result<Source, Refusal> {
        let word = match source {
            SourceCommand::Inline { name, content, expand } => {
                let content = if *expand { scope.content(content)? } else { content.clone() };
                return Ok(Source::Inline { name: name.clone(), content });
            }
            SourceCommand::Word(word) => scope.plain(word)?,
        };
        if is_git(&word) {
            return Err(unsupported("A git repository as a source is not supported. Clone it with RUN git clone."));
        }
        if word.starts_with("http://") || word.starts_with("https://") {
            if !self.add {
                return Err(invalid("COPY takes no URL. Use ADD."));
            }
            return Ok(Source::Url(word));
        }
        let path = path::inside(&word);
        if Pattern::parse(&path).is_none() {
            return Err(invalid(format!("{} is no pattern: a `[` has no `]`, or nothing is escaped.", shown(&word))));
        }
        Ok(Source::Path(path))
    }
}

fn sources(words: Vec<String>, destination: &str, instruction: &Instruction) -> Result<Vec<SourceCommand>, Refusal> {
    if json(&instruction.rest).is_some() {
        return Ok(words.into_iter().map(SourceCommand::Word).collect());
    }
    if heredoc::start(destination)?.is_some() {
        return Err(invalid(format!("A here-document can't be the destination of {}.", instruction.keyword)));
    }
    let mut contents = instruction.heredocs.iter();
    let mut sources = Vec::with_capacity(words.len());
    for word in words {
        let Some(start) = heredoc::start(&word)? else {
            sources.push(SourceCommand::Word(word));
            continue;
        };
        let heredoc = contents.next().filter(|heredoc| heredoc.name == start.name).ok_or_else(misplaced)?;
        if !is_file_name(&heredoc.name) {
            return Err(invalid(format!(
                "The here-document {} becomes a file, so its name can't have `/`. Put the directory into the destination.",
                shown(&heredoc.name)
            )));
        }
        let (name, content) = (heredoc.name.clone(), heredoc.chomped());
        sources.push(SourceCommand::Inline { name, content, expand: heredoc.expand });
    }
    if contents.next().is_some() {
        return Err(misplaced());
    }
    Ok(sources)
}

fn misplaced() -> Refusal {
    invalid("A here-document is not where a source is. Write its `<<` and its name as one word, without spaces.")
}

fn chmod(text: &str) -> Result<u32, Refusal> {
    octal(text).ok_or_else(|| {
        if text.starts_with(|letter: char| letter.is_ascii_digit()) {
            invalid(format!("--chmod={} is no octal number from 0 to 7777.", shown(text)))
        } else {
            unsupported(format!(
                "--chmod={} is not supported. Write the mode as octal digits, such as 755.",
                shown(text)
            ))
        }
    })
}

fn check_digest(text: &str) -> Result<(), Refusal> {
    let is_sha256 = text
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    if is_sha256 { Ok(()) } else { Err(unsupported("--checksum is sha256: and 64 hex digits in lower case.")) }
}

/// Whether BuildKit would clone a source.
fn is_git(word: &str) -> bool {
    if ["git://", "ssh://", "git@"].iter().any(|start| word.starts_with(start)) {
        return true;
    }
    let web = word.starts_with("http://") || word.starts_with("https://");
    let end = word.find(['#', '?']).unwrap_or(word.len());
    web && word[..end].ends_with(".git")
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
