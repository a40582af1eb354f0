//! Conversion of tokens to text, including streams of tokens.
//!
//! A token can end within a UTF-8 sequence; [`TextStream`] holds back incomplete characters.

use std::collections::HashMap;

use crate::tree::TokenId;

/// Bytes of every token, and the tokens that end a text.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    bytes: Vec<Box<[u8]>>,
    /// Spellings of tokens without bytes.
    names: HashMap<TokenId, Box<str>>,
    stop: Vec<TokenId>,
}

impl Vocabulary {
    /// Creates a vocabulary from the bytes of each token and the stop tokens.
    ///
    /// `bytes[token]` is what the token adds to a text.
    pub fn new(bytes: Vec<Box<[u8]>>, stop: Vec<TokenId>) -> Self {
        Self { bytes, names: HashMap::new(), stop }
    }

    /// Adds display names for tokens that add nothing to a text, such as `<|im_end|>`.
    ///
    /// They only tell such tokens apart on screen; the text is unaffected.
    pub fn with_display_names<'a>(
        mut self,
        names: impl IntoIterator<Item = (TokenId, &'a str)>,
    ) -> Self {
        self.names.extend(names.into_iter().map(|(token, name)| (token, name.into())));
        self
    }

    /// Returns the tokens that end a text.
    pub fn stop(&self) -> &[TokenId] {
        &self.stop
    }

    /// Returns the bytes that a token adds to a text; empty for an unknown token.
    pub fn bytes(&self, token: TokenId) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], |bytes| bytes)
    }

    /// Returns a token as standalone text.
    ///
    /// Incomplete parts of a character become U+FFFD. A token that adds nothing to a text is shown
    /// by its display name.
    pub fn text(&self, token: TokenId) -> String {
        match self.bytes(token) {
            [] => self.names.get(&token).map(ToString::to_string).unwrap_or_default(),
            bytes => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// Assembles the bytes of consecutive tokens into characters.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    /// Start of an incomplete character, at most 3 bytes.
    pending: Vec<u8>,
}

impl TextStream {
    /// Ends the text; returns U+FFFD if it ends within a character.
    pub fn finish(&mut self) -> String {
        if std::mem::take(&mut self.pending).is_empty() { "" } else { "\u{fffd}" }.to_owned()
    }

    /// Appends bytes and returns the text that they complete.
    ///
    /// Bytes that can't be part of any character become U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = std::mem::take(&mut self.pending);
        loop {
            match std::str::from_utf8(&rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        None => {
                            self.pending = after.to_vec();
                            return text;
                        }
                        Some(bad) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = after[bad..].to_vec();
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_character_comes_with_its_last_byte() {
        let mut stream = TextStream::default();
        let bytes = "é🦀".as_bytes();
        let got: Vec<String> = bytes.iter().map(|&b| stream.push(&[b])).collect();
        assert_eq!(got, ["", "é", "", "", "", "🦀"]);
        assert_eq!(stream.push(&[0xf0, b'a']), "\u{fffd}a");
        assert_eq!(stream.finish(), "");
        assert_eq!(stream.push(&[b'a', 0xf0, 0x9f]), "a");
        assert_eq!((stream.finish(), stream.finish()), ("\u{fffd}".into(), String::new()));
    }

    #[test]
    fn a_token_that_adds_nothing_has_a_name_of_its_own() {
        let bytes = [&b""[..], b"a", b"", b"\xf0"].map(Box::from).to_vec();
        let vocabulary = Vocabulary::new(bytes, vec![0])
            .with_display_names([(0, "<|im_end|>"), (1, "never shown")]);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|token| vocabulary.text(token)),
            ["<|im_end|>", "a", "", "\u{fffd}", ""]
        );
        assert_eq!([0, 1, 2].map(|token| vocabulary.bytes(token)), [&b""[..], b"a", b""]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_text(text in ".{0,40}", cuts in prop::collection::vec(0usize..160, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut stream = TextStream::default();
            let got: String = cuts.windows(2).map(|w| stream.push(&bytes[w[0]..w[1]])).collect();
            prop_assert_eq!(got, text);
        }

        #[test]
        fn any_bytes_are_text(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut stream = TextStream::default();
            let text = stream.push(&bytes);
            prop_assert!(stream.pending.len() < 4);
            prop_assert!(String::from_utf8_lossy(&bytes).starts_with(&text));
        }
    }
}
