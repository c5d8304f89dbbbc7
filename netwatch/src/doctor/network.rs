//! nf_tables, the way out, and the resolvers. The host's firewall is inspected elsewhere.

use std::fs;
use std::io;
use std::net::IpAddr;

use super::Finding;
use crate::host::namespace;
use crate::host::netlink::Netlink;
use crate::host::uplink::{RouteOut, Uplink};

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN`: the number of the rule set's generation.
const GET_GENERATION: u16 = 10 << 8 | 16;

pub(super) fn nf_tables() -> Finding {
    // In a namespace of its own: asking makes the kernel load the module, and nothing else.
    let asked =
        namespace::in_new(|| Netlink::netfilter()?.ask("ask nf_tables for its generation", GET_GENERATION, &[0; 4]));
    match asked.and_then(|answer| answer) {
        Ok(_) => Finding::ok("nf_tables", "there"),
        Err(error) => Finding::fail(
            "nf_tables",
            error.to_string(),
            "run with sudo; load the module nf_tables, or use a kernel with CONFIG_NF_TABLES",
        ),
    }
}

pub(super) fn uplink() -> Finding {
    match Netlink::route().and_then(|mut netlink| Uplink::find(&mut netlink)) {
        Ok(uplink) => describe(&uplink),
        Err(error) => Finding::fail("uplink", error.to_string(), "netwatch needs rtnetlink"),
    }
}

fn describe(uplink: &Uplink) -> Finding {
    let family = |name: &str, route: &Option<RouteOut>| route.as_ref().map(|route| format!("{name} {}", way(route)));
    let ways: Vec<_> = [family("IPv4", &uplink.v4), family("IPv6", &uplink.v6)].into_iter().flatten().collect();
    match ways.as_slice() {
        [] => Finding::warn("uplink", "no default route", "the command will reach this host and its networks only"),
        _ => Finding::ok("uplink", format!("{}; MTU {}", ways.join(", "), uplink.mtu())),
    }
}

fn way(route: &RouteOut) -> String {
    match route.gateway {
        Some(gateway) => format!("by {gateway} on {}", route.interface),
        None => format!("on {}", route.interface),
    }
}

pub(super) fn resolver() -> Finding {
    let path = "/etc/resolv.conf";
    match fs::read_to_string(path) {
        Ok(text) => judge(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::warn(
            "resolver",
            format!("{path} is not there, so 127.0.0.1 is asked"),
            "name a resolver with --dns",
        ),
        Err(error) => Finding::warn("resolver", format!("cannot read {path}: {error}"), "name a resolver with --dns"),
    }
}

fn judge(text: &str) -> Finding {
    let servers: Vec<_> = text.lines().filter_map(nameserver).map(|server| server.to_string()).collect();
    match servers.as_slice() {
        [] => Finding::warn(
            "resolver",
            "/etc/resolv.conf names none, so 127.0.0.1 is asked",
            "name a resolver with --dns",
        ),
        _ => Finding::ok("resolver", servers.join(", ")),
    }
}

/// The address in a `nameserver` line; glibc allows a zone after it.
fn nameserver(line: &str) -> Option<IpAddr> {
    let mut words = line.split_ascii_whitespace();
    (words.next()? == "nameserver").then_some(())?;
    words.next()?.split('%').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn describes_the_ways_out() {
        assert_eq!(describe(&Uplink::default()).level, Level::Warn);
        let route = |interface: &str, gateway: Option<&str>| {
            let gateway = gateway.map(|gateway| gateway.parse().unwrap());
            Some(RouteOut { interface: interface.into(), index: 2, gateway, source: None, table: 254, mtu: 1420 })
        };
        let uplink = Uplink { v4: route("eth0", Some("203.0.113.1")), v6: route("wg0", None) };
        assert_eq!(describe(&uplink).to_string(), "ok    uplink: IPv4 by 203.0.113.1 on eth0, IPv6 on wg0; MTU 1420");
    }

    #[test]
    fn lists_the_resolvers() {
        assert_eq!(
            judge("# x\nsearch example\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\n").detail,
            "127.0.0.53, fe80::1"
        );
        assert_eq!(judge("nameserver\nnameserver here\n").level, Level::Warn);
    }

    #[test]
    fn nf_tables_answers_root() {
        if nix::unistd::geteuid().is_root() {
            assert_eq!(nf_tables().level, Level::Ok, "{}", nf_tables());
        }
    }
}
