//! An instance: a data directory, its lock, its name on the host, its address pool and its unprivileged users.
//!
//! Invariant: while [`Lock`] is held nothing else makes, runs or purges the instance. Names, pools and uids of two
//! instances on one host never meet: each running one is entered in `/run/cakework`, under a host-wide lock.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown, lchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use cakework_core::id::InstanceId;
use ipnet::Ipv4Net;
use rand::Rng as _;
use serde::{Deserialize, Serialize};

use crate::identity::{self, Identity};
use crate::{inventory, pool};

const REGISTER: &str = "/run/cakework";
const RECORD: &str = "instance.json";
/// In `run`: held by the agent while it lives.
pub const AGENT_LOCK: &str = "agent.lock";
/// A supervisor that was killed lets go of the lock as it dies.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);
const MINT_TRIES: usize = 100;

/// What `instance.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The name.
    pub instance_id: InstanceId,
    /// The VMs' addresses.
    pub pool: Ipv4Net,
    /// The api's own user where the host has no user `cakework`.
    pub api_uid: u32,
    /// The DNS forwarder's user.
    pub dns_uid: u32,
    /// The DNS forwarder's port when it was last chosen.
    pub dns_port: u16,
}

/// A data directory that is ready for the roles.
#[derive(Debug)]
pub struct Instance {
    pub dir: PathBuf,
    pub id: InstanceId,
    pub pool: Ipv4Net,
    pub dns_port: u16,
    pub api: Identity,
    pub dns: Identity,
}

impl Instance {
    /// The agent's own directory.
    pub fn agent_dir(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// The api's own directory.
    pub fn api_dir(&self) -> PathBuf {
        api_dir(&self.dir)
    }

    /// Where the host protocol is spoken.
    pub fn agent_socket(&self) -> PathBuf {
        self.dir.join("run/agent.sock")
    }
}

/// The api's directory in a data directory.
pub fn api_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("api")
}

/// What is known of a data directory without changing it.
///
/// # Errors
/// A record that can't be read; none is `None`.
pub fn record(data_dir: &Path) -> anyhow::Result<Option<Record>> {
    let path = data_dir.join(RECORD);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{} can't be read", path.display())),
    };
    serde_json::from_slice(&text).map(Some).with_context(|| format!("{} is damaged", path.display()))
}

/// Held by whoever works on a data directory as a whole.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock of a data directory that exists.
///
/// # Errors
/// `None` while another process holds it.
pub fn lock(data_dir: &Path) -> anyhow::Result<Option<Lock>> {
    lock_file(&data_dir.join("lock"), LOCK_WAIT)
}

/// Takes a lock file, at most after `wait`.
///
/// # Errors
/// A file that can't be made; `None` while another process holds it.
pub fn lock_file(path: &Path, wait: Duration) -> anyhow::Result<Option<Lock>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} can't be opened", path.display()))?;
    let end = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(POLL),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{} can't be locked", path.display()));
            }
        }
    }
}

/// Makes what is missing of a data directory and takes its lock. Blocks; wants root.
///
/// # Errors
/// What could not be made, or who holds the lock.
pub fn prepare(data_dir: &Path, configured_pool: Option<Ipv4Net>) -> anyhow::Result<(Instance, Lock)> {
    make_dir(data_dir, 0o711, None)?;
    let Some(lock) = lock(data_dir)? else {
        bail!("a server already runs on {}; stop it first, or choose another --data-dir", data_dir.display());
    };
    let record = settle(data_dir, configured_pool)?;
    let api = if identity::barrier(data_dir).is_some() {
        Identity::NAMELESS_ROOT
    } else {
        identity::system_user().unwrap_or(Identity { uid: record.api_uid, gid: record.api_uid })
    };
    let instance = Instance {
        dir: data_dir.to_owned(),
        id: record.instance_id,
        pool: record.pool,
        dns_port: record.dns_port,
        api,
        dns: Identity { uid: record.dns_uid, gid: record.dns_uid },
    };
    make_dir(&data_dir.join("run"), 0o711, None)?;
    make_dir(&instance.agent_dir(), 0o700, None)?;
    hand_over(&instance.api_dir(), api)?;
    make_dir(&instance.api_dir(), 0o700, Some(api))?;
    Ok((instance, lock))
}

/// Gives the api's files to its new user, where it has become another: the host got a user `cakework`, or the way to
/// the data directory was opened or closed.
fn hand_over(api_dir: &Path, api: Identity) -> anyhow::Result<()> {
    if identity::owner(api_dir).is_none_or(|owner| owner == api) {
        return Ok(());
    }
    for entry in std::fs::read_dir(api_dir)? {
        let path = entry?.path();
        // Never through a link: the directory was another user's.
        lchown(&path, Some(api.uid), Some(api.gid))
            .with_context(|| format!("{} can't be handed over", path.display()))?;
    }
    Ok(())
}

/// The instance as its record says, or a new one; entered in the host's register either way.
fn settle(data_dir: &Path, configured_pool: Option<Ipv4Net>) -> anyhow::Result<Record> {
    make_dir(Path::new(REGISTER), 0o755, None)?;
    let Some(_host) = lock_file(&Path::new(REGISTER).join("lock"), Duration::from_secs(10))? else {
        bail!("{REGISTER}/lock is held by another start of Cakework; try again");
    };
    let mut found = match record(data_dir)? {
        Some(record) => record,
        None => mint(configured_pool)?,
    };
    if let Some(pool) = configured_pool {
        found.pool = pool;
    }
    found.dns_port = free_dns_port(found.dns_port)?;
    write_record(&data_dir.join(RECORD), &found)?;
    write_record(&registered(&found.instance_id), &found)?;
    Ok(found)
}

/// Takes the instance out of the host's register. Absent is fine.
///
/// # Errors
/// What the kernel said.
pub fn unregister(id: &InstanceId) -> io::Result<()> {
    match std::fs::remove_file(registered(id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn registered(id: &InstanceId) -> PathBuf {
    Path::new(REGISTER).join(format!("{id}.json"))
}

fn others() -> anyhow::Result<Vec<Record>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(REGISTER)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read(&path)?;
            found.push(serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?);
        }
    }
    Ok(found)
}

fn mint(configured_pool: Option<Ipv4Net>) -> anyhow::Result<Record> {
    let others = others()?;
    let mut rng = rand::rng();
    let taken = |id: &InstanceId| {
        others.iter().any(|other| other.instance_id == *id)
            || inventory::names_on_host(id).is_ok_and(|names| !names.is_empty())
    };
    let instance_id = (0..MINT_TRIES)
        .map(|_| InstanceId::mint(&mut rng))
        .find(|id| !taken(id))
        .context("this host shows names of Cakework under every id that was tried")?;
    let mut networks = pool::host_networks().context("the host's routes can't be read")?;
    networks.extend(others.iter().map(|other| other.pool));
    let pool = configured_pool.or_else(|| pool::choose(rng.next_u64(), &networks)).context(
        "no free /16 was found for the VMs' addresses beside this host's routes; set `pool` in [network] of the configuration",
    )?;
    let uids: BTreeSet<u32> = others.iter().flat_map(|other| [other.api_uid, other.dns_uid]).collect();
    let uid = identity::free_ids(rng.next_u64(), 2, &uids).context("no free user ids from 61184 to 65519")?;
    Ok(Record { instance_id, pool, api_uid: uid, dns_uid: uid + 1, dns_port: 0 })
}

/// A port that DNS can have over UDP and TCP: the one before, where it is still free. Below the range that the kernel
/// gives to outgoing connections.
fn free_dns_port(before: u16) -> anyhow::Result<u16> {
    let mut rng = rand::rng();
    let free = |port: &u16| {
        let any = std::net::Ipv4Addr::UNSPECIFIED;
        std::net::UdpSocket::bind((any, *port)).is_ok() && std::net::TcpListener::bind((any, *port)).is_ok()
    };
    let first = (before != 0).then_some(before);
    let tried = std::iter::repeat_with(|| 20_000 + u16::try_from(rng.next_u32() % 12_000).expect("less than 12000"));
    first.into_iter().chain(tried.take(MINT_TRIES)).find(free).context("no free port for DNS from 20000 to 31999")
}

/// Makes a directory, or gives the one that is there its mode and owner.
fn make_dir(path: &Path, mode: u32, owner: Option<Identity>) -> anyhow::Result<()> {
    let made = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !path.symlink_metadata()?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory of its own"));
        }
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        let owner = owner.unwrap_or(Identity { uid: 0, gid: 0 });
        chown(path, Some(owner.uid), Some(owner.gid))
    };
    made().with_context(|| format!("{} can't be made", path.display()))
}

fn write_record(path: &Path, record: &Record) -> anyhow::Result<()> {
    let written = || -> io::Result<()> {
        let aside = path.with_extension("tmp");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o644).open(&aside)?;
        file.write_all(&serde_json::to_vec(record).expect("plain data"))?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    written().with_context(|| format!("{} can't be written", path.display()))
}
