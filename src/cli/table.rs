//! Tables on a terminal. Control characters of strangers' texts are shown as escapes, not obeyed.

use std::io::{self, Write};

use super::shown::safe;

/// Columns as wide as what is in them; the last one as it comes.
pub(super) fn table(out: &mut impl Write, rows: &[Vec<String>]) -> io::Result<()> {
    let rows = rows.iter().map(|row| row.iter().map(|cell| safe(cell)).collect::<Vec<_>>()).collect::<Vec<_>>();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths = (0..columns.saturating_sub(1)).map(width).collect::<Vec<_>>();
    for row in &rows {
        let padded = row.iter().zip(widths.iter().copied().chain([0])).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_escapes_are_shown() {
        let rows = [["a", "bb", "c"], ["aaa", "b", "\u{1b}[2J"]].map(|row| row.map(str::to_owned).to_vec());
        let mut out = Vec::new();
        table(&mut out, &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a    bb  c\naaa  b   \\u{1b}[2J\n");
    }
}
