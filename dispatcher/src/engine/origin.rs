//! Origins: where moved events came from. Kept by runs of ids, for what is in the window: a mover writes thousands of
//! events at once, and a queue that nobody moves events into pays nothing.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tidemill_common::api;

use super::Engine;

/// So few runs are not worth looking through.
const FEW: usize = 64;

/// Where one event was moved from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub place: Arc<Place>,
    /// Its id there.
    pub event: i64,
}

impl TryFrom<api::Origin> for Origin {
    type Error = std::num::ParseIntError;

    fn try_from(origin: api::Origin) -> Result<Self, Self::Error> {
        let api::Origin { source, queue, id } = origin;
        Ok(Self { place: Arc::new(Place { source, queue }), event: id.parse()? })
    }
}

/// A queue of a source database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// By the mover's configuration.
    pub source: String,
    pub queue: String,
}

/// Events with consecutive ids that were moved from one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The id of the first one here.
    pub first: i64,
    pub place: Place,
    /// Their ids there, in order.
    pub events: Vec<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Origins {
    /// By their first id; no two have an id in common.
    runs: BTreeMap<i64, Run>,
    places: HashSet<Arc<Place>>,
    /// Forgets what is not needed any more when there are so many runs.
    prune_at: usize,
}

#[derive(Debug)]
struct Run {
    /// It was read with entries up to this tick.
    to_tick: i64,
    place: Arc<Place>,
    events: Events,
}

/// Ids in a source. Mostly nothing else took a number between them.
#[derive(Debug)]
enum Events {
    From(i64, i64),
    Each(Box<[i64]>),
}

impl Events {
    fn new(ids: &[i64]) -> Self {
        let is_dense = ids.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]));
        match ids.first() {
            Some(first) if is_dense => Self::From(*first, ids.len() as i64),
            _ => Self::Each(ids.into()),
        }
    }

    fn len(&self) -> i64 {
        match self {
            Self::From(_, count) => *count,
            Self::Each(ids) => ids.len() as i64,
        }
    }

    fn get(&self, index: i64) -> Option<i64> {
        match self {
            Self::From(first, count) => (0..*count).contains(&index).then(|| first + index),
            Self::Each(ids) => ids.get(usize::try_from(index).ok()?).copied(),
        }
    }
}

impl Origins {
    /// Of a job with this id.
    pub(super) fn of(&self, job: i64) -> Option<Origin> {
        if self.runs.is_empty() {
            return None;
        }
        let (first, run) = self.runs.range(..=job).next_back()?;
        Some(Origin { place: Arc::clone(&run.place), event: run.events.get(job - first)? })
    }

    /// Of entries that are read with the ticks up to this one.
    fn learn(&mut self, to_tick: i64, moved: Moved) {
        let place = match self.places.get(&moved.place) {
            Some(place) => Arc::clone(place),
            None => {
                let place = Arc::new(moved.place);
                self.places.insert(Arc::clone(&place));
                place
            }
        };
        // A job that was put again may have been read before, alone or with all its run: what is known is not kept twice.
        let mut rest = (moved.first, moved.events.as_slice());
        while !rest.1.is_empty() {
            let (at, events) = rest;
            let known = match self.runs.range_mut(..=at).next_back() {
                Some((first, run)) if at - first < run.events.len() => {
                    run.to_tick = run.to_tick.max(to_tick);
                    first + run.events.len() - at
                }
                _ => 0,
            };
            let until = match known {
                0 => self.runs.range(at..).next().map_or(i64::MAX, |(next, _)| next - at),
                known => known,
            };
            let (part, others) =
                events.split_at(events.len().min(usize::try_from(until).unwrap_or(usize::MAX)));
            if known == 0 {
                let run = Run { to_tick, place: Arc::clone(&place), events: Events::new(part) };
                self.runs.insert(at, run);
            }
            rest = (at + part.len() as i64, others);
        }
    }

    /// Forgets what was read with entries that are all resolved. Only when there are twice as many runs as the last time.
    fn prune(&mut self, low_water: i64) {
        if self.runs.len() >= self.prune_at.max(FEW) {
            self.runs.retain(|_, run| run.to_tick > low_water);
            self.places.retain(|place| Arc::strong_count(place) > 1);
            self.prune_at = 2 * self.runs.len();
        }
    }

    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }
}

impl Engine {
    /// Where entries that are about to be loaded came from, which are read between ticks up to `to_tick`.
    pub fn learn(&mut self, to_tick: i64, moved: Vec<Moved>) {
        if moved.is_empty() {
            return;
        }
        self.origins.prune(self.window.low_water());
        for run in moved {
            self.origins.learn(to_tick, run);
        }
    }
}
