//! Turns: what limits do to the order of the ready entries, as gates open and close.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::gate::Turn;
use super::limited::{Claim, Opened, Tag, Which};
use super::{Slot, Window, seat_of};
use crate::engine::time::Micros;

impl Window {
    /// May anything be leased, as far as the queue's own limit goes?
    pub(in crate::engine) fn admits(&self) -> bool {
        self.limited.as_ref().is_none_or(|limited| !limited.queue.is_closed())
    }

    /// How many entries are ready and held back by limits.
    pub(in crate::engine) fn limited(&self) -> usize {
        let Some(limited) = &self.limited else { return 0 };
        let ready = if self.admits() { 0 } else { self.ready_count };
        limited.held_count + limited.aside_count + ready
    }

    /// The ready entries of types at their limits.
    pub(super) fn aside(&self) -> impl Iterator<Item = &VecDeque<Slot>> {
        self.limited.iter().flat_map(|limited| limited.aside.values())
    }

    /// Is this type at its limit?
    pub(in crate::engine) fn is_closed_type(&self, kind: &str) -> bool {
        self.limited.as_ref().is_some_and(|limited| limited.is_closed_type(kind))
    }

    /// The entry that goes first, of these types, of those that limits let through; it is counted.
    pub(in crate::engine) fn next_leasable(&mut self, types: Option<&[String]>) -> Option<Slot> {
        if self.limited.is_none() {
            return self.next_ready(types);
        }
        while self.admits() {
            let slot = self.next_ready(types)?;
            if self.claim(slot) {
                return Some(slot);
            }
        }
        None
    }

    /// Takes this ready entry out of the order and counts it; false if it is not ready, or limits hold it back.
    pub(in crate::engine) fn take_leasable(&mut self, slot: Slot) -> bool {
        if self.limited.is_none() {
            return self.take_ready(slot);
        }
        self.admits() && !self.is_limited(slot) && self.take_ready(slot) && self.claim(slot)
    }

    /// Counts an entry that was picked, if its key lets it through.
    fn claim(&mut self, slot: Slot) -> bool {
        let Some(limited) = self.limited.as_deref_mut() else { return true };
        let Some(seat) = seat_of(&self.seats, slot) else { return false };
        let Claim::Taken { closes_type, next } = limited.claim(slot, &seat.entry, seat.rank) else {
            return false;
        };
        if closes_type {
            self.put_aside(slot);
        }
        if let Some(next) = next {
            self.enqueue(next);
        }
        true
    }

    /// An entry has come that is leased already, or it is known of which key it is.
    pub(super) fn note_new(&mut self, slot: Slot) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        let Some(seat) = seat_of(&self.seats, slot) else { return };
        let key = limited.key_of(slot, &seat.entry);
        if let Some(key) = key.and_then(|no| limited.keys.get_mut(no))
            && seat.entry.key.put > 0
        {
            key.not_before = Micros(0);
        }
        if seat.state.is_counted() {
            limited.note(slot).is_claimed = true;
            limited.count(seat.entry.kind(), key);
            if limited.look_counted(seat.entry.kind(), key) {
                self.put_aside(slot);
            }
        }
    }

    /// One of the leases that began before this owner did is in the window now.
    pub(in crate::engine) fn read_lease(&mut self) {
        if let Some(limited) = self.limited.as_deref_mut() {
            limited.unread.count = limited.unread.count.saturating_sub(1);
            // Until all are read a gate may stay closed that could open.
            if limited.unread.count == 0 {
                self.look_again();
            }
        }
    }

    /// All leases have been read that began before this owner did; false if that was known.
    pub(in crate::engine) fn read_all(&mut self) -> bool {
        let unread =
            self.limited.as_deref_mut().map_or(0, |limited| std::mem::take(&mut limited.unread).count);
        if unread > 0 {
            self.look_again();
        }
        unread > 0
    }

    /// The entry in this slot is under no lease any more.
    pub(super) fn release(&mut self, slot: Slot) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        let Some(seat) = seat_of(&self.seats, slot) else { return };
        if !std::mem::take(&mut limited.note(slot).is_claimed) {
            return;
        }
        let kind = seat.entry.kind().to_owned();
        let key = limited.key_of(slot, &seat.entry);
        let opened = limited.give_back(&kind, key, self.fresh.is_some());
        self.go_on(&kind, opened);
    }

    /// The entry in this slot is about to leave the window.
    pub(super) fn forget_note(&mut self, slot: Slot) {
        if self.limited.is_none() {
            return;
        }
        self.release(slot);
        if let Some(limited) = self.limited.as_deref_mut()
            && let Tag::Key(no) = std::mem::take(limited.note(slot)).key
        {
            limited.forget_key(no);
        }
    }

    /// What was held back before gates that have opened is ready again.
    pub(super) fn go_on(&mut self, kind: &str, opened: Opened) {
        if opened.kind {
            self.return_aside(kind);
        }
        for slot in opened.slots {
            self.enqueue(slot);
        }
    }

    /// The type of the entry in this slot is at its limit.
    fn put_aside(&mut self, slot: Slot) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        if let Some(seat) = seat_of(&self.seats, slot)
            && let Some((kind, queue)) = self.ready.remove_entry(seat.entry.kind())
        {
            self.ready_count -= queue.len();
            limited.aside_count += queue.len();
            limited.aside.insert(kind, queue);
        }
    }

    fn return_aside(&mut self, kind: &str) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        if let Some((kind, queue)) = limited.aside.remove_entry(kind) {
            limited.aside_count -= queue.len();
            self.ready_count += queue.len();
            if let Some(fresh) = &mut self.fresh {
                fresh.extend(&queue);
            }
            self.ready.insert(kind, queue);
        }
    }

    /// The entry in this slot left the order for another reason than a lease: the next one of its key and type may have
    /// been waiting for it.
    pub(in crate::engine) fn depart(&mut self, slot: Slot) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        if let Some(seat) = seat_of(&self.seats, slot)
            && let Tag::Key(no) = limited.noted(slot).key
            && let Some(next) = limited.next_of(no, seat.entry.kind())
        {
            self.enqueue(next);
        }
    }

    /// Is this entry held back by the limit of its type or key?
    pub(super) fn is_limited(&self, slot: Slot) -> bool {
        let Some(limited) = &self.limited else { return false };
        let is_aside = self.get(slot).is_some_and(|seat| limited.is_closed_type(seat.entry.kind()));
        is_aside || limited.noted(slot).is_held
    }

    /// Takes this entry out of those that its key's limit holds back; false if it is none.
    pub(super) fn take_held_by_key(&mut self, slot: Slot) -> bool {
        let Some(limited) = self.limited.as_deref_mut() else { return false };
        let note = limited.noted(slot);
        if let Some(seat) = seat_of(&self.seats, slot)
            && let (true, Tag::Key(no)) = (note.is_held, note.key)
            && let Some(key) = limited.keys.get_mut(no)
        {
            key.unhold(seat.entry.kind(), seat.rank);
            limited.unheld(&[slot]);
            return true;
        }
        false
    }

    /// Who searches sees every entry that could be leased: those, too, that wait behind another one of their key.
    pub(in crate::engine) fn show_held(&mut self) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        let mut slots = Vec::new();
        for no in limited.keys.numbers() {
            if let Some(key) = limited.keys.get_mut(no)
                && key.has_held()
                && !key.gate.is_closed()
            {
                slots.extend(key.take_held());
            }
        }
        limited.unheld(&slots);
        for slot in slots {
            self.enqueue(slot);
        }
    }

    /// Time passes: gates that were closed for their rates open.
    pub(in crate::engine) fn open_due(&mut self, now: Micros) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        limited.now = limited.now.max(now);
        let mut opened: Vec<(String, Opened)> = Vec::new();
        while let Some(Reverse((at, which))) = limited.timers.peek().copied()
            && at <= limited.now
        {
            limited.timers.pop();
            match which {
                Which::Queue => {
                    limited.queue.is_timed = false;
                    limited.look_queue();
                }
                Which::Type(index) => {
                    limited.types[index].1.is_timed = false;
                    let kind = limited.look_type(index) == Turn::Opened;
                    opened.push((limited.types[index].0.clone(), Opened { kind, ..Opened::default() }));
                }
                Which::Key(no) => {
                    if let Some(key) = limited.keys.get_mut(no) {
                        key.gate.is_timed = false;
                    }
                    let slots = limited.look_key(no, self.fresh.is_some());
                    opened.push((String::new(), Opened { slots, kind: false }));
                    limited.keys.drop_idle(no, limited.since, limited.now);
                }
            }
        }
        let is_past = limited.unread.count > 0 && limited.unread.until <= limited.now;
        for (kind, opened) in opened {
            self.go_on(&kind, opened);
        }
        // What waits for them may be all that the window holds: then none of them is read before they have ended.
        if is_past {
            self.read_all();
        }
    }

    /// When the next gate that is closed for its rate, or for leases that are not read yet, may open.
    pub(in crate::engine) fn next_opening(&self) -> Option<Micros> {
        let limited = self.limited.as_ref()?;
        let paced = limited.timers.peek().map(|Reverse((at, _))| *at);
        let unread = (limited.unread.count > 0).then_some(limited.unread.until);
        paced.into_iter().chain(unread).min()
    }

    /// Looks at all gates: something has changed that concerns all of them.
    pub(super) fn look_again(&mut self) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        limited.look_queue();
        let mut opened = Vec::new();
        let mut closed = Vec::new();
        for index in 0..limited.types.len() {
            match limited.look_type(index) {
                Turn::Opened => opened.push(limited.types[index].0.clone()),
                Turn::Closed => closed.push(limited.types[index].0.clone()),
                Turn::Same => {}
            }
        }
        let all = self.fresh.is_some();
        let slots: Vec<Slot> =
            limited.keys.numbers().into_iter().flat_map(|no| limited.look_key(no, all)).collect();
        for kind in closed {
            if let Some((kind, queue)) = self.ready.remove_entry(&kind) {
                self.ready_count -= queue.len();
                limited.aside_count += queue.len();
                limited.aside.insert(kind, queue);
            }
        }
        for kind in opened {
            self.return_aside(&kind);
        }
        for slot in slots {
            self.enqueue(slot);
        }
    }
}
