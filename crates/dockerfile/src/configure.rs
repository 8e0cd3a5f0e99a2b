//! Instructions that change the configuration only.

use crate::command::Command;
use crate::config::{Config, Empty};
use crate::fault::{Refusal, invalid, shown};
use crate::port::ports;
use crate::scope::{Globals, Scope, set_within_limits};
use crate::words::Variables;

/// Bytes of all labels.
const LABELS_MAX_BYTES: usize = 1024 * 1024;
/// Ports that an image exposes.
const PORTS_MAX: usize = 10_000;
/// Volumes of an image.
const VOLUMES_MAX: usize = 1_000;

/// Names of signals, without `SIG` (signal(7)).
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];
const SIGNAL_MAX: u8 = 64;

/// Applies a command that is neither RUN, COPY, ADD, WORKDIR nor ARG. `cmd_is_own`: this stage has a CMD.
pub(crate) fn apply(
    command: &Command,
    config: &Config,
    escape: char,
    cmd_is_own: &mut bool,
) -> Result<Config, Refusal> {
    let scope = Scope::new(config, escape);
    let mut next = config.clone();
    match command {
        Command::Env(pairs) => {
            for (name, value) in pairs {
                set_within_limits(&mut next.env, &scope.word(name)?, &scope.word(value)?)?;
            }
        }
        Command::Label(pairs) => {
            for (name, value) in pairs {
                let name = scope.word(name)?;
                if name.is_empty() {
                    return Err(invalid("A LABEL has no name. Write NAME=value."));
                }
                next.labels.insert(name, scope.word(value)?);
            }
            check_labels(&next)?;
        }
        // Docker keeps an author beside the configuration; a label is what its documentation says to use instead.
        Command::Maintainer(name) => {
            next.labels.insert("maintainer".to_owned(), name.clone());
            check_labels(&next)?;
        }
        Command::User(user) => next.user = scope.plain(user)?,
        Command::Cmd(line) => {
            next.cmd = Some(line.args(config.shell.as_deref()));
            *cmd_is_own = true;
        }
        Command::Entrypoint(line) => {
            next.entrypoint = Some(line.args(config.shell.as_deref())).filter(|args| !args.is_empty());
            // Arguments that were meant for another program are not handed to this one.
            if !*cmd_is_own {
                next.cmd = None;
            }
        }
        Command::Shell(words) => next.shell = Some(words.clone()),
        Command::Expose(words) => {
            let mut named = 0;
            for word in words {
                for port in scope.words(word)? {
                    let ports = ports(&port)?;
                    named += ports.len();
                    if named > PORTS_MAX || next.exposed_ports.len() > PORTS_MAX {
                        return Err(invalid(format!("The image exposes more than {PORTS_MAX} ports.")));
                    }
                    next.exposed_ports.extend(ports.map(|port| (port, Empty {})));
                }
            }
        }
        Command::Volume(paths) => {
            for path in paths {
                let path = scope.plain(path)?;
                if path.is_empty() {
                    return Err(invalid("VOLUME has an empty path. Set the variables that it uses."));
                }
                next.volumes.insert(path, Empty {});
            }
            if next.volumes.len() > VOLUMES_MAX {
                return Err(invalid(format!("The image has more than {VOLUMES_MAX} volumes.")));
            }
        }
        Command::StopSignal(signal) => next.stop_signal = Some(stop_signal(scope.plain(signal)?)?),
        Command::Healthcheck(healthcheck) => next.healthcheck = Some(healthcheck.clone()),
        Command::Arg(_) | Command::Run(_) | Command::Copy(_) | Command::Workdir(_) => {}
    }
    Ok(next)
}

/// Declares ARGs: a value that the build was given, the default, or what one before the first FROM has.
pub(crate) fn declare(
    arguments: &[(String, Option<String>)],
    config: &mut Config,
    escape: char,
    globals: &Globals,
    build_args: &std::collections::BTreeMap<String, String>,
) -> Result<(), Refusal> {
    for (name, default) in arguments {
        let value = match (build_args.get(name), default) {
            (Some(given), _) => given.clone(),
            (None, Some(default)) => Scope::new(config, escape).word(default)?,
            (None, None) => match globals.get(name) {
                Some(value) => value.to_owned(),
                None => continue,
            },
        };
        set_within_limits(&mut config.args, name, &value)?;
    }
    Ok(())
}

fn check_labels(config: &Config) -> Result<(), Refusal> {
    let bytes: usize = config.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > LABELS_MAX_BYTES {
        return Err(invalid(format!("The image's labels have more than {LABELS_MAX_BYTES} bytes.")));
    }
    Ok(())
}

fn stop_signal(text: String) -> Result<String, Refusal> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = match text.parse::<u8>() {
        Ok(number) => (1..=SIGNAL_MAX).contains(&number),
        Err(_) => SIGNALS.contains(&name) || name.starts_with("RTMIN") || name.starts_with("RTMAX"),
    };
    if known { Ok(text) } else { Err(invalid(format!("There is no signal {}. Use such as SIGTERM.", shown(&text)))) }
}
