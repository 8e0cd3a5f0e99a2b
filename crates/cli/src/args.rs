//! What a person types, as types. It decides nothing.

#![expect(missing_docs, reason = "a comment on a flattened field would be taken for the command's own words")]

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// The commands that talk to a server.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Make a project in a folder: cakework.toml, a Dockerfile, and code that answers
    Init(Init),
    /// Build this folder's project, start it, and say where it answers
    Deploy(Deploy),
    /// Build this folder's project and run it once, in front of you
    Run(Run),
    /// Show the log of this folder's project, or of a VM
    Logs(Logs),
    /// Run a command in this folder's project, or in a VM; with a terminal where you are at one
    Exec(Exec),
    /// Open this folder's project in a browser
    Open(Open),
    /// Build an image from a folder, or from a repository on GitHub
    Build(Build),
    /// Import, list and show images
    #[command(subcommand)]
    Image(Image),
    /// Start, list, show and stop VMs; commands, files and logs in them
    #[command(subcommand)]
    Vm(Vm),
    /// Cached VMs: ones that start again in milliseconds
    #[command(subcommand)]
    Cache(Cache),
    /// Webhook endpoints, which are told of builds and VMs
    #[command(subcommand)]
    Webhook(Webhook),
    /// Credentials of private registries, for builds
    #[command(subcommand)]
    Registry(Registry),
    /// Keep a server's URL and a key for the next commands
    Login(Login),
    /// Forget a server and its key
    Logout(Logout),
}

/// Where the server is, and the form of the answer.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Server")]
pub struct Connection {
    /// The server's URL [default: that of the profile, or http://localhost:8081]
    #[arg(long, env = "CAKEWORK_URL", value_name = "URL")]
    pub url: Option<String>,
    /// A profile that `cakework login` made [default: the one logged in last]
    #[arg(long, env = "CAKEWORK_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// Where a project is.
#[derive(Debug, Clone, Args)]
pub struct ProjectDir {
    /// The project's folder
    #[arg(long, short = 'C', value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// `cakework init`
#[derive(Debug, Args)]
pub struct Init {
    /// What it begins with
    #[arg(long, short, value_name = "TEMPLATE", default_value = "python")]
    pub template: Template,
    /// The project's name [default: the folder's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The folder, which is made where it is missing
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// What a project begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// A web server in Python
    Python,
    /// A web server for Node
    Node,
    /// A Dockerfile alone
    Dockerfile,
}

/// How an image is built.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Build")]
pub struct BuildOptions {
    /// A value of an ARG of the Dockerfile
    #[arg(long, value_name = "NAME=VALUE")]
    pub build_arg: Vec<String>,
    /// A variable of the environment whose value `RUN --mount=type=secret,id=NAME` finds
    #[arg(long, value_name = "NAME")]
    pub secret: Vec<String>,
    /// The stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Take nothing from the cache
    #[arg(long)]
    pub no_cache: bool,
    /// Show every line of the build, also at a terminal
    #[arg(long)]
    pub plain: bool,
}

/// `cakework deploy`
#[derive(Debug, Args)]
pub struct Deploy {
    #[command(flatten)]
    pub project: ProjectDir,
    #[command(flatten)]
    pub build: BuildOptions,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework run`
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub project: ProjectDir,
    /// In place of the image's command
    #[arg(value_name = "COMMAND", last = true)]
    pub command: Vec<String>,
    #[command(flatten)]
    pub build: BuildOptions,
    #[command(flatten)]
    pub to: Connection,
}

/// What of a log is shown.
#[derive(Debug, Clone, Args)]
pub struct LogOptions {
    /// Go on as lines come, until Ctrl-C or the VM's end
    #[arg(long, short)]
    pub follow: bool,
    /// How many of the newest lines, or `all`
    #[arg(long, short = 'n', value_name = "LINES", default_value = "100")]
    pub tail: String,
    /// Only lines with this text, in any case
    #[arg(long, short, value_name = "TEXT")]
    pub query: Option<String>,
    /// Only lines from a moment on: 10m, 2h, 1d, or 2026-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

/// `cakework logs`
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    pub project: ProjectDir,
    /// A VM [default: that of this folder's project]
    #[arg(value_name = "VM_ID")]
    pub vm: Option<String>,
    #[command(flatten)]
    pub options: LogOptions,
    #[command(flatten)]
    pub to: Connection,
}

/// What runs in a VM, and how.
#[derive(Debug, Clone, Args)]
pub struct ExecOptions {
    /// The directory that it runs in
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The user that it runs as: name, uid, name:group or uid:gid
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
    /// A variable of its environment
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// With a terminal: auto, always, never
    #[arg(long, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub tty: When,
    /// Seconds after which it is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub timeout: u64,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub command: Vec<String>,
}

/// Whether there is something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Where you are at a terminal
    Auto,
    /// In any case
    Always,
    /// Not at all
    Never,
}

/// `cakework exec`
#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    pub project: ProjectDir,
    /// A VM [default: that of this folder's project]
    #[arg(long, value_name = "VM_ID")]
    pub vm: Option<String>,
    #[command(flatten)]
    pub options: ExecOptions,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework open`
#[derive(Debug, Args)]
pub struct Open {
    #[command(flatten)]
    pub project: ProjectDir,
    /// Say the URL, and open nothing
    #[arg(long)]
    pub print: bool,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework build`
#[derive(Debug, Args)]
pub struct Build {
    /// The folder whose files are sent, but for what its .dockerignore leaves out
    #[arg(value_name = "DIR", default_value = ".", conflicts_with = "github")]
    pub dir: PathBuf,
    /// The Dockerfile, which may be anywhere [default: DIR/Dockerfile]
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A repository on GitHub in place of a folder; its token is the variable GITHUB_TOKEN
    #[arg(long, value_name = "ORG/REPO", requires = "branch", requires = "file")]
    pub github: Option<String>,
    /// The repository's branch
    #[arg(long, value_name = "BRANCH", requires = "github")]
    pub branch: Option<String>,
    /// Your end user whose build this is
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub build: BuildOptions,
    #[command(flatten)]
    pub to: Connection,
}

/// Which things a list has.
#[derive(Debug, Clone, Args)]
pub struct ListOptions {
    /// Only of this end user
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// The most that are listed, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub limit: usize,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework image …`
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Import an image from a registry; a password is read from CAKEWORK_REGISTRY_PASSWORD
    Import(ImageImport),
    /// List images
    List(ListOptions),
    /// Show an image
    Show(One),
}

/// `cakework image import`
#[derive(Debug, Args)]
pub struct ImageImport {
    /// The image, such as docker.io/library/python:3.12-slim
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The registry's user [default: that of the password, or AWS]
    #[arg(long, value_name = "USER")]
    pub username: Option<String>,
    /// Your end user whose image this is
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub to: Connection,
}

/// One thing by its id.
#[derive(Debug, Args)]
pub struct One {
    /// Its id
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub to: Connection,
}

/// What a VM is made of.
#[derive(Debug, Args)]
pub struct VmOptions {
    /// The image, by its id
    #[arg(value_name = "IMAGE_ID")]
    pub image: String,
    /// CPUs
    #[arg(long, value_name = "COUNT")]
    pub cpu: Option<i64>,
    /// Memory in MB
    #[arg(long, value_name = "MB")]
    pub memory: Option<i64>,
    /// The port that its hostname leads to
    #[arg(long, short, value_name = "PORT")]
    pub port: Option<i64>,
    /// The size of a volume at /data, in GB
    #[arg(long, value_name = "GB")]
    pub volume: Option<i64>,
    /// A variable of its environment
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// A mark of yours, by which lists can be filtered
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub metadata: Vec<String>,
    /// Your end user whose VM this is
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// Seconds that it, or one run of it, may take at most
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<i64>,
    /// In place of the image's command
    #[arg(value_name = "COMMAND", last = true)]
    pub command: Vec<String>,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework vm …`
#[derive(Debug, Subcommand)]
pub enum Vm {
    /// Start a VM that runs once
    Start(VmOptions),
    /// List VMs
    List(VmList),
    /// Show a VM
    Show(One),
    /// End VMs
    Stop(Many),
    /// Run a command in a VM
    Exec(VmExec),
    /// Copy files into a VM or out of it
    Cp(VmCp),
    /// Show a VM's log
    Logs(VmLogs),
}

/// `cakework vm list`
#[derive(Debug, Args)]
pub struct VmList {
    /// Only in this state: created, started, stopped, destroyed [default: all but destroyed]
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// Only of this image
    #[arg(long, value_name = "IMAGE_ID")]
    pub image: Option<String>,
    /// Only with this mark
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub metadata: Vec<String>,
    /// Also those that are destroyed
    #[arg(long, short)]
    pub all: bool,
    #[command(flatten)]
    pub options: ListOptions,
}

/// Things by their ids.
#[derive(Debug, Args)]
pub struct Many {
    /// Their ids
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework vm exec`
#[derive(Debug, Args)]
pub struct VmExec {
    /// The VM
    #[arg(value_name = "VM_ID")]
    pub vm: String,
    #[command(flatten)]
    pub options: ExecOptions,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework vm cp`
#[derive(Debug, Args)]
pub struct VmCp {
    /// A file or folder: a path of this machine, or VM_ID:/path
    #[arg(value_name = "FROM")]
    pub from: String,
    /// Where it goes, likewise; one of both is in a VM
    #[arg(value_name = "TO")]
    pub into: String,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework vm logs`
#[derive(Debug, Args)]
pub struct VmLogs {
    /// The VM
    #[arg(value_name = "VM_ID")]
    pub vm: String,
    #[command(flatten)]
    pub options: LogOptions,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework cache …`
#[derive(Debug, Subcommand)]
pub enum Cache {
    /// Make a cached VM; it does not run yet
    Create(Box<CacheCreate>),
    /// Start cached VMs, or wake them
    Start(Many),
    /// Stop cached VMs; they can be started again
    Stop(Many),
    /// Put cached VMs to sleep; a request wakes them where they were
    Suspend(Many),
    /// Destroy cached VMs with their volumes
    Destroy(Many),
}

/// `cakework cache create`
#[derive(Debug, Args)]
pub struct CacheCreate {
    #[command(flatten)]
    pub vm: VmOptions,
    /// Seconds without work after which it is put to sleep
    #[arg(long, value_name = "SECONDS")]
    pub idle_timeout: Option<i64>,
    /// Requests to its hostname do not start it
    #[arg(long)]
    pub no_auto_start: bool,
    /// How far it is made ready: auto, boot, create, none
    #[arg(long, value_name = "HOW")]
    pub prewarm: Option<String>,
}

/// `cakework webhook …`
#[derive(Debug, Subcommand)]
pub enum Webhook {
    /// Make an endpoint; its secret is printed once, on stdout
    Create(WebhookCreate),
    /// List endpoints
    List(ListOptions),
    /// Remove endpoints
    Delete(Many),
    /// Send an endpoint an event `ping`
    Test(One),
    /// Enable an endpoint that was disabled
    Enable(One),
    /// Give an endpoint a new secret, printed once, on stdout
    Rotate(One),
    /// List what was sent to an endpoint
    Deliveries(WebhookDeliveries),
}

/// `cakework webhook create`
#[derive(Debug, Args)]
pub struct WebhookCreate {
    /// Where events are sent
    #[arg(value_name = "RECEIVER_URL")]
    pub receiver: String,
    /// A kind of event, such as build.succeeded [default: all]
    #[arg(long, short, value_name = "TYPE")]
    pub event: Vec<String>,
    /// Only events of this end user
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// A note of yours
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework webhook deliveries`
#[derive(Debug, Args)]
pub struct WebhookDeliveries {
    /// The endpoint's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// The most that are listed, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub limit: usize,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework registry …`
#[derive(Debug, Subcommand)]
pub enum Registry {
    /// Keep a registry's credential; the password is read from stdin, or asked for
    Set(RegistrySet),
    /// List registries whose credentials are kept
    List(ServerOnly),
    /// Forget a registry's credential
    Delete(RegistryDelete),
}

/// `cakework registry set`
#[derive(Debug, Args)]
pub struct RegistrySet {
    /// The registry, such as ghcr.io
    #[arg(value_name = "HOST")]
    pub host: String,
    /// The user
    #[arg(long, short, value_name = "USER")]
    pub username: String,
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework registry delete`
#[derive(Debug, Args)]
pub struct RegistryDelete {
    /// The registry
    #[arg(value_name = "HOST")]
    pub host: String,
    #[command(flatten)]
    pub to: Connection,
}

/// A command that needs nothing but the server.
#[derive(Debug, Args)]
pub struct ServerOnly {
    #[command(flatten)]
    pub to: Connection,
}

/// `cakework login`
#[derive(Debug, Args)]
pub struct Login {
    /// The server's URL [default: http://localhost:8081]
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// The name to keep it under
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub profile: String,
}

/// `cakework logout`
#[derive(Debug, Args)]
pub struct Logout {
    /// The profile to forget [default: the one logged in last]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
}
