//! Numbers of DNS that have mnemonics.

use std::fmt;

use domain::base::iana;

/// A type of resource record. Displays as its mnemonic, or as `TYPE65280` (RFC 3597 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordType(pub u16);

impl RecordType {
    /// An IPv4 address.
    pub const A: Self = Self(1);
    /// An IPv6 address.
    pub const AAAA: Self = Self(28);
    /// The name of an address.
    pub const PTR: Self = Self(12);
    /// The options of EDNS (RFC 6891), which are no data.
    pub const OPT: Self = Self(41);
    /// The service binding of HTTPS (RFC 9460).
    pub const HTTPS: Self = Self(65);
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        iana::Rtype::from_int(self.0).fmt(f)
    }
}

impl RecordType {
    /// Restores a type from its text.
    pub fn of_text(text: &str) -> Option<Self> {
        text.parse::<iana::Rtype>().ok().map(|kind| Self(kind.to_int()))
    }
}

/// A response code. Displays as its mnemonic, or as the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rcode(pub u8);

impl Rcode {
    /// No error. The response may still contain no records.
    pub const NOERROR: Self = Self(0);
    /// The server failed.
    pub const SERVFAIL: Self = Self(2);
    /// The name does not exist.
    pub const NXDOMAIN: Self = Self(3);
    /// The server refused the query.
    pub const REFUSED: Self = Self(5);

    /// Restores a code from its text, in any case.
    pub fn of_text(text: &str) -> Option<Self> {
        (0..=u8::MAX).map(Self).find(|code| code.to_string().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        iana::Rcode::masked_from_int(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_as_mnemonics() {
        assert_eq!(RecordType::HTTPS.to_string(), "HTTPS");
        assert_eq!(RecordType(65_280).to_string(), "TYPE65280");
        assert_eq!(Rcode::NXDOMAIN.to_string(), "NXDOMAIN");
        assert_eq!(Rcode::SERVFAIL.to_string(), "SERVFAIL");
        assert_eq!(Rcode::of_text("nxdomain"), Some(Rcode::NXDOMAIN));
        assert_eq!(RecordType::of_text("HTTPS"), Some(RecordType::HTTPS));
        assert_eq!(RecordType::of_text("TYPE65280"), Some(RecordType(65_280)));
    }
}
