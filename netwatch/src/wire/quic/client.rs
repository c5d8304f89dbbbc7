//! The handshake of one flow: takes Initial packets, returns the ClientHello.

use super::google::{self, Chlo};
use super::keys::Keys;
use super::packet::{self, Initial};
use super::version::QuicVersion;
use super::{frames, looks_like};
use crate::wire::tls::{Carrier, ClientHello, Hello};
use crate::wire::{Assembly, ByteReader, Name};

/// Maximum number of keys of one flow: the first, one more for each Retry, and more if the client
/// tries other versions.
const MAX_KEYS: usize = 4;
/// Maximum number of packets that no key decrypts: those of the server, damaged ones, and those of
/// unknown versions. Deriving a key for each is expensive.
const MAX_FAILURES: u8 = 16;
/// Maximum length of the handshake that is reassembled, bytes.
const MAX_HANDSHAKE: usize = 1 << 14;

/// The type of the message.
const CLIENT_HELLO: u8 = 1;

/// The result of one datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicObservation {
    /// The version.
    pub version: QuicVersion,
    /// The facts of the hello, if this datagram extended it.
    pub hello: Option<Box<Hello>>,
    /// The server name in the handshake of Google.
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
    /// Takes a datagram of either direction; `None` if it is not recognized as QUIC.
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
            for fragment in frames::crypto_fragments(&frames, version) {
                // What exceeds the limit is discarded: the hello stays incomplete.
                let _ = self.handshake.insert(fragment.offset, fragment.bytes);
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
        let stream = self.handshake.from(0);
        if google::encrypts_chlo(version) {
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

    /// The random of the ClientHello, if the beginning of the hello has arrived.
    pub fn client_random(&self) -> Option<&[u8]> {
        /// After the type, the length and the version.
        const RANDOM: std::ops::Range<usize> = 6..38;
        let stream = self.handshake.from(0);
        stream.get(RANDOM).filter(|_| stream.first() == Some(&CLIENT_HELLO))
    }

    /// Number of bytes held.
    pub fn held(&self) -> usize {
        self.handshake.held()
    }
}
