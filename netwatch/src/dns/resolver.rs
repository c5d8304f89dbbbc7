//! The address of a resolver in the syntax of `--dns`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU16;

use crate::error::{Error, Result};
use crate::wire::port;

/// Parses `198.51.100.7`, `198.51.100.7:5353`, `2001:db8::7`, `[2001:db8::7]:5353`, `fe80::1%eth0`
/// or `[fe80::1%eth0]:5353`. Without a port, it is 53. The zone after `%` is the name or the index
/// of an interface.
pub fn parse_resolver(text: &str) -> Result<SocketAddr> {
    let parsed = split_port(text).and_then(|(host, port)| Some((parse_host(host)?, port)));
    let Some(((address, zone), port)) = parsed else {
        return Err(Error::other("use resolver", text, "not an IP address")
            .hint("give --dns an address like 9.9.9.9, 9.9.9.9:5353, [2001:db8::1]:53 or fe80::1%eth0"));
    };
    let (IpAddr::V6(v6), Some(zone)) = (address, zone) else { return Ok(SocketAddr::new(address, port)) };
    let scope_id =
        scope_id(zone).ok_or_else(|| Error::other("use resolver", text, format!("no interface `{zone}`")))?;
    Ok(SocketAddrV6::new(v6, port, 0, scope_id).into())
}

/// The host and the port. Only an IPv6 address may be in brackets, and it can have a port only in
/// brackets.
fn split_port(text: &str) -> Option<(&str, u16)> {
    let port = |digits: &str| digits.parse().ok().map(NonZeroU16::get);
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        let port = if rest.is_empty() { port::DNS } else { port(rest.strip_prefix(':')?)? };
        return host.contains(':').then_some((host, port));
    }
    match text.split_once(':') {
        Some((host, digits)) if !digits.contains(':') => Some((host, port(digits)?)),
        _ => Some((text, port::DNS)),
    }
}

/// The address and the zone, which only IPv6 addresses have.
fn parse_host(host: &str) -> Option<(IpAddr, Option<&str>)> {
    match host.split_once('%') {
        Some((address, zone)) => Some((address.parse::<Ipv6Addr>().ok()?.into(), Some(zone))),
        None => Some((host.parse().ok()?, None)),
    }
}

/// The scope id of a zone, which is the index of an interface. `None` if there is no interface of
/// that name in the current network namespace.
pub(super) fn scope_id(zone: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(zone).ok().or_else(|| zone.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_addresses_with_and_without_port_and_zone() {
        for (text, expected) in [
            ("9.9.9.9", "9.9.9.9:53"),
            ("9.9.9.9:5353", "9.9.9.9:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:53", "[2001:db8::1]:53"),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
            ("fe80::1%lo", "[fe80::1%1]:53"),
            ("fe80::1%7", "[fe80::1%7]:53"),
            ("[fe80::1%lo]", "[fe80::1%1]:53"),
            ("[fe80::1%lo]:5353", "[fe80::1%1]:5353"),
        ] {
            assert_eq!(parse_resolver(text).expect(text).to_string(), expected);
        }
    }

    #[test]
    fn refuses_everything_else() {
        let texts = [
            "",
            "dns.example",
            "9.9.9",
            "9.9.9.9:",
            "9.9.9.9:0",
            "9.9.9.9:65536",
            "[9.9.9.9]:53",
            "9.9.9.9%lo",
            "[::1",
            "[::1]53",
            "[::1]:",
            "::1]:53",
            "[]:53",
            "53",
        ];
        for text in texts {
            let error = parse_resolver(text).expect_err(text).to_string();
            assert!(error.contains("not an IP address"), "{text}: {error}");
        }
        let error = parse_resolver("fe80::1%nosuch0").unwrap_err().to_string();
        assert_eq!(error, "cannot use resolver fe80::1%nosuch0: no interface `nosuch0`");
    }
}
