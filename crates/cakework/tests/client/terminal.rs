//! A terminal whose screen is read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::person::Person;
use crate::support::{PROGRAM, stderr, stdout};

/// A shell in a terminal of its own, by tmux.
pub struct Terminal(PathBuf);

impl Terminal {
    pub fn open(person: &Person, columns: u16, rows: u16) -> Self {
        let terminal = Self(person.folder("tmux"));
        let dir = Path::new(PROGRAM).parent().expect("a directory");
        let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut command = std::process::Command::new("tmux");
        command.arg("-S").arg(&terminal.0).args(["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows]);
        command
            .args(["env", "PS1=$ ", "LC_ALL=C.UTF-8", "sh"])
            .envs(person.env())
            .env("PATH", path)
            .env_remove("NO_COLOR");
        let output = command.env("LC_ALL", "C.UTF-8").output().expect("tmux runs");
        assert!(output.status.success(), "{}", stderr(&output));
        terminal.shows("$");
        terminal
    }

    pub fn tmux(&self, args: &[&str]) -> String {
        let output = std::process::Command::new("tmux").arg("-S").arg(&self.0).args(args).output().expect("tmux runs");
        stdout(&output)
    }

    pub fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.keys("Enter");
    }

    pub fn keys(&self, keys: &str) {
        self.tmux(&["send-keys", keys]);
    }

    /// Waits until there is something on the screen that was not typed; gives its lines.
    #[track_caller]
    pub fn shows(&self, word: &str) -> Vec<String> {
        let mut screen = Vec::new();
        let end = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            screen.clear();
            screen.extend(self.tmux(&["capture-pane", "-p"]).lines().map(|line| line.trim_end().to_owned()));
            let is_there =
                |line: &String| line.contains(word) && !line.contains("echo ended") && !line.contains("grep -o");
            if screen.iter().any(is_there) {
                return screen;
            }
            assert!(std::time::Instant::now() < end, "no {word:?} on the screen: {screen:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
