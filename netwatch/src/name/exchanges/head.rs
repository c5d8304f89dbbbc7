//! The first bytes of requests and responses: whether exchanges take turns, and the status of
//! HTTP/1.

use smallvec::SmallVec;

use super::tls::TlsRecord;

/// What a request begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// A ClientHello of TLS, possibly after a ChangeCipherSpec of compatibility.
    TlsHello,
    /// Application data of TLS, in which the end of a handshake can be.
    TlsData,
    /// Nothing but a ChangeCipherSpec of TLS: what it precedes comes later.
    TlsChange,
    /// A readable message of a handshake of TLS that is no ClientHello: not of TLS 1.3.
    TlsHandshake,
    /// Another record of TLS: an alert, or several ones.
    TlsOther,
    /// A protocol with several exchanges at a time: HTTP/2.
    Interleaved,
    /// A request for a tunnel: what follows are exchanges with another host.
    Tunnel,
    /// Anything else.
    Other,
}

impl Opening {
    pub fn of(bytes: &[u8]) -> Self {
        const CHANGE_CIPHER_SPEC_LENGTH: usize = 6;
        const CLIENT_HELLO: u8 = 1;
        if bytes.starts_with(b"PRI * HTTP/2") {
            return Self::Interleaved;
        }
        if bytes.starts_with(b"CONNECT ") {
            return Self::Tunnel;
        }
        match TlsRecord::of(bytes).map(|record| record.kind) {
            Some(0x14) if bytes.len() == CHANGE_CIPHER_SPEC_LENGTH => Self::TlsChange,
            Some(0x14) if bytes.len() > CHANGE_CIPHER_SPEC_LENGTH => {
                let rest = Self::of(&bytes[CHANGE_CIPHER_SPEC_LENGTH..]);
                if rest == Self::TlsHello { rest } else { Self::TlsOther }
            }
            Some(0x16) if bytes.get(5) == Some(&CLIENT_HELLO) => Self::TlsHello,
            Some(0x16) if bytes.len() > 5 => Self::TlsHandshake,
            Some(0x17) => Self::TlsData,
            Some(_) => Self::TlsOther,
            None => Self::Other,
        }
    }
}

/// The first bytes of a request.
#[derive(Debug, Default)]
pub(super) struct OpeningBytes {
    /// The sequence number of the first of them.
    start: u32,
    bytes: SmallVec<[u8; Self::LENGTH]>,
}

impl OpeningBytes {
    /// As many as [`Opening::of`] needs.
    const LENGTH: usize = 16;

    /// Takes bytes at a sequence number, in any order.
    pub fn add(&mut self, start: u32, bytes: &[u8]) {
        let is_before = start.wrapping_sub(self.start).cast_signed() < 0;
        if self.bytes.is_empty() || is_before {
            let known = std::mem::take(&mut self.bytes);
            let is_next = start.wrapping_add(bytes.len() as u32) == self.start;
            let rest = known.iter().filter(|_| is_next);
            self.bytes = bytes.iter().chain(rest).take(Self::LENGTH).copied().collect();
            self.start = start;
        } else if start == self.start.wrapping_add(self.bytes.len() as u32) {
            let room = Self::LENGTH - self.bytes.len();
            self.bytes.extend(bytes.iter().take(room).copied());
        }
    }

    pub fn opening(&self) -> Opening {
        Opening::of(&self.bytes)
    }

    /// Number of further requests of HTTP/1 in bytes that were taken at a sequence number. Only
    /// methods without a body count: a body may contain anything.
    pub fn further_requests(&self, start: u32, bytes: &[u8]) -> u64 {
        let is_request = |bytes: &[u8]| [&b"GET "[..], b"HEAD "].iter().any(|method| bytes.starts_with(method));
        if !is_request(&self.bytes) {
            return 0;
        }
        let after_first_line = bytes.windows(4).enumerate().filter(|(_, end)| *end == b"\r\n\r\n");
        let inside = after_first_line.filter(|(at, _)| is_request(&bytes[at + 4..])).count() as u64;
        // The empty line may have begun before.
        let rest = bytes.trim_ascii_start();
        let begins = start != self.start && bytes.len() - rest.len() < 4 && is_request(rest);
        inside + u64::from(begins)
    }

    /// The record of TLS that they begin with.
    pub fn record(&self) -> Option<TlsRecord> {
        TlsRecord::of(&self.bytes)
    }
}

/// What is known of the head of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadVerdict {
    /// More bytes are needed.
    Incomplete,
    /// The status of HTTP/1.
    Status(u16),
    /// No response of HTTP/1.
    Other,
}

/// The first bytes of a response.
#[derive(Debug, Default)]
pub(super) struct ResponseHead {
    bytes: [u8; Self::LENGTH],
    length: usize,
}

impl ResponseHead {
    /// `HTTP/1.1 200`.
    const LENGTH: usize = 12;

    /// Takes further bytes.
    pub fn push(&mut self, bytes: &[u8]) -> HeadVerdict {
        let rest = &mut self.bytes[self.length..];
        let count = rest.len().min(bytes.len());
        rest[..count].copy_from_slice(&bytes[..count]);
        self.length += count;
        let known = &self.bytes[..self.length];
        if !known.iter().zip(b"HTTP/1.? ???").all(|(byte, wanted)| match wanted {
            b'?' => byte.is_ascii_digit(),
            wanted => byte == wanted,
        }) {
            return HeadVerdict::Other;
        }
        if self.length < Self::LENGTH {
            return HeadVerdict::Incomplete;
        }
        HeadVerdict::Status(known[9..].iter().fold(0, |status, digit| 10 * status + u16::from(digit - b'0')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_whatever_the_pieces() {
        for at in 1..12 {
            let (first, second) = b"HTTP/1.1 503 Busy\r\n".split_at(at);
            let mut head = ResponseHead::default();
            assert_eq!((head.push(first), head.push(second)), (HeadVerdict::Incomplete, HeadVerdict::Status(503)));
        }
        for other in [&b"HTTP/2.0 200"[..], b"SSH-2.0-x", b"HTTP/1.1 20x", b"+OK"] {
            assert_eq!(ResponseHead::default().push(other), HeadVerdict::Other);
        }
    }

    #[test]
    fn openings_differ() {
        let hello = [0x16, 3, 1, 0, 200, 1, 0, 0];
        let after_change = [&[0x14, 3, 3, 0, 1, 1][..], &hello].concat();
        let finished = [&[0x14, 3, 3, 0, 1, 1][..], &[0x17, 3, 3, 0, 9]].concat();
        for (bytes, expected) in [
            (&hello[..], Opening::TlsHello),
            (&after_change, Opening::TlsHello),
            (&finished, Opening::TlsOther),
            (&finished[..6], Opening::TlsChange),
            (&[0x16, 3, 3, 0, 9, 16], Opening::TlsHandshake),
            (&[0x17, 3, 3, 0, 9], Opening::TlsData),
            (b"PRI * HTTP/2.0\r\n", Opening::Interleaved),
            (b"CONNECT a:443 HTTP/1.1", Opening::Tunnel),
            (b"GET / HTTP/1.1", Opening::Other),
        ] {
            assert_eq!(Opening::of(bytes), expected, "{bytes:x?}");
        }
    }
}
