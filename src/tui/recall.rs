//! One-line input and the recall of earlier lines.

use super::Editor;

/// Maximum number of lines kept.
const MAX_LINES: usize = 100;

/// Lines entered earlier, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recall {
    lines: Vec<String>,
}

impl Recall {
    /// Adds a line as the newest, once.
    pub fn add(&mut self, line: &str) {
        self.lines.retain(|known| known != line);
        self.lines.push(line.to_owned());
        if self.lines.len() > MAX_LINES {
            self.lines.remove(0);
        }
    }

    /// Returns the line `back` places before the end, from 1.
    pub fn get(&self, back: usize) -> Option<&str> {
        let at = self.lines.len().checked_sub(back).filter(|_| back > 0)?;
        self.lines.get(at).map(String::as_str)
    }
}

/// Editor whose text can be replaced by earlier lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recalling {
    /// Text being edited, with its cursor.
    pub editor: Editor,
    /// Number of lines gone back; 0 is the text being written.
    back: usize,
    /// Text before the first earlier line was recalled.
    draft: String,
}

impl Recalling {
    /// Replaces the text by the line before the present one, if there is one.
    pub fn older(&mut self, recall: &Recall) {
        if let Some(line) = recall.get(self.back + 1) {
            if self.back == 0 {
                self.draft = self.editor.text().to_owned();
            }
            self.back += 1;
            self.editor = Editor::new(line);
        }
    }

    /// Replaces the text by the next newer line.
    ///
    /// The newest one is followed by the text that was being written.
    pub fn newer(&mut self, recall: &Recall) {
        if self.back > 0 {
            self.back -= 1;
            self.editor = Editor::new(recall.get(self.back).unwrap_or(&self.draft));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_lines_come_back_and_the_draft_is_kept() {
        let mut recall = Recall::default();
        for line in ["one", "two", "one"] {
            recall.add(line);
        }
        let mut input = Recalling { editor: Editor::new("dra"), ..Recalling::default() };
        let mut seen = Vec::new();
        for back in [true, true, true, false, false, false] {
            if back {
                input.older(&recall)
            } else {
                input.newer(&recall)
            }
            seen.push(input.editor.text().to_owned());
        }
        assert_eq!(seen, ["one", "two", "two", "one", "dra", "dra"]);
    }

    #[test]
    fn the_number_of_lines_is_bounded() {
        let mut recall = Recall::default();
        (0..200).for_each(|i| recall.add(&i.to_string()));
        assert_eq!(
            (recall.get(1), recall.get(MAX_LINES), recall.get(MAX_LINES + 1)),
            (Some("199"), Some("100"), None)
        );
        assert_eq!(recall.get(0), None);
    }
}
