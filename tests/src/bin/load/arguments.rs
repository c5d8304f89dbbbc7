//! Arguments of the form `key=value`, and what they stand for.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

/// Arguments by key. Each is removed when it is read.
pub struct LoadArguments(HashMap<String, String>);

impl LoadArguments {
    pub fn parse(words: &[String]) -> io::Result<Self> {
        let pair = |word: &String| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        words.iter().map(|word| pair(word).ok_or_else(|| invalid(word))).collect::<io::Result<_>>().map(Self)
    }

    pub fn number(&mut self, key: &str, default: u64) -> io::Result<u64> {
        self.0.remove(key).map_or(Ok(default), |value| value.parse().map_err(|_| invalid(&value)))
    }

    pub fn millis(&mut self, key: &str, default: u64) -> io::Result<Duration> {
        self.number(key, default).map(Duration::from_millis)
    }

    pub fn address(&mut self, key: &str) -> io::Result<SocketAddr> {
        address(&self.0.remove(key).unwrap_or_default())
    }

    pub fn is(&mut self, key: &str, expected: &str) -> bool {
        self.0.remove(key).is_some_and(|value| value == expected)
    }

    /// Fails if there is an argument that was not read.
    pub fn finish(&self) -> io::Result<()> {
        self.0.keys().next().map_or(Ok(()), |key| Err(invalid(key)))
    }
}

pub fn address(text: &str) -> io::Result<SocketAddr> {
    text.parse().map_err(|_| invalid(text))
}

fn invalid(word: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("invalid argument: {word:?}"))
}

/// The server name in [`client_hello`].
const SERVER_NAME: &[u8] = b"burst.app.example";

/// A ClientHello of TLS 1.3 (RFC 8446, 4.1.2) in one record: a server name, and padding (RFC 7685)
/// to the size that a browser sends.
pub fn client_hello() -> Vec<u8> {
    const PADDING: usize = 1_000;
    let list = prefixed(2, &[&[0][..], &prefixed(2, SERVER_NAME)].concat());
    let extensions = [
        extension(0, &list),
        extension(43, &[2, 3, 4]),
        extension(10, &[0, 2, 0, 29]),
        extension(13, &[0, 2, 4, 3]),
        extension(21, &[0; PADDING]),
    ];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(prefixed(1, &[1; 32]));
    body.extend(prefixed(2, &[0x13, 1, 0x13, 2]));
    body.extend(prefixed(1, &[0]));
    body.extend(prefixed(2, &extensions.concat()));
    let message = [&[1, 0][..], &prefixed(2, &body)].concat();
    [&[22, 3, 1][..], &prefixed(2, &message)].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &prefixed(2, data)].concat()
}

/// Data after its length in one or two bytes.
fn prefixed(length_bytes: usize, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u16).to_be_bytes();
    [&length[2 - length_bytes..], data].concat()
}
