//! Numbers of link types (<https://www.tcpdump.org/linktypes.html>) and their types in the parser.

use netwatch_common::parse::LinkType;

/// Each supported number, its type in the parser, and its identifier in reports.
const KNOWN: [(u16, LinkType, &str); 15] = [
    (0, LinkType::Null, "bsd_null"),
    (1, LinkType::Ethernet, "ethernet"),
    (9, LinkType::Ppp, "ppp"),
    // In old files, raw IP has the number of DLT_RAW of the capturing system.
    (12, LinkType::Ip, "raw_ip"),
    (14, LinkType::Ip, "raw_ip"),
    (50, LinkType::Ppp, "ppp_hdlc"),
    (51, LinkType::Pppoe, "pppoe"),
    (101, LinkType::Ip, "raw_ip"),
    (104, LinkType::Ppp, "cisco_hdlc"),
    (108, LinkType::Null, "bsd_loop"),
    (113, LinkType::Cooked, "linux_cooked"),
    (192, LinkType::Ppi, "ppi"),
    (228, LinkType::Ipv4, "raw_ipv4"),
    (229, LinkType::Ipv6, "raw_ipv6"),
    (276, LinkType::Cooked2, "linux_cooked_2"),
];

/// The type in the parser.
pub(super) fn of(number: u16) -> LinkType {
    KNOWN.iter().find(|(known, ..)| *known == number).map_or(LinkType::Other, |(_, link, _)| *link)
}

/// The identifier in reports; a number that is not supported is its own identifier.
pub fn name(number: u16) -> String {
    KNOWN
        .iter()
        .find(|(known, ..)| *known == number)
        .map_or_else(|| number.to_string(), |(.., name)| (*name).to_owned())
}
