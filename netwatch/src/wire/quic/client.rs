//! The client's side of one flow: Initial packets in, ClientHello out.

use super::google::{self, Chlo};
use super::keys::Keys;
use super::packet::{self, Initial};
use super::version::QuicVersion;
use super::{frames, looks_like};
use crate::wire::tls::{Carrier, ClientHello, Hello};
use crate::wire::{Assembly, ByteReader, Name};

/// A connection has one key, one more for each Retry, and clients try other versions.
const MAX_KEYS: usize = 4;
/// Packets that no key opens: the server's, damaged ones, those of versions unknown. Each costs deriving a key.
const MAX_FAILURES: u8 = 16;
/// Bytes of handshake that are put together.
const MAX_HANDSHAKE: usize = 1 << 14;

/// What a datagram told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicObservation {
    /// The version it speaks.
    pub version: QuicVersion,
    /// The server name and more, if this datagram brought more of them than there was.
    pub hello: Option<Box<Hello>>,
    /// The server name of Google's own handshake.
    pub chlo_name: Option<Name>,
}

/// State of one flow.
#[derive(Debug)]
pub struct QuicHandshake {
    keys: Vec<Keys>,
    failures: u8,
    handshake: Assembly,
}

impl Default for QuicHandshake {
    fn default() -> Self {
        Self { keys: Vec::new(), failures: 0, handshake: Assembly::new(MAX_HANDSHAKE) }
    }
}

impl QuicHandshake {
    /// Takes a datagram of either side; `None` if it is not QUIC, or nothing of it says so.
    pub fn observe(&mut self, datagram: &[u8]) -> Option<QuicObservation> {
        if let Some((version, chlo)) = google::hello(datagram) {
            let chlo_name = chlo.and_then(|chlo| chlo.server_name()).and_then(Name::new);
            return Some(QuicObservation { version, hello: None, chlo_name });
        }
        let mut version = looks_like(datagram)?;
        let before = self.handshake.from(0).len();
        for initial in packet::initials(datagram) {
            let Some(frames) = self.open(&initial) else { continue };
            version = initial.version;
            for piece in frames::pieces(&frames, version) {
                // More than fits is not read: the hello stays without its end.
                let _ = self.handshake.insert(piece.offset, piece.bytes);
            }
        }
        let grew = self.handshake.from(0).len() > before;
        let (hello, chlo_name) = if grew { self.read(version) } else { (None, None) };
        Some(QuicObservation { version, hello, chlo_name })
    }

    fn open(&mut self, initial: &Initial<'_>) -> Option<Vec<u8>> {
        if let Some(frames) = self.keys.iter().find_map(|keys| keys.open(initial)) {
            return Some(frames);
        }
        if self.failures >= MAX_FAILURES || self.keys.len() >= MAX_KEYS {
            return None;
        }
        for derivation in initial.version.derivations() {
            if let Some(keys) = Keys::client(&derivation, initial.destination)
                && let Some(frames) = keys.open(initial)
            {
                self.keys.push(keys);
                return Some(frames);
            }
        }
        self.failures += 1;
        None
    }

    fn read(&self, version: QuicVersion) -> (Option<Box<Hello>>, Option<Name>) {
        const CLIENT_HELLO: u8 = 1;
        let stream = self.handshake.from(0);
        if google::says_chlo(version) {
            let name = Chlo::parse(stream).and_then(|chlo| chlo.server_name()).and_then(Name::new);
            return (None, name);
        }
        let mut reader = ByteReader::new(stream);
        let header = reader.u8().filter(|kind| *kind == CLIENT_HELLO).and_then(|_| reader.u24());
        let Some(length) = header else { return (None, None) };
        let (body, is_all) = reader.take_some(length as usize);
        let hello = ClientHello::parse(body, is_all, Carrier::Quic).map(|hello| Box::new(Hello::from(&hello)));
        (hello, None)
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.handshake.held()
    }
}
