//! The check at the end: what the worker has applied against what pgbench has written, exactly.

use std::collections::BTreeMap;

use crate::table::{Align, Table, grouped};

/// A branch of a source's pgbench tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Branch {
    pub source: String,
    pub bid: i32,
}

/// What pgbench wrote for one branch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// `pgbench_branches.bbalance`.
    pub balance: i64,
    /// Rows of `pgbench_history`.
    pub rows: i64,
}

/// What the worker applied for one branch: its row of `branch_balance`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Applied {
    pub balance: i64,
    pub rows: i64,
}

/// The comparison, by branch.
pub(super) struct Verdict {
    written: BTreeMap<Branch, Written>,
    applied: BTreeMap<Branch, Applied>,
}

impl Verdict {
    pub(super) fn new(written: BTreeMap<Branch, Written>, applied: BTreeMap<Branch, Applied>) -> Verdict {
        Verdict { written, applied }
    }

    /// One sentence for each branch that is not exactly right; none when all are.
    pub(super) fn differences(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (branch, written) in &self.written {
            let applied = self.applied.get(branch).copied().unwrap_or_default();
            let Branch { source, bid } = branch;
            if applied.rows != written.rows {
                let (n, what) = match written.rows - applied.rows {
                    missing if missing > 0 => (missing, "missing"),
                    surplus => (-surplus, "too many"),
                };
                out.push(format!(
                    "{source}, branch {bid}: pgbench_history has {} rows, {} were applied: {n} {what}",
                    written.rows, applied.rows
                ));
            }
            if applied.balance != written.balance {
                out.push(format!(
                    "{source}, branch {bid}: bbalance is {}, the applied deltas sum up to {}",
                    written.balance, applied.balance
                ));
            }
        }
        for (Branch { source, bid }, applied) in &self.applied {
            if !self.written.contains_key(&Branch { source: source.clone(), bid: *bid }) {
                out.push(format!(
                    "{source}, branch {bid}: {} rows applied to a branch that does not exist",
                    applied.rows
                ));
            }
        }
        out
    }

    /// Rows in all sources' histories.
    pub(super) fn rows(&self) -> i64 {
        self.written.values().map(|w| w.rows).sum()
    }

    /// One row for each source, and the total.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(&[
            ("SOURCE", Align::Left),
            ("BRANCHES", Align::Right),
            ("HISTORY ROWS", Align::Right),
            ("APPLIED", Align::Right),
            ("SUM OF BBALANCE", Align::Right),
            ("SUM OF APPLIED", Align::Right),
            ("", Align::Left),
        ]);
        let mut sources: BTreeMap<&str, (i64, Written, Applied, bool)> = BTreeMap::new();
        for (branch, written) in &self.written {
            let applied = self.applied.get(branch).copied().unwrap_or_default();
            let sum =
                sources.entry(&branch.source).or_insert((0, Written::default(), Applied::default(), true));
            sum.0 += 1;
            sum.1.rows += written.rows;
            sum.1.balance += written.balance;
            sum.2.rows += applied.rows;
            sum.2.balance += applied.balance;
            sum.3 &= applied.rows == written.rows && applied.balance == written.balance;
        }
        for (source, (branches, written, applied, same)) in &sources {
            let numbers = [*branches, written.rows, applied.rows, written.balance, applied.balance];
            let verdict = if *same { "same" } else { "DIFFERS" };
            table.row(
                std::iter::once((*source).to_owned()).chain(numbers.map(grouped)).chain([verdict.to_owned()]),
            );
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Applied, Branch, Verdict, Written};

    fn branch(source: &str, bid: i32) -> Branch {
        Branch { source: source.to_owned(), bid }
    }

    #[test]
    fn equal_is_no_difference() {
        let written = BTreeMap::from([
            (branch("a", 1), Written { balance: -5, rows: 2 }),
            (branch("a", 2), Written::default()),
        ]);
        let applied = BTreeMap::from([(branch("a", 1), Applied { balance: -5, rows: 2 })]);
        let verdict = Verdict::new(written, applied);
        assert_eq!(verdict.differences(), Vec::<String>::new());
        assert!(verdict.table().to_string().contains("same"));
    }

    #[test]
    fn an_event_twice_and_another_missing_is_seen_though_the_totals_agree() {
        let written = BTreeMap::from([
            (branch("a", 1), Written { balance: 5, rows: 1 }),
            (branch("b", 1), Written { balance: 5, rows: 1 }),
        ]);
        let applied = BTreeMap::from([(branch("a", 1), Applied { balance: 10, rows: 2 })]);
        let differences = Verdict::new(written, applied).differences();
        assert_eq!(differences.len(), 4, "{differences:?}");
        assert!(differences[0].ends_with("1 too many"), "{differences:?}");
        assert!(differences[2].ends_with("1 missing"), "{differences:?}");
    }

    #[test]
    fn a_balance_alone_is_seen() {
        let written = BTreeMap::from([(branch("a", 1), Written { balance: 5, rows: 1 })]);
        let applied = BTreeMap::from([(branch("a", 1), Applied { balance: 6, rows: 1 })]);
        assert_eq!(Verdict::new(written, applied).differences().len(), 1);
    }
}
