//! Rows of comma-separated values that are safe to open in a spreadsheet.

use csv::{QuoteStyle, Terminator, WriterBuilder};

use crate::sanitize::{is_spreadsheet_formula, sanitize_lines};

/// Formats a row of comma-separated values (RFC 4180), with a line feed at its end.
///
/// Cells with a comma, a quote or a line break are quoted. A cell that is not a number and that a
/// spreadsheet would take for a formula is prefixed with an apostrophe, which spreadsheets read as
/// "this is text" (OWASP, CSV Injection). Hidden characters are escaped.
pub fn format_csv_row<S: AsRef<str>>(cells: &[S]) -> String {
    let mut writer = WriterBuilder::new()
        .quote_style(QuoteStyle::Necessary)
        .terminator(Terminator::Any(b'\n'))
        .from_writer(Vec::new());
    let cells = cells.iter().map(|cell| {
        let (formula, cell) =
            (is_spreadsheet_formula(cell.as_ref()), sanitize_lines(cell.as_ref()));
        if formula && cell.parse::<f64>().is_err() { format!("'{cell}") } else { cell.into() }
    });
    // Writing to memory does not fail.
    let row = writer.write_record(cells).ok().and_then(|()| writer.into_inner().ok());
    String::from_utf8(row.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_need_it_are_quoted() {
        assert_eq!(
            format_csv_row(&["a", "b,c", "say \"x\"", "", "l\nm"]),
            "a,\"b,c\",\"say \"\"x\"\"\",,\"l\nm\"\n"
        );
        assert_eq!(
            format_csv_row(&["=1+1", "@x", "-2+3", "+a\"b", " =1"]),
            "'=1+1,'@x,'-2+3,\"'+a\"\"b\",' =1\n"
        );
        assert_eq!(
            format_csv_row(&["a\u{1b}]52;\u{9b}\u{202e}b", "\t=1"]),
            "a\\u{1b}]52;\\u{9b}\\u{202e}b,'\\u{9}=1\n"
        );
        assert_eq!(format_csv_row(&["-0.5", "+3", "1e-7", "-1.5e+10"]), "-0.5,+3,1e-7,-1.5e+10\n");
    }

    #[test]
    fn rows_are_read_back() {
        let cells = ["a", "b,c", "say \"x\"", "", "l\nm", " "];
        let row = format_csv_row(&cells);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(row.as_bytes());
        let read: Vec<_> = reader.records().map_while(Result::ok).collect();
        assert_eq!(read, [csv::StringRecord::from(&cells[..])]);
    }
}
