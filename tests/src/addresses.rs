//! Who lives where in the made-up internet: documentation ranges only (RFC 5737, RFC 3849).

use std::net::{Ipv4Addr, Ipv6Addr};

/// The host's end of its uplink.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The host's end of its uplink.
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// The host's default gateway.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The host's default gateway.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Every server but DNS: `app.example`.
pub const APP_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// Every server but DNS: `app.example`.
pub const APP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
/// The DNS server.
pub const DNS_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// The DNS server.
pub const DNS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x53);

/// The name of the application server, with an A and an AAAA record.
pub const APP: &str = "app.example";
/// A name whose TXT records fill 3 kB, so that the answer comes by TCP or large EDNS datagrams.
pub const BIG: &str = "big.example";

/// UDP and TCP: sends back what it gets.
pub const ECHO: u16 = 7;
/// TCP: reads until the end and remembers how much ([`crate::TestInternet::sunk`]).
pub const SINK: u16 = 9000;
/// TCP: sends [`SOURCE_BYTES`] and closes.
pub const SOURCE: u16 = 9001;
/// What [`SOURCE`] sends.
pub const SOURCE_BYTES: usize = 1_000_000;
/// Nobody listens: connections are refused.
pub const REFUSED: u16 = 81;
/// A firewall drops everything: connections are never answered.
pub const SILENT: u16 = 82;
/// iperf3.
pub const IPERF: u16 = 5201;
