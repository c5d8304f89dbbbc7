//! firewalld: a script of `firewall-cmd` commands that creates a policy for outgoing and one for
//! incoming traffic.

use std::fmt::Write;

use ipnet::IpNet;

use super::header::{self, FAILED_ATTEMPTS, NAMES_LIMIT, commented, failed};
use super::need::{Need, Service, shown};
use super::text::comment;
use super::{Requirements, RuleOptions};
use crate::flow::Direction;

const USAGE: &str = "Load or replace with `sh FILE`, then `firewall-cmd --reload`. Without a running firewalld: \
    `FIREWALL_CMD=firewall-offline-cmd sh FILE`. Remove with `firewall-cmd --permanent --delete-policy netwatch-out` (and netwatch-in).";
const SCOPE: &str = "The policy netwatch-out drops outgoing traffic that is not listed, for the whole machine; netwatch-in opens ports and leaves the rest to \
    your zones. firewalld allows loopback and established connections by default.";

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let lines = header::lines(requirements, options, &[USAGE, SCOPE], &[NAMES_LIMIT]);
    let mut text = "#!/bin/sh\n".to_owned() + &commented(&lines, "#");
    text += "set -eu\ncmd=${FIREWALL_CMD:-firewall-cmd --permanent}\n";
    policy(&mut text, "netwatch-out", "HOST", "ANY", "DROP");
    basics(requirements, options).iter().for_each(|rule| add(&mut text, "netwatch-out", rule, ""));
    for need in requirements.of_direction(Direction::Egress).chain(&requirements.groups) {
        rules(&mut text, "netwatch-out", need, options, "");
    }
    failed_rules(&mut text, requirements, options, Direction::Egress);
    policy(&mut text, "netwatch-in", "ANY", "HOST", "CONTINUE");
    for need in requirements.of_direction(Direction::Ingress) {
        rules(&mut text, "netwatch-in", need, options, "");
    }
    failed_rules(&mut text, requirements, options, Direction::Ingress);
    text
}

fn policy(text: &mut String, name: &str, from: &str, to: &str, target: &str) {
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n$cmd --delete-policy {name} >/dev/null 2>&1 || :\n$cmd --new-policy {name}\n\
        $cmd --policy {name} --add-ingress-zone {from}\n$cmd --policy {name} --add-egress-zone {to}\n$cmd --policy {name} --set-target {target}\n"
    );
}

fn add(text: &mut String, policy: &str, rule: &str, mark: &str) {
    let _ = writeln!(text, "{mark}$cmd --policy {policy} --add-rich-rule '{rule}'");
}

/// ICMPv6 that IPv6 requires (RFC 4861), and DNS.
fn basics(requirements: &Requirements, options: &RuleOptions) -> Vec<String> {
    let types = ["router-solicitation", "neighbour-solicitation", "neighbour-advertisement"];
    let mut rules: Vec<String> =
        types.map(|kind| format!("rule family=\"ipv6\" icmp-type name=\"{kind}\" accept")).into();
    // firewalld has no names for multicast listener reports: match their destination (RFC 3810).
    rules.push("rule family=\"ipv6\" destination address=\"ff02::16\" protocol value=\"ipv6-icmp\" accept".into());
    if !requirements.groups.is_empty() {
        rules.push("rule family=\"ipv4\" protocol value=\"igmp\" accept".into());
    }
    if requirements.dns {
        let to: Vec<String> = match options.resolvers.is_empty() {
            true => vec![String::new()],
            false => options.resolvers.iter().map(|resolver| address("destination", &IpNet::from(*resolver))).collect(),
        };
        rules.extend(to.iter().map(|to| format!("rule{to} service name=\"dns\" accept")));
    }
    rules
}

fn rules(text: &mut String, policy: &str, need: &Need, options: &RuleOptions, mark: &str) {
    if let Some(name) = &need.name {
        let _ = writeln!(text, "{mark}# {}", comment(&name.to_string(), 200));
    }
    let what = service(need.service);
    if need.direction == Direction::Ingress && !options.by_remote {
        return add(text, policy, &format!("rule {what} accept"), mark);
    }
    let side = if need.direction == Direction::Egress { "destination" } else { "source" };
    need.peers.iter().for_each(|peer| add(text, policy, &format!("rule{} {what} accept", address(side, peer)), mark));
}

fn failed_rules(text: &mut String, requirements: &Requirements, options: &RuleOptions, direction: Direction) {
    let mut failures = requirements.not_opened().filter(|need| need.direction == direction).peekable();
    if failures.peek().is_some() {
        let _ = writeln!(text, "# {FAILED_ATTEMPTS}");
    }
    let policy = if direction == Direction::Egress { "netwatch-out" } else { "netwatch-in" };
    for need in failures {
        let _ = writeln!(text, "# {}", failed(need));
        rules(text, policy, need, options, "#   ");
    }
}

fn address(side: &str, net: &IpNet) -> String {
    let family = if net.addr().is_ipv4() { "ipv4" } else { "ipv6" };
    format!(" family=\"{family}\" {side} address=\"{}\"", shown(net))
}

fn service(service: Service) -> String {
    match service {
        Service::Ports(protocol, first, last) if first == last => {
            format!("port port=\"{first}\" protocol=\"{protocol}\"")
        }
        Service::Ports(protocol, first, last) => format!("port port=\"{first}-{last}\" protocol=\"{protocol}\""),
        Service::Echo => "icmp-type name=\"echo-request\"".to_owned(),
        Service::Protocol(protocol) => format!("protocol value=\"{}\"", protocol.0),
    }
}
