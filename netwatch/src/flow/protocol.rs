//! IP protocol numbers and their names in reports.

use std::fmt;

/// An IANA protocol number. Displayed as its name in reports, or as the number if it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Internet Control Message Protocol (RFC 792).
    pub const ICMP: Self = Self(1);
    /// Transmission Control Protocol (RFC 9293).
    pub const TCP: Self = Self(6);
    /// User Datagram Protocol (RFC 768).
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: Self = Self(58);
    /// Stream Control Transmission Protocol (RFC 9260).
    pub const SCTP: Self = Self(132);

    /// The name in reports; `None` for protocols without one.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::ICMP => Some("icmp"),
            Self::TCP => Some("tcp"),
            Self::UDP => Some("udp"),
            Self::ICMPV6 => Some("icmpv6"),
            Self::SCTP => Some("sctp"),
            _ => None,
        }
    }

    /// The word for it in text for people (IANA's keyword), also of protocols that reports number.
    pub fn keyword(self) -> Option<&'static str> {
        self.name().or(match self.0 {
            2 => Some("igmp"),
            4 => Some("ipip"),
            41 => Some("ipv6"),
            46 => Some("rsvp"),
            47 => Some("gre"),
            50 => Some("esp"),
            51 => Some("ah"),
            88 => Some("eigrp"),
            89 => Some("ospf"),
            97 => Some("etherip"),
            103 => Some("pim"),
            108 => Some("ipcomp"),
            112 => Some("vrrp"),
            115 => Some("l2tp"),
            136 => Some("udplite"),
            137 => Some("mpls-in-ip"),
            _ => None,
        })
    }

    /// Whether it is ICMP of either address family.
    pub fn is_icmp(self) -> bool {
        matches!(self, Self::ICMP | Self::ICMPV6)
    }

    /// True for protocols with ports that netwatch parses.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_displayed_as_its_name_or_number() {
        assert_eq!(Protocol::ICMPV6.to_string(), "icmpv6");
        assert_eq!(Protocol(47).to_string(), "47");
        assert_eq!([6, 47, 50, 89].map(|number| Protocol(number).keyword()), ["tcp", "gre", "esp", "ospf"].map(Some));
        assert_eq!(Protocol(253).keyword(), None);
    }
}
