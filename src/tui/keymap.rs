//! Key bindings: the defaults of the command table, with the user's changes.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Key, with or without Control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chord {
    /// Key code as crossterm reports it.
    pub code: KeyCode,
    /// Requires Control to be held.
    pub ctrl: bool,
}

impl Chord {
    /// Returns the key's name as shown on the screen, for example "Ctrl-C".
    pub fn label(&self) -> String {
        let key = match self.code {
            KeyCode::Char(' ') => "space".to_owned(),
            KeyCode::Char(c) => c.to_string(),
            KeyCode::PageUp => "PgUp".to_owned(),
            KeyCode::PageDown => "PgDn".to_owned(),
            KeyCode::BackTab => "Shift-Tab".to_owned(),
            KeyCode::F(number) => format!("F{number}"),
            code => format!("{code:?}"),
        };
        if self.ctrl { format!("Ctrl-{}", key.to_uppercase()) } else { key }
    }

    /// Returns whether a key press is this key.
    pub(super) fn is(&self, key: &KeyEvent) -> bool {
        let held = key.modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT);
        self.code == key.code
            && held == if self.ctrl { KeyModifiers::CONTROL } else { KeyModifiers::NONE }
    }

    /// Parses a key as [`Chord::label`] writes it: `d`, `space`, `PgUp`, `Shift-Tab`, `Ctrl-R`, `F5`.
    ///
    /// # Errors
    /// If there is no such key: a message with examples.
    pub fn parse(text: &str) -> Result<Chord, String> {
        let wrong = || {
            format!(
                "unknown key {text:?}: write one character, space, Enter, Tab, Shift-Tab, Left, PgUp, Home, F1 or Ctrl-R"
            )
        };
        let (ctrl, name) = match text.split_once('-') {
            Some(("Ctrl", name)) if !name.is_empty() => (true, name),
            _ => (false, text),
        };
        let mut chars = name.chars();
        let code = match name {
            "space" => KeyCode::Char(' '),
            "Enter" => KeyCode::Enter,
            "Tab" => KeyCode::Tab,
            "Shift-Tab" => KeyCode::BackTab,
            "Backspace" => KeyCode::Backspace,
            "Delete" => KeyCode::Delete,
            "Insert" => KeyCode::Insert,
            "Esc" => KeyCode::Esc,
            "Left" => KeyCode::Left,
            "Right" => KeyCode::Right,
            "Up" => KeyCode::Up,
            "Down" => KeyCode::Down,
            "Home" => KeyCode::Home,
            "End" => KeyCode::End,
            "PgUp" => KeyCode::PageUp,
            "PgDn" => KeyCode::PageDown,
            _ => match (chars.next(), chars.as_str()) {
                (Some('F'), number) if !number.is_empty() => match number.parse() {
                    Ok(number @ 1..=12) => KeyCode::F(number),
                    _ => return Err(wrong()),
                },
                (Some(c), "") if !c.is_control() && !c.is_whitespace() => {
                    KeyCode::Char(if ctrl { c.to_ascii_lowercase() } else { c })
                }
                _ => return Err(wrong()),
            },
        };
        Ok(Chord { code, ctrl })
    }
}

/// Keys of each command.
#[derive(Clone, Debug, PartialEq)]
pub struct Keymap {
    /// Id and keys of the commands, in the order of the command table.
    bindings: Vec<(String, Vec<Chord>)>,
}

/// Key that always quits, so that no configuration can lock the user in.
const EMERGENCY: Chord = Chord { code: KeyCode::Char('c'), ctrl: true };

impl Keymap {
    /// Creates a key map of commands, each with its id and keys.
    pub(super) fn new(bindings: impl Iterator<Item = (String, Vec<Chord>)>) -> Keymap {
        Keymap { bindings: bindings.collect() }
    }

    /// Binds keys to the command with this id, and takes them from all other commands.
    ///
    /// # Errors
    /// If there is no such command, or one of the keys can't be rebound.
    pub fn bind(&mut self, id: &str, chords: &[Chord]) -> Result<(), String> {
        let Some(at) = self.bindings.iter().position(|(known, _)| known == id) else {
            return Err(format!("unknown command {id}: the nearest is {}", self.nearest(id)));
        };
        if chords.contains(&EMERGENCY) && id != "quit" {
            return Err("Ctrl-C always quits: give another key".to_owned());
        }
        for (_, keys) in &mut self.bindings {
            keys.retain(|key| !chords.contains(key));
        }
        self.bindings[at].1 = chords.to_vec();
        Ok(())
    }

    /// Returns the keys of the command with this id; empty if there is none.
    pub fn keys(&self, id: &str) -> &[Chord] {
        self.bindings.iter().find(|(known, _)| known == id).map_or(&[], |(_, keys)| keys)
    }

    /// Returns the first key of the command with this id, as shown on the screen.
    pub fn label(&self, id: &str) -> Option<String> {
        self.keys(id).first().map(Chord::label)
    }

    /// Returns the id of the command bound to a key, if any.
    pub fn command(&self, key: &KeyEvent) -> Option<&str> {
        if EMERGENCY.is(key) {
            return Some("quit");
        }
        let bound = |(_, keys): &&(String, Vec<Chord>)| keys.iter().any(|chord| chord.is(key));
        self.bindings.iter().find(bound).map(|(id, _)| id.as_str())
    }

    /// Returns the command id that shares the longest prefix with `id`.
    fn nearest(&self, id: &str) -> &str {
        let common =
            |known: &str| known.bytes().zip(id.bytes()).take_while(|(a, b)| a == b).count();
        let ids = self.bindings.iter().map(|(known, _)| known.as_str());
        ids.rev().max_by_key(|known| common(known)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::tui::{COMMANDS, CommandEntry};

    #[test]
    fn labels_of_all_default_keys_parse_back() {
        for chord in COMMANDS.iter().flat_map(|command| command.keys) {
            assert_eq!(Chord::parse(&chord.label()), Ok(*chord), "{}", chord.label());
        }
        for text in ["F1", "F12", "Home", "Enter", "Ctrl-R", "-", "Insert"] {
            assert_eq!(Chord::parse(text).map(|chord| chord.label()), Ok(text.to_owned()));
        }
        for bad in ["", "F13", "F0", "Ctrl-", "ab", "Alt-x", "\u{1b}"] {
            assert!(Chord::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn command_ids_and_default_keys_are_unique() {
        let ids: std::collections::BTreeSet<String> =
            COMMANDS.iter().map(CommandEntry::id).collect();
        assert_eq!(ids.len(), COMMANDS.len());
        let keys: Vec<Chord> = COMMANDS.iter().flat_map(|command| command.keys.to_vec()).collect();
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "{} is bound twice", key.label());
        }
    }

    #[test]
    fn a_bound_key_leaves_its_old_command_and_ctrl_c_still_quits() {
        let mut keymap = Keymap::default();
        let press = |keymap: &Keymap, label: &str| {
            let chord = Chord::parse(label).unwrap();
            let modifiers = if chord.ctrl { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
            keymap.command(&KeyEvent::new(chord.code, modifiers)).map(str::to_owned)
        };
        let d = Chord::parse("d").unwrap();
        assert_eq!(press(&keymap, "d").as_deref(), Some("drafter"));
        keymap.bind("quit", &[d]).unwrap();
        assert_eq!(press(&keymap, "d").as_deref(), Some("quit"));
        assert_eq!(press(&keymap, "q"), None);
        assert_eq!(press(&keymap, "Ctrl-C").as_deref(), Some("quit"));
        assert_eq!(keymap.label("drafter"), None);
        assert!(keymap.bind("pause", &[EMERGENCY]).unwrap_err().contains("always quits"));
        assert!(keymap.bind("paus", &[d]).unwrap_err().ends_with("the nearest is pause"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_an_error(text in ".{0,12}") {
            if let Ok(chord) = Chord::parse(&text) {
                prop_assert_eq!(Chord::parse(&chord.label()), Ok(chord));
            }
        }
    }
}
