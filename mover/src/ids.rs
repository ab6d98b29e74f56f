//! Which destination ids the events of a transaction get. Pure.

/// A run of ids without a gap, as reserved from the destination's sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// First id.
    pub(crate) first: i64,
    /// How many.
    pub(crate) count: usize,
}

/// Hands out reserved ids in order.
#[derive(Debug)]
pub(crate) struct Ids {
    runs: std::vec::IntoIter<Run>,
    current: Run,
}

impl Ids {
    /// Ids of these runs, which rise.
    pub(crate) fn new(runs: Vec<Run>) -> Self {
        Self { runs: runs.into_iter(), current: Run { first: 0, count: 0 } }
    }

    /// The next `count` ids, as runs: one, unless another producer took an id in between.
    ///
    /// Fewer than `count` only if fewer were reserved.
    pub(crate) fn take(&mut self, mut count: usize) -> Vec<Run> {
        let mut taken = Vec::with_capacity(1);
        while count > 0 {
            if self.current.count == 0 {
                let Some(next) = self.runs.next() else { break };
                self.current = next;
                continue;
            }
            let part = Run { first: self.current.first, count: count.min(self.current.count) };
            // A run holds as many ids as were asked for in one statement: far below i64::MAX.
            self.current.first += i64::try_from(part.count).unwrap_or(i64::MAX);
            self.current.count -= part.count;
            count -= part.count;
            taken.push(part);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: i64, count: usize) -> Run {
        Run { first, count }
    }

    #[test]
    fn one_run_is_cut_in_order() {
        let mut ids = Ids::new(vec![run(10, 5)]);
        assert_eq!(ids.take(2), [run(10, 2)]);
        assert_eq!(ids.take(0), []);
        assert_eq!(ids.take(3), [run(12, 3)]);
        assert_eq!(ids.take(1), []);
    }

    #[test]
    fn a_gap_splits_what_lies_across_it() {
        let mut ids = Ids::new(vec![run(1, 2), run(4, 1), run(7, 4)]);
        assert_eq!(ids.take(5), [run(1, 2), run(4, 1), run(7, 2)]);
        assert_eq!(ids.take(2), [run(9, 2)]);
    }
}
