//! Text in columns.

use unicode_width::UnicodeWidthStr;

/// Rows as lines, each column as wide as its widest cell; nothing follows the last cell of a row.
pub fn lines<R: AsRef<[String]>>(rows: &[R]) -> String {
    let mut widths = vec![0; rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0)];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(cell.width());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row.as_ref()) {
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
    }
}
