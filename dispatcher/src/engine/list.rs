//! List: a page of the window's jobs by id, for people. The window is in no order of ids, and an owner has no time to
//! walk through all of it at once: a page is gathered in steps, with the queue's work between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Engine;
use super::entry::Event;
use super::time::Micros;
use super::window::Seat;

/// Seats of the window that are looked at in one step: some ten microseconds of the queue's time.
const STEP: usize = 2_000;

/// Which jobs of the window are listed, and those found so far.
///
/// A job that is in the window, and in the wanted state, for as long as this takes is found. One that comes, goes or
/// changes its state meanwhile may be found or not.
#[derive(Debug)]
pub struct Listing {
    leased: bool,
    kind: Option<String>,
    after: i64,
    limit: usize,
    /// The seat to go on from; `None`: all have been looked at.
    next: Option<usize>,
    found: BTreeMap<i64, Listed>,
}

/// A job of the window, on a list.
#[derive(Debug, Clone)]
pub struct Listed {
    pub job: i64,
    pub attempt: i32,
    pub inserted_at: Micros,
    pub event: Arc<Event>,
}

impl Listing {
    /// The first `limit` jobs with ids above `after`: those that are leased, or those that are not; of one type, or of
    /// all.
    #[must_use]
    pub fn new(leased: bool, kind: Option<String>, after: i64, limit: usize) -> Self {
        Self { leased, kind, after, limit, next: Some(0), found: BTreeMap::new() }
    }

    /// Has all of the window been looked at?
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.next.is_none()
    }

    /// The jobs found, by id.
    #[must_use]
    pub fn into_jobs(self) -> Vec<Listed> {
        self.found.into_values().collect()
    }

    fn look_at(&mut self, seat: &Seat) {
        let job = seat.entry.key.job;
        let is_wanted = job > self.after
            && seat.state.lease().is_some() == self.leased
            && self.kind.as_ref().is_none_or(|kind| kind == seat.entry.kind());
        let has_room = || {
            self.found.len() < self.limit || self.found.last_key_value().is_some_and(|(last, _)| job < *last)
        };
        if is_wanted && has_room() {
            let (attempt, inserted_at, event) =
                (seat.entry.attempt, seat.entry.inserted_at, Arc::clone(&seat.entry.event));
            self.found.insert(job, Listed { job, attempt, inserted_at, event });
            if self.found.len() > self.limit {
                self.found.pop_last();
            }
        }
    }
}

impl Engine {
    /// Looks at the next part of the window. To be repeated until [`Listing::is_done`].
    pub fn list(&self, listing: &mut Listing) {
        let Some(from) = listing.next else { return };
        let (seats, next) = self.window.seats(from, STEP);
        seats.for_each(|seat| listing.look_at(seat));
        listing.next = next;
    }
}
