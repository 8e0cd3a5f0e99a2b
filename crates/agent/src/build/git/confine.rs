//! How git is run: a stranger's bytes pass through it, so it is nobody, alone, bounded, and gone with its caller.
//!
//! ```text
//! setsid > setpriv > unshare > sh (mounts) > setpriv > prlimit > git
//!                     |  \_ process and mount namespaces: git is their first process, and its end is everyone's
//!                     \____ killed, or with its parent dead, it takes git along
//! ```
//! All of it is util-linux, which a host needs anyway. The directory of the fetch is bound to [`INSIDE`], where a user
//! without rights on the directories above still reaches it; nothing in it can be executed. Secrets come by the
//! environment: only root and processes of the same namespace and user can read it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::config::GitConfig;
use super::tree::{self, Amount, Stop};

/// Where git sees the directory of its fetch.
pub const INSIDE: &str = "/mnt";

/// The directories of Debian's programs; an agent's own path may lead where nobody may go.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What the shell does before it is git's. Past a file's size limit git shall be told by an error, which it repeats,
/// and not be killed by a signal, of which it says nothing.
const ENTER: &str = "umask 022; trap '' XFSZ; mount --bind -- \"$1\" \"$2\"; mount -o remount,bind,nosuid,nodev,noexec \"$2\"; \
                     cd \"$2\"; shift 2; exec \"$@\"";
/// Room for a pack's windows and a large file with its older form; a tree that unfolds without end runs into it.
const ADDRESS_SPACE_MAX_BYTES: u64 = 1 << 30;
const OPEN_FILES_MAX: u64 = 256;
/// What is kept of each of git's output streams.
const SAID_MAX_BYTES: usize = 16 * 1024;
/// How often the size of what arrived is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// How long killed processes may take to be gone: one may be in the middle of a disk's write.
const DYING_MAX: Duration = Duration::from_secs(10);

/// What git came to.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// The beginning of its output.
    pub output: String,
    /// The beginning of what it said.
    pub said: String,
}

/// Why git was ended.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The deadline is there.
    #[error("it took too long")]
    Late,
    /// It wrote more than it may.
    #[error("it is over its limit")]
    TooLarge,
    /// It could not be run.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The command that runs git in `dir`, as root sees it, with an environment of nothing but `env`.
pub fn command<'a>(
    config: &GitConfig,
    dir: &Path,
    env: impl IntoIterator<Item = (&'a str, &'a str)>,
    args: &[&str],
) -> Command {
    let (uid, gid) = (config.uid.to_string(), config.gid.to_string());
    // One more than may be, so that a file which met its limit is seen to be over it.
    let fsize = format!("--fsize={}", config.max_bytes.saturating_add(1));
    let space = format!("--as={ADDRESS_SPACE_MAX_BYTES}");
    let files = format!("--nofile={OPEN_FILES_MAX}");
    let mut command = Command::new("setsid");
    command
        .args(["--", "setpriv", "--pdeathsig", "KILL", "--"])
        .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .args(["sh", "-euc", ENTER, "sh"])
        .args([dir.as_os_str(), OsStr::new(INSIDE)])
        .args(["setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups", "--no-new-privs"])
        // The change of user has undone unshare's own signal for a parent's death (prctl(2)).
        .args(["--inh-caps=-all", "--bounding-set=-all", "--pdeathsig", "KILL", "--"])
        .args(["prlimit", "--core=0", &fsize, &space, &files, "--"])
        .arg(&config.git)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .envs(env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end, while `watched` holds no more than `most`. Whichever way it returns, no process of the
/// command is left that could write; dropped, they are killed.
///
/// # Errors
/// Where it was ended before its own end, or could not be run.
pub async fn run(mut command: Command, watched: &Path, most: Amount, deadline: Instant) -> Result<Ended, Halt> {
    let mut child = command.spawn()?;
    let mut group = Group(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())));
    let (output, said) = (child.stdout.take().expect("it is piped"), child.stderr.take().expect("it is piped"));
    let end = async { tokio::join!(child.wait(), beginning(output), beginning(said)) };
    tokio::pin!(end);
    let halt = loop {
        let look = async {
            sleep(WATCH_INTERVAL).await;
            over(watched, most).await
        };
        tokio::select! {
            (status, output, said) = &mut end => {
                group.0 = None;
                let ended = Ended { status: status?, output: output?, said: said? };
                // Git does not always say why it could not write.
                let full = !ended.status.success() && over(watched, most).await?;
                return if full { Err(Halt::TooLarge) } else { Ok(ended) };
            }
            () = sleep_until(deadline) => break Halt::Late,
            looked = look => match looked {
                Ok(false) => {}
                Ok(true) => break Halt::TooLarge,
                Err(error) => break Halt::Io(error),
            },
        }
    };
    group.kill();
    // All that could write hold these streams: once they are at their end, nobody is left.
    match timeout(DYING_MAX, &mut end).await {
        Ok(_) => group.0 = None,
        Err(_) => tracing::warn!("a killed git does not end"),
    }
    Err(halt)
}

/// The processes of a command, killed together when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(pid) = self.0 {
            // None of them may be left: then there is nothing to do.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn over(watched: &Path, most: Amount) -> io::Result<bool> {
    let watched = watched.to_owned();
    match tokio::task::spawn_blocking(move || tree::measure(&watched, most)).await? {
        Ok(_) => Ok(false),
        Err(Stop::TooLarge | Stop::TooDeep) => Ok(true),
        Err(Stop::Io(error)) => Err(error),
    }
}

/// Reads a stream to its end and keeps its beginning.
async fn beginning(mut stream: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        let room = SAID_MAX_BYTES - kept.len();
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
}
