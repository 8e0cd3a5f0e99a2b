//! A search through many logs at once: its pages, in the order of time, then of the VMs' ids.
//!
//! Within one log times never fall, so that `(time, VM, position)` is an order of all lines, and the last line of a page
//! says where each of the logs goes on. Nothing is kept between two pages.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::id::{Generation, VmId};
use crate::logquery::{LogQuery, Order, Position};

/// A place in the lines of all logs: behind the line of `vm` that ends (oldest first) or begins (newest first) at
/// `position`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// The line's time, Unix milliseconds.
    pub time_ms: u64,
    /// Whose line it is.
    pub vm: VmId,
    /// Where its own log goes on.
    pub position: Position,
}

/// Puts what was read of many logs together to one page.
#[derive(Debug)]
pub struct Merge<L> {
    order: Order,
    batch: usize,
    lines: Vec<(Mark, L)>,
    /// Nothing behind it is sure to be complete.
    horizon: Option<Mark>,
}

const TOKEN_VERSION: u8 = 2;

impl Mark {
    /// As a token of the API.
    pub fn write(&self, order: Order) -> String {
        let mut bytes = vec![TOKEN_VERSION, matches!(order, Order::NewestFirst).into()];
        bytes.extend(self.time_ms.to_be_bytes());
        bytes.extend(self.position.generation.0.to_be_bytes());
        bytes.extend(self.position.segment.to_be_bytes());
        bytes.extend(self.position.offset.to_be_bytes());
        bytes.extend(self.vm.as_str().bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Mark::write`] wrote for the same order. A forged one names another place in the same logs.
    pub fn read(token: &str, order: Order) -> Option<Self> {
        const FIXED_BYTES: usize = 28;
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let [TOKEN_VERSION, newest_first, rest @ ..] = &bytes[..] else { return None };
        if *newest_first != u8::from(order == Order::NewestFirst) {
            return None;
        }
        let (fixed, vm) = rest.split_first_chunk::<FIXED_BYTES>()?;
        let (time_ms, fixed) = fixed.split_first_chunk::<8>()?;
        let (generation, fixed) = fixed.split_first_chunk::<8>()?;
        let (segment, offset) = fixed.split_first_chunk::<4>()?;
        Some(Self {
            time_ms: u64::from_be_bytes(*time_ms),
            vm: std::str::from_utf8(vm).ok()?.parse().ok()?,
            position: Position {
                generation: Generation(u64::from_be_bytes(*generation)),
                segment: u32::from_be_bytes(*segment),
                offset: u64::from_be_bytes(offset.try_into().ok()?),
            },
        })
    }

    fn compare(&self, other: &Self, order: Order) -> Ordering {
        let by_time = (self.time_ms, &self.vm).cmp(&(other.time_ms, &other.vm));
        match order {
            Order::OldestFirst => by_time,
            Order::NewestFirst => by_time.reverse(),
        }
    }
}

/// What is asked of the log of `vm` for the page behind `mark`; `None` where nothing of it can be there.
pub fn query_of(vm: &VmId, base: &LogQuery, mark: Option<&Mark>) -> Option<LogQuery> {
    let mut query = base.clone();
    let Some(mark) = mark else { return Some(query) };
    match (vm.cmp(&mark.vm), base.order) {
        (Ordering::Equal, _) => query.after = Some(mark.position),
        (Ordering::Greater, Order::OldestFirst) => query.from_ms = query.from_ms.max(Some(mark.time_ms)),
        (Ordering::Less, Order::OldestFirst) => {
            query.from_ms = query.from_ms.max(Some(mark.time_ms.checked_add(1)?));
        }
        (Ordering::Less, Order::NewestFirst) => query.to_ms = least(query.to_ms, mark.time_ms),
        (Ordering::Greater, Order::NewestFirst) => query.to_ms = least(query.to_ms, mark.time_ms.checked_sub(1)?),
    }
    Some(query)
}

fn least(bound: Option<u64>, other: u64) -> Option<u64> {
    Some(bound.map_or(other, |bound| bound.min(other)))
}

impl<L> Merge<L> {
    /// An empty page of at most `batch` lines.
    pub const fn new(order: Order, batch: usize) -> Self {
        Self { order, batch, lines: Vec::new(), horizon: None }
    }

    /// Narrows what is asked of the next log to what can still come on the page.
    pub fn narrow(&self, query: &mut LogQuery) {
        let Some(horizon) = &self.horizon else { return };
        match self.order {
            Order::OldestFirst => query.to_ms = least(query.to_ms, horizon.time_ms),
            Order::NewestFirst => query.from_ms = query.from_ms.max(Some(horizon.time_ms)),
        }
    }

    /// Adds what was read of some logs, and where that stopped before an end of them.
    pub fn add(&mut self, lines: impl IntoIterator<Item = (Mark, L)>, stopped: Option<Mark>) {
        self.lines.extend(lines);
        if let Some(mark) = stopped {
            self.end_at(mark);
        }
        // A stable sort: lines of one VM stay in their order.
        let order = self.order;
        self.lines.sort_by(|(a, _), (b, _)| a.compare(b, order));
        if let Some(horizon) = &self.horizon {
            let within = self.lines.partition_point(|(mark, _)| mark.compare(horizon, order) != Ordering::Greater);
            self.lines.truncate(within);
        }
        if self.lines.len() > self.batch {
            self.lines.truncate(self.batch);
            self.horizon = self.lines.last().map(|(mark, _)| mark.clone());
        }
    }

    /// The page ends at `mark`, or earlier.
    fn end_at(&mut self, mark: Mark) {
        let is_nearer = |horizon: &Mark| mark.compare(horizon, self.order) == Ordering::Less;
        if self.horizon.as_ref().is_none_or(is_nearer) {
            self.horizon = Some(mark);
        }
    }

    /// The page, and behind what the next one begins; `None` where all logs were read to their ends.
    pub fn finish(self) -> (Vec<(Mark, L)>, Option<Mark>) {
        (self.lines, self.horizon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logquery::RawQuery;
    use proptest::prelude::*;

    fn vm(number: u8) -> VmId {
        format!("{number:014x}").parse().expect("an id")
    }

    fn at(offset: u64) -> Position {
        Position { generation: Generation(1), segment: 1, offset }
    }

    /// Reads a log, which is the times of its lines, as a host does: at most `max` of them.
    fn read(vm: &VmId, log: &[u64], query: &LogQuery, max: usize) -> (Vec<(Mark, u64)>, Option<Mark>) {
        let is_meant =
            |time: u64| query.from_ms.is_none_or(|from| time >= from) && query.to_ms.is_none_or(|to| time <= to);
        let numbered: Vec<(u64, u64)> = log.iter().copied().zip(0..).collect();
        let numbered = numbered.into_iter();
        let mut lines: Vec<_> = match query.order {
            Order::OldestFirst => numbered
                .filter(|(_, number)| query.after.is_none_or(|after| *number >= after.offset))
                .map(|(time, number)| (time, at(number + 1), number))
                .collect(),
            Order::NewestFirst => numbered
                .rev()
                .filter(|(_, number)| query.after.is_none_or(|after| *number < after.offset))
                .map(|(time, number)| (time, at(number), number))
                .collect(),
        };
        lines.retain(|(time, ..)| is_meant(*time));
        let is_cut = lines.len() > max;
        lines.truncate(max);
        let mark = |(time_ms, position, line)| (Mark { time_ms, vm: vm.clone(), position }, line);
        let lines: Vec<_> = lines.into_iter().map(mark).collect();
        let stopped = lines.last().filter(|_| is_cut).map(|(mark, _)| mark.clone());
        (lines, stopped)
    }

    #[test]
    fn a_mark_is_bound_to_its_order() {
        let mark = Mark { time_ms: 1 << 41, vm: vm(7), position: at(1 << 33) };
        let token = mark.write(Order::OldestFirst);
        assert_eq!(Mark::read(&token, Order::OldestFirst), Some(mark));
        assert_eq!(Mark::read(&token, Order::NewestFirst), None);
        for odd in ["", "AAAA", &token[..20], &token.to_uppercase()] {
            assert_eq!(Mark::read(odd, Order::OldestFirst), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn pages_together_hold_each_line_once_and_in_order(
            steps in prop::collection::vec(prop::collection::vec(0u64..3, 0..12), 0..5),
            batch in 1usize..6, max in 1usize..6, newest in any::<bool>(), from in 0u64..8,
        ) {
            let logs: Vec<Vec<u64>> = steps.iter().map(|steps| {
                steps.iter().scan(0, |time, step| { *time += step; Some(*time) }).collect()
            }).collect();
            let order = if newest { Order::NewestFirst } else { Order::OldestFirst };
            let mut base = LogQuery::parse(RawQuery::default()).expect("no parameter is needed");
            (base.order, base.from_ms) = (order, Some(from));
            let (mut found, mut mark) = (Vec::new(), None);
            for page in 0.. {
                prop_assert!(page < 200, "it ends");
                let mut merge = Merge::new(order, batch);
                for (number, log) in logs.iter().enumerate() {
                    let vm = vm(number as u8);
                    let Some(mut query) = query_of(&vm, &base, mark.as_ref()) else { continue };
                    merge.narrow(&mut query);
                    let (lines, stopped) = read(&vm, log, &query, max);
                    merge.add(lines, stopped);
                }
                let (lines, next) = merge.finish();
                prop_assert!(lines.len() <= batch);
                found.extend(lines.into_iter().map(|(mark, line)| (mark.vm, line)));
                mark = next;
                if mark.is_none() {
                    break;
                }
            }
            let mut all: Vec<_> = logs.iter().enumerate().flat_map(|(number, log)| {
                log.iter().zip(0u64..).map(move |(time, line)| (*time, vm(number as u8), line))
            }).filter(|(time, ..)| *time >= from).collect();
            all.sort();
            if newest {
                all.reverse();
            }
            prop_assert_eq!(found, all.into_iter().map(|(_, vm, line)| (vm, line)).collect::<Vec<_>>());
        }

        #[test]
        fn any_token_is_read_or_refused_without_panic(token in "[A-Za-z0-9_-]{0,80}") {
            let _ = Mark::read(&token, Order::OldestFirst);
        }
    }
}
