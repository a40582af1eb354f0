//! Server-sent events (WHATWG HTML, section 9.2), as far as engines use them: the data of each
//! event, bounded.

use std::io::BufRead;

use serde_json::Value;

use super::AttachError;
use super::error::error_message;
use crate::sanitize::sanitize_line;

/// Maximum length of a line in bytes.
///
/// The distribution of a whole vocabulary fits.
const LONGEST_LINE: usize = 64 << 20;

/// Events of a stream, read as they come.
pub struct Events<R> {
    reader: R,
    at: String,
    left: usize,
}

impl<R: BufRead> Events<R> {
    /// Events from `reader`, of at most `most` bytes together; `at` names the stream in errors.
    pub fn new(reader: R, at: String, most: usize) -> Self {
        Self { reader, at, left: most }
    }

    /// Address of the stream.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Error about this stream's content.
    pub fn malformed(&self, why: impl Into<String>) -> AttachError {
        AttachError::Malformed { at: self.at.clone(), why: why.into() }
    }

    /// JSON of the next event. `None` at `[DONE]` or the end.
    ///
    /// # Errors
    /// If the stream breaks off, is too large, holds no JSON, or reports an error of the server.
    pub fn next_json(&mut self) -> Result<Option<Value>, AttachError> {
        let Some(data) = self.next_data()? else { return Ok(None) };
        if data.trim_ascii() == b"[DONE]" {
            return Ok(None);
        }
        let value: Value = serde_json::from_slice(&data)
            .map_err(|error| self.malformed(format!("no JSON ({error})")))?;
        if value.get("error").is_some_and(|error| !error.is_null()) {
            let why = sanitize_line(
                &error_message(&value).unwrap_or_else(|| "an error without a message".to_owned()),
            );
            return Err(AttachError::Refused { at: self.at.clone(), why });
        }
        Ok(Some(value))
    }

    /// Data of the next event that has some; `None` at the end.
    fn next_data(&mut self) -> Result<Option<Vec<u8>>, AttachError> {
        let mut data: Option<Vec<u8>> = None;
        loop {
            let Some(line) = self.next_line()? else { return Ok(data) };
            if line.is_empty() {
                if data.is_some() {
                    return Ok(data);
                }
                continue;
            }
            // llama-server once wrote `error: {...}`; its JSON has no "error" of its own.
            let (name, value) = match line.iter().position(|&b| b == b':') {
                Some(colon) => (&line[..colon], &line[colon + 1..]),
                None => (&line[..], &[][..]),
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match name {
                b"data" => {
                    let data = data.get_or_insert_default();
                    if !data.is_empty() {
                        data.push(b'\n');
                    }
                    data.extend_from_slice(value);
                }
                b"error" => return Ok(Some([b"{\"error\":", value, b"}"].concat())),
                _ => {}
            }
        }
    }

    /// Next line without its end; `None` at the end of the stream.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, AttachError> {
        let mut line = Vec::new();
        loop {
            let room = match self.reader.fill_buf() {
                Ok(room) => room,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(AttachError::Cut {
                        at: self.at.clone(),
                        why: sanitize_line(&error.to_string()),
                    });
                }
            };
            if room.is_empty() {
                return Ok((!line.is_empty()).then_some(line));
            }
            let end = room.iter().position(|&b| b == b'\n');
            let taken = end.map_or(room.len(), |end| end + 1);
            line.extend_from_slice(&room[..end.unwrap_or(taken)]);
            self.reader.consume(taken);
            if taken > self.left || line.len() > LONGEST_LINE {
                return Err(AttachError::TooLarge {
                    at: self.at.clone(),
                    most: self.left.min(LONGEST_LINE),
                });
            }
            self.left -= taken;
            if end.is_some() {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    fn events(text: &[u8], buffer: usize) -> Result<Vec<Value>, AttachError> {
        let mut events = Events::new(BufReader::with_capacity(buffer, text), "x".into(), 1 << 16);
        let mut all = Vec::new();
        while let Some(value) = events.next_json()? {
            all.push(value);
        }
        Ok(all)
    }

    #[test]
    fn events_of_every_form_are_read() {
        let text =
            b": hello\r\n\r\ndata: 1\r\n\r\nid: 7\ndata:2\n\nretry: 3\n\ndata: [3,\ndata: 4]\n\ndata: [DONE]\n\ndata: 5\n\n";
        for buffer in [1, 2, 7, 4096] {
            let want: Vec<Value> =
                [serde_json::json!(1), serde_json::json!(2), serde_json::json!([3, 4])].into();
            assert_eq!(events(text, buffer).unwrap(), want, "{buffer}");
        }
        assert_eq!(
            events(b"data: 1\n\ndata: 2", 9).unwrap().len(),
            2,
            "a last event without its end"
        );
    }

    #[test]
    fn errors_in_a_stream_are_reported() {
        for text in [
            &b"data: {\"error\":{\"message\":\"no\\u001b luck\",\"code\":500}}\n\n"[..],
            b"error: {\"message\":\"no\\u001b luck\"}\n\n",
        ] {
            let said = events(text, 64).unwrap_err().to_string();
            assert_eq!(said, "x: the server says: no\\u{1b} luck");
        }
        assert!(matches!(events(b"data: {\"a\": \n\n", 64), Err(AttachError::Malformed { .. })));
        assert!(matches!(events(&b"a".repeat(1 << 17), 64), Err(AttachError::TooLarge { .. })));
        assert!(matches!(
            events(&b"data: 1\n\n".repeat(1 << 14), 64),
            Err(AttachError::TooLarge { .. })
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), buffer in 1usize..16) {
            let _ = events(&bytes, buffer);
            let _ = events(&[b"data: ", &bytes[..], b"\n\n"].concat(), buffer);
        }
    }
}
