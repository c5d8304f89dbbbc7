//! systemd: a drop-in for a service.

use std::collections::BTreeSet;

use super::header::{self, FAILED, NAMES, commented, failed};
use super::need::{Service, shown};
use super::text::comment;
use super::{Requirements, RuleOptions};
use crate::flow::{Direction, Protocol};

const USE: &str = "Put it into /etc/systemd/system/NAME.service.d/netwatch.conf, then `systemctl daemon-reload` and restart the service. It filters that \
    service alone.";
const CANNOT: &str =
    "ports of remotes: an address that is allowed is allowed with every port and protocol, in both directions";
const DEAF: &str = "DNS is denied to every resolver that is not on this machine (127.0.0.53): name yours with --resolver, or no name will be \
    found.";
/// getaddrinfo(3) asks the kernel by netlink which families there are.
const FAMILIES: &str = "# A run shows IP and unix sockets, not packet sockets, VSOCK, Bluetooth and the like: if the service has none of these,\n\
    # RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6\n";
const IN: &str = "# Anybody may come to the ports below, and systemd has one list for both directions: addresses cannot be restricted.\n\
    # With --by-remote they are, to those that came.\n# IPAddressDeny=any\n";
const BIND: &str = "# Denying other ports would also deny port 0 to clients that bind before they send (musl's resolver does), which no run shows:\n\
    # SocketBindDeny=any\n";

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let is_open = !options.by_remote && requirements.of_direction(Direction::Ingress).next().is_some();
    let is_deaf = requirements.dns && options.resolvers.is_empty() && !is_open;
    let use_: &[&str] = if is_deaf { &[USE, DEAF] } else { &[USE] };
    let lines = header::lines(requirements, options, use_, &[NAMES, CANNOT]);
    let mut text = commented(&lines, "#") + "[Service]\n" + FAMILIES;
    text += &if is_open { IN.to_owned() } else { addresses(requirements, options) };
    text += &binds(requirements);
    for (at, need) in requirements.failed.iter().enumerate() {
        if at == 0 {
            text += &format!("# {FAILED}\n");
        }
        text += &format!("#   {}\n", failed(need));
    }
    text
}

fn addresses(requirements: &Requirements, options: &RuleOptions) -> String {
    let mut text = "IPAddressDeny=any\nIPAddressAllow=localhost\n".to_owned();
    if requirements.dns {
        match options.resolvers.is_empty() {
            true => {
                text += "# DNS: a resolver on this machine (127.0.0.53) is localhost. For others:\n# IPAddressAllow=ADDRESS OF YOUR RESOLVER\n"
            }
            false => text += "# DNS\n",
        }
        options.resolvers.iter().for_each(|resolver| text += &format!("IPAddressAllow={resolver}\n"));
    }
    let mut said = BTreeSet::new();
    for need in requirements.needs.iter().chain(&requirements.groups) {
        let fresh: Vec<String> = need.peers.iter().filter(|peer| said.insert(**peer)).map(shown).collect();
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
