//! RUN.

use std::collections::BTreeMap;

use crate::command::Line;
use crate::fault::{Refusal, invalid, shown, unsupported};
use crate::flag::Flags;
use crate::heredoc::{self, Heredoc};
use crate::mount::MountCommand;
use crate::path;
use crate::scope::{PROXIES, Scope, get};
use crate::step::{Run, Script, Tree};
use crate::text::Instruction;

/// Where a script of a here-document is found, as in BuildKit.
const SCRIPTS_DIRECTORY: &str = "/dev/pipes";
/// Mounts of one RUN.
const MOUNTS_MAX: usize = 64;

/// A RUN, with nothing expanded.
#[derive(Debug, Clone)]
pub(crate) struct RunCommand {
    line: Line,
    script: Option<Script>,
    pub mounts: Vec<MountCommand>,
    no_network: bool,
}

impl RunCommand {
    pub fn parse(instruction: &Instruction, flags: &mut Flags) -> Result<Self, Refusal> {
        let no_network = match flags.one("network")?.as_deref() {
            None | Some("default") => false,
            Some("none") => true,
            Some("host") => {
                return Err(unsupported("--network=host is not supported: a build never sees its host's network."));
            }
            Some(_) => return Err(invalid("--network is `default` or `none`.")),
        };
        match flags.one("security")?.as_deref() {
            None | Some("sandbox") => {}
            Some(_) => return Err(unsupported("Only --security=sandbox is supported.")),
        }
        flags.refuse("device", "A build has no devices.")?;
        let mounts = flags.all("mount")?;
        if mounts.len() > MOUNTS_MAX {
            return Err(invalid(format!("A RUN has at most {MOUNTS_MAX} mounts.")));
        }
        let mounts = mounts.iter().map(|text| MountCommand::parse(text)).collect::<Result<_, _>>()?;
        let line = Line::parse("RUN", &instruction.rest)?;
        if line == Line::Exec(Vec::new()) {
            return Err(invalid("RUN needs a command."));
        }
        let (line, script) = with_heredocs(line, &instruction.heredocs)?;
        Ok(Self { line, script, mounts, no_network })
    }

    /// With everything expanded, and the environment that counts for its key.
    pub fn expand(
        &self,
        scope: &Scope<'_>,
        trees: &BTreeMap<String, Tree>,
        build_args: &BTreeMap<String, String>,
    ) -> Result<(Run, Vec<String>), Refusal> {
        let config = scope.config;
        let mounts = self.mounts.iter().map(|mount| mount.expand(scope, trees)).collect::<Result<_, _>>()?;
        let mut keyed = config.env.clone();
        for pair in &config.args {
            let name = pair.split_once('=').map_or(pair.as_str(), |(name, _)| name);
            if config.env(name).is_none() {
                keyed.push(pair.clone());
            }
        }
        let mut env = keyed.clone();
        for name in PROXIES {
            if let Some(value) = build_args.get(name)
                && get(&env, name).is_none()
            {
                env.push(format!("{name}={value}"));
            }
        }
        let run = Run {
            args: self.line.args(config.shell.as_deref()),
            env,
            working_dir: path::join("/", &config.working_dir),
            user: config.user.clone(),
            no_network: self.no_network,
            mounts,
            scripts: self.script.iter().cloned().collect(),
        };
        Ok((run, keyed))
    }
}

/// Puts here-documents where the shell finds them: one that is the whole command is the shell's script, or a file where it
/// names its interpreter; others stay in the command as they are written.
fn with_heredocs(line: Line, heredocs: &[Heredoc]) -> Result<(Line, Option<Script>), Refusal> {
    let (Line::Shell(mut text), [first, ..]) = (line.clone(), heredocs) else { return Ok((line, None)) };
    if heredoc::start(&text)?.is_some() {
        let content = first.chomped();
        if !content.starts_with("#!") {
            return Ok((Line::Shell(content), None));
        }
        if !is_file_name(&first.name) {
            return Err(invalid(format!(
                "The here-document {} becomes a file, so its name can't have `/`.",
                shown(&first.name)
            )));
        }
        let path = format!("{SCRIPTS_DIRECTORY}/{}", first.name);
        return Ok((Line::Exec(vec![path.clone()]), Some(Script { path, content })));
    }
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok((Line::Shell(text), None))
}

/// Whether a here-document's name can be a file's.
pub(crate) fn is_file_name(name: &str) -> bool {
    const NAME_MAX_BYTES: usize = 255;
    !matches!(name, "." | "..")
        && name.len() <= NAME_MAX_BYTES
        && !name.contains('/')
        && !name.contains(char::is_control)
}
