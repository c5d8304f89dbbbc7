//! Numbers of link types (<https://www.tcpdump.org/linktypes.html>) and what the parser has for them.

use netwatch_common::parse::Link;

/// Each number that is read here, what the parser does with it, and its name in reports.
const KNOWN: [(u16, Link, &str); 15] = [
    (0, Link::Null, "bsd_null"),
    (1, Link::Ethernet, "ethernet"),
    (9, Link::Ppp, "ppp"),
    // Raw IP has the number of the capturing system's DLT_RAW in old files.
    (12, Link::Ip, "raw_ip"),
    (14, Link::Ip, "raw_ip"),
    (50, Link::Ppp, "ppp_hdlc"),
    (51, Link::Pppoe, "pppoe"),
    (101, Link::Ip, "raw_ip"),
    (104, Link::Ppp, "cisco_hdlc"),
    (108, Link::Null, "bsd_loop"),
    (113, Link::Cooked, "linux_cooked"),
    (192, Link::Ppi, "ppi"),
    (228, Link::Ipv4, "raw_ipv4"),
    (229, Link::Ipv6, "raw_ipv6"),
    (276, Link::Cooked2, "linux_cooked_2"),
];

/// What the parser has for this number.
pub(super) fn of(number: u16) -> Link {
    KNOWN.iter().find(|(known, ..)| *known == number).map_or(Link::Other, |(_, link, _)| *link)
}

/// The name in reports; a number that is not read here is its own name.
pub fn name(number: u16) -> String {
    KNOWN
        .iter()
        .find(|(known, ..)| *known == number)
        .map_or_else(|| number.to_string(), |(.., name)| (*name).to_owned())
}
