//! The window: the entries read ahead of the low-water mark, ready ones in order, and how far the mark may move.

#[cfg(test)]
mod audit;
mod called;
mod change;
mod gate;
mod held;
mod keys;
mod lent;
mod limited;
mod rank;
mod turns;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::Map;
use super::entry::Entry;
use super::record::{EntryKey, Holder, LeaseKey};
use super::time::Micros;
pub(super) use rank::Rank;

/// Where an entry stands in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot(u32);

/// A lease as the engine holds it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) lease: LeaseKey,
    pub(super) nonce: u64,
    /// When it was granted.
    pub(super) since: Micros,
    pub(super) until: Micros,
    pub(super) holder: Arc<Holder>,
    pub(super) transactional: bool,
}

/// State of an entry in the window. Nothing is answered out of a state that is not committed.
#[derive(Debug)]
pub(super) enum State {
    Ready,
    /// Its grant is being committed.
    Granting(Held),
    /// Leased; so many extensions are being committed.
    Leased(Held, u32),
    /// Its resolution or release is being committed.
    Finishing(Option<Held>),
    /// Its move into the waiting room is being committed: with its lease, or parked.
    Moving(Option<Held>),
}

impl State {
    /// The lease, if its grant is committed and its end is not.
    pub(super) fn lease(&self) -> Option<&Held> {
        match self {
            State::Leased(held, _) | State::Finishing(Some(held)) | State::Moving(Some(held)) => Some(held),
            State::Ready | State::Granting(_) | State::Finishing(None) | State::Moving(None) => None,
        }
    }

    /// Does it count for the limits?
    fn is_counted(&self) -> bool {
        match self {
            State::Granting(_) | State::Leased(..) | State::Finishing(Some(_)) | State::Moving(Some(_)) => {
                true
            }
            State::Ready | State::Finishing(None) | State::Moving(None) => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Seat {
    pub(super) entry: Entry,
    pub(super) state: State,
    pub(super) rank: Rank,
    /// Which range it was read with: the low bits of its number.
    range: u32,
    /// The database refused it as a row of the waiting room.
    pub(super) immovable: bool,
}

/// Entries read between two ticks.
#[derive(Debug)]
struct Range {
    to_tick: i64,
    /// Order of its first entry.
    first: u64,
    unresolved: u32,
    complete: bool,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    seats: Vec<Option<Seat>>,
    free: Vec<Slot>,
    keys: Map<EntryKey, Slot>,
    /// By type, so that a grab for some types does not walk past the others; of a type, by rank.
    ready: BTreeMap<String, VecDeque<Slot>>,
    read: rank::Read,
    ready_count: usize,
    held: held::Held,
    /// `None`: nothing is limited.
    limited: Option<Box<limited::Limited>>,
    /// What became ready of late, kept while somebody searches.
    fresh: Option<Vec<Slot>>,
    bytes: usize,
    next_order: u64,
    ranges: VecDeque<Range>,
    /// Number of the first range in `ranges`.
    first_range: u64,
    low_water: i64,
}

impl Window {
    pub(super) fn new(low_water: i64) -> Self {
        Self { low_water, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Entries taken in since the beginning.
    pub(super) fn loaded(&self) -> u64 {
        self.next_order
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many entries could be leased now; of some of them it may turn out that their keys are at their limits.
    pub(super) fn ready(&self) -> usize {
        if self.admits() { self.ready_count } else { 0 }
    }

    /// The highest tick up to which every entry is resolved, and that committed.
    pub(super) fn low_water(&self) -> i64 {
        self.low_water
    }

    /// The highest tick up to which every entry has been read.
    pub(super) fn read_to(&self) -> i64 {
        self.ranges.iter().rev().find(|range| range.complete).map_or(self.low_water, |range| range.to_tick)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Seat> {
        seat_of(&self.seats, slot)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Seat> {
        self.seats.get_mut(slot.0 as usize)?.as_mut()
    }

    /// Rank of the entry in this slot; before all others, if there is none.
    pub(super) fn rank(&self, slot: Slot) -> Rank {
        rank_of(&self.seats, Some(&slot))
    }

    pub(super) fn find(&self, key: EntryKey) -> Option<Slot> {
        self.keys.get(&key).copied()
    }

    /// How many entries have been read beyond the mark, resolved ones too: what a new owner would have to fold.
    pub(super) fn ahead(&self) -> u64 {
        self.ranges.front().map_or(0, |range| self.next_order - range.first)
    }

    /// The types of which something is ready.
    pub(super) fn ready_types(&self) -> impl Iterator<Item = &str> {
        self.ready.keys().map(String::as_str)
    }

    pub(super) fn has_ready(&self, kind: &str) -> bool {
        self.ready.contains_key(kind)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Seat)> {
        self.keys.values().filter_map(|slot| Some((*slot, self.get(*slot)?)))
    }

    /// The entries in the next `count` seats from this one on, and the seat to go on from, if there are more. An entry
    /// keeps its seat as long as it is in the window.
    pub(super) fn seats(&self, from: usize, count: usize) -> (impl Iterator<Item = &Seat>, Option<usize>) {
        let rest = self.seats.get(from..).unwrap_or_default();
        let next = (rest.len() > count).then_some(from + count);
        (rest.iter().take(count).flatten(), next)
    }

    /// Begins a range, or goes on with the one that is not complete.
    pub(super) fn open_range(&mut self, to_tick: i64) {
        if self.ranges.back().is_none_or(|r| r.complete) {
            self.ranges.push_back(Range { to_tick, first: self.next_order, unresolved: 0, complete: false });
        }
    }

    /// All entries of the range have been read.
    pub(super) fn close_range(&mut self) {
        if let Some(range) = self.ranges.back_mut() {
            range.complete = true;
        }
        self.advance();
    }

    /// Takes an entry in that was read at this time, never before the last one; `None` if it is there already (the log
    /// may hold the same entry twice only if somebody wrote its id by hand).
    pub(super) fn insert(&mut self, entry: Entry, state: State, read_at: Micros) -> Option<Slot> {
        if self.keys.contains_key(&entry.key) {
            return None;
        }
        let range = self.ranges.back_mut()?;
        range.unresolved += 1;
        if entry.priority != 0 {
            self.keep_read();
        }
        let seat = Seat {
            rank: Rank::new(read_at, entry.priority, self.next_order),
            range: (self.first_range + self.ranges.len() as u64 - 1) as u32,
            immovable: false,
            state,
            entry,
        };
        self.next_order += 1;
        self.bytes += seat.entry.event.weight();
        let key = seat.entry.key;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.seats.push(None);
                Slot(
                    u32::try_from(self.seats.len() - 1)
                        .expect("the window is bounded far below 2^32 entries"),
                )
            }
        };
        self.seats[slot.0 as usize] = Some(seat);
        self.keys.insert(key, slot);
        if self.limited.is_some() {
            self.note_new(slot);
        }
        if matches!(self.get(slot)?.state, State::Ready) {
            self.enqueue(slot);
        }
        Some(slot)
    }

    /// Makes an entry ready again, where it stood before.
    pub(super) fn make_ready(&mut self, slot: Slot) {
        if self.limited.is_some() {
            self.release(slot);
        }
        if let Some(seat) = self.get_mut(slot) {
            seat.state = State::Ready;
            self.enqueue(slot);
        }
    }

    /// Keeps each type's queue by rank: a new entry goes to its end, if it has no priority, and one that is ready again
    /// near its front.
    fn enqueue(&mut self, slot: Slot) {
        if self.hold(slot) {
            return;
        }
        let Some(seat) = seat_of(&self.seats, slot) else { return };
        let kind = seat.entry.kind();
        let (ready, count) = match self.limited.as_deref_mut().and_then(|limited| limited.aside_of(kind)) {
            Some(aside) => aside,
            None => (&mut self.ready, &mut self.ready_count),
        };
        *count += 1;
        match ready.get_mut(kind) {
            Some(queue) if rank_of(&self.seats, queue.back()) < seat.rank => queue.push_back(slot),
            Some(queue) => {
                let before = |other: &Slot| rank_of(&self.seats, Some(other)) < seat.rank;
                queue.insert(queue.partition_point(before), slot);
            }
            None => drop(ready.insert(kind.to_owned(), VecDeque::from([slot]))),
        }
        self.read.insert(seat.rank, slot);
        if let Some(fresh) = &mut self.fresh {
            fresh.push(slot);
        }
    }

    /// Remembers what becomes ready from now on, or not.
    pub(super) fn watch(&mut self, wanted: bool) {
        if wanted != self.fresh.is_some() {
            self.fresh = wanted.then(Vec::new);
        }
    }

    /// That was for nothing yet.
    pub(super) fn put_fresh(&mut self, slots: Vec<Slot>) {
        if let Some(fresh) = &mut self.fresh {
            fresh.extend(slots);
        }
    }

    /// What became ready since the last call; some of it may not be any more.
    pub(super) fn take_fresh(&mut self) -> Vec<Slot> {
        self.fresh.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Shows ready entries of these types, from a rank on and by rank, until the visitor breaks off: with `Some`, the
    /// rank of the entry it did not want yet is returned.
    pub(super) fn walk_ready(
        &self,
        types: Option<&[String]>,
        from: Rank,
        mut visit: impl FnMut(Slot, &Entry) -> ControlFlow<Option<()>>,
    ) -> Option<Rank> {
        let queues: Vec<&VecDeque<Slot>> = match types {
            None => self.ready.values().collect(),
            Some(types) => types.iter().filter_map(|kind| self.ready.get(kind)).collect(),
        };
        let mut heads = BinaryHeap::new();
        for (n, queue) in queues.iter().enumerate() {
            let start = queue.partition_point(|slot| self.rank(*slot) < from);
            heads.extend(queue.get(start).map(|slot| Reverse((self.rank(*slot), n, start))));
        }
        while let Some(Reverse((at, n, index))) = heads.pop() {
            let queue = queues.get(n)?;
            let slot = *queue.get(index)?;
            if let ControlFlow::Break(rest) = visit(slot, &self.get(slot)?.entry) {
                return rest.map(|()| at);
            }
            heads.extend(queue.get(index + 1).map(|slot| Reverse((self.rank(*slot), n, index + 1))));
        }
        None
    }

    /// Takes this ready entry out of the order; false if it is not ready.
    pub(super) fn take_ready(&mut self, slot: Slot) -> bool {
        let Some(seat) = seat_of(&self.seats, slot).filter(|seat| matches!(seat.state, State::Ready)) else {
            return false;
        };
        let (kind, rank) = (seat.entry.kind(), seat.rank);
        let before = |other: &Slot| rank_of(&self.seats, Some(other)) < rank;
        let (ready, count) = match self.limited.as_deref_mut().and_then(|limited| limited.aside_of(kind)) {
            Some(aside) => aside,
            None => (&mut self.ready, &mut self.ready_count),
        };
        let Some(queue) = ready.get_mut(kind) else { return false };
        let index = queue.partition_point(before);
        if queue.get(index) != Some(&slot) {
            return false;
        }
        queue.remove(index);
        if queue.is_empty() {
            ready.remove(kind);
        }
        *count -= 1;
        self.read.remove(rank);
        true
    }

    pub(super) fn ready_type_count(&self) -> usize {
        self.ready.len()
    }

    /// The ready entry that goes first, of these types (all if `None`), taken out of the order.
    pub(super) fn next_ready(&mut self, types: Option<&[String]>) -> Option<Slot> {
        if self.ready_count == 0 {
            return None;
        }
        let rank = |queue: &VecDeque<Slot>| rank_of(&self.seats, queue.front());
        let first = match types {
            None => self.ready.values().min_by_key(|queue| rank(queue)),
            Some(types) => types.iter().filter_map(|kind| self.ready.get(kind)).min_by_key(|q| rank(q)),
        };
        let slot = *first?.front()?;
        let seat = seat_of(&self.seats, slot)?;
        let kind = seat.entry.kind();
        let queue = self.ready.get_mut(kind)?;
        queue.pop_front();
        if queue.is_empty() {
            self.ready.remove(kind);
        }
        self.read.remove(seat.rank);
        self.ready_count -= 1;
        Some(slot)
    }

    /// When the ready entry that waits longest was inserted.
    pub(super) fn oldest_ready(&self) -> Option<Micros> {
        let fronts = self.ready.values().filter_map(VecDeque::front);
        fronts.chain(self.read.first()).filter_map(|slot| Some(self.get(*slot)?.entry.inserted_at)).min()
    }

    /// Forgets a resolved entry and moves the mark as far as it can go.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<Seat> {
        if self.limited.is_some() {
            self.forget_note(slot);
        }
        let seat = self.seats.get_mut(slot.0 as usize)?.take()?;
        self.free.push(slot);
        self.keys.remove(&seat.entry.key);
        self.bytes -= seat.entry.event.weight();
        let index = seat.range.wrapping_sub(self.first_range as u32);
        if let Some(range) = self.ranges.get_mut(index as usize) {
            range.unresolved -= 1;
        }
        self.advance();
        Some(seat)
    }

    fn advance(&mut self) {
        while let Some(range) = self.ranges.front() {
            if !range.complete || range.unresolved > 0 {
                break;
            }
            self.low_water = range.to_tick;
            self.ranges.pop_front();
            self.first_range += 1;
        }
    }
}

fn seat_of(seats: &[Option<Seat>], slot: Slot) -> Option<&Seat> {
    seats.get(slot.0 as usize)?.as_ref()
}

/// Rank of the entry in this slot; before all others, if there is none.
fn rank_of(seats: &[Option<Seat>], slot: Option<&Slot>) -> Rank {
    slot.and_then(|slot| seat_of(seats, *slot)).map_or(Rank::FIRST, |seat| seat.rank)
}
