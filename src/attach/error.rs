//! Reasons why a server can't be gauged: one line each. The command line adds the fix.

use serde_json::Value;

use super::ServerKind;

/// Failure of a request, a body or an address.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AttachError {
    /// The text is no address of a server.
    #[error("{address}: not a server's address: {why}")]
    Address {
        /// Text that was given, without a password.
        address: String,
        /// Fault that was found.
        why: &'static str,
    },
    /// A key would cross the network in clear text.
    #[error(
        "{host}: the key from {source_name} would be readable on the way: plain http to another machine"
    )]
    KeyInClear {
        /// Host of the server.
        host: String,
        /// Variable or file that holds the key.
        source_name: String,
    },
    /// The key can't be put into a header.
    #[error("{source_name}: not a key: it has characters that no header can hold")]
    BadKey {
        /// Variable or file that holds the key.
        source_name: String,
    },
    /// No connection, or none in time.
    #[error("{at}: no answer: {why}")]
    Unreachable {
        /// Address of the request.
        at: String,
        /// Reason of the operating system or the client.
        why: String,
    },
    /// The server doesn't accept the key, or wants one.
    #[error("{at}: HTTP {status}: {}", if *with_key { "the key was not accepted" } else { "the server wants a key" })]
    Unauthorized {
        /// Address of the request.
        at: String,
        /// HTTP status code, 401 or 403.
        status: u16,
        /// True if a key was sent.
        with_key: bool,
    },
    /// Another HTTP status than success.
    #[error("{at}: HTTP {status}{}{why}", if why.is_empty() { "" } else { ": " })]
    Status {
        /// Address of the request.
        at: String,
        /// HTTP status code of the answer.
        status: u16,
        /// Message in the body; empty where there is none.
        why: String,
    },
    /// A redirect, which is not followed.
    #[error("{at}: redirected to {to}, which is not followed")]
    Redirected {
        /// Address of the request.
        at: String,
        /// Target of the redirect.
        to: String,
    },
    /// More bytes than such a body can need.
    #[error("{at}: the answer is larger than {most} bytes")]
    TooLarge {
        /// Address of the request.
        at: String,
        /// Bytes that are read at most.
        most: usize,
    },
    /// The connection broke off.
    #[error("{at}: the answer broke off: {why}")]
    Cut {
        /// Address of the request.
        at: String,
        /// Reason of the client.
        why: String,
    },
    /// Response body that the engine would not send.
    #[error("{at}: the answer can't be read: {why}")]
    Malformed {
        /// Address of the request.
        at: String,
        /// Fault that was found.
        why: String,
    },
    /// The server reports an error of its own in a stream.
    #[error("{at}: the server says: {why}")]
    Refused {
        /// Address of the request.
        at: String,
        /// Message of the server.
        why: String,
    },
    /// No known engine answers there.
    #[error("{at}: no known engine answers there")]
    UnknownEngine {
        /// Address of the server.
        at: String,
    },
    /// The engine answers, and its counters are switched off.
    #[error("{at}: {} has its counters switched off: {why}", engine.name())]
    NoCounters {
        /// Address of the server.
        at: String,
        /// Engine whose counters are off.
        engine: ServerKind,
        /// Way to switch them on, by its own documentation.
        why: String,
    },
    /// The engine doesn't expose the requested figures.
    #[error("{}: {why}", engine.name())]
    Unsupported {
        /// Engine without the requested figures.
        engine: ServerKind,
        /// Reason, in one clause.
        why: String,
    },
    /// An importable file that has nothing to import.
    #[error("{file}: {why}")]
    File {
        /// Path of the file.
        file: String,
        /// Fault that was found in the file.
        why: String,
    },
}

impl AttachError {
    /// Returns whether a later try may succeed while the server stays the same.
    pub fn is_transient(&self) -> bool {
        matches!(self, AttachError::Unreachable { .. } | AttachError::Cut { .. })
            || matches!(self, AttachError::Status { status, .. } if *status >= 500 || *status == 429)
    }
}

/// Message of `{"error": {"message": ...}}` and its relatives.
pub(crate) fn error_message(value: &Value) -> Option<String> {
    let inner = value.get("error").unwrap_or(value);
    let text = inner.get("message").or_else(|| inner.get("detail")).unwrap_or(inner);
    text.as_str().map(str::to_owned).filter(|text| !text.is_empty())
}
