//! The command line: what a person types, as types. It decides nothing.
//!
//! Invariant: options and environment variables have the same meaning, and both stand over the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use cakework_cli::ClientCommand;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Serverless building blocks on your own machine: images in, isolated VMs with hostnames and logs out.
///
/// In a project's folder: `init`, `deploy`, `run`, `logs`, `exec`, `open`. For builders: `build`, `image`, `vm`, `cache`,
/// `webhook`, `registry`. Both ask a server, which `login` names. On the server itself: `serve` and all below it.
#[derive(Debug, Parser)]
#[command(name = "cakework", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What is logged on stderr, such as `info` or `warn,cakework_agent=debug`
    #[arg(
        long,
        global = true,
        help_heading = "Logging",
        env = "CAKEWORK_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,
    /// The form of log lines: `human`, `json`, or `auto`, which is `human` on a terminal and `json` elsewhere
    #[arg(
        long,
        global = true,
        help_heading = "Logging",
        hide_possible_values = true,
        env = "CAKEWORK_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "auto"
    )]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `human` where stderr is a terminal, `json` elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Client(ClientCommand),
    /// Run the server: the API, the edge and, as root, this host's VMs
    Serve(Serve),
    /// Check whether this machine can run VMs, and say how to fix what it lacks
    Doctor(Doctor),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Key(Key),
    /// Work on the configuration file
    #[command(subcommand)]
    Config(Config),
    /// Save records, keys, secrets and images to one file, also while the server runs
    Backup(Backup),
    /// Make a data directory from a backup
    Restore(Restore),
    /// Replace the key that secrets in the database are sealed with; the server must not run
    RotateKey(RotateKey),
    /// End everything that a data directory's instance holds on this host, and remove its data
    Purge(Purge),
    /// Write completions for a shell to stdout
    Completions(Completions),
    /// Write the manual pages, one for each command
    Man(Man),
    /// The host's root part; `serve` starts it.
    #[command(hide = true)]
    Agent,
    /// The API and the edge; `serve` starts it.
    #[command(hide = true)]
    Api,
    /// The resolver for VMs; `serve` starts it.
    #[command(hide = true)]
    Dns,
}

/// What most commands take: where the configuration is, and what stands over it.
#[derive(Debug, Clone, Default, Args)]
pub struct Overrides {
    /// The configuration file [default: /etc/cakework/config.toml, where it exists]
    #[arg(long, env = "CAKEWORK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept [default: /var/lib/cakework]
    #[arg(long, env = "CAKEWORK_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Addresses and names of a server.
#[derive(Debug, Clone, Default, Args)]
pub struct Addresses {
    /// Where the API listens [default: 127.0.0.1:8081]
    #[arg(long, env = "CAKEWORK_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where the edge listens, which forwards hostnames to VMs [default: 127.0.0.1:8080]
    #[arg(long, env = "CAKEWORK_EDGE_LISTEN", value_name = "ADDR:PORT")]
    pub edge_listen: Option<SocketAddr>,
    /// The domain under which each VM gets a hostname [default: localhost]
    #[arg(long, env = "CAKEWORK_BASE_DOMAIN", value_name = "DOMAIN")]
    pub base_domain: Option<String>,
    /// The form of VMs' URLs as the world sees them, with `{hostname}` in it, such as `https://{hostname}`
    #[arg(long, env = "CAKEWORK_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
}

/// `cakework serve`
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub addresses: Addresses,
    /// Use the agent that listens on this socket, and run only the API and the edge; needs no root
    #[arg(long, env = "CAKEWORK_AGENT_SOCKET", value_name = "PATH")]
    pub agent_socket: Option<PathBuf>,
}

/// `cakework doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub addresses: Addresses,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// `cakework key …`
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Create a key; it is printed once, alone, on stdout
    Create(KeyCreate),
    /// List the keys, without their secrets
    List(KeyList),
    /// Revoke a key at once
    Revoke(KeyRevoke),
}

/// `cakework key create`
#[derive(Debug, Args)]
pub struct KeyCreate {
    #[command(flatten)]
    pub overrides: Overrides,
    /// A name to know the key by
    #[arg(long, value_name = "NAME", default_value = "command line")]
    pub name: String,
    /// What the key may do: `read`, `write` or `admin`; each includes the ones before it
    #[arg(long, hide_possible_values = true, value_name = "SCOPE", default_value = "admin")]
    pub scope: Scope,
    /// How long it is valid, such as 12h or 30d [default: until it is revoked]
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// Whose key it is [default: the first account]
    #[arg(long, value_name = "ACCOUNT_ID")]
    pub account: Option<String>,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Look at things
    Read,
    /// Make and end things
    Write,
    /// All of the account
    Admin,
}

impl Scope {
    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// `cakework key list`
#[derive(Debug, Args)]
pub struct KeyList {
    #[command(flatten)]
    pub overrides: Overrides,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// `cakework key revoke`
#[derive(Debug, Args)]
pub struct KeyRevoke {
    #[command(flatten)]
    pub overrides: Overrides,
    /// The key's id, as `key list` shows it
    #[arg(value_name = "KEY_ID")]
    pub key_id: String,
}

/// `cakework config …`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check the configuration: every error with its line and its fix
    Check(ConfigCheck),
}

/// `cakework config check`
#[derive(Debug, Args)]
pub struct ConfigCheck {
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub addresses: Addresses,
}

/// `cakework backup`
#[derive(Debug, Args)]
pub struct Backup {
    #[command(flatten)]
    pub overrides: Overrides,
    /// Leave out images: they have to be imported and built again
    #[arg(long)]
    pub without_images: bool,
    /// The new file; `-` is stdout. It holds every secret: keep it as you keep those
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `cakework rotate-key`
#[derive(Debug, Args)]
pub struct RotateKey {
    #[command(flatten)]
    pub overrides: Overrides,
}

/// `cakework restore`
#[derive(Debug, Args)]
pub struct Restore {
    /// The data directory to be made: absent, or empty
    #[arg(long, value_name = "DIR", required = true)]
    pub data_dir: PathBuf,
    /// The backup; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `cakework completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// `cakework man`
#[derive(Debug, Args)]
pub struct Man {
    /// The folder that they are written into, which is made where it is missing
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// `cakework purge`
#[derive(Debug, Args)]
pub struct Purge {
    /// The configuration file that the server ran with [default: /etc/cakework/config.toml, where it exists]
    #[arg(long, env = "CAKEWORK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data directory of the instance; only with --keep-data it may be the configuration's
    #[arg(long, value_name = "DIR", required_unless_present = "keep_data")]
    pub data_dir: Option<PathBuf>,
    /// End what runs and remove what the host holds, and keep the data
    #[arg(long)]
    pub keep_data: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}
