//! Keys of servers: where they come from, and that they appear nowhere.

use std::fmt;

use super::{AttachError, ServerKind};

/// A secret for the `Authorization` header. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    secret: String,
    source_name: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(from {})", self.source_name)
    }
}

impl Key {
    /// Key in `text`, from the variable or file `source_name`; white space around it is dropped.
    ///
    /// # Errors
    /// If it holds anything but printable ASCII characters.
    pub fn new(text: &str, source_name: &str) -> Result<Key, AttachError> {
        let secret = text.trim();
        if secret.is_empty() || !secret.bytes().all(|b| (b'!'..=b'~').contains(&b)) {
            return Err(AttachError::BadKey { source_name: source_name.to_owned() });
        }
        Ok(Key { secret: secret.to_owned(), source_name: source_name.to_owned() })
    }

    /// Returns the variable or file that holds the key.
    pub fn source_name(&self) -> &str {
        &self.source_name
    }

    /// Value of the `Authorization` header.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.secret)
    }
}

/// Keys that may be sent to a server.
///
/// Either one that was named for it, or those in the engines' own variables.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Key for any engine.
    pub general: Option<Key>,
    /// Keys of single engines, used once the engine is known.
    pub own: Vec<(ServerKind, Key)>,
}

impl Keys {
    /// Reads the keys in the variables; `named` takes precedence over all.
    ///
    /// # Errors
    /// If a variable that would be used holds no key.
    pub fn read(
        named: Option<Key>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Keys, AttachError> {
        const GENERAL: &str = "OPENAI_API_KEY";
        let read = |name: &str| {
            // vLLM's own client writes EMPTY where there is no key.
            let value =
                variable(name).filter(|value| !value.trim().is_empty() && value.trim() != "EMPTY");
            value.map(|value| Key::new(&value, name)).transpose()
        };
        let general = match named {
            Some(key) => Some(key),
            None => read(GENERAL)?,
        };
        let mut own = Vec::new();
        for engine in ServerKind::ALL.into_iter().filter(|_| general.is_none()) {
            if let Some(key) = engine.key_variable().map(read).transpose()?.flatten() {
                own.push((engine, key));
            }
        }
        Ok(Keys { general, own })
    }

    /// Key for an engine; `None` stands for one that is not known yet.
    pub fn of(&self, engine: Option<ServerKind>) -> Option<&Key> {
        let own = || self.own.iter().find(|(of, _)| Some(*of) == engine).map(|(_, key)| key);
        self.general.as_ref().or_else(own)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_taken_in_order_and_never_shown() {
        let all = |name: &str| match name {
            "OPENAI_API_KEY" => Some(" sk-general\n".to_owned()),
            "LLAMA_API_KEY" => Some("sk-llama".to_owned()),
            _ => None,
        };
        let keys = Keys::read(None, all).unwrap();
        assert_eq!(keys.of(Some(ServerKind::LlamaServer)).unwrap().header(), "Bearer sk-general");
        assert!(!format!("{keys:?}").contains("sk-"));
        let keys = Keys::read(None, |name| all(name).filter(|_| name != "OPENAI_API_KEY")).unwrap();
        assert_eq!(keys.of(Some(ServerKind::LlamaServer)).unwrap().source_name(), "LLAMA_API_KEY");
        assert!(keys.of(Some(ServerKind::Vllm)).is_none() && keys.of(None).is_none());
        let named = Key::new("sk-named", "key.txt").unwrap();
        let keys = Keys::read(Some(named), all).unwrap();
        assert_eq!(keys.of(None).unwrap().source_name(), "key.txt");
        assert!(
            Keys::read(None, |_| Some("EMPTY".into()))
                .unwrap()
                .of(Some(ServerKind::Vllm))
                .is_none()
        );
    }

    #[test]
    fn keys_that_no_header_can_hold_are_refused() {
        for bad in ["", " \n", "a b", "a\nb", "\u{1b}[31m", "schl\u{fc}ssel"] {
            assert!(matches!(Key::new(bad, "X"), Err(AttachError::BadKey { .. })), "{bad:?}");
        }
    }
}
