//! Minimal text editor for a prompt: text and a cursor.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Maximum length of the text in bytes; insertions beyond it are cut.
const MAX_BYTES: usize = 64 * 1024;

/// Text being edited, with its cursor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Editor {
    text: String,
    /// Byte offset, always on a character boundary.
    cursor: usize,
}

/// Result of a key press in an [`Editor`].
#[derive(Clone, Debug, PartialEq)]
pub enum EditorOutcome {
    /// The editor stays open.
    Edit,
    /// Submit this text as a prompt.
    Send(String),
    /// Close the editor without sending.
    Leave,
}

impl Editor {
    /// Returns an editor that holds `text`, with the cursor at its end.
    pub fn new(text: &str) -> Editor {
        let mut editor = Editor::default();
        editor.insert(text);
        editor
    }

    /// Returns the text as edited so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the cursor position as a byte offset.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Inserts text at the cursor, and moves the cursor behind it.
    ///
    /// Line ends become `\n`. Control characters are kept; the screen shows them as visible
    /// symbols.
    pub fn insert(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let room = MAX_BYTES.saturating_sub(self.text.len());
        let mut end = text.len().min(room);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.insert_str(self.cursor, &text[..end]);
        self.cursor += end;
    }

    /// Applies a key press.
    pub fn key(&mut self, key: KeyEvent) -> EditorOutcome {
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Esc => return EditorOutcome::Leave,
            KeyCode::Enter if alt => self.insert("\n"),
            KeyCode::Enter => return EditorOutcome::Send(self.text.clone()),
            KeyCode::Char('u') if ctrl => {
                self.text.drain(..self.cursor);
                self.cursor = 0;
            }
            KeyCode::Char('k') if ctrl => self.text.truncate(self.cursor),
            KeyCode::Char('w') if ctrl => {
                let from = self.word_left();
                self.text.drain(from..self.cursor);
                self.cursor = from;
            }
            KeyCode::Char('a') if ctrl => self.cursor = 0,
            KeyCode::Char('e') if ctrl => self.cursor = self.text.len(),
            KeyCode::Char(c) if !ctrl && !alt => self.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => {
                let from = self.left();
                self.text.drain(from..self.cursor);
                self.cursor = from;
            }
            KeyCode::Delete => {
                let to = self.right();
                self.text.drain(self.cursor..to);
            }
            KeyCode::Left if ctrl || alt => self.cursor = self.word_left(),
            KeyCode::Left => self.cursor = self.left(),
            KeyCode::Right => self.cursor = self.right(),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            _ => {}
        }
        EditorOutcome::Edit
    }

    fn left(&self) -> usize {
        self.text[..self.cursor].char_indices().next_back().map_or(0, |(i, _)| i)
    }

    fn right(&self) -> usize {
        self.text[self.cursor..].chars().next().map_or(self.cursor, |c| self.cursor + c.len_utf8())
    }

    fn word_left(&self) -> usize {
        let before = self.text[..self.cursor].trim_end();
        before
            .rfind(char::is_whitespace)
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(start: &str, keys: &[(KeyCode, KeyModifiers)]) -> (String, usize) {
        let mut editor = Editor::new(start);
        for &(code, modifiers) in keys {
            editor.key(KeyEvent::new(code, modifiers));
        }
        (editor.text.clone(), editor.cursor)
    }

    #[test]
    fn keys_edit_by_characters_and_words() {
        use KeyCode::*;
        const NO: KeyModifiers = KeyModifiers::NONE;
        const CTRL: KeyModifiers = KeyModifiers::CONTROL;
        type Case<'a> = (&'a str, &'a [(KeyCode, KeyModifiers)], &'a str, usize);
        let cases: [Case; 9] = [
            ("", &[(Char('ä'), NO), (Char('b'), NO)], "äb", 3),
            ("äb", &[(Left, NO), (Left, NO), (Char('x'), NO)], "xäb", 1),
            ("äb", &[(Left, NO), (Backspace, NO)], "b", 0),
            ("äb", &[(Home, NO), (Delete, NO), (Delete, NO), (Delete, NO)], "", 0),
            ("one two  ", &[(Char('w'), CTRL)], "one ", 4),
            ("one two", &[(Left, CTRL), (Char('k'), CTRL)], "one ", 4),
            ("one two", &[(Left, NO), (Char('u'), CTRL)], "o", 0),
            ("日本", &[(Left, NO), (Right, NO), (Right, NO), (Backspace, NO)], "日", 3),
            ("a", &[(Enter, KeyModifiers::ALT), (Char('b'), NO)], "a\nb", 3),
        ];
        for (start, keys, text, cursor) in cases {
            assert_eq!(typed(start, keys), (text.to_owned(), cursor), "{start:?} {keys:?}");
        }
    }

    #[test]
    fn a_paste_is_text_and_not_keys() {
        let mut editor = Editor::default();
        editor.insert("two\r\nlines\rq\u{1b}");
        assert_eq!(editor.text(), "two\nlines\nq\u{1b}");
        editor.insert(&"é".repeat(MAX_BYTES));
        assert!(editor.text().len() <= MAX_BYTES);
    }

    #[test]
    fn enter_sends_and_escape_leaves() {
        let mut editor = Editor::new("go");
        assert_eq!(editor.key(KeyCode::Enter.into()), EditorOutcome::Send("go".into()));
        assert_eq!(editor.key(KeyCode::Esc.into()), EditorOutcome::Leave);
    }
}
