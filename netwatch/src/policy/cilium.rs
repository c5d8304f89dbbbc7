//! Cilium: a CiliumNetworkPolicy (cilium.io/v2), by name where DNS was asked for one.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::header::{self, commented};
use super::need::{Need, Pattern, Service, is_host_name};
use super::yaml::{name, ports, quoted, title, tried, unsaid};
use super::{Requirements, RuleOptions};
use crate::flow::{Direction, Protocol};
use crate::wire::port;

const USE: &str = "Apply with `kubectl apply -f FILE`. It selects the pods that have the label `app` below: put yours. Answers to what is open \
    need no rule. Port ranges need Cilium 1.16, ICMP 1.13.";
const NAMES: &str = "Names are followed as they change, because DNS passes through Cilium's proxy. What was never asked of DNS is listed by address.";
const CANNOT: &str = "multicast, and protocols other than TCP, UDP, SCTP and ICMP";
/// The proxy for DNS, without which Cilium learns no names. Every question is let through: with search domains a resolver asks for more than the
/// names below.
const ASK: &str = "          rules:
            dns:
              - matchPattern: \"*\"
";
const DNS: &str = "    # DNS: the cluster's own, through Cilium's proxy, which learns the addresses of names
    - toEndpoints:
        - matchLabels:
            \"k8s:io.kubernetes.pod.namespace\": \"kube-system\"
            \"k8s:k8s-app\": \"kube-dns\"
      toPorts:
        - ports:
            - {port: \"53\", protocol: ANY}
";

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let lines = header::lines(requirements, options, &[USE, NAMES], &[CANNOT]);
    let name = quoted(name(requirements, options));
    let mut text = commented(&lines, "#") + &tried(requirements);
    text += &format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: {name}\nspec:\n  endpointSelector:\n    matchLabels:\n      app: {name}\n"
    );
    let has_names = requirements.of_direction(Direction::Egress).any(|need| !names(need).is_empty());
    let mut egress =
        if requirements.dns || has_names { DNS.to_owned() + ASK + &resolvers(options) } else { String::new() };
    requirements.of_direction(Direction::Egress).for_each(|need| egress += &out(need));
    section(&mut text, "egress", &egress);
    let mut ingress = String::new();
    requirements.of_direction(Direction::Ingress).for_each(|need| ingress += &incoming(need, options));
    section(&mut text, "ingress", &ingress);
    for need in requirements.groups.iter().chain(requirements.needs.iter().filter(|need| to(need.service).is_none())) {
        text += &unsaid(need, "  ");
    }
    text
}

/// An empty rule is what denies the rest.
fn section(text: &mut String, name: &str, rules: &str) {
    *text += &format!("  {name}:\n{}", if rules.is_empty() { "    - {}\n" } else { rules });
}

fn resolvers(options: &RuleOptions) -> String {
    let nets: Vec<IpNet> = options.resolvers.iter().copied().map(IpNet::from).collect();
    if nets.is_empty() {
        return String::new();
    }
    format!(
        "    - toCIDR: [{}]\n      toPorts:\n        - ports:\n            - {{port: \"53\", protocol: ANY}}\n{ASK}",
        list(&nets)
    )
}

fn list<'a>(nets: impl IntoIterator<Item = &'a IpNet>) -> String {
    nets.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// Names that Cilium can follow.
fn names(need: &Need) -> BTreeSet<&Pattern> {
    let can = |pattern: &&Pattern| match pattern {
        Pattern::Exact(name) | Pattern::Below(name) => is_host_name(name.as_str()),
    };
    need.asked.iter().filter(can).collect()
}

fn out(need: &Need) -> String {
    let mut text = String::new();
    let names = names(need);
    if !names.is_empty()
        && let Some(to) = to_named(need.service)
    {
        text += "    - toFQDNs:\n";
        for pattern in &names {
            let key = if matches!(pattern, Pattern::Exact(_)) { "matchName" } else { "matchPattern" };
            text += &format!("        - {key}: {}\n", quoted(pattern));
        }
        text += &to;
        text += proxy(need.service);
    }
    // Where a name cannot be followed, all its addresses are listed.
    let bare =
        if names.len() < need.asked.len() || to_named(need.service).is_none() { &need.peers } else { &need.unasked };
    if !bare.is_empty()
        && let Some(to) = to(need.service)
    {
        text += &title(need, "    ");
        text += &format!("    - toCIDR: [{}]\n{to}{}", list(bare), proxy(need.service));
    }
    text
}

/// A DNS server that the program chose itself tells it names as well.
fn proxy(service: Service) -> &'static str {
    match service {
        Service::Ports(Protocol::TCP | Protocol::UDP, port::DNS, port::DNS) => ASK,
        _ => "",
    }
}

fn incoming(need: &Need, options: &RuleOptions) -> String {
    let Some(to) = to(need.service) else { return String::new() };
    match options.by_remote {
        true => format!("    - fromCIDR: [{}]\n{to}", list(&need.peers)),
        false => format!("    - fromEntities: [all]\n{to}"),
    }
}

/// Ports, which go with names and addresses.
fn to_named(service: Service) -> Option<String> {
    let (protocol, first, last) = ports(service)?;
    let end = if first == last { String::new() } else { format!(", endPort: {last}") };
    Some(format!("      toPorts:\n        - ports:\n            - {{port: \"{first}\"{end}, protocol: {protocol}}}\n"))
}

/// Ports or ICMP types.
fn to(service: Service) -> Option<String> {
    match service {
        Service::Echo => Some("      icmps:\n        - fields:\n            - {family: IPv4, type: 8}\n            - {family: IPv6, type: 128}\n".into()),
        service => to_named(service),
    }
}
