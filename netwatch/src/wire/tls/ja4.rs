//! JA4 (technical specification by FoxIO): a fingerprint of the ClientHello, which identifies the
//! TLS library.

use std::fmt;

use ring::digest::{SHA256, digest};

use super::client_hello::{Carrier, ClientHello, extension};
use super::is_grease;

/// A fingerprint: 36 characters in three parts.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ja4(Box<str>);

impl Ja4 {
    /// The fingerprint of a complete hello; `None` for an incomplete one, whose fingerprint would
    /// differ.
    pub fn of(hello: &ClientHello<'_>) -> Option<Self> {
        hello.is_whole().then(|| Self(format!("{}_{}_{}", part_a(hello), part_b(hello), part_c(hello)).into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Carrier, version, whether there is a server name, numbers of cipher suites and extensions,
/// application protocol.
fn part_a(hello: &ClientHello<'_>) -> String {
    let carrier = match hello.carrier() {
        Carrier::Tls => 't',
        Carrier::Dtls => 'd',
        Carrier::Quic => 'q',
    };
    let name = if hello.extension(extension::SERVER_NAME).is_some() { 'd' } else { 'i' };
    let ciphers = hello.ciphers().count().min(99);
    let extensions = extensions(hello).count().min(99);
    let [first, last] = protocol(hello.alpn().next().unwrap_or_default());
    format!("{carrier}{}{name}{ciphers:02}{extensions:02}{first}{last}", hello.version().ja4())
}

/// The first and the last character of the first protocol's name; of its hexadecimal form if they
/// are not letters or digits.
fn protocol(name: &[u8]) -> [char; 2] {
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return ['0', '0'] };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)];
    }
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    [digit(first >> 4), digit(last & 0x0f)]
}

/// Hash of the sorted cipher suites.
fn part_b(hello: &ClientHello<'_>) -> String {
    let mut ciphers: Vec<u16> = hello.ciphers().collect();
    ciphers.sort_unstable();
    hash(&list(&ciphers))
}

/// Hash of the sorted extensions, without those that depend on the server, and of the signature
/// algorithms in order.
fn part_c(hello: &ClientHello<'_>) -> String {
    let mut kinds: Vec<u16> =
        extensions(hello).filter(|kind| !matches!(*kind, extension::SERVER_NAME | extension::ALPN)).collect();
    kinds.sort_unstable();
    let mut text = list(&kinds);
    let algorithms: Vec<u16> = hello.signature_algorithms().collect();
    if !algorithms.is_empty() {
        text.push('_');
        text += &list(&algorithms);
    }
    hash(&text)
}

fn extensions<'a>(hello: &ClientHello<'a>) -> impl Iterator<Item = u16> + use<'a> {
    hello.extensions().map(|extension| extension.kind).filter(|kind| !is_grease(*kind))
}

fn list(numbers: &[u16]) -> String {
    let mut text = String::with_capacity(numbers.len() * 5);
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_hex(&mut text, &number.to_be_bytes());
    }
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 0x0f)]);
    bytes.iter().for_each(|byte| text.extend([digit(byte >> 4), digit(*byte)]));
}

/// The first 12 digits of SHA-256; zeros for an empty text.
fn hash(text: &str) -> String {
    if text.is_empty() {
        return "0".repeat(12);
    }
    let mut hex = String::with_capacity(12);
    push_hex(&mut hex, &digest(&SHA256, text.as_bytes()).as_ref()[..6]);
    hex
}
