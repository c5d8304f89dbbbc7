//! Addresses and ports of the test network. They are from documentation ranges (RFC 5737, RFC
//! 3849).

use std::net::{Ipv4Addr, Ipv6Addr};

/// Address of the host on its uplink.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Address of the host on its uplink.
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// The default gateway of the host.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The default gateway of the host.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// All servers except DNS: `app.example`.
pub const APP_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// All servers except DNS: `app.example`.
pub const APP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
/// The DNS server.
pub const DNS_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// The DNS server.
pub const DNS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x53);

/// The name of the application server, with an A and an AAAA record.
pub const APP: &str = "app.example";
/// A name with TXT records of 3 kB, so that the response needs TCP or large EDNS datagrams.
pub const BIG: &str = "big.example";

/// UDP and TCP: sends everything back.
pub const ECHO: u16 = 7;
/// TCP: reads until the end and stores the number of bytes ([`crate::TestInternet::sunk`]).
pub const SINK: u16 = 9000;
/// TCP: sends [`SOURCE_BYTES`] and closes.
pub const SOURCE: u16 = 9001;
/// Number of bytes that [`SOURCE`] sends.
pub const SOURCE_BYTES: usize = 1_000_000;
/// No server listens: connections are refused.
pub const REFUSED: u16 = 81;
/// A firewall drops all packets: connections are never answered.
pub const SILENT: u16 = 82;
/// iperf3.
pub const IPERF: u16 = 5201;
