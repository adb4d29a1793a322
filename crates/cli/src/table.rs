//! Columns for people: aligned, three spaces apart, as Hubble's tables are.

use std::fmt;

/// Space between two columns.
const GAP: usize = 3;

/// A header and rows of the same number of cells.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Table(Vec<Vec<String>>);

impl Table {
    /// A table of these columns.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self(vec![header.into_iter().map(Into::into).collect()])
    }

    /// Whether there is nothing below the header.
    pub fn is_empty(&self) -> bool {
        self.0.len() <= 1
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.0.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + GAP
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.0 {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match at + 1 == row.len() {
                    true => line.push_str(cell),
                    false => line.push_str(&format!("{cell:width$}")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "ID", "LABELS"]);
        table.row(["a", "12345", "x"]);
        table.row(["→→→→→→", "1", ""]);
        assert_eq!(table.to_string(), "NAME     ID      LABELS\na        12345   x\n→→→→→→   1\n");
    }
}
