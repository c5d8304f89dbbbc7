//! Protocols at the start of one direction of a TCP stream. TLS, HTTP and DNS have their own
//! parsers, which return more.

use super::datagram::ber_length;
use crate::wire::{Application, ByteReader};

/// What the first bytes identify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identification {
    /// These bytes identify this protocol.
    Certain(Application),
    /// Several protocols begin like this; the other direction may decide.
    Greeting(Greeting),
    /// No protocol.
    None,
}

/// Beginnings that several protocols have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// `220 …` without the protocol's name: a server of SMTP or FTP.
    ServiceReady,
    /// `USER …`: a client of FTP or POP3.
    User,
    /// `AUTH TLS`, `FEAT` and other commands that only FTP has among these protocols.
    FtpCommand,
}

impl Greeting {
    /// The protocol that the greetings of both directions identify together.
    pub fn with(self, other: Self) -> Option<Application> {
        match (self, other) {
            (Self::ServiceReady, Self::User | Self::FtpCommand)
            | (Self::User | Self::FtpCommand, Self::ServiceReady) => Some(Application::Ftp),
            _ => None,
        }
    }
}

/// Whether bytes have the form of a protocol.
type StreamShape = fn(&[u8]) -> bool;

/// Identifies a stream by its first bytes.
pub fn stream(bytes: &[u8]) -> Identification {
    // Most streams are none of these, and differ in the first byte.
    let begins = |beginning: &[u8]| beginning.first() == bytes.first() && bytes.starts_with(beginning);
    if let Some((_, application)) = BEGINNINGS.iter().find(|(beginning, _)| begins(beginning)) {
        return Identification::Certain(*application);
    }
    let known: [(StreamShape, Application); 9] = [
        (is_mqtt, Application::Mqtt),
        (is_mysql, Application::MySql),
        (is_postgres, Application::Postgres),
        (is_redis, Application::Redis),
        (is_ldap, Application::Ldap),
        (is_xmpp, Application::Xmpp),
        (is_rdp, Application::Rdp),
        (is_smb, Application::Smb),
        (is_mongodb, Application::MongoDb),
    ];
    match known.iter().find(|(is, _)| is(bytes)) {
        Some((_, application)) => Identification::Certain(*application),
        None => identify_line(bytes),
    }
}

/// Beginnings that identify a protocol by themselves.
const BEGINNINGS: [(&[u8], Application); 11] = [
    (b"SSH-2.0-", Application::Ssh),
    (b"SSH-1.", Application::Ssh),
    (b"\x13BitTorrent protocol", Application::BitTorrent),
    (b"EHLO ", Application::Smtp),
    (b"HELO ", Application::Smtp),
    (b"* OK", Application::Imap),
    (b"* PREAUTH", Application::Imap),
    (b"AMQP\x00", Application::Amqp),
    (b"RFB 003.", Application::Vnc),
    (b"STLS\r\n", Application::Pop3),
    (b"CAPA\r\n", Application::Pop3),
];

/// Longest tag of an IMAP command that is looked for.
const MAX_TAG: usize = 16;

/// The first line of text protocols.
fn identify_line(bytes: &[u8]) -> Identification {
    if !begins_with_word(bytes) {
        return Identification::None;
    }
    let Some(end) = bytes.iter().take(512).position(|byte| *byte == b'\n') else { return Identification::None };
    let line = bytes[..end].to_ascii_uppercase();
    let line = line.trim_ascii_end();
    match line {
        [b'2', b'2', b'0', b' ' | b'-', rest @ ..] => service_ready(rest),
        [b'+', b'O', b'K', b' ', ..] => Identification::Certain(Application::Pop3),
        [b'U', b'S', b'E', b'R', b' ', ..] => Identification::Greeting(Greeting::User),
        b"AUTH TLS" | b"AUTH SSL" | b"FEAT" | b"SYST" | b"PASV" | b"EPSV" => {
            Identification::Greeting(Greeting::FtpCommand)
        }
        _ if is_imap_command(line) => Identification::Certain(Application::Imap),
        _ => Identification::None,
    }
}

/// Whether bytes begin as every line below does: with a code, a command or a tag, and what ends it.
/// Spares most streams the search for the end of a line.
fn begins_with_word(bytes: &[u8]) -> bool {
    let word = bytes.iter().take(MAX_TAG + 1).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    match bytes.get(word) {
        Some(end) if (1..=MAX_TAG).contains(&word) => *end == b'-' || end.is_ascii_whitespace(),
        _ => bytes.starts_with(b"+"),
    }
}

fn service_ready(rest: &[u8]) -> Identification {
    let contains = |word: &[u8]| rest.windows(word.len()).any(|window| window == word);
    if contains(b"SMTP") {
        Identification::Certain(Application::Smtp)
    } else if contains(b"FTP") {
        Identification::Certain(Application::Ftp)
    } else {
        Identification::Greeting(Greeting::ServiceReady)
    }
}

/// A tag, then a command that only IMAP has (RFC 9051 section 6).
fn is_imap_command(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let (tag, command) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_tag = (1..=MAX_TAG).contains(&tag.len()) && tag.iter().all(u8::is_ascii_alphanumeric);
    is_tag && matches!(command, b"CAPABILITY" | b"LOGIN" | b"STARTTLS" | b"AUTHENTICATE" | b"ID")
}

/// A CONNECT packet: its type, its length, and the protocol's name.
fn is_mqtt(bytes: &[u8]) -> bool {
    const CONNECT: u8 = 0x10;
    let length = bytes.iter().skip(1).take(4).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let name = bytes.get(1 + length..).unwrap_or_default();
    bytes.first() == Some(&CONNECT) && (name.starts_with(b"\x00\x04MQTT") || name.starts_with(b"\x00\x06MQIsdp"))
}

/// The greeting of a server, protocol 10: packet number 0, then a version as terminated text.
fn is_mysql(bytes: &[u8]) -> bool {
    let [_, _, 0, 0, 10, version @ ..] = bytes else { return false };
    let end = version.iter().take(64).position(|byte| *byte == 0);
    end.is_some_and(|end| {
        version.first().is_some_and(u8::is_ascii_digit) && version[..end].iter().all(u8::is_ascii_graphic)
    })
}

/// The client's first message: a request for encryption, or version 3 with a user.
fn is_postgres(bytes: &[u8]) -> bool {
    let mut reader = ByteReader::new(bytes);
    let (Some(length), Some(code)) = (reader.u32(), reader.u32()) else { return false };
    match code {
        0x04d2_162f | 0x04d2_1630 => length == 8,
        0x0003_0000 | 0x0003_0002 => (9..10_000).contains(&length) && reader.rest().starts_with(b"user\0"),
        _ => false,
    }
}

/// A command as an array of strings: `*1\r\n$4\r\nPING\r\n`.
fn is_redis(bytes: &[u8]) -> bool {
    let count = |bytes: &[u8]| bytes.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    let Some(rest) = bytes.strip_prefix(b"*") else { return false };
    let array = count(rest);
    let Some(rest) = rest[array..].strip_prefix(b"\r\n$") else { return false };
    let string = count(rest);
    array > 0 && string > 0 && rest[string..].starts_with(b"\r\n")
}

/// A message (RFC 4511 section 4.1.1) with a bind, a search, or an extended request.
fn is_ldap(bytes: &[u8]) -> bool {
    let mut reader = ByteReader::new(bytes);
    if reader.u8() != Some(0x30) || ber_length(&mut reader).is_none() || reader.u8() != Some(2) {
        return false;
    }
    let id = reader.u8().filter(|length| (1..=4).contains(length)).and_then(|length| reader.take(length.into()));
    id.is_some() && matches!(reader.u8(), Some(0x60 | 0x61 | 0x63 | 0x77 | 0x78)) && ber_length(&mut reader).is_some()
}

fn is_xmpp(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(256)];
    let stream = b"<stream:stream";
    head.starts_with(stream)
        || (head.starts_with(b"<?xml") && head.windows(stream.len()).any(|window| window == stream))
}

/// TPKT (RFC 1006) with a connection request or its confirmation; both lengths must match.
fn is_rdp(bytes: &[u8]) -> bool {
    let [3, 0, high, low, inner, 0xe0 | 0xd0, ..] = bytes else { return false };
    let length = u16::from_be_bytes([*high, *low]);
    (11..=512).contains(&length) && u16::from(*inner) + 5 == length
}

/// After the header of NetBIOS (RFC 1002 section 4.3.1).
fn is_smb(bytes: &[u8]) -> bool {
    matches!(bytes, [0, _, _, _, 0xfd..=0xff, b'S', b'M', b'B', ..])
}

/// The header of a request: an operation that exists, and a plausible length.
fn is_mongodb(bytes: &[u8]) -> bool {
    let mut reader = ByteReader::new(bytes);
    let (Some(length), Some(_), Some(response_to), Some(code)) =
        (reader.u32_le(), reader.u32_le(), reader.u32_le(), reader.u32_le())
    else {
        return false;
    };
    (26..48_000_000).contains(&length) && response_to == 0 && matches!(code, 2004 | 2013)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(bytes: &[u8]) -> Option<Application> {
        match stream(bytes) {
            Identification::Certain(application) => Some(application),
            _ => None,
        }
    }

    #[test]
    fn identifies_streams() {
        let table: [(&[u8], Application); 19] = [
            (b"0123456789abcdef capability\r\n", Application::Imap),
            (b"+ok ready\n", Application::Pop3),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Application::Ssh),
            (b"220 mail.example ESMTP Postfix\r\n", Application::Smtp),
            (b"220-Welcome to Pure-FTPd\r\n", Application::Ftp),
            (b"* OK [CAPABILITY IMAP4rev1] ready\r\n", Application::Imap),
            (b"a1 STARTTLS\r\n", Application::Imap),
            (b"+OK ready\r\n", Application::Pop3),
            (b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd", Application::Mqtt),
            (b"\x4a\x00\x00\x00\x0a8.0.36\x00\x01\x00\x00\x00", Application::MySql),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Application::Postgres),
            (b"\x00\x00\x00\x20\x00\x03\x00\x00user\x00me\x00\x00", Application::Postgres),
            (b"*1\r\n$4\r\nPING\r\n", Application::Redis),
            (b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037", Application::Ldap),
            (b"<?xml version='1.0'?><stream:stream to='example'>", Application::Xmpp),
            (b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x0b\x00\x00\x00", Application::Rdp),
            (b"\x00\x00\x00\x54\xfeSMB\x40\x00", Application::Smb),
            (b"\x13BitTorrent protocol\x00", Application::BitTorrent),
            (b"\x3a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00", Application::MongoDb),
        ];
        for (bytes, expected) in table {
            assert_eq!(proof(bytes), Some(expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn ambiguous_beginnings_identify_no_protocol() {
        let none: [&[u8]; 7] = [
            b"",
            b"220",
            b"+OK\r\n",
            b"220 ready\r\n",
            b"USER me\r\n",
            b"*x\r\n$4\r\n",
            b"\x00\x00\x00\x08\x04\xd2\x16",
        ];
        for bytes in none {
            assert_eq!(proof(bytes), None, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn greetings_of_both_directions_identify_ftp() {
        let Identification::Greeting(server) = stream(b"220 ready\r\n") else { panic!() };
        let Identification::Greeting(client) = stream(b"USER me\r\n") else { panic!() };
        assert_eq!(server.with(client), Some(Application::Ftp));
        assert_eq!(client.with(server), Some(Application::Ftp));
        assert_eq!(client.with(client), None);
    }
}
