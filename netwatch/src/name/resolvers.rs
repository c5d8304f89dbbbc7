//! Public resolvers that support DNS over HTTPS, TLS or QUIC, which hide names from the network.
//!
//! Names and addresses as published by the operators (developers.google.com/speed/public-dns,
//! developers.cloudflare.com/1.1.1.1, quad9.net, opendns.com, adguard-dns.io, nextdns.io,
//! cleanbrowsing.org, mullvad.net, controld.com, alidns.com, dnspod.cn, dns.sb, dns0.eu), and from
//! the list of "DNS over HTTPS" servers of curl. The list cannot be complete: a resolver that is
//! missing counts as an ordinary HTTPS server.

use std::net::IpAddr;

use crate::wire::Name;

/// Host names, including all names below them.
#[rustfmt::skip]
const NAMES: [&str; 34] = [
    "dns.google", "dns.google.com", "dns64.dns.google",
    "cloudflare-dns.com", "one.one.one.one", "1dot1dot1dot1.cloudflare-dns.com", "cloudflare-gateway.com",
    "quad9.net",
    "doh.opendns.com", "dns.opendns.com", "doh.umbrella.com", "dns.umbrella.com", "doh.familyshield.opendns.com",
    "adguard-dns.com", "dns.adguard.com",
    "dns.nextdns.io", "dns1.nextdns.io", "anycast.dns.nextdns.io",
    "doh.cleanbrowsing.org", "doh.dns.apple.com", "dns.mullvad.net", "doh.mullvad.net",
    "controld.com", "dns.alidns.com", "doh.pub", "dns.pub", "dot.pub",
    "doh.dns.sb", "dns.sb", "dot.sb", "dns0.eu", "doh.libredns.gr", "doh.xfinity.com", "dnsforge.de",
];

/// Addresses that provide no other service.
#[rustfmt::skip]
const ADDRESSES: [&str; 34] = [
    "8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844",
    "1.1.1.1", "1.0.0.1", "1.1.1.2", "1.0.0.2", "1.1.1.3", "1.0.0.3", "2606:4700:4700::1111", "2606:4700:4700::1001",
    "9.9.9.9", "149.112.112.112", "9.9.9.10", "9.9.9.11", "2620:fe::fe", "2620:fe::9",
    "208.67.222.222", "208.67.220.220", "2620:119:35::35", "2620:119:53::53",
    "94.140.14.14", "94.140.15.15", "2a10:50c0::ad1:ff", "2a10:50c0::ad2:ff",
    "194.242.2.2", "76.76.2.0", "76.76.10.0", "223.5.5.5", "223.6.6.6", "185.222.222.222", "45.11.45.11", "193.110.81.0",
];

/// Whether this is the name of a public resolver.
pub(super) fn is_name(name: &Name) -> bool {
    let name = name.as_str();
    NAMES.iter().any(|known| name.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// Whether this is the address of a public resolver.
pub(super) fn is_address(address: IpAddr) -> bool {
    ADDRESSES.iter().any(|known| known.parse() == Ok(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_public_resolvers() {
        let is = |name: &str| is_name(&Name::new(name.as_bytes()).unwrap());
        assert!(is("dns.google") && is("mozilla.cloudflare-dns.com") && is("dns10.quad9.net"));
        assert!(!is("notdns.google") && !is("app.example") && !is("google"));
        assert!(ADDRESSES.iter().all(|address| is_address(address.parse().unwrap())));
        assert!(!is_address([198, 51, 100, 1].into()));
    }
}
