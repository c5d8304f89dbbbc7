//! How far TLS is: which exchanges are those of the application. Session tickets of TLS 1.3 are
//! encrypted, follow the client's Finished without being asked for, and look like a response.

use super::head::Opening;

/// Exchanges beyond the necessary ones that are left out while the server's record has the length
/// of its first one: there may be that many further tickets.
const FURTHER_TICKETS: u8 = 2;

/// How far the handshake of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsStage {
    /// After a ClientHello. Another one may follow.
    Hello,
    /// After the request with the client's last message of the handshake. The server may send each
    /// ticket by itself, and a request that arrives between two of them gets the second one as its
    /// response. The next exchange proves nothing, because that may be it.
    Tickets {
        /// The first record that the server sent in this stage.
        first: Option<TlsRecord>,
        /// Number of exchanges to leave out, and of those that were.
        wanted: u8,
        left_out: u8,
    },
    /// The application's exchanges follow.
    Open,
}

impl TlsStage {
    /// The stage after an exchange. `opening` is that of the request, and `record` what the
    /// response begins with.
    pub fn after(self, opening: Opening, record: Option<TlsRecord>) -> Self {
        match (self, opening) {
            // The rest of its messages follows.
            (Self::Hello, Opening::TlsChange) => Self::Hello,
            // Up to TLS 1.2 the records of a handshake are readable.
            (Self::Hello, Opening::TlsHandshake) if record.is_some_and(TlsRecord::is_of_handshake) => Self::Open,
            // This may be early data (0-RTT), and the handshake may end in the next request.
            (Self::Hello, Opening::TlsData) => Self::Tickets { first: record, wanted: 2, left_out: 0 },
            (Self::Hello, _) => Self::Tickets { first: record, wanted: 1, left_out: 0 },
            (Self::Tickets { first, wanted, left_out }, _) => Self::Tickets { first, wanted, left_out: left_out + 1 },
            (Self::Open, _) => Self::Open,
        }
    }

    /// Whether an exchange is one of the application. `record` is what its response begins with.
    pub fn is_over(self, record: Option<TlsRecord>) -> bool {
        match self {
            Self::Hello => false,
            Self::Tickets { first, wanted, left_out } => {
                let may_be_ticket = record.is_none() || record == first;
                left_out >= if may_be_ticket { wanted + FURTHER_TICKETS } else { wanted }
            }
            Self::Open => true,
        }
    }
}

/// The header of a record of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TlsRecord {
    /// The content type: 0x14 to 0x17.
    pub kind: u8,
    /// Length of what follows the header, bytes; `None` if it is not among the sampled bytes.
    length: Option<u16>,
}

impl TlsRecord {
    /// The record that the bytes begin with.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [kind @ 0x14..=0x17, 3, 0..=4, rest @ ..] => {
                let length = rest.first_chunk().map(|length| u16::from_be_bytes(*length));
                Some(Self { kind: *kind, length })
            }
            _ => None,
        }
    }

    /// Length of the whole record, bytes.
    pub fn bytes(self) -> u64 {
        5 + u64::from(self.length.unwrap_or_default())
    }

    /// Whether this can only be data of the application: neither an alert nor a KeyUpdate of TLS
    /// 1.3, which are encrypted and so have a certain length.
    pub fn is_message(self) -> bool {
        /// Content, its type (1 byte) and the authentication tag (16 bytes).
        const ALERT: u16 = 2 + 17;
        const KEY_UPDATE: u16 = 5 + 17;
        self.kind == 0x17 && self.length.is_some_and(|length| length != ALERT && length != KEY_UPDATE)
    }

    fn is_of_handshake(self) -> bool {
        matches!(self.kind, 0x14 | 0x16)
    }
}
