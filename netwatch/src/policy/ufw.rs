//! ufw: a script of its commands.

use std::fmt::Write;

use super::header::{self, FAILED_ATTEMPTS, NAMES_LIMIT, commented, failed, purpose};
use super::need::{Need, Service, shown};
use super::{Requirements, RuleOptions};
use crate::flow::{Direction, Protocol};

const USAGE: &str = "Load with `sh FILE`; test with `UFW='ufw --dry-run' sh FILE`. Remove a rule with `ufw delete` and the same arguments.";
const SCOPE: &str = "Makes ufw deny outgoing traffic that is not listed, for the whole machine: other programs need additional rules. ufw's default \
    rules allow established connections, loopback, neighbor discovery and ICMP errors. Run `ufw enable` yourself.";
const ICMP: &str = "ICMP and protocols other than TCP, UDP, AH, ESP and GRE: add their lines to /etc/ufw/before.rules and before6.rules";

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let lines = header::lines(requirements, options, &[USAGE, SCOPE], &[NAMES_LIMIT, ICMP]);
    let mut text = "#!/bin/sh\n".to_owned() + &commented(&lines, "#");
    text += "set -eu\nufw=${UFW:-ufw}\n\n$ufw default deny outgoing\n$ufw default deny incoming\n";
    let mut line = |line: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    };
    if requirements.dns {
        dns(options).iter().for_each(|rule| line(rule));
    }
    for need in requirements.needs.iter().chain(&requirements.groups) {
        rules_of(need, options).iter().for_each(|rule| line(rule));
    }
    if requirements.not_opened().next().is_some() {
        line(&format!("# {FAILED_ATTEMPTS}"));
    }
    for need in requirements.not_opened() {
        line(&format!("# {}", failed(need)));
        rules_of(need, options).iter().for_each(|rule| line(&format!("#   {rule}")));
    }
    text
}

fn dns(options: &RuleOptions) -> Vec<String> {
    let to: Vec<String> = match options.resolvers.is_empty() {
        true => vec!["any".to_owned()],
        false => options.resolvers.iter().map(ToString::to_string).collect(),
    };
    let purpose = if options.resolvers.is_empty() {
        "DNS to any resolver - replace any with its address"
    } else {
        "DNS to your resolvers"
    };
    let rule = |to: &String, protocol| format!("$ufw allow out proto {protocol} to {to} port 53 comment '{purpose}'");
    to.iter().flat_map(|to| ["udp", "tcp"].map(|protocol| rule(to, protocol))).collect()
}

fn rules_of(need: &Need, options: &RuleOptions) -> Vec<String> {
    let what = purpose(need, 100);
    let comment = if what.is_empty() { String::new() } else { format!(" comment '{what}'") };
    let is_in = need.direction == Direction::Ingress;
    if is_in && !options.by_remote {
        return match service(need.service) {
            Some((protocol, port)) => vec![format!("$ufw allow in proto {protocol} to any{port}{comment}")],
            None => [true, false].map(|is_v4| raw(need, is_v4, "")).into(),
        };
    }
    let rule = |peer: &ipnet::IpNet| {
        let is_v4 = peer.addr().is_ipv4();
        let address = shown(peer);
        match service(need.service) {
            Some((protocol, port)) if is_in => {
                format!("$ufw allow in proto {protocol} from {address} to any{port}{comment}")
            }
            Some((protocol, port)) => format!("$ufw allow out proto {protocol} to {address}{port}{comment}"),
            None => raw(need, is_v4, &format!(" {} {address}", if is_in { "-s" } else { "-d" })),
        }
    };
    need.peers.iter().map(rule).collect()
}

/// Protocol and port as arguments of ufw; `None` for a protocol that ufw does not support.
fn service(service: Service) -> Option<(&'static str, String)> {
    match service {
        Service::Ports(protocol, first, last) if protocol != Protocol::SCTP => {
            let port = if first == last { format!(" port {first}") } else { format!(" port {first}:{last}") };
            Some((protocol.name()?, port))
        }
        Service::Protocol(Protocol(47)) => Some(("gre", String::new())),
        Service::Protocol(Protocol(50)) => Some(("esp", String::new())),
        Service::Protocol(Protocol(51)) => Some(("ah", String::new())),
        _ => None,
    }
}

/// A line for ufw's rules file, as a comment.
fn raw(need: &Need, is_v4: bool, peer: &str) -> String {
    let (file, family) = if is_v4 { ("before.rules", "ufw") } else { ("before6.rules", "ufw6") };
    let way = if need.direction == Direction::Ingress { "input" } else { "output" };
    let matches = match need.service {
        Service::Echo if is_v4 => "-p icmp --icmp-type echo-request".to_owned(),
        Service::Echo => "-p icmpv6 --icmpv6-type echo-request".to_owned(),
        Service::Ports(protocol, first, last) if first == last => format!("-p {protocol} --dport {first}"),
        Service::Ports(protocol, first, last) => format!("-p {protocol} --dport {first}:{last}"),
        Service::Protocol(protocol) => format!("-p {}", protocol.0),
    };
    format!("# /etc/ufw/{file}: -A {family}-before-{way}{peer} {matches} -j ACCEPT")
}
