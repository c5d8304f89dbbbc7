//! Registered port numbers that the code depends on. Names of ports for reports are in
//! [`crate::report`].

use super::Application;

/// DNS (RFC 1035).
pub const DNS: u16 = 53;
/// Multicast DNS (RFC 6762).
pub const MDNS: u16 = 5353;
/// Link-local multicast name resolution (RFC 4795).
pub const LLMNR: u16 = 5355;
/// DNS over TLS (RFC 7858) and over QUIC (RFC 9250).
pub const ENCRYPTED_DNS: u16 = 853;
/// NetBIOS name service (RFC 1002), which uses DNS messages for other names.
pub const NETBIOS_NAMES: u16 = 137;
/// HTTP over TLS or QUIC.
pub const HTTPS: u16 = 443;
/// Network time (RFC 5905).
pub const NTP: u16 = 123;
/// Requests of SNMP (RFC 3417).
pub const SNMP: u16 = 161;
/// Notifications of SNMP (RFC 3417).
pub const SNMP_TRAP: u16 = 162;
/// Discovery of UPnP.
pub const SSDP: u16 = 1900;
/// User data of GTP (3GPP TS 29.281).
pub const GTP_U: u16 = 2152;
/// VXLAN (RFC 7348).
pub const VXLAN: u16 = 4789;
/// VXLAN with the default port of Linux, which is older than the RFC.
pub const VXLAN_LINUX: u16 = 8472;
/// Geneve (RFC 8926).
pub const GENEVE: u16 = 6081;

/// The kind of DNS that this port is registered for.
pub fn dns_at(port: u16) -> Option<Application> {
    match port {
        DNS => Some(Application::Dns),
        MDNS => Some(Application::Mdns),
        LLMNR => Some(Application::Llmnr),
        _ => None,
    }
}
