//! How far the run is: one line a second, with what every stage has passed and how old the newest of it is.

use std::{collections::VecDeque, time::Duration};

use crate::table::grouped;

/// How many events have passed each stage since the start of the run, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub produced: i64,
    pub ticked: i64,
    pub moved: i64,
    pub dispatched: i64,
    pub done: i64,
}

/// The counts of the run so far, each with its moment after the start of the load.
#[derive(Default)]
pub(super) struct Progress {
    history: VecDeque<(Duration, Counts)>,
    lines: usize,
}

/// What a lag of more than this means is seen from the counts alone.
const REMEMBERED: usize = 600;
/// The heading comes again after so many lines.
const HEADING_EVERY: usize = 20;

impl Progress {
    /// A count that has gone back a little has not: some are read off sequences, which have gaps.
    pub(super) fn record(&mut self, at: Duration, counts: Counts) {
        let before = self.history.back().map(|(_, before)| *before).unwrap_or_default();
        let counts = Counts {
            produced: counts.produced.max(before.produced),
            ticked: counts.ticked.max(before.ticked),
            moved: counts.moved.max(before.moved),
            dispatched: counts.dispatched.max(before.dispatched),
            done: counts.done.max(before.done),
        };
        if self.history.len() == REMEMBERED {
            self.history.pop_front();
        }
        self.history.push_back((at, counts));
    }

    /// The line for the counts recorded last, after the heading where it is due.
    pub(super) fn line(&mut self) -> String {
        let mut out = String::new();
        if self.lines.is_multiple_of(HEADING_EVERY) {
            out = format!("{:68}  waiting longest to be\n", "");
            out += &format!("{:>20} {:>20} {:>20}", "produced", "moved", "done");
            out += &format!("{:>12} {:>8} {:>10} {:>8}\n", "ticked", "moved", "dispatched", "done");
        }
        self.lines += 1;
        let Some((now, last)) = self.history.back().copied() else { return out };
        let (before, earlier) = self.history.iter().rev().nth(1).copied().unwrap_or_default();
        let seconds = (now.saturating_sub(before)).as_secs_f64().max(0.001);
        let passed = |of: fn(&Counts) -> i64| {
            let rate = (of(&last) - of(&earlier)) as f64 / seconds;
            format!("{} {:>8}/s", grouped(of(&last)), grouped(rate.round() as i64))
        };
        let age = |of: fn(&Counts) -> i64| format!("{:.1} s", self.age(of(&last)).as_secs_f64());
        out += &format!("{:>3.0} s ", now.as_secs_f64());
        out +=
            &format!("{:>20} {:>20} {:>20}", passed(|c| c.produced), passed(|c| c.moved), passed(|c| c.done));
        out += &format!("{:>9} {:>8}", age(|c| c.ticked), age(|c| c.moved));
        out += &format!(" {:>10} {:>8}", age(|c| c.dispatched), age(|c| c.done));
        out
    }

    /// How long ago the event after the first `passed` ones was produced; zero when there is none.
    fn age(&self, passed: i64) -> Duration {
        let Some((now, last)) = self.history.back() else { return Duration::ZERO };
        if passed >= last.produced {
            return Duration::ZERO;
        }
        let mut from = (Duration::ZERO, 0);
        for (at, counts) in &self.history {
            if counts.produced > passed {
                // Produced evenly between two looks: take the moment in between.
                let share = (passed - from.1).max(0) as f64 / (counts.produced - from.1).max(1) as f64;
                return *now - (from.0 + (*at - from.0).mul_f64(share.min(1.0)));
            }
            from = (*at, counts.produced);
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Counts, Progress};

    fn at(progress: &mut Progress, second: u64, produced: i64, done: i64) {
        let counts = Counts { produced, ticked: produced, moved: produced, dispatched: done, done };
        progress.record(Duration::from_secs(second), counts);
    }

    #[test]
    fn the_age_is_since_the_next_event_was_produced() {
        let mut progress = Progress::default();
        at(&mut progress, 1, 100, 100);
        at(&mut progress, 2, 200, 150);
        assert_eq!(progress.age(200), Duration::ZERO);
        assert_eq!(progress.age(150), Duration::from_millis(500));
        assert_eq!(progress.age(100), Duration::from_secs(1));
        assert_eq!(progress.age(0), Duration::from_secs(2));
    }

    #[test]
    fn a_line_says_counts_and_rates() {
        let mut progress = Progress::default();
        at(&mut progress, 1, 1000, 900);
        at(&mut progress, 2, 2000, 1700);
        let line = progress.line();
        assert!(line.contains("2,000") && line.contains("1,000/s") && line.contains("800/s"), "{line}");
    }
}
