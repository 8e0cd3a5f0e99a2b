//! VMs: reading and adding them. What changes a VM afterwards is in [`super::vm_changes`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cakework_core::cached::Start;
use cakework_core::id::{AccountId, Generation, HostId, HostLabel, ImageId, Incarnation, VmId};
use cakework_core::isolation::Isolation;
use cakework_core::lifecycle::{Exit, VmKind, VmState};
use cakework_core::spec::VmSpec;
use serde::de::DeserializeOwned;
use sqlx::{FromRow, QueryBuilder, Sqlite};

use super::cached::CachedVm;
use super::keyed::{self, Claim};
use super::page::{Cursor, Page};
use super::{Store, StoreError, bad_row, column, number};
use crate::config::AccountLimits;

/// A VM on record.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    pub(crate) id: VmId,
    pub(crate) account: AccountId,
    pub(crate) tenant: Option<String>,
    pub(crate) image: ImageId,
    /// The image was not ready when this was read.
    pub(crate) image_arrives: bool,
    pub(crate) label: HostLabel,
    pub(crate) state: VmState,
    pub(crate) host: Option<HostId>,
    /// The life of the host that confirmed the placement.
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) generation: Generation,
    /// How its run started, or its last one.
    pub(crate) start: Option<Start>,
    pub(crate) isolation: Option<Isolation>,
    pub(crate) address: Option<Ipv4Addr>,
    /// Without its environment.
    pub(crate) spec: VmSpec,
    /// The environment, sealed.
    pub(crate) env: Option<Vec<u8>>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) timeout_ms: Option<u64>,
    /// How it will have ended if its host can't tell.
    pub(crate) wish: Option<Exit>,
    pub(crate) exit: Option<Exit>,
    pub(crate) seq: u64,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) due_ms: Option<u64>,
    pub(crate) attempts: u64,
    pub(crate) created_ms: u64,
    pub(crate) updated_ms: u64,
    /// What a cached one is beside that.
    pub(crate) cached: Option<CachedVm>,
}

impl Vm {
    /// What it is for.
    pub(crate) fn kind(&self) -> VmKind {
        if self.cached.is_some() { VmKind::Cached } else { VmKind::Once }
    }

    /// Whether it runs, and is awake.
    pub(crate) fn is_awake(&self) -> bool {
        self.state == VmState::Started && self.cached.as_ref().is_none_or(|cached| cached.sleep.is_none())
    }
}

/// A VM that is to be.
#[derive(Debug)]
pub(crate) struct NewVm {
    pub(crate) id: VmId,
    pub(crate) account: AccountId,
    pub(crate) tenant: Option<String>,
    pub(crate) image: ImageId,
    pub(crate) label: HostLabel,
    /// Without its environment.
    pub(crate) spec: VmSpec,
    /// The environment, sealed.
    pub(crate) env: Vec<u8>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) timeout_ms: Option<u64>,
    /// Until then a one-time VM has to run.
    pub(crate) deadline_ms: u64,
    /// Until then the reconciler leaves it to whoever made it.
    pub(crate) due_ms: u64,
    pub(crate) now_ms: u64,
    /// A cached one, which stands still at first.
    pub(crate) cached: Option<CachedVm>,
}

/// What a list of VMs is narrowed to.
#[derive(Debug, Default, Clone)]
pub(crate) struct VmFilter {
    pub(crate) image: Option<ImageId>,
    /// Any of these; all where empty.
    pub(crate) states: &'static [VmState],
    pub(crate) tenant: Option<String>,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) after: Option<Cursor>,
}

impl VmFilter {
    /// Adds all but the place in the list.
    fn narrow(&self, query: &mut QueryBuilder<Sqlite>) {
        if let Some(image) = &self.image {
            query.push(" AND image_id = ").push_bind(image.as_str().to_owned());
        }
        if let Some(tenant) = &self.tenant {
            query.push(" AND tenant = ").push_bind(tenant.clone());
        }
        if !self.states.is_empty() {
            query.push(" AND state IN (");
            let mut list = query.separated(", ");
            for state in self.states {
                list.push_bind(state.as_str());
            }
            query.push(")");
        }
        for (key, value) in &self.metadata {
            query.push(" AND EXISTS (SELECT 1 FROM vm_metadata m WHERE m.vm_id = vms.id AND m.key = ");
            query.push_bind(key.clone()).push(" AND m.value = ").push_bind(value.clone()).push(")");
        }
    }
}

/// A VM whose log may hold lines of some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) id: VmId,
    pub(crate) host: HostId,
    pub(crate) tenant: Option<String>,
}

#[derive(FromRow)]
pub(super) struct Row {
    id: String,
    account_id: String,
    tenant: Option<String>,
    image_id: String,
    label: String,
    state: String,
    host_id: Option<String>,
    incarnation: Option<String>,
    generation: i64,
    isolation: Option<String>,
    address: Option<String>,
    spec: String,
    env: Option<Vec<u8>>,
    metadata: String,
    timeout_ms: Option<i64>,
    wish: Option<String>,
    exit: Option<String>,
    seq: i64,
    deadline_ms: Option<i64>,
    due_ms: Option<i64>,
    attempts: i64,
    created_ms: i64,
    updated_ms: i64,
    kind: String,
    prewarm: Option<String>,
    idle_timeout_ms: Option<i64>,
    auto_start: i64,
    sleep: Option<String>,
    start: Option<String>,
    image_arrives: bool,
}

/// The columns of a [`Row`]; a macro because the statements are checked literals.
macro_rules! columns {
    () => {
        "id, account_id, tenant, image_id, label, state, host_id, incarnation, generation, isolation, address, spec, \
         env, metadata, timeout_ms, wish, exit, seq, deadline_ms, due_ms, attempts, created_ms, updated_ms, \
         kind, prewarm, idle_timeout_ms, auto_start, sleep, start, \
         EXISTS (SELECT 1 FROM images WHERE images.id = image_id AND images.state = 'pulling') AS image_arrives"
    };
}
pub(super) use columns;

fn json<T: DeserializeOwned>(text: Option<String>) -> Result<Option<T>, StoreError> {
    text.map(|text| serde_json::from_str(&text).map_err(bad_row("vm"))).transpose()
}

/// A stored word of a closed list.
fn word<T: DeserializeOwned>(text: String) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(text)).map_err(bad_row("vm"))
}

impl TryFrom<Row> for Vm {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let bad = || bad_row("vm");
        let cached = match word(row.kind)? {
            VmKind::Once => None,
            VmKind::Cached => Some(CachedVm {
                prewarm: row.prewarm.map(word).transpose()?.unwrap_or_default(),
                idle_timeout_ms: row.idle_timeout_ms.map(number),
                auto_start: row.auto_start != 0,
                sleep: row.sleep.map(word).transpose()?,
            }),
        };
        Ok(Self {
            id: row.id.parse().map_err(bad_row("vm"))?,
            account: row.account_id.parse().map_err(bad_row("vm"))?,
            tenant: row.tenant,
            image: row.image_id.parse().map_err(bad_row("vm"))?,
            image_arrives: row.image_arrives,
            label: row.label.parse().map_err(bad_row("vm"))?,
            state: row.state.parse().map_err(bad_row("vm"))?,
            host: row.host_id.map(|id| id.parse().map_err(bad_row("vm"))).transpose()?,
            incarnation: row.incarnation.map(|id| id.parse().map_err(bad_row("vm"))).transpose()?,
            generation: Generation(number(row.generation)),
            start: json(row.start)?,
            isolation: row.isolation.map(word).transpose()?,
            address: row.address.map(|text| text.parse().map_err(bad_row("vm"))).transpose()?,
            spec: serde_json::from_str(&row.spec).map_err(bad())?,
            env: row.env,
            metadata: serde_json::from_str(&row.metadata).map_err(bad())?,
            timeout_ms: row.timeout_ms.map(number),
            wish: json(row.wish)?,
            exit: json(row.exit)?,
            seq: number(row.seq),
            deadline_ms: row.deadline_ms.map(number),
            due_ms: row.due_ms.map(number),
            attempts: number(row.attempts),
            created_ms: number(row.created_ms),
            updated_ms: number(row.updated_ms),
            cached,
        })
    }
}

pub(super) fn read_all(rows: Vec<Row>) -> Result<Vec<Vm>, StoreError> {
    rows.into_iter().map(Vm::try_from).collect()
}

impl Store {
    /// A VM of an account.
    pub(crate) async fn vm(&self, account: &AccountId, id: &VmId) -> Result<Option<Vm>, StoreError> {
        let row: Option<Row> =
            sqlx::query_as(concat!("SELECT ", columns!(), " FROM vms WHERE id = $1 AND account_id = $2"))
                .bind(id.as_str())
                .bind(account.as_str())
                .fetch_optional(&self.readers)
                .await?;
        row.map(Vm::try_from).transpose()
    }

    /// A VM whoever owns it: for the reconcilers, never for a request.
    pub(crate) async fn any_vm(&self, id: &VmId) -> Result<Option<Vm>, StoreError> {
        let row: Option<Row> = sqlx::query_as(concat!("SELECT ", columns!(), " FROM vms WHERE id = $1"))
            .bind(id.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.map(Vm::try_from).transpose()
    }

    /// A page of an account's VMs, the newest first.
    pub(crate) async fn vms(
        &self,
        account: &AccountId,
        filter: &VmFilter,
        limit: usize,
    ) -> Result<Page<Vm>, StoreError> {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new(concat!("SELECT ", columns!(), " FROM vms WHERE account_id = "));
        query.push_bind(account.as_str().to_owned());
        filter.narrow(&mut query);
        if let Some(after) = &filter.after {
            query.push(" AND (created_ms, id) < (").push_bind(column(after.created_ms)).push(", ");
            query.push_bind(after.id.clone()).push(")");
        }
        query.push(" ORDER BY created_ms DESC, id DESC LIMIT ").push_bind(column(limit as u64 + 1));
        let rows: Vec<Row> = query.build_query_as().fetch_all(&self.readers).await?;
        let place = |vm: &Vm| Cursor { created_ms: vm.created_ms, id: vm.id.to_string() };
        Ok(Page::cut(read_all(rows)?, limit, place))
    }

    /// An account's VMs that a host took and that were there at some time between `from_ms` and `to_ms`, the newest
    /// first; whatever place the filter has in the list.
    pub(crate) async fn vms_logged(
        &self,
        account: &AccountId,
        filter: &VmFilter,
        (from_ms, to_ms): (Option<u64>, Option<u64>),
        limit: usize,
    ) -> Result<Vec<Logged>, StoreError> {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new("SELECT id, host_id, tenant FROM vms WHERE host_id IS NOT NULL AND account_id = ");
        query.push_bind(account.as_str().to_owned());
        filter.narrow(&mut query);
        if let Some(from_ms) = from_ms {
            query.push(" AND (state <> 'destroyed' OR updated_ms >= ").push_bind(column(from_ms)).push(")");
        }
        if let Some(to_ms) = to_ms {
            query.push(" AND created_ms <= ").push_bind(column(to_ms));
        }
        query.push(" ORDER BY created_ms DESC, id DESC LIMIT ").push_bind(column(limit as u64));
        let rows: Vec<(String, String, Option<String>)> = query.build_query_as().fetch_all(&self.readers).await?;
        let read = |(id, host, tenant): (String, String, _)| {
            Ok(Logged { id: id.parse().map_err(bad_row("vm"))?, host: host.parse().map_err(bad_row("vm"))?, tenant })
        };
        rows.into_iter().map(read).collect()
    }

    /// VMs that changed after `seq`, in the order of their changes.
    pub(crate) async fn vms_after(&self, seq: u64, limit: u32) -> Result<Vec<Vm>, StoreError> {
        let rows: Vec<Row> =
            sqlx::query_as(concat!("SELECT ", columns!(), " FROM vms WHERE seq > $1 ORDER BY seq LIMIT $2"))
                .bind(column(seq))
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await?;
        read_all(rows)
    }

    /// VMs that the reconciler should look at, the longest waiting first.
    pub(crate) async fn vms_due(&self, now_ms: u64, limit: u32) -> Result<Vec<Vm>, StoreError> {
        let rows: Vec<Row> =
            sqlx::query_as(concat!("SELECT ", columns!(), " FROM vms WHERE due_ms <= $1 ORDER BY due_ms LIMIT $2"))
                .bind(column(now_ms))
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await?;
        read_all(rows)
    }

    /// VMs of a host that are not over.
    pub(crate) async fn vms_of_host(&self, host: &HostId) -> Result<Vec<Vm>, StoreError> {
        let rows: Vec<Row> =
            sqlx::query_as(concat!("SELECT ", columns!(), " FROM vms WHERE host_id = $1 AND state <> 'destroyed'"))
                .bind(host.as_str())
                .fetch_all(&self.readers)
                .await?;
        read_all(rows)
    }

    /// Labels and last changes of VMs that ended in `from_ms..to_ms`.
    pub(crate) async fn ended_between(&self, from_ms: u64, to_ms: u64) -> Result<Vec<(HostLabel, u64)>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT label, seq FROM vms WHERE state = 'destroyed' AND updated_ms >= $1 AND updated_ms < $2",
        )
        .bind(column(from_ms))
        .bind(column(to_ms))
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(|(label, seq)| Ok((label.parse().map_err(bad_row("vm"))?, number(seq)))).collect()
    }

    /// The last change's number, and the number before the first change that still matters to routes: VMs that are
    /// over since before `ended_since_ms` do not.
    pub(crate) async fn routes_start(&self, ended_since_ms: u64) -> Result<u64, StoreError> {
        let first: Option<i64> =
            sqlx::query_scalar("SELECT MIN(seq) FROM vms WHERE state <> 'destroyed' OR updated_ms >= $1")
                .bind(column(ended_since_ms))
                .fetch_one(&self.readers)
                .await?;
        match first {
            Some(first) => Ok(number(first).saturating_sub(1)),
            None => {
                let last: i64 = sqlx::query_scalar("SELECT value FROM counters WHERE name = 'vms'")
                    .fetch_one(&self.readers)
                    .await?;
                Ok(number(last))
            }
        }
    }

    /// Adds a VM if the account may have it. `Ok(Err(..))` names the limit that is in the way; both are decided in
    /// one transaction, so that two requests can't take the last place.
    pub(crate) async fn insert_vm(
        &self,
        vm: &NewVm,
        limits: &AccountLimits,
        claim: Option<&Claim>,
    ) -> Result<Result<(), String>, StoreError> {
        let mut transaction = self.begin().await?;
        let (vms, cpu, memory_mib, volume_gb): (i64, i64, i64, i64) = sqlx::query_as(
            "SELECT COUNT(*), COALESCE(SUM(cpu), 0), COALESCE(SUM(memory_mib), 0), COALESCE(SUM(volume_gb), 0) \
             FROM vms WHERE account_id = $1 AND state <> 'destroyed'",
        )
        .bind(vm.account.as_str())
        .fetch_one(&mut *transaction)
        .await?;
        let spec = &vm.spec;
        let volume = u64::from(spec.volume_gb.unwrap_or(0));
        let taken = [
            ("VMs", number(vms) + 1, limits.vms),
            ("CPUs", number(cpu) + u64::from(spec.cpu), limits.cpu),
            ("MB of memory", number(memory_mib) + u64::from(spec.memory_mib), limits.memory_mib),
            ("GB of volumes", number(volume_gb) + volume, limits.volume_gb),
        ];
        if let Some((noun, wanted, most)) = taken.into_iter().find(|(_, wanted, most)| wanted > most) {
            return Ok(Err(format!("the account may have {most} {noun}; with this VM it would have {wanted}")));
        }
        let seq = next_seq(&mut transaction).await?;
        let (kind, state, deadline_ms) = match vm.cached {
            None => (VmKind::Once, VmState::Created, Some(vm.deadline_ms)),
            Some(_) => (VmKind::Cached, VmState::Stopped, None),
        };
        sqlx::query(
            "INSERT INTO vms (id, account_id, tenant, image_id, label, state, generation, spec, env, cpu, memory_mib, \
             volume_gb, port, metadata, timeout_ms, seq, deadline_ms, due_ms, attempts, created_ms, updated_ms, \
             kind, prewarm, idle_timeout_ms, auto_start) VALUES \
             ($1, $2, $3, $4, $5, $6, 0, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 0, $18, $18, \
             $19, $20, $21, $22)",
        )
        .bind(vm.id.as_str())
        .bind(vm.account.as_str())
        .bind(vm.tenant.as_deref())
        .bind(vm.image.as_str())
        .bind(vm.label.as_str())
        .bind(state.as_str())
        .bind(serde_json::to_string(spec).expect("a spec is plain data"))
        .bind(vm.env.as_slice())
        .bind(i64::from(spec.cpu))
        .bind(i64::from(spec.memory_mib))
        .bind(column(volume))
        .bind(spec.port.map(i64::from))
        .bind(serde_json::to_string(&vm.metadata).expect("a map of strings is plain data"))
        .bind(vm.timeout_ms.map(column))
        .bind(column(seq))
        .bind(deadline_ms.map(column))
        .bind(column(vm.due_ms))
        .bind(column(vm.now_ms))
        .bind(kind.as_str())
        .bind(vm.cached.as_ref().map(|cached| cached.prewarm.as_str()))
        .bind(vm.cached.as_ref().and_then(|cached| cached.idle_timeout_ms).map(column))
        .bind(vm.cached.as_ref().map_or(0, |cached| i64::from(cached.auto_start)))
        .execute(&mut *transaction)
        .await?;
        for (key, value) in &vm.metadata {
            sqlx::query("INSERT INTO vm_metadata (vm_id, key, value) VALUES ($1, $2, $3)")
                .bind(vm.id.as_str())
                .bind(key)
                .bind(value)
                .execute(&mut *transaction)
                .await?;
        }
        keyed::claim(&mut transaction, claim, vm.id.as_str()).await?;
        transaction.commit().await?;
        Ok(Ok(()))
    }
}

/// The number of the change that the transaction makes. Writers follow one another, so numbers are in the order of
/// the commits.
pub(super) async fn next_seq(transaction: &mut sqlx::Transaction<'static, Sqlite>) -> Result<u64, StoreError> {
    let value: i64 = sqlx::query_scalar("UPDATE counters SET value = value + 1 WHERE name = 'vms' RETURNING value")
        .fetch_one(&mut **transaction)
        .await?;
    Ok(number(value))
}
