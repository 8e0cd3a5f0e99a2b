//! Kills with SIGKILL in the middle of everything: api, agent, monitors and sandboxes, at random points of each moment
//! of VMs, cached VMs, images and builds.
//!
//! Whatever happened, afterwards: what was wished has come about, no app was restarted unless its sandbox was killed,
//! every line of every log is there once and in order (bytes that a killed monitor held are said to be missing), and
//! the kernel holds nothing that it did not hold before. The judge reads the public API, and the kernel.
//!
//! `CAKEWORK_CHAOS_ROUNDS` makes it longer, `CAKEWORK_CHAOS_SEED` repeats a run, `CAKEWORK_CHAOS_ONLY` names what of it is
//! done, such as `agent while a cached VM wakes`; `make chaos` sets them.

mod check;
mod moments;
mod starved;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cakework_testkit::kernel::{Census, Kind, Object};
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};

use crate::moments::{Chaos, Moment, Role};

/// Each moment with each of its roles, as often.
const ROUNDS_DEFAULT: u32 = 1;
/// How often a kill is tried that came when the process had ended: each time it comes sooner.
const TRIES_MAX: u32 = 7;
/// How long a stopped process stands still.
const STALL: Duration = Duration::from_secs(3);
/// A sandbox that was made ahead and claimed waits a minute for its VM.
const LEFTOVERS: Duration = Duration::from_secs(90);

#[allow(clippy::print_stdout)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_roles_lose_nothing() -> Result<()> {
    let seed: u64 = from_env("CAKEWORK_CHAOS_SEED").unwrap_or_else(rand::random);
    let rounds: u32 = from_env("CAKEWORK_CHAOS_ROUNDS").unwrap_or(ROUNDS_DEFAULT);
    let mut rng = StdRng::seed_from_u64(seed);
    let only: String = from_env("CAKEWORK_CHAOS_ONLY").unwrap_or_default();
    let pairs = Moment::ALL.iter().flat_map(|moment| moment.roles().iter().map(|role| (*moment, *role)));
    let pairs: Vec<_> =
        pairs.filter(|(moment, role)| format!("{} while {}", role.name(), moment.name()).contains(&only)).collect();
    let chaos = Chaos::start().await?;
    let scope = chaos.server.scope()?;
    let before = Census::take(&scope)?;

    let mut kills: BTreeMap<(Moment, Role), u32> = BTreeMap::new();
    for round in 1..=rounds {
        let mut tries = pairs.clone();
        tries.shuffle(&mut rng);
        for (moment, role) in tries {
            for attempt in 0..TRIES_MAX {
                let said = || format!("{role:?} was killed while {}, round {round}, seed {seed}", moment.name());
                let begin = Instant::now();
                let hit = chaos.interrupt(moment, role, attempt, &mut rng).await.with_context(said)?;
                let verb = if hit.kills > 0 { "killed" } else { "missed" };
                let (who, when, secs) = (role.name(), moment.name(), begin.elapsed().as_secs());
                println!("round {round}: {verb} {who:<8} while {when:<28} {}; right after {secs} s", hit.seen);
                *kills.entry((moment, role)).or_default() += hit.kills;
                if hit.kills > 0 {
                    break;
                }
            }
        }
    }
    println!("\nseed {seed}, kills:\n\n{}", table(&kills));
    for (moment, role) in pairs {
        let count = kills.get(&(moment, role)).copied().unwrap_or_default();
        ensure!(count > 0, "no {role:?} was killed while {}, seed {seed}", moment.name());
    }

    check::a_leak_is_seen(&chaos, &scope).await?;
    // Sandboxes may wait for the next starts.
    chaos.server.drain().await?;
    // The roles were started anew, so their processes differ; those of VMs may not be there any more.
    let left: Vec<_> = Census::leftovers(&scope, &before, LEFTOVERS)?.into_iter().filter(|it| !is_role(it)).collect();
    ensure!(left.is_empty(), "left over, seed {seed}: {left:?}");
    println!("0 wrong states, 0 lost or doubled lines, 0 leftovers");
    Ok(())
}

/// A process that stands still for a while is neither taken for dead nor loses what came meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_roles_go_on_where_they_were() -> Result<()> {
    Chaos::start().await?.stall_each(STALL).await
}

/// Kills by moment and role, as Markdown.
fn table(kills: &BTreeMap<(Moment, Role), u32>) -> String {
    let heads: Vec<_> = Role::ALL.iter().map(|role| role.name()).collect();
    let mut text = format!("| killed while | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
    let row = |name: &str, of: &dyn Fn(Role) -> Option<u32>| {
        let cells: Vec<_> = Role::ALL.iter().map(|role| of(*role).map_or("–".to_owned(), |n| n.to_string())).collect();
        format!("| {name} | {} |\n", cells.join(" | "))
    };
    for moment in Moment::ALL {
        text += &row(moment.name(), &|role| kills.get(&(moment, role)).copied());
    }
    text += &row("all", &|role| Some(kills.iter().filter(|((_, of), _)| *of == role).map(|(_, count)| count).sum()));
    text
}

fn is_role(object: &Object) -> bool {
    object.kind == Kind::Process && !["monitor", "runsc", "unpack"].iter().any(|word| object.name.contains(word))
}

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}
