//! `bench`: Cakework beside the plain tools, in one run, on one machine; medians and their ratio.
//!
//! Each pair is measured in turn, so that what else the machine does falls on both. `BENCH_RUNS` (10) is how often.

mod bare;
mod import;
mod start;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// What is compared: a name, our times, theirs, and the ratio that is wanted.
struct Comparison {
    what: String,
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
    wanted_ratio: f64,
}

const USAGE: &str = "bench <path of cakework> <start|import>…";

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let program = PathBuf::from(words.next().context(USAGE)?);
    let runs: usize =
        std::env::var("BENCH_RUNS").map_or(Ok(10), |text| text.parse()).context("BENCH_RUNS is a number")?;
    say("| what | Cakework, median | plain tools, median | ratio | wanted |");
    say("|---|---|---|---|---|");
    let mut notes = Vec::new();
    for word in words {
        let comparison = match word.as_str() {
            "start" => {
                let (comparison, memory) = start::measure(&program, runs).await?;
                notes.push(memory);
                comparison
            }
            "import" => import::measure(&program, runs).await?,
            other => bail!("{other} is not measured: {USAGE}"),
        };
        say(&row(&comparison));
    }
    say("");
    notes.iter().for_each(|note| say(note));
    Ok(())
}

fn row(comparison: &Comparison) -> String {
    let (ours, theirs) = (median(&comparison.ours), median(&comparison.theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let (what, wanted) = (&comparison.what, comparison.wanted_ratio);
    format!("| {what} | {} ms | {} ms | {ratio:.2} | ≤ {wanted} |", ours.as_millis(), theirs.as_millis())
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
