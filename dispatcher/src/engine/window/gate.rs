//! Gate: lets leases through, until so many are out, and so many a second. It counts; what waits before it is not its own.

use tidemill_common::api::Limit;

use crate::engine::time::Micros;

/// The longest time between two leases: a rate below one in 30 years is none.
const SLOWEST: f64 = 1e18;

/// One limit at work. Its rate is kept by the time at which the next lease would come if they came evenly, in
/// nanoseconds: one may come earlier by the `slack`, which is what a rest of a second leaves for a burst.
#[derive(Debug)]
pub(super) struct Gate {
    /// `None`: any number at once.
    most: Option<u64>,
    leased: u64,
    /// Between two leases; 0: any number a second.
    every: i64,
    slack: i64,
    next: i64,
    /// As it was found at the last look.
    is_closed: bool,
    /// When to look again is among the timers.
    pub(super) is_timed: bool,
}

/// What a look at a gate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Same,
    Opened,
    Closed,
}

impl Gate {
    /// In force since then; it began with one lease a rate lets through, so that a new owner does not repeat a burst.
    pub(super) fn new(limit: Option<&Limit>, since: Micros) -> Self {
        let most = limit.and_then(|limit| limit.leased);
        let (every, slack) = limit.and_then(|limit| limit.per_second).map_or((0, 0), pace);
        let next = nanos(since).saturating_add(slack);
        Self { most, leased: 0, every, slack, next, is_closed: false, is_timed: false }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) fn leased(&self) -> u64 {
        self.leased
    }

    /// Lets a lease through.
    pub(super) fn take(&mut self, now: Micros) {
        self.leased += 1;
        if self.every > 0 {
            self.next = self.next.max(nanos(now)).saturating_add(self.every);
        }
    }

    /// Counts a lease that was let through before.
    pub(super) fn count(&mut self) {
        self.leased += 1;
    }

    pub(super) fn give_back(&mut self) {
        self.leased = self.leased.saturating_sub(1);
    }

    /// When its rate lets the next lease through; `None`: now.
    pub(super) fn paced_until(&self, now: Micros) -> Option<Micros> {
        let at = self.next.saturating_sub(self.slack);
        (at > nanos(now)).then(|| Micros(at / 1_000 + i64::from(at % 1_000 > 0)))
    }

    /// Would a new gate since then be no narrower?
    pub(super) fn is_rested(&self, since: Micros, now: Micros) -> bool {
        self.leased == 0 && self.next <= nanos(now).max(nanos(since).saturating_add(self.slack))
    }

    /// Looks whether it is closed; `others` may be out that it does not count.
    pub(super) fn look(&mut self, others: u64, now: Micros) -> Turn {
        let was_closed = self.is_closed;
        let is_full = self.most.is_some_and(|most| self.leased.saturating_add(others) >= most);
        self.is_closed = is_full || self.paced_until(now).is_some();
        match (was_closed, self.is_closed) {
            (true, false) => Turn::Opened,
            (false, true) => Turn::Closed,
            (true, true) | (false, false) => Turn::Same,
        }
    }
}

fn nanos(at: Micros) -> i64 {
    at.0.saturating_mul(1_000)
}

/// The time between two leases, and by how much one may come earlier than evenly: a burst is one second's worth of
/// leases, at least one.
fn pace(per_second: f64) -> (i64, i64) {
    let every = (1e9 / per_second).ceil().clamp(1.0, SLOWEST) as i64;
    let more = per_second.floor().max(1.0) as i64 - 1;
    (every, every.saturating_mul(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Micros = Micros(1_000_000_000_000);

    fn gate_of(leased: Option<u64>, per_second: Option<f64>) -> Gate {
        Gate::new(Some(&Limit { leased, per_second }), START)
    }

    /// How many it lets through until then, when somebody asks at each of these microseconds.
    fn through(gate: &mut Gate, from: i64, to: i64, step: usize) -> usize {
        let mut count = 0;
        for at in (from..to).step_by(step) {
            let now = Micros(START.0 + at);
            gate.look(0, now);
            while !gate.is_closed() {
                gate.take(now);
                gate.look(0, now);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_rate_begins_with_one_and_never_gives_more_than_a_seconds_worth_at_once() {
        let mut gate = gate_of(None, Some(100.0));
        assert_eq!(through(&mut gate, 0, 1, 1), 1);
        assert_eq!(through(&mut gate, 1, 10_000, 100), 0);
        assert_eq!(through(&mut gate, 10_000, 1_000_000, 1_000), 99);
        assert_eq!(through(&mut gate, 60_000_000, 60_000_001, 1), 100, "after a rest");
        assert_eq!(through(&mut gate, 60_000_001, 61_000_000, 1_000), 99);
    }

    #[test]
    fn a_rate_need_not_be_whole_nor_above_one() {
        let mut gate = gate_of(None, Some(14.5));
        assert_eq!(through(&mut gate, 0, 10_000_001, 1_000), 145);
        let mut slow = gate_of(None, Some(0.1));
        assert_eq!(through(&mut slow, 0, 30_000_001, 10_000), 4);
        let mut slowest = gate_of(None, Some(f64::MIN_POSITIVE));
        assert_eq!(through(&mut slowest, 0, i64::pow(10, 15), 1_000_000_000_000), 1);
        let mut fastest = gate_of(None, Some(1e6));
        assert_eq!(through(&mut fastest, 0, 1_000, 1), 1_000);
    }

    #[test]
    fn so_many_at_once_counts_those_it_did_not_let_through() {
        let mut gate = gate_of(Some(3), None);
        gate.count();
        assert_eq!(gate.look(1, START), Turn::Same);
        gate.take(START);
        assert_eq!(gate.look(1, START), Turn::Closed);
        assert_eq!(gate.look(0, START), Turn::Opened);
        gate.take(START);
        assert_eq!(gate.look(0, START), Turn::Closed);
        gate.give_back();
        assert_eq!(gate.look(0, START), Turn::Opened);
        assert_eq!(gate.paced_until(START), None);
    }

    #[test]
    fn it_is_rested_when_a_new_one_would_be_as_wide() {
        let mut gate = gate_of(None, Some(10.0));
        let at = |ms: i64| Micros(START.0 + ms * 1_000);
        assert!(gate.is_rested(START, START));
        gate.take(at(10_000));
        gate.give_back();
        assert!(!gate.is_rested(START, at(10_000)));
        assert!(!gate.is_rested(START, at(10_099)));
        assert!(gate.is_rested(START, at(10_100)));
    }
}
