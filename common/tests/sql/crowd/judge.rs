//! Compares what consumers got with what producers did.

use std::collections::{BTreeMap, BTreeSet};

use super::Done;
use super::ledger::{Classes, Ledger};
use super::read::Event;

/// What one consumer got, in the batches that it finished: how often each event, by number and retry.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) consumer: &'static str,
    got: BTreeMap<(u64, i32), u32>,
    /// How often it was asked for, beyond the first time.
    asked: BTreeMap<(u64, i32), u32>,
}

pub(super) type ByConsumer = BTreeMap<&'static str, Seen>;

impl Seen {
    pub(super) fn of(consumer: &'static str) -> Self {
        Self { consumer, got: BTreeMap::new(), asked: BTreeMap::new() }
    }

    pub(super) fn got(&mut self, events: &[Event]) {
        for event in events {
            *self.got.entry((event.number, event.retry)).or_default() += 1;
        }
    }

    /// `event_retry` returned 1, or 0 when the event waited already.
    pub(super) fn asked(&mut self, event: &Event, count: i32) {
        if let Some(count) = u32::try_from(count).ok().filter(|count| *count > 0) {
            *self.asked.entry((event.number, event.retry + 1)).or_default() += count;
        }
    }
}

/// Members of one consumer, added up.
pub(super) fn by_consumer(all: impl Iterator<Item = Seen>) -> ByConsumer {
    let mut consumers = ByConsumer::new();
    for seen in all {
        let sum = consumers.entry(seen.consumer).or_insert_with(|| Seen::of(seen.consumer));
        for (event, count) in seen.got {
            *sum.got.entry(event).or_default() += count;
        }
        for (event, count) in seen.asked {
            *sum.asked.entry(event).or_default() += count;
        }
    }
    consumers
}

/// Every committed event once for each consumer, retried ones as often as asked, and nothing else.
pub(super) fn judge(ledger: Ledger, consumers: &ByConsumer) -> Result<Done, String> {
    let Classes { mut committed, undone, unknown } = ledger.into_classes();
    let first_of = |seen: &Seen| -> BTreeSet<u64> {
        seen.got.keys().filter(|(_, retry)| *retry == 0).map(|(number, _)| *number).collect()
    };
    // The consumers say together how a transaction ended of which its producer does not know it.
    let witness: BTreeSet<u64> = consumers.values().flat_map(first_of).collect();
    for transaction in &unknown {
        let there = transaction.iter().filter(|number| witness.contains(number)).count();
        if there == transaction.len() {
            committed.extend(transaction);
        } else if there > 0 {
            return Err(format!(
                "only {there} of the events {transaction:?} of one transaction were delivered"
            ));
        }
    }
    for seen in consumers.values() {
        let name = seen.consumer;
        let first = first_of(seen);
        say(name, "lost", committed.difference(&first))?;
        say(name, "of transactions that were rolled back", first.intersection(&undone))?;
        say(name, "invented", first.difference(&committed))?;
        let expected = |event: &(u64, i32)| match event.1 {
            0 => 1,
            _ => seen.asked.get(event).copied().unwrap_or_default(),
        };
        let other = seen.got.iter().filter(|(event, count)| **count != expected(event));
        say(name, "delivered so often, by (number, retry)", other)?;
        say(
            name,
            "retried and not delivered",
            seen.asked.keys().filter(|event| !seen.got.contains_key(event)),
        )?;
    }
    Ok(Done {
        committed: committed.len(),
        undone: undone.len(),
        unknown: unknown.len(),
        retried: consumers.values().map(|seen| seen.asked.len()).sum(),
        rotations: 0,
    })
}

/// An error if there is one of these.
fn say<T: std::fmt::Debug>(
    consumer: &str,
    what: &str,
    events: impl Iterator<Item = T>,
) -> Result<(), String> {
    let events: Vec<_> = events.collect();
    if events.is_empty() {
        return Ok(());
    }
    Err(format!("{consumer}: {} {what}: {:?}", events.len(), &events[..events.len().min(10)]))
}
