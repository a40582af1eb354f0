//! Key bindings: the defaults of the command table, with the user's changes.

use crossterm::event::{KeyCode, KeyEvent};

use super::{COMMANDS, Chord, CommandEntry};

impl Chord {
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
    /// Keys of the commands, in the order of [`COMMANDS`].
    keys: Vec<Vec<Chord>>,
}

impl Default for Keymap {
    fn default() -> Keymap {
        Keymap { keys: COMMANDS.iter().map(|command| command.keys.to_vec()).collect() }
    }
}

/// Key that always quits, so that no configuration can lock the user in.
const EMERGENCY: Chord = Chord { code: KeyCode::Char('c'), ctrl: true };

impl Keymap {
    /// Replaces the keys of the command with this name, and takes them from all other commands.
    ///
    /// # Errors
    /// If there is no such command, or one of the keys can't be rebound.
    pub fn bind(&mut self, name: &str, chords: &[Chord]) -> Result<(), String> {
        let Some(at) = COMMANDS.iter().position(|command| command.id() == name) else {
            return Err(format!("unknown command {name}: the nearest is {}", nearest(name)));
        };
        if chords.contains(&EMERGENCY) && COMMANDS[at].id() != "quit" {
            return Err("Ctrl-C always quits: give another key".to_owned());
        }
        for keys in &mut self.keys {
            keys.retain(|key| !chords.contains(key));
        }
        self.keys[at] = chords.to_vec();
        Ok(())
    }

    /// Returns the keys of a command of [`COMMANDS`].
    pub fn keys(&self, entry: &CommandEntry) -> &[Chord] {
        COMMANDS
            .iter()
            .position(|command| command.name == entry.name)
            .map_or(&[], |at| &self.keys[at])
    }

    /// Returns the first key of the command with this id, as shown on the screen.
    pub fn label(&self, id: &str) -> Option<String> {
        COMMANDS
            .iter()
            .position(|command| command.id() == id)
            .and_then(|at| self.keys[at].first())
            .map(Chord::label)
    }

    /// Returns the command bound to a key, if any.
    pub fn command(&self, key: &KeyEvent) -> Option<&'static CommandEntry> {
        if EMERGENCY.is(key) {
            return COMMANDS.iter().find(|command| command.id() == "quit");
        }
        let at = self.keys.iter().position(|keys| keys.iter().any(|chord| chord.is(key)))?;
        COMMANDS.get(at)
    }
}

impl CommandEntry {
    /// Returns the name used in `config.toml` and in the palette, such as `drafter-back`.
    pub fn id(&self) -> String {
        self.name.replace(' ', "-")
    }
}

/// Returns the id of the command whose name shares the longest prefix with `name`.
fn nearest(name: &str) -> String {
    let common = |id: &str| id.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    COMMANDS.iter().map(CommandEntry::id).rev().max_by_key(|id| common(id)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crossterm::event::KeyModifiers;
    use proptest::prelude::*;

    use super::*;

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
            keymap.command(&KeyEvent::new(chord.code, modifiers)).map(CommandEntry::id)
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
