//! Layout of plain text in aligned columns.

use unicode_width::UnicodeWidthStr;

use crate::sanitize::sanitize_line;

/// Formats rows as lines with aligned columns, without trailing spaces.
///
/// Column widths are display widths of the widest cell. Cells may hold text from outside the
/// program; control characters are escaped as by [`sanitize_line`].
pub fn lines<R: AsRef<[String]>>(rows: &[R]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.as_ref().iter().map(|cell| sanitize_line(cell)).collect())
        .collect();
    let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or(0)];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["a", "日本", ""], ["abc", "d", "e"]].map(|row| row.map(str::to_owned));
        assert_eq!(lines(&rows), "a    日本\nabc  d     e\n");
        let rows = [["a\u{1b}\n", "b"], ["c", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(lines(&rows), "a\\u{1b}  b\nc        d\n");
    }
}
