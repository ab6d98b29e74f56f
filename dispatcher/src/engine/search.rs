//! Search: which jobs a grab with `where` takes. Exact within the window; what is not read yet is not searched.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use serde_json::Value;
use tidemill_common::api::KeyFilter;

use super::Engine;
use super::entry::Entry;
use super::grab::Grab;
use super::window::{Rank, Slot, State};

/// Entries that one look goes through, and bytes of their arguments: the rest follows with the next.
const LOOK_ENTRIES: usize = 20_000;
const LOOK_BYTES: usize = 2 << 20;

/// All conditions that are given must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub id: Option<i64>,
    pub coalesce_key: Option<KeyFilter>,
    /// The arguments contain this, as PostgreSQL's `jsonb @>`; numbers that are no 64-bit integers are compared as
    /// doubles.
    pub args: Option<Value>,
}

impl Filter {
    pub(super) fn matches(&self, entry: &Entry) -> bool {
        self.id.is_none_or(|id| entry.key.job == id)
            && self.coalesce_key.as_ref().is_none_or(|wanted| {
                entry.coalesce_key.as_deref().is_some_and(|key| match wanted {
                    KeyFilter::Exact(exact) => key == exact,
                    KeyFilter::Prefix { prefix } => key.starts_with(prefix.as_str()),
                })
            })
            && self.args.as_ref().is_none_or(|wanted| args_contain(entry, wanted))
    }

    /// Bytes of arguments that must be read to decide about an entry.
    fn cost(&self, entry: &Entry) -> usize {
        if self.args.is_some() { entry.event.data.as_ref().map_or(0, String::len) } else { 0 }
    }
}

fn args_contain(entry: &Entry, wanted: &Value) -> bool {
    let text = entry.event.data.as_deref().unwrap_or("null");
    // Most jobs are not the ones: a key or text that does not occur needs no parser. Escapes could hide it.
    if !text.contains('\\') && !may_occur(text, wanted) {
        return false;
    }
    match serde_json::from_str(text) {
        Ok(args) => contains(&args, wanted, true),
        // Workers get it as a JSON string.
        Err(_) => contains(&Value::String(text.to_owned()), wanted, true),
    }
}

/// Could this be part of the text, which has no escapes?
fn may_occur(text: &str, wanted: &Value) -> bool {
    match wanted {
        Value::String(wanted) => wanted.contains(['"', '\\']) || text.contains(wanted.as_str()),
        Value::Object(fields) => {
            fields.iter().all(|(key, value)| text.contains(key.as_str()) && may_occur(text, value))
        }
        Value::Array(items) => items.iter().all(|item| may_occur(text, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// `whole @> part`. An array contains a scalar only at the top.
fn contains(whole: &Value, part: &Value, top: bool) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part, false)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|part| whole.iter().any(|whole| contains(whole, part, false)))
        }
        (Value::Array(whole), scalar) if top && !scalar.is_object() => {
            whole.iter().any(|whole| contains(whole, scalar, false))
        }
        (Value::Number(whole), Value::Number(part)) => {
            whole == part || (!(whole.is_i64() && part.is_i64()) && whole.as_f64() == part.as_f64())
        }
        (whole, part) => whole == part,
    }
}

/// What a look through the window brought.
pub(super) struct Found {
    pub(super) slots: Vec<Slot>,
    /// The rank of the entry to go on with, if not everything has been seen.
    pub(super) rest: Option<Rank>,
}

impl Engine {
    /// Looks for ready entries that the grab wants, from a rank on and by rank.
    pub(super) fn search(&self, grab: &Grab, filter: &Filter, from: Rank) -> Found {
        let (mut entries, mut bytes) = (LOOK_ENTRIES, LOOK_BYTES);
        let mut slots = Vec::new();
        let rest = self.window.walk_ready(grab.types.as_deref(), from, |slot, entry| {
            if slots.len() >= grab.max {
                return ControlFlow::Break(None);
            }
            let cost = filter.cost(entry);
            if entries == 0 || (cost > bytes && bytes < LOOK_BYTES) {
                return ControlFlow::Break(Some(()));
            }
            (entries, bytes) = (entries - 1, bytes.saturating_sub(cost));
            if filter.matches(entry) {
                slots.push(slot);
            }
            ControlFlow::Continue(())
        });
        Found { slots, rest }
    }

    /// Gives what became ready to those who search, and goes on with searches that are not finished.
    pub(super) fn serve_searches(&mut self) {
        if !self.window.admits() {
            return;
        }
        let mut fresh = self.window.take_fresh();
        fresh.sort_unstable_by_key(|slot| self.window.rank(*slot));
        fresh.dedup();
        for number in self.polls.unfinished() {
            self.search_on(number, &fresh);
        }
        if fresh.is_empty() || !self.polls.is_searched() {
            return;
        }
        let kind = |slot: Slot| self.window.get(slot).map(|seat| seat.entry.kind());
        let kinds: BTreeSet<&str> = fresh.iter().filter_map(|slot| kind(*slot)).collect();
        for number in self.polls.searching(&kinds) {
            // If it is not served, all that it was offered waits for limits now, and it is offered the next.
            while self.window.admits() {
                // A search that is not finished comes to the rest of them in its turn.
                let Some(poll) = self.polls.get(number).filter(|poll| poll.scan.is_none()) else { break };
                let Some(filter) = &poll.grab.filter else { break };
                let slots = self.wanted(&fresh, &poll.grab, filter);
                if slots.is_empty() {
                    break;
                }
                self.serve(number, Some(&slots));
            }
        }
        if !self.window.admits() {
            self.window.put_fresh(fresh);
        }
    }

    /// Goes on with a search that is not finished, until it has got something or seen enough.
    fn search_on(&mut self, number: u64, fresh: &[Slot]) {
        while self.window.admits() {
            let Some(poll) = self.polls.get(number) else { return };
            let (Some(from), Some(filter)) = (poll.scan, &poll.grab.filter) else { return };
            // What became ready where it has been goes first.
            let passed = fresh.partition_point(|slot| self.window.rank(*slot) < from);
            let mut slots = self.wanted(&fresh[..passed], &poll.grab, filter);
            let found = self.search(&poll.grab, filter, from);
            let (deadline, answer_by) = (poll.deadline, poll.answer_by);
            let next = found.slots.first().map_or(from, |first| self.window.rank(*first));
            slots.extend(found.slots);
            slots.truncate(poll.grab.max);
            if slots.is_empty() {
                let deadline = if found.rest.is_some() { deadline } else { answer_by };
                return self.polls.scanned(number, found.rest, deadline);
            }
            self.serve(number, Some(&slots));
            // If it was not served, all of these wait for limits now.
            self.polls.scanned(number, Some(next), deadline);
        }
    }

    /// What the grab may have of these, in their order.
    fn wanted(&self, slots: &[Slot], grab: &Grab, filter: &Filter) -> Vec<Slot> {
        let is_wanted = |slot: &&Slot| {
            self.window.get(**slot).is_some_and(|seat| {
                let kind = seat.entry.kind();
                let of_type = grab.types.as_ref().is_none_or(|types| types.iter().any(|t| t == kind));
                of_type
                    && matches!(seat.state, State::Ready)
                    && !self.window.is_held(**slot)
                    && filter.matches(&seat.entry)
            })
        };
        slots.iter().filter(is_wanted).take(grab.max).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containment_is_postgresqls() {
        let holds = [
            (json!({"a": 1, "b": {"c": [1, {"d": 2}]}}), json!({"b": {"c": [{"d": 2}]}})),
            (json!({"a": 1.0}), json!({"a": 1})),
            (json!(["x", "y"]), json!("y")),
            (json!([1, [2, 3]]), json!([[3]])),
            (json!({}), json!({})),
            (json!([1, 2, 2]), json!([2, 1, 1])),
            (json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_993_i64)),
        ];
        let fails = [
            (json!({"a": 1}), json!({"a": 2})),
            (json!({"a": [1]}), json!({"a": 1})),
            (json!({"a": 1}), json!({"b": null})),
            (json!("y"), json!(["y"])),
            (json!([[1]]), json!([1])),
            (json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992_i64)),
            (json!([{"a": 1}]), json!({"a": 1})),
        ];
        for (whole, part) in holds {
            assert!(contains(&whole, &part, true), "{whole} @> {part}");
        }
        for (whole, part) in fails {
            assert!(!contains(&whole, &part, true), "{whole} @> {part}");
        }
    }
}
