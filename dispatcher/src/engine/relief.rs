//! Relief: what would hold the low-water mark or fill the window goes on in the waiting room. A lease that lasts long
//! moves there with its end; ready jobs of a type that nobody asks for are parked, and come back when somebody does.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Engine;
use super::entry::Entry;
use super::flush::{Due, Effect, HolderItem, LeaseItem, Over, Unit, Unpark, Wait};
use super::record::{LeaseKey, Resolution};
use super::time::Micros;
use super::window::{Held, Slot, State};

/// Entries that move in one flush, and bytes of them.
const CHUNK: usize = 500;
const CHUNK_BYTES: usize = 1 << 20;
/// Parked jobs that are put back at a time.
const CALL_BACK: usize = 1_000;
/// How long parked jobs that were put back may take to be read, before more are put back.
const ON_THE_WAY_MS: u64 = 1_000;
/// Types whose last grab is remembered; more than any honest worker names.
const TYPES: usize = 10_000;

#[derive(Debug)]
pub(super) struct Relief {
    /// When somebody asked for a type last, and when for all types (a new owner begins as if somebody had: workers have
    /// to find it first).
    asked: HashMap<String, Micros>,
    asked_all: Option<Micros>,
    /// When somebody asked and got nothing.
    hungry: Option<Micros>,
    /// Where the mark stands, and since when.
    mark: (i64, Micros),
    /// When to look again.
    look_at: Micros,
    /// A move is being committed.
    moving: bool,
    /// How many entries may move at a time: fewer after a refusal, until the bad one is found.
    chunk: usize,
    parked: BTreeMap<String, Parked>,
}

/// The parked jobs of one type.
#[derive(Debug, Default)]
struct Parked {
    count: u64,
    /// Some are being put back, or were and are not read yet.
    called: bool,
    not_before: Micros,
    /// All of them are paused by their keys.
    is_paused: bool,
}

impl Default for Relief {
    fn default() -> Self {
        Self {
            asked: HashMap::new(),
            asked_all: None,
            hungry: None,
            mark: (i64::MIN, Micros(0)),
            look_at: Micros(0),
            moving: false,
            chunk: CHUNK,
            parked: BTreeMap::new(),
        }
    }
}

impl Relief {
    pub(super) fn new(parked: Vec<(String, u64)>) -> Self {
        let parked = parked.into_iter().map(|(kind, count)| (kind, Parked { count, ..Parked::default() }));
        Self { parked: parked.collect(), ..Self::default() }
    }

    /// Somebody asks for jobs.
    pub(super) fn asked(&mut self, types: Option<&[String]>, now: Micros) {
        let Some(types) = types else {
            self.asked_all = Some(now);
            return;
        };
        for kind in types {
            if let Some(at) = self.asked.get_mut(kind) {
                *at = now;
            } else if self.asked.len() < TYPES {
                self.asked.insert(kind.clone(), now);
            }
        }
    }

    /// Somebody asked and got nothing, or less than wanted.
    pub(super) fn was_hungry(&mut self, now: Micros) {
        self.hungry = Some(now);
    }

    /// An entry that had been put back was read.
    pub(super) fn arrived(&mut self, entry: &Entry) {
        if !self.parked.is_empty()
            && entry.key.put > 0
            && let Some(parked) = self.parked.get_mut(entry.kind())
        {
            parked.not_before = Micros(0);
        }
    }

    pub(super) fn parked(&self) -> u64 {
        self.parked.values().map(|parked| parked.count).sum()
    }

    /// When to call [`Engine::relieve`] while the window holds something.
    pub(super) fn look_at(&self) -> Option<Micros> {
        (!self.moving).then_some(self.look_at)
    }

    /// When parked jobs may be called back again.
    pub(super) fn call_at(&self, now: Micros) -> Option<Micros> {
        self.parked.values().map(|parked| parked.not_before).filter(|at| *at > now).min()
    }

    /// Other jobs are paused than before.
    pub(super) fn pause_changed(&mut self) {
        for parked in self.parked.values_mut() {
            (parked.not_before, parked.is_paused) = (Micros(0), false);
        }
    }
}

impl Engine {
    /// Looks whether something must move, about thirty times in the time that a lease may hold the mark.
    pub(super) fn relieve(&mut self) {
        let mark = self.window.low_water();
        if self.relief.mark.0 != mark || self.window.len() == 0 {
            self.relief.mark = (mark, self.now);
        }
        if self.relief.moving || self.now < self.relief.look_at {
            return;
        }
        let young_ms = (self.limits.hold_ms / 30).max(1);
        self.relief.look_at = self.now.plus_ms(young_ms);
        let asked_all = *self.relief.asked_all.get_or_insert(self.now);
        let mut unit = Unit::default();
        if self.relief.mark.1.plus_ms(self.limits.hold_ms) <= self.now {
            self.lend_older(&mut unit, self.limits.hold_ms);
        }
        if self.is_pressed() {
            self.park_paused(&mut unit);
            self.park_limited(&mut unit);
            if asked_all.plus_ms(self.limits.ask_ms) <= self.now {
                self.park_unwanted(&mut unit);
            }
            self.lend_older(&mut unit, young_ms);
        }
        if self.is_far() {
            self.window.hurry(self.limits.window_jobs as u64, CHUNK);
        }
        if !unit.effects.is_empty() {
            self.relief.moving = true;
            self.submit(unit);
        }
    }

    /// So much has been read beyond the mark that a successor would have to fold too much.
    pub(super) fn is_far(&self) -> bool {
        self.window.ahead() > 2 * self.limits.window_jobs as u64
    }

    /// The mark is far behind, or there is no room to read on and somebody goes without.
    fn is_pressed(&self) -> bool {
        let (rows, bytes) = self.room();
        let is_full =
            rows < (self.limits.window_jobs / 4).max(1) || bytes < (self.limits.window_bytes / 8).max(1);
        let hungry = self.relief.hungry.is_some_and(|at| at.plus_ms(self.limits.ask_ms) > self.now);
        self.is_far() || (is_full && (hungry || !self.polls.is_empty()))
    }

    /// Moves leases that were granted so long ago and are live, those first that were read first.
    fn lend_older(&mut self, unit: &mut Unit, ms: u64) {
        let room = self.relief.chunk.saturating_sub(unit.effects.len());
        let now = self.now;
        let is_old = |state: &State| matches!(state, State::Leased(held, 0) if held.since.plus_ms(ms) <= now && held.until > now);
        let mut old: Vec<(u64, Slot)> = self
            .window
            .iter()
            .filter(|(_, seat)| !seat.immovable && is_old(&seat.state))
            .map(|(slot, seat)| (seat.rank.order, slot))
            .collect();
        old.sort_unstable();
        let mut bytes = 0;
        for (_, slot) in old.into_iter().take(room) {
            bytes += self.window.get(slot).map_or(0, |seat| seat.entry.event.weight());
            if bytes > CHUNK_BYTES && !unit.effects.is_empty() {
                break;
            }
            self.move_lease(unit, slot);
        }
    }

    /// The lease in this slot goes on in the waiting room. Only one that nothing is being committed of.
    pub(super) fn move_lease(&mut self, unit: &mut Unit, slot: Slot) {
        let Some(seat) = self.window.get_mut(slot) else { return };
        let State::Leased(held, 0) = &seat.state else { return };
        let held = held.clone();
        unit.cold.wait.push(Wait {
            put: seat.entry.key.put + 1,
            attempt: seat.entry.attempt,
            kind: "leased",
            due: Due::At(held.until.0),
            lease: Some(LeaseItem {
                epoch: held.lease.epoch,
                no: held.lease.number,
                nonce: held.nonce.cast_signed(),
            }),
            over: seat.entry.over_at(held.since).map(|at| Over::At(at.0)),
            parked_key: None,
            holder: Some(HolderItem::from(&*held.holder)),
            previous: seat.entry.previous.as_ref().and_then(|p| serde_json::to_value(p).ok()),
            job: (&seat.entry).into(),
        });
        unit.resolve(Resolution::Lent, seat.entry.key, held.lease);
        unit.effects.push(Effect::Move { slot, key: None });
        let job = seat.entry.key.job;
        seat.state = State::Moving(Some(held));
        self.cancel_there(unit, job);
    }

    /// Parks what is held back for its type or key, what was read first before the rest.
    fn park_paused(&mut self, unit: &mut Unit) {
        let room = self.relief.chunk.saturating_sub(unit.effects.len());
        let movable = |slot: &Slot| self.window.get(*slot).is_some_and(|seat| !seat.immovable);
        let slots: Vec<Slot> = self.window.held_apart().filter(movable).take(room).collect();
        self.park_all(unit, slots);
    }

    /// Entries that move in one flush now.
    pub(super) fn chunk(&self) -> usize {
        self.relief.chunk
    }

    /// Parks as many of these entries as one flush takes.
    pub(super) fn park_all(&mut self, unit: &mut Unit, slots: impl IntoIterator<Item = Slot>) {
        let mut bytes = 0;
        for slot in slots {
            if unit.effects.len() >= self.relief.chunk || bytes >= CHUNK_BYTES {
                break;
            }
            let key = self.window.held_for(slot);
            if self.window.take_out(slot) {
                bytes += self.park(unit, slot, key);
            }
        }
    }

    /// The entry in this slot, ready and out of the order, goes on in the waiting room, for the limit of its key if that
    /// is given; its bytes.
    fn park(&mut self, unit: &mut Unit, slot: Slot, key: Option<Arc<str>>) -> usize {
        let Some(seat) = self.window.get_mut(slot) else { return 0 };
        unit.cold.wait.push(Wait {
            put: seat.entry.key.put + 1,
            attempt: seat.entry.attempt,
            kind: "parked",
            due: Due::Never(()),
            lease: None,
            over: None,
            parked_key: key.as_deref().map(str::to_owned),
            holder: None,
            previous: seat.entry.previous.as_ref().and_then(|p| serde_json::to_value(p).ok()),
            job: (&seat.entry).into(),
        });
        unit.resolve(Resolution::Parked, seat.entry.key, LeaseKey { epoch: self.epoch, number: 0 });
        unit.effects.push(Effect::Move { slot, key });
        seat.state = State::Moving(None);
        seat.entry.event.weight()
    }

    /// Parks ready jobs of types that nobody asked for of late, those first that were read first.
    fn park_unwanted(&mut self, unit: &mut Unit) {
        let (now, ask_ms) = (self.now, self.limits.ask_ms);
        if self.polls.wants_all() {
            return;
        }
        self.relief.asked.retain(|_, at| at.plus_ms(ask_ms) > now);
        let unwanted: Vec<String> = self
            .window
            .ready_types()
            .filter(|kind| !self.relief.asked.contains_key(*kind) && !self.polls.want(kind))
            .map(str::to_owned)
            .collect();
        let room = self.relief.chunk.saturating_sub(unit.effects.len());
        let slots = self.window.first_read(&unwanted, room);
        self.park_all(unit, slots);
    }

    /// The entry is in the waiting room now; parked for the limit of its key, if that is given.
    pub(super) fn moved(&mut self, slot: Slot, key: Option<&str>) {
        let lease = self.window.get(slot).and_then(|seat| Some(seat.state.lease()?.lease));
        if let Some(lease) = lease {
            self.window.lend(slot, lease);
        }
        if let Some(seat) = self.window.remove(slot)
            && let State::Moving(None::<Held>) = seat.state
        {
            match key {
                Some(key) => self.window.park_key(key, 1),
                None => self.relief.parked.entry(seat.entry.kind().to_owned()).or_default().count += 1,
            }
        }
        self.relief.moving = false;
        self.relief.look_at = self.now;
        self.relief.chunk = (self.relief.chunk * 2).min(CHUNK);
    }

    /// The database refused the unit: if it moves entries, they are tried again in smaller portions.
    pub(super) fn relief_refused(&mut self, unit: &Unit) {
        let moves = unit.effects.iter().filter_map(|effect| match effect {
            Effect::Move { slot, .. } => Some(*slot),
            _ => None,
        });
        let slots: Vec<Slot> = moves.collect();
        if let [slot] = slots.as_slice()
            && let Some(seat) = self.window.get_mut(*slot)
        {
            seat.immovable = true;
        }
        if !slots.is_empty() {
            self.relief.moving = false;
            self.relief.chunk = (slots.len() / 2).max(1);
        }
        for item in &unit.cold.unpark {
            match &item.key {
                Some(key) => self.window.call_refused(key),
                None => self.unparked(item, 1),
            }
        }
    }

    /// Puts parked jobs of these types back into the log, a portion at a time, where the window has nothing of them.
    pub(super) fn call_back(&mut self, is_wanted: impl Fn(&str) -> bool) {
        if self.relief.parked.is_empty() && !self.window.has_calls() {
            return;
        }
        let mut unit = Unit::default();
        self.call_back_keys(&mut unit);
        let limit = (self.limits.window_jobs / 4).clamp(1, CALL_BACK);
        let paused = self.window.paused();
        for (kind, parked) in &mut self.relief.parked {
            if is_wanted(kind)
                && !paused.holds_type(kind)
                && !parked.is_paused
                && !parked.called
                && parked.not_before <= self.now
                && !self.window.has_ready(kind)
                && !self.window.is_closed_type(kind)
            {
                parked.called = true;
                let without = paused.keys.iter().cloned().collect();
                unit.cold.unpark.push(Unpark { kind: kind.clone(), key: None, limit, without });
            }
        }
        if !unit.cold.unpark.is_empty() {
            self.submit(unit);
        }
    }

    pub(super) fn call_back_for_polls(&mut self) {
        let kinds = self.relief.parked.keys();
        let wanted: Vec<String> = kinds.filter(|kind| self.polls.want(kind)).cloned().collect();
        if !wanted.is_empty() || self.window.has_calls() {
            self.call_back(|kind| wanted.iter().any(|wanted| wanted == kind));
        }
    }

    /// So many of them are in the log again.
    pub(super) fn unparked(&mut self, item: &Unpark, count: u64) {
        if let Some(key) = &item.key {
            return self.window.key_unparked(key, count, count < item.limit as u64);
        }
        let not_before = self.now.plus_ms(ON_THE_WAY_MS);
        let Some(parked) = self.relief.parked.get_mut(&item.kind) else { return };
        if count == 0 {
            if self.window.paused().keys.is_empty() {
                self.relief.parked.remove(&item.kind);
            } else {
                (parked.called, parked.is_paused) = (false, true);
            }
            return;
        }
        (parked.called, parked.not_before) = (false, not_before);
        parked.count = parked.count.saturating_sub(count);
    }
}
