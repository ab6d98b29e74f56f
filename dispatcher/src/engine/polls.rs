//! Polls: grabs that found nothing and wait, in the order they came, found by the types they want: what happens to one
//! entry costs nothing for the many who wait for something else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::answer::RequestId;
use super::grab::Grab;
use super::time::Micros;
use super::window::{Rank, Window};

/// A grab that waits.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) request: RequestId,
    pub(super) grab: Grab,
    /// When it is answered empty.
    pub(super) deadline: Micros,
    /// When it would be, if its search had looked through the window.
    pub(super) answer_by: Micros,
    /// A search that has not looked through the whole window yet: the rank of the entry to go on with.
    pub(super) scan: Option<Rank>,
}

/// Who waits for what: numbers of polls by type.
#[derive(Debug, Default)]
struct Index {
    by_type: HashMap<String, BTreeSet<u64>>,
    all: BTreeSet<u64>,
}

impl Index {
    fn insert(&mut self, number: u64, types: Option<&[String]>) {
        let Some(types) = types else {
            self.all.insert(number);
            return;
        };
        for kind in types {
            self.by_type.entry(kind.clone()).or_default().insert(number);
        }
    }

    fn remove(&mut self, number: u64, types: Option<&[String]>) {
        self.all.remove(&number);
        for kind in types.unwrap_or_default() {
            if let Some(polls) = self.by_type.get_mut(kind) {
                polls.remove(&number);
                if polls.is_empty() {
                    self.by_type.remove(kind);
                }
            }
        }
    }

    fn want(&self, kind: &str) -> bool {
        !self.all.is_empty() || self.by_type.contains_key(kind)
    }
}

#[derive(Debug, Default)]
pub(super) struct Polls {
    /// By number: the order in which they came.
    waiting: BTreeMap<u64, Poll>,
    next: u64,
    /// Those that take any job of their types, and those that search.
    plain: Index,
    searching: Index,
    unfinished: BTreeSet<u64>,
    deadlines: BTreeSet<(Micros, u64)>,
    requests: HashMap<RequestId, u64>,
    /// The numbered grab of each worker instance.
    numbered: HashMap<Uuid, u64>,
}

impl Polls {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn is_searched(&self) -> bool {
        !(self.searching.all.is_empty() && self.searching.by_type.is_empty())
    }

    pub(super) fn insert(&mut self, poll: Poll) {
        self.next += 1;
        self.wait_on(self.next - 1, poll);
    }

    /// One that was taken out goes on waiting where it was.
    pub(super) fn wait_on(&mut self, number: u64, poll: Poll) {
        let index = if poll.grab.filter.is_some() { &mut self.searching } else { &mut self.plain };
        index.insert(number, poll.grab.types.as_deref());
        if poll.scan.is_some() {
            self.unfinished.insert(number);
        }
        self.deadlines.insert((poll.deadline, number));
        self.requests.insert(poll.request, number);
        if poll.grab.number.is_some() {
            self.numbered.insert(poll.grab.holder.instance, number);
        }
        self.waiting.insert(number, poll);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Poll> {
        let poll = self.waiting.remove(&number)?;
        let index = if poll.grab.filter.is_some() { &mut self.searching } else { &mut self.plain };
        index.remove(number, poll.grab.types.as_deref());
        self.unfinished.remove(&number);
        self.deadlines.remove(&(poll.deadline, number));
        self.requests.remove(&poll.request);
        if self.numbered.get(&poll.grab.holder.instance) == Some(&number) {
            self.numbered.remove(&poll.grab.holder.instance);
        }
        Some(poll)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Poll> {
        self.waiting.get(&number)
    }

    /// How far its search has come; `deadline` is when it is answered empty from now on.
    pub(super) fn scanned(&mut self, number: u64, scan: Option<Rank>, deadline: Micros) {
        let Some(poll) = self.waiting.get_mut(&number) else { return };
        self.deadlines.remove(&(poll.deadline, number));
        self.deadlines.insert((deadline, number));
        (poll.scan, poll.deadline) = (scan, deadline);
        if scan.is_none() {
            self.unfinished.remove(&number);
        }
    }

    /// Whose request this is.
    pub(super) fn of_request(&self, request: RequestId) -> Option<u64> {
        self.requests.get(&request).copied()
    }

    /// The same numbered grab of the same worker.
    pub(super) fn same(&self, grab: &Grab) -> Option<u64> {
        let number = *self.numbered.get(&grab.holder.instance)?;
        (grab.number.is_some() && self.waiting.get(&number)?.grab.number == grab.number).then_some(number)
    }

    /// The first who takes something of what is ready.
    pub(super) fn first_served(&self, window: &Window) -> Option<u64> {
        let all = self.plain.all.first().copied();
        let of = |kind: &str| self.plain.by_type.get(kind).and_then(|polls| polls.first().copied());
        let typed = match self.plain.by_type.len() <= window.ready_type_count() {
            true => {
                self.plain.by_type.keys().filter(|kind| window.has_ready(kind)).filter_map(|k| of(k)).min()
            }
            false => window.ready_types().filter_map(of).min(),
        };
        all.into_iter().chain(typed).min()
    }

    /// Those who search among entries of these types, in their order.
    pub(super) fn searching(&self, kinds: &BTreeSet<&str>) -> Vec<u64> {
        let typed = kinds.iter().filter_map(|kind| self.searching.by_type.get(*kind)).flatten();
        let numbers: BTreeSet<u64> = self.searching.all.iter().chain(typed).copied().collect();
        numbers.into_iter().collect()
    }

    /// Those whose search has not looked through the window yet.
    pub(super) fn unfinished(&self) -> Vec<u64> {
        self.unfinished.iter().copied().collect()
    }

    pub(super) fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Does somebody wait for this type?
    pub(super) fn want(&self, kind: &str) -> bool {
        self.plain.want(kind) || self.searching.want(kind)
    }

    /// Does somebody wait for all types?
    pub(super) fn wants_all(&self) -> bool {
        !(self.plain.all.is_empty() && self.searching.all.is_empty())
    }

    pub(super) fn deadline(&self) -> Option<Micros> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// One that has waited long enough.
    pub(super) fn expired(&mut self, now: Micros) -> Option<Poll> {
        let (deadline, number) = *self.deadlines.first()?;
        if deadline > now { None } else { self.remove(number) }
    }

    /// All of them, in their order.
    pub(super) fn take_all(&mut self) -> Vec<Poll> {
        std::mem::take(self).waiting.into_values().collect()
    }
}
