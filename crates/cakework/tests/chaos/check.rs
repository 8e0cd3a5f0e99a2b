//! The judge: it reads the public API, and the kernel.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cakework_testkit::kernel::{Census, Kind, Scope};
use cakework_testkit::server::Server;
use serde_json::{Value, json};

use crate::moments::Chaos;

/// How long the system may take to be right again after a kill.
const SETTLE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

/// Waits until the api answers again.
pub async fn answers(server: &Server) -> Result<()> {
    until(server, "the api answers", async || {
        Ok(matches!(server.get("/v1/vms?limit=1").await, Ok(answer) if answer.status == 200).then_some(()))
    })
    .await
}

/// Waits until `field` of what a path shows is one of `ends`.
pub async fn settles(server: &Server, path: &str, field: &str, ends: &[&str]) -> Result<Value> {
    let mut last = Value::Null;
    let what = format!("{path} is {ends:?}");
    let settled = until(server, &what, async || {
        if let Ok(answer) = server.get(path).await {
            last = answer.json;
        }
        Ok(last[field].as_str().is_some_and(|state| ends.contains(&state)).then(|| last.clone()))
    });
    settled.await
}

/// Sends a call again until the server that was just killed, or its host, is there to take it.
pub async fn takes(server: &Server, path: &str) -> Result<()> {
    let answer =
        until(server, path, async || Ok(server.post(path, json!({})).await.ok().filter(|answer| answer.status < 500)));
    answer.await?.ok();
    Ok(())
}

/// Waits until an app answers under its hostname.
pub async fn serves(server: &Server, hostname: &str) -> Result<()> {
    until(server, "the app answers under its hostname", async || {
        Ok(matches!(server.fetch(hostname, "/at").await, Ok(answer) if answer.status == 200).then_some(()))
    })
    .await
}

/// Waits until lines arrive of a VM that were not there.
pub async fn lines_go_on(server: &Server, vm: &str) -> Result<()> {
    let newest = format!("/v1/vm/{vm}/logs?batch=50&order=newest_first");
    let last = async || -> Result<Option<String>> {
        let Ok(page) = server.get(&newest).await else { return Ok(None) };
        ensure!(page.status == 200 || page.status == 503, "{}", page.text);
        Ok(page.json["lines"].get(0).map(Value::to_string))
    };
    let before = last().await?;
    let more = until(server, "lines arrive", async || Ok(last().await?.filter(|now| Some(now) != before.as_ref())));
    if let Err(error) = more.await {
        let now = server.get(&format!("/v1/vm/{vm}")).await.map_or_else(|error| error.to_string(), |now| now.text);
        return Err(error.context(format!("the last line was {before:?}; the VM now: {now}")));
    }
    Ok(())
}

/// Looks again until there is something; the server's log is shown where there is nothing for long.
pub async fn until<T>(server: &Server, what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + SETTLE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(Instant::now() < end, "not in {SETTLE:?}: {what}\n{}", server.log());
        tokio::time::sleep(POLL).await;
    }
}

/// A whole log, as its pages give it.
pub struct Log {
    /// Numbers of lines in their order; `None` where lines may be missing.
    numbers: Vec<Option<u64>>,
    /// How often an app said that it begins.
    pub begins: usize,
}

impl Log {
    /// Reads it page by page. A line that is none of the app's, or torn, is an error.
    pub async fn read(server: &Server, path: &str) -> Result<Self> {
        let (mut log, mut token) = (Self { numbers: Vec::new(), begins: 0 }, String::new());
        loop {
            let part = format!("{path}?batch=1000{token}");
            let page = until(server, "a page of the log", async || {
                Ok(server.get(&part).await.ok().filter(|answer| answer.status < 500))
            });
            let page = page.await?.ok();
            for line in page["lines"].as_array().context("lines")? {
                log.take(line["message"].as_str().context("a message")?)?;
            }
            match page["pagination"].as_str() {
                Some(pagination) => token = format!("&pagination={pagination}"),
                None => return Ok(log),
            }
        }
    }

    fn take(&mut self, message: &str) -> Result<()> {
        let words: Vec<_> = message.split(' ').collect();
        match words[..] {
            ["began"] => self.begins += 1,
            ["stopping"] => {}
            ["line", number, sum] => {
                let number: u64 = number.parse()?;
                ensure!(sum.parse::<u64>()? == number * 7919 % 10007, "torn: {message}");
                self.numbers.push(Some(number));
            }
            _ if message.starts_with("Lines may be missing here") => self.numbers.push(None),
            _ => anyhow::bail!("unexpected: {message}"),
        }
        Ok(())
    }

    /// One run: 1, 2, 3 and so on, unless a gap is said where one `may` be.
    pub fn is_whole(&self, gaps: bool) -> Result<()> {
        ensure!(self.parts(gaps)?.len() <= 1, "lines come twice: {:?}", self.numbers);
        Ok(())
    }

    /// Several runs: each goes on from the first line or from one prepared state.
    pub fn is_whole_over_runs(&self, gaps: bool) -> Result<()> {
        let mut begins: Vec<_> = self.parts(gaps)?.into_iter().filter(|begin| *begin != 1).collect();
        begins.sort_unstable();
        begins.dedup();
        // A prepared instance that was killed is prepared anew, at another line.
        ensure!(begins.len() <= 2, "runs begin at {begins:?} in {:?}", self.numbers);
        Ok(())
    }

    /// Where each stretch begins whose numbers follow each other.
    fn parts(&self, gaps: bool) -> Result<Vec<u64>> {
        let (mut begins, mut last, mut in_gap) = (Vec::new(), 0, false);
        for number in &self.numbers {
            match *number {
                None => {
                    ensure!(gaps, "lines are missing: {:?}", self.numbers);
                    in_gap = true;
                }
                Some(number) => {
                    let follows = if in_gap { number > last } else { number == last + 1 };
                    if !follows || begins.is_empty() {
                        ensure!(number <= last || begins.is_empty(), "{number} follows {last}: {:?}", self.numbers);
                        begins.push(number);
                    }
                    (last, in_gap) = (number, false);
                }
            }
        }
        Ok(begins)
    }
}

/// A network namespace that nobody gives back must turn the census red: else its silence would mean nothing.
pub async fn a_leak_is_seen(chaos: &Chaos, scope: &Scope) -> Result<()> {
    let body = json!({"imageId": chaos.image, "command": ["sleep", "1000"]});
    let vm = chaos.server.start_vm(body).await?.ok();
    let before = Census::take(scope)?;
    let name = before
        .objects()
        .find(|object| object.kind == Kind::Netns)
        .map(|object| format!("{}-leak", object.name))
        .context("a VM with a network is there")?;
    ensure!(Command::new("ip").args(["netns", "add", &name]).status()?.success(), "ip netns add");
    let left = Census::leftovers(scope, &before, Duration::from_millis(200));
    ensure!(Command::new("ip").args(["netns", "del", &name]).status()?.success(), "ip netns del");
    ensure!(left?.iter().any(|object| object.name == name), "the census does not see a leaked network namespace");
    let id = vm["id"].as_str().context("an id")?;
    chaos.server.stop_vm(id).await?;
    settles(&chaos.server, &format!("/v1/vm/{id}"), "state", &["destroyed"]).await?;
    Ok(())
}
