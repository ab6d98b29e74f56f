//! Aligned columns for people; `--json` is for programs.

use std::fmt;

/// Which side of a column its values stand on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under a heading; every row has as many cells as the heading.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, surplus cells are a mistake of the caller.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().collect();
        debug_assert!(row.len() <= self.columns.len(), "more cells than columns");
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (name, _))| {
                self.rows
                    .iter()
                    .map(|row| row[i].chars().count())
                    .chain([name.chars().count()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let heading = self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let rows = self.rows.iter().map(|row| row.iter().map(String::as_str).collect::<Vec<_>>());
        for row in std::iter::once(heading).chain(rows) {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                let fill = " ".repeat(widths[i] - cell.chars().count());
                if i > 0 {
                    line.push_str("  ");
                }
                match self.columns[i].1 {
                    Align::Left => line.extend([*cell, fill.as_str()]),
                    Align::Right => line.extend([fill.as_str(), *cell]),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if n < 0 { format!("-{out}") } else { out }
}

/// An age as people say it: `0.2 s`, `45 s`, `12 min`, `3 h`, `9 d`; nothing known is `-`.
pub(crate) fn age(seconds: Option<f64>) -> String {
    let Some(s) = seconds else { return "-".to_owned() };
    match s.max(0.0) {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, Table, age, grouped};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("QUEUE", Align::Left), ("NEW", Align::Right)]);
        table.row(["ledger".to_owned(), "7".to_owned()]);
        table.row(["a".to_owned(), "12,345".to_owned()]);
        assert_eq!(table.to_string(), "QUEUE      NEW\nledger       7\na       12,345\n");
    }

    #[test]
    fn numbers_and_ages_read_easily() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(-1_234_567), "-1,234,567");
        assert_eq!(age(None), "-");
        assert_eq!(age(Some(0.21)), "0.2 s");
        assert_eq!(age(Some(90.0)), "90 s");
        assert_eq!(age(Some(600.0)), "10 min");
        assert_eq!(age(Some(10_000.0)), "3 h");
    }
}
