//! systemd: a drop-in for a service.

use std::collections::BTreeSet;

use super::header::{self, FAILED_ATTEMPTS, NAMES_LIMIT, commented, failed_with_addresses};
use super::need::{Service, shown};
use super::text::comment;
use super::{Requirements, RuleOptions};
use crate::flow::{Direction, Protocol};

const USAGE: &str = "Save as /etc/systemd/system/NAME.service.d/netwatch.conf, then run `systemctl daemon-reload` and restart the service. It filters only \
    that service.";
const LIMITS: &str = "ports of remotes: an allowed address is allowed with every port and protocol, in both directions";
const NO_DNS: &str = "DNS is denied to every resolver that is not on this machine (127.0.0.53): name yours with --resolver, or no name can be \
    resolved.";
/// getaddrinfo(3) needs AF_NETLINK to determine the address families.
const FAMILIES: &str = "# Runs show IP and local sockets, but not packet sockets, VSOCK, Bluetooth and others. If the service uses none of those:\n\
    # RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6\n";
const OPEN_PORTS: &str = "# Any remote may connect to the ports below, and systemd has one list for both directions, so addresses are not restricted.\n\
    # With --by-remote they are restricted to the remotes that connected.\n# IPAddressDeny=any\n";
const BIND: &str = "# Denying other ports also denies port 0 to clients that bind before they send, as musl's resolver does. Runs do not show that.\n\
    # SocketBindDeny=any\n";

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let is_open = !options.by_remote && requirements.of_direction(Direction::Ingress).next().is_some();
    let denies_dns = requirements.dns && options.resolvers.is_empty() && !is_open;
    let usage: &[&str] = if denies_dns { &[USAGE, NO_DNS] } else { &[USAGE] };
    let lines = header::lines(requirements, options, usage, &[NAMES_LIMIT, LIMITS]);
    let mut text = commented(&lines, "#") + "[Service]\n" + FAMILIES;
    text += &if is_open { OPEN_PORTS.to_owned() } else { addresses(requirements, options) };
    text += &binds(requirements);
    for (at, need) in requirements.not_opened().enumerate() {
        if at == 0 {
            text += &format!("# {FAILED_ATTEMPTS}\n");
        }
        text += &format!("#   {}\n", failed_with_addresses(need));
    }
    text
}

fn addresses(requirements: &Requirements, options: &RuleOptions) -> String {
    let mut text = "IPAddressDeny=any\nIPAddressAllow=localhost\n".to_owned();
    if requirements.dns {
        match options.resolvers.is_empty() {
            true => {
                text += "# DNS: a resolver on this machine (127.0.0.53) is localhost. For other resolvers:\n# IPAddressAllow=ADDRESS\n"
            }
            false => text += "# DNS\n",
        }
        options.resolvers.iter().for_each(|resolver| text += &format!("IPAddressAllow={resolver}\n"));
    }
    let mut written = BTreeSet::new();
    for need in requirements.needs.iter().chain(&requirements.groups) {
        let fresh: Vec<String> = need.peers.iter().filter(|peer| written.insert(**peer)).map(shown).collect();
        if fresh.is_empty() {
            continue;
        }
        let name = need.name.as_ref().map(|name| format!(" {}", comment(&name.to_string(), 200))).unwrap_or_default();
        text += &format!("# {} {}{name}\n", need.service, need.direction.of_flow());
        fresh.iter().for_each(|peer| text += &format!("IPAddressAllow={peer}\n"));
    }
    text
}

/// Ports that the service listens on.
fn binds(requirements: &Requirements) -> String {
    let mut text = String::new();
    for need in requirements.of_direction(Direction::Ingress) {
        if let Service::Ports(protocol @ (Protocol::TCP | Protocol::UDP), first, last) = need.service {
            let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
            text += &format!("SocketBindAllow={protocol}:{ports}\n");
        }
    }
    if text.is_empty() { text } else { BIND.to_owned() + &text }
}
