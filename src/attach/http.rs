//! Requests to one server: bounded in size and time, on known paths, and never to another host.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::error::error_message;
use super::sse::Events;
use super::{AttachError, Key};
use crate::sanitize::sanitize_line;

/// Paths that are read without a probe; all of them by GET.
pub const READ_PATHS: [&str; 7] = [
    "/metrics",
    "/prometheus/metrics",
    "/v1/models",
    "/props",
    "/server_info",
    "/version",
    "/v1/loads?include=spec",
];

/// Bytes of an answer that are read at most, scored distributions apart.
pub(crate) const MOST_BYTES: usize = 16 << 20;
/// Characters of a server's own error message that are shown.
const LONGEST_MESSAGE: usize = 200;
const MOST_REDIRECTS: usize = 2;
const CONNECT: Duration = Duration::from_secs(5);
/// Time for the first token of a prompt: servers queue requests.
const FIRST_TOKEN: Duration = Duration::from_secs(300);

/// Scheme, host and port of a server, with the path below which it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    host: String,
    https: bool,
}

impl Address {
    /// Reads an address as `http://127.0.0.1:8080`; a trailing `/v1` is dropped.
    ///
    /// # Errors
    /// If it has no scheme or host, or carries a password or a query.
    pub fn parse(text: &str) -> Result<Address, AttachError> {
        let text = text.trim();
        let refuse = |why| {
            let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
            Err(AttachError::Address { address: sanitize_line(shown), why })
        };
        let Ok(uri) = text.parse::<Uri>() else {
            return refuse("write it as http://127.0.0.1:8080");
        };
        let (Some(scheme @ ("http" | "https")), Some(authority)) =
            (uri.scheme_str(), uri.authority())
        else {
            return refuse("write it as http://127.0.0.1:8080");
        };
        if authority.as_str().contains('@') {
            return refuse("it holds a password, which others can see in the list of processes");
        }
        if uri.query().is_some() || text.contains('#') {
            return refuse("it holds a query; give the address alone");
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return refuse("it has no host");
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path);
        Ok(Address {
            text: format!("{scheme}://{authority}{path}"),
            host,
            https: scheme == "https",
        })
    }

    /// Address as it is shown and sent to.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether the server is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Returns whether a key may be sent without being readable on the way.
    pub fn hides_keys(&self) -> bool {
        self.https || self.is_loopback()
    }
}

/// Answer to a GET request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code of the answer.
    pub status: u16,
    /// Body, of 16 MiB at most.
    pub body: Vec<u8>,
    /// Value of the `Server` header, where present.
    pub server: Option<String>,
}

impl Answer {
    /// Body as text; bytes that are no UTF-8 become replacement characters.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Body as JSON, if it is.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Client for one server.
pub struct Http {
    address: Address,
    key: Option<Key>,
    reader: Agent,
    sender: Agent,
    sent: Cell<usize>,
}

impl Http {
    /// Client for `address`, whose answers to GET requests arrive within `patience`.
    ///
    /// # Errors
    /// If the key would be readable on the way, unless `insecure`.
    pub fn new(
        address: Address,
        key: Option<Key>,
        patience: Duration,
        insecure: bool,
    ) -> Result<Http, AttachError> {
        if let Some(key) = key.as_ref().filter(|_| !address.hides_keys() && !insecure) {
            let (host, source_name) = (address.host.clone(), key.source_name().to_owned());
            return Err(AttachError::KeyInClear { host, source_name });
        }
        let agent = |global: Option<Duration>, response: Duration| {
            let mut config = Agent::config_builder()
                .max_redirects(0)
                .http_status_as_error(false)
                .accept_encoding("identity")
                .user_agent(concat!("speclight/", env!("CARGO_PKG_VERSION")))
                .timeout_connect(Some(CONNECT.min(response)))
                .timeout_recv_response(Some(response))
                .timeout_per_read(Some(response))
                .timeout_global(global);
            if address.is_loopback() {
                // A proxy would be another host.
                config = config.proxy(None);
            }
            Agent::from(config.build())
        };
        let (reader, sender) = (agent(Some(patience), patience), agent(None, FIRST_TOKEN));
        Ok(Http { address, key, reader, sender, sent: Cell::new(0) })
    }

    /// Address of the server.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns whether a key is sent.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Requests sent so far.
    pub fn sent(&self) -> usize {
        self.sent.get()
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.address.as_str())
    }

    /// Reads one of [`READ_PATHS`]. Answers of any status but redirects are returned.
    ///
    /// # Errors
    /// If there is no whole answer, or it leads elsewhere.
    pub fn get(&self, path: &'static str) -> Result<Answer, AttachError> {
        let mut at = self.at(path);
        if !READ_PATHS.contains(&path) {
            return Err(AttachError::Malformed {
                at,
                why: "not a path that may be read".to_owned(),
            });
        }
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.reader.get(&at);
            if let Some(key) = &self.key {
                request = request.header("authorization", key.header());
            }
            self.sent.set(self.sent.get() + 1);
            let response = request.call().map_err(|error| unreachable(&at, &error))?;
            if !response.status().is_redirection() {
                let server = header(&response, "server");
                let status = response.status().as_u16();
                return Ok(Answer {
                    status,
                    server,
                    body: read_all(response.into_body(), &at, MOST_BYTES)?,
                });
            }
            // vLLM mounts its metrics below `/metrics/`. Anything else may be a path that changes
            // state.
            let to = header(&response, "location").unwrap_or_default();
            let same = [format!("{at}/"), format!("{}/", path)].contains(&to);
            if !same {
                return Err(AttachError::Redirected { at, to: sanitize_line(&to) });
            }
            at.push('/');
        }
        Err(AttachError::Redirected { to: at.clone(), at })
    }

    /// Reads one of [`READ_PATHS`], which must succeed.
    ///
    /// # Errors
    /// If it doesn't.
    pub fn get_ok(&self, path: &'static str) -> Result<Answer, AttachError> {
        let answer = self.get(path)?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        Err(self.refused(path, answer.status, &answer.body))
    }

    /// Reads JSON from one of [`READ_PATHS`]; `None` where the server doesn't serve it.
    ///
    /// # Errors
    /// If there is no whole answer.
    pub fn get_json(&self, path: &'static str) -> Result<Option<Value>, AttachError> {
        let answer = self.get(path)?;
        Ok(answer.json().filter(|_| (200..300).contains(&answer.status)))
    }

    /// Sends JSON and reads a body of at most `most` bytes.
    ///
    /// # Errors
    /// If the request fails or the body is no JSON.
    pub fn post(&self, path: &str, body: &Value, most: usize) -> Result<Value, AttachError> {
        let at = self.at(path);
        let response = self.send(path, body)?;
        let body = read_all(response.into_body(), &at, most)?;
        serde_json::from_slice(&body)
            .map_err(|error| AttachError::Malformed { at, why: format!("no JSON ({error})") })
    }

    /// Sends JSON and reads a stream of server-sent events of at most `most` bytes.
    ///
    /// # Errors
    /// If the request fails.
    pub fn stream(
        &self,
        path: &str,
        body: &Value,
        most: usize,
    ) -> Result<Events<Box<dyn io::BufRead>>, AttachError> {
        let at = self.at(path);
        let response = self.send(path, body)?;
        let reader: Box<dyn io::BufRead> =
            Box::new(BufReader::new(response.into_body().into_reader()));
        Ok(Events::new(reader, at, most))
    }

    fn send(&self, path: &str, body: &Value) -> Result<Response<Body>, AttachError> {
        let at = self.at(path);
        let mut request = self.sender.post(&at).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", key.header());
        }
        self.sent.set(self.sent.get() + 1);
        let response = request.send(body.to_string()).map_err(|error| unreachable(&at, &error))?;
        if response.status().is_redirection() {
            return Err(AttachError::Redirected {
                at,
                to: sanitize_line(&header(&response, "location").unwrap_or_default()),
            });
        }
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let body = read_all(response.into_body(), &at, MOST_BYTES).unwrap_or_default();
            return Err(self.refused(path, status, &body));
        }
        Ok(response)
    }

    fn refused(&self, path: &str, status: u16, body: &[u8]) -> AttachError {
        let at = self.at(path);
        match status {
            401 | 403 => AttachError::Unauthorized { at, status, with_key: self.has_key() },
            _ => AttachError::Status { at, status, why: message(body) },
        }
    }
}

fn header(response: &Response<Body>, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Message of an error body in one short line; empty where there is none.
pub(crate) fn message(body: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let found = value.as_ref().and_then(error_message);
    sanitize_line(&found.unwrap_or_default()).chars().take(LONGEST_MESSAGE).collect()
}

fn unreachable(at: &str, error: &ureq::Error) -> AttachError {
    AttachError::Unreachable { at: at.to_owned(), why: sanitize_line(&error.to_string()) }
}

/// Reads a body of at most `most` bytes.
fn read_all(body: Body, at: &str, most: usize) -> Result<Vec<u8>, AttachError> {
    let promised = body.content_length();
    if promised.is_some_and(|length| length > most as u64) {
        return Err(AttachError::TooLarge { at: at.to_owned(), most });
    }
    let mut bytes = Vec::new();
    let mut reader = body.into_reader().take(most as u64 + 1);
    reader.read_to_end(&mut bytes).map_err(|error| AttachError::Cut {
        at: at.to_owned(),
        why: sanitize_line(&error.to_string()),
    })?;
    if bytes.len() > most {
        return Err(AttachError::TooLarge { at: at.to_owned(), most });
    }
    if promised.is_some_and(|length| length > bytes.len() as u64) {
        let why = format!("{} of {} bytes", bytes.len(), promised.unwrap_or_default());
        return Err(AttachError::Cut { at: at.to_owned(), why });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        let read = |text: &str| Address::parse(text).map(|address| address.as_str().to_owned());
        assert_eq!(read("http://127.0.0.1:8080/").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(read(" https://gpu.example/v1 ").unwrap(), "https://gpu.example");
        assert_eq!(read("http://[::1]:8000/llm/v1/").unwrap(), "http://[::1]:8000/llm");
        for bad in [
            "",
            "127.0.0.1:8080",
            "ftp://x",
            "http://",
            "/v1",
            "http://a b",
            "http://h/?key=x",
            "http://h/#a",
        ] {
            assert!(matches!(read(bad), Err(AttachError::Address { .. })), "{bad}");
        }
        let said = read("http://me:secret@host:1").unwrap_err().to_string();
        assert!(!said.contains("secret") && said.contains("password"), "{said}");
    }

    #[test]
    fn keys_stay_on_this_machine_or_under_tls() {
        let hides = |text: &str| Address::parse(text).unwrap().hides_keys();
        for safe in
            ["http://localhost:1", "http://127.0.0.9:1", "http://[::1]:1", "https://gpu.example"]
        {
            assert!(hides(safe), "{safe}");
        }
        for open in [
            "http://gpu.example",
            "http://192.168.0.7:8000",
            "http://127.example:1",
            "http://[::2]:1",
        ] {
            assert!(!hides(open), "{open}");
            let key = Key::new("sk", "X").unwrap();
            let made = |insecure| {
                Http::new(Address::parse(open).unwrap(), Some(key.clone()), CONNECT, insecure)
            };
            assert!(
                matches!(made(false), Err(AttachError::KeyInClear { .. })) && made(true).is_ok(),
                "{open}"
            );
        }
    }

    #[test]
    fn messages_of_errors_are_one_short_line() {
        assert_eq!(message(br#"{"error":{"message":"no\u001b[31m such"}}"#), "no\\u{1b}[31m such");
        assert_eq!(message(br#"{"detail":"gone"}"#), "gone");
        assert_eq!(message(b"<html>"), "");
        assert!(
            message(format!("{{\"error\":\"{}\"}}", "x ".repeat(9999)).as_bytes()).chars().count()
                <= LONGEST_MESSAGE
        );
    }
}
