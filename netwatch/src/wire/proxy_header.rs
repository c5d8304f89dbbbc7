//! The header that load balancers put before the bytes of a connection to report its client (PROXY
//! protocol of HAProxy, versions 1 and 2).

use super::ByteReader;

/// Maximum length of a line of version 1, bytes.
const MAX_LINE: usize = 107;
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\x00\r\nQUIT\n";

/// The length of the header, if the stream begins with a complete one.
pub fn length(stream: &[u8]) -> Option<usize> {
    if stream.starts_with(b"PROXY ") {
        let end = stream.iter().take(MAX_LINE).position(|byte| *byte == b'\n')?;
        return Some(end + 1);
    }
    let mut reader = ByteReader::new(stream.strip_prefix(SIGNATURE_V2)?);
    let _command = reader.u16()?;
    reader.vector16()?;
    Some(stream.len() - reader.rest().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_headers_of_both_versions() {
        assert_eq!(length(b"PROXY TCP4 198.51.100.1 203.0.113.1 40000 443\r\n\x16\x03"), Some(47));
        assert_eq!(length(b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x02abGET"), Some(18));
        assert_eq!(length(b"PROXY TCP4"), None);
        assert_eq!(length(b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x03ab"), None);
    }
}
