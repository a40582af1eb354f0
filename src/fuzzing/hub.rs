//! Hub in memory: answers each connection with the next of some given bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Byte between the answers of an input.
pub const SEPARATOR: u8 = 0x1e;

/// Host that may get [`TOKEN`].
const HUB: &str = "hub";
/// Token of the user, which only [`HUB`] may get, over an encrypted connection.
pub const TOKEN: &str = "secret-token";

/// Hub that is reached without a network.
#[derive(Clone, Debug)]
pub struct MemoryHub {
    /// Answers in the order of the connections; the last one is repeated.
    answers: Arc<[Vec<u8>]>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    /// Bytes that were sent to another host, or unencrypted, with the token among them.
    leaked: bool,
}

impl MemoryHub {
    /// Creates a hub that gives the answers in `bytes`, which [`SEPARATOR`] separates.
    pub fn new(bytes: &[u8]) -> Self {
        let answers = bytes.split(|byte| *byte == SEPARATOR).map(<[u8]>::to_vec).collect();
        Self { answers, state: Arc::default() }
    }

    /// Number of connections so far.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).connections
    }

    /// Returns true if the token was sent to another host, or without encryption.
    pub fn has_leaked(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).leaked
    }
}

impl Connector for MemoryHub {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Connection>, ureq::Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = &self.answers[state.connections.min(self.answers.len() - 1)];
        state.connections += 1;
        Ok(Some(Connection {
            left: answer.clone(),
            buffers: LazyBuffers::new(16 << 10, 16 << 10),
            trusted: details.needs_tls()
                && details.uri.host().is_some_and(|host| host.eq_ignore_ascii_case(HUB)),
            sent: Vec::new(),
            state: Arc::clone(&self.state),
        }))
    }
}

/// Resolver without a network.
#[derive(Debug)]
pub struct NoNames;

impl Resolver for NoNames {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut all = self.empty();
        all.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        Ok(all)
    }
}

/// Connection to the hub.
#[derive(Debug)]
pub struct Connection {
    /// Bytes of the answer that were not received yet.
    left: Vec<u8>,
    buffers: LazyBuffers,
    /// True for an encrypted connection to the hub's own host.
    trusted: bool,
    /// Bytes that an untrusted host received.
    sent: Vec<u8>,
    state: Arc<Mutex<State>>,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        if !self.trusted {
            self.sent.extend_from_slice(&self.buffers.output()[..amount]);
            if String::from_utf8_lossy(&self.sent).contains(TOKEN) {
                self.state.lock().unwrap_or_else(PoisonError::into_inner).leaked = true;
            }
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let free = self.buffers.input_append_buf();
        let count = free.len().min(self.left.len());
        free[..count].copy_from_slice(&self.left[..count]);
        self.buffers.input_appended(count);
        self.left.drain(..count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        // No encryption is added.
        true
    }
}
